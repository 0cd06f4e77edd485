"""`mirscan genome` as a user runs it, and one process of RNA.fold, in turns: seconds, memory, windows for each fold.

    python benchmarks/whole_process.py GENOME.fa.gz [--rounds 3] [--options ...]

Each round folds 2,000 windows of 100 bases of the genome in one process, scans the whole genome to bigWigs of both
strands and calls as BED and GFF3 in another, and folds again; the ratio is of windows a second (all cores) to folds a
second (one). Compiled programs are in the caches, as after a first run. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from statistics import median

import psutil

PROGRAM = [sys.executable, "-c", "from mirscan.cli import main; main()"]
FOLDS = 2000
FOLD = f"""
import sys, time, RNA
texts = sys.stdin.read().split()
began = time.perf_counter()
for text in texts:
    RNA.fold(text)
print({FOLDS} / (time.perf_counter() - began))
"""


def windows(path: Path, folder: Path) -> list[str]:
    """Windows of 100 bases, evenly drawn from the genome."""
    from mirscan.genome import open_genome
    from mirscan.kernels.bases import decode

    with open_genome(path, spool=folder, log=lambda line: None) as genome:
        longest = max(range(len(genome.contigs)), key=lambda number: genome.contigs[number].length)
        step = (genome.contigs[longest].length - 100) // FOLDS
        return [decode(genome.codes(longest, n * step, n * step + 100)).decode() for n in range(FOLDS)]


def folds(texts: list[str]) -> float:
    """Folds a second of one process."""
    done = subprocess.run(
        [sys.executable, "-c", FOLD], input="\n".join(texts), text=True, check=True, capture_output=True
    )
    return float(done.stdout)


def scan(path: Path, folder: Path, options: list[str]) -> dict[str, float]:
    """Seconds, largest memory (MB, all processes together) and windows of a whole scan."""
    output = folder / "scores.bw"
    files = ["-o", output, "--per-strand", "--bed", folder / "calls.bed", "--gff3", folder / "calls.gff3"]
    began, most, done = time.perf_counter(), 0.0, threading.Event()
    process = subprocess.Popen([*PROGRAM, "genome", str(path), *map(str, files), "--fresh", *options])

    def watch() -> None:
        nonlocal most
        while not done.wait(0.1):
            try:
                family = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
                most = max(most, sum(member.memory_info().rss for member in family) / 1e6)
            except psutil.Error:
                continue

    watcher = threading.Thread(target=watch)
    watcher.start()
    status = process.wait()
    seconds = time.perf_counter() - began
    done.set()
    watcher.join()
    if status:
        raise SystemExit(status)
    record = json.loads((folder / "scores.run.json").read_text())
    return {"seconds": seconds, "memory_mb": most, "windows": record["scored"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of `mirscan genome`")
    options = parser.parse_args()
    ratios, scans, rates = [], [], []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        texts = windows(options.genome, folder)
        for _ in range(options.rounds):
            before = folds(texts)
            scans.append(scan(options.genome, folder, options.options))
            rates.append((before + folds(texts)) / 2)
            ratios.append(scans[-1]["windows"] / scans[-1]["seconds"] / rates[-1])
    print(json.dumps({
        "genome": options.genome.name,
        "seconds": round(median(each["seconds"] for each in scans), 1),
        "memory_mb": round(max(each["memory_mb"] for each in scans)),
        "windows_per_second": round(median(each["windows"] / each["seconds"] for each in scans)),
        "folds_per_second": round(median(rates), 1),
        "ratio": round(median(ratios), 1),
        "rounds": options.rounds,
        "cores": len(os.sched_getaffinity(0)),
        "machine": platform.processor() or platform.machine(),
        "date": datetime.date.today().isoformat(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
