"""`mirscan genome` as a user runs it, and one process of RNA.fold, in turns: seconds, memory, windows for each fold.

    python benchmarks/speed/whole_process.py GENOME.fa.gz [--rounds 3] [--options ...]

Each round folds 2,000 random windows of 100 bases, scans the whole genome in another process to bigWigs of both
strands and calls as BED and GFF3, and folds again; the ratio is of windows a second (all cores) to folds a second
(one). Compiled programs are in the caches, as after a first run. Prints one JSON line.
"""

from __future__ import annotations

import argparse
import datetime
import json
import tempfile
import time
from pathlib import Path
from statistics import median

import psutil
from accelerator import PROGRAM

from mirscan.commands.bench_machine import machine, rna_fold

FOLDS = 2000


def folds() -> float:
    """Folds a second of this process."""
    task = rna_fold(FOLDS)
    began = time.perf_counter()
    task.run()
    return task.amount / (time.perf_counter() - began)


def scan(path: Path, folder: Path, options: list[str]) -> dict[str, float]:
    """Seconds, largest memory (MB, all processes together) and windows of a whole scan."""
    output = folder / "scores.bw"
    files = ["-o", output, "--per-strand", "--bed", folder / "calls.bed", "--gff3", folder / "calls.gff3"]
    began, most = time.perf_counter(), 0
    process = psutil.Popen([*PROGRAM, "genome", str(path), *map(str, files), "--fresh", *options])
    while process.poll() is None:
        try:
            family = [process, *process.children(recursive=True)]
            most = max(most, sum(member.memory_info().rss for member in family))
        except psutil.NoSuchProcess:
            continue
        time.sleep(0.1)
    seconds = time.perf_counter() - began
    if process.returncode:
        raise SystemExit(process.returncode)
    record = json.loads((folder / "scores.run.json").read_text())
    return {"seconds": seconds, "memory_mb": most / 1e6, "windows": record["scored"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--options", nargs=argparse.REMAINDER, default=[], help="of `mirscan genome`")
    options = parser.parse_args()
    ratios, scans, rates = [], [], []
    with tempfile.TemporaryDirectory() as name:
        for _ in range(options.rounds):
            before = folds()
            scans.append(scan(options.genome, Path(name), options.options))
            rates.append((before + folds()) / 2)
            ratios.append(scans[-1]["windows"] / scans[-1]["seconds"] / rates[-1])
    print(json.dumps({
        "genome": options.genome.name,
        "seconds": round(median(each["seconds"] for each in scans), 1),
        "memory_mb": round(max(each["memory_mb"] for each in scans)),
        "windows_per_second": round(median(each["windows"] / each["seconds"] for each in scans)),
        "folds_per_second": round(median(rates), 1),
        "ratio": round(median(ratios), 1),
        "rounds": options.rounds,
        "date": datetime.date.today().isoformat(),
        **machine(),
    }))  # fmt: skip


if __name__ == "__main__":
    main()
