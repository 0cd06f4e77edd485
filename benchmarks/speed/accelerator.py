"""`mirscan genome` on this machine's devices, whole process: speed, what the devices wait for, and equality with a CPU.

    python benchmarks/speed/accelerator.py GENOME.fa.gz [--megabases 200] [--model duplex] \\
        --output benchmarks/results/NAME

A genome of the size asked for is made of copies of the given one, of which every 8th base is drawn anew in each copy:
repeated words would count as repeats, which change the scores. Each model scans, in a process of its own and from the
command line, first a small genome twice (the second time is the start-up: imports, compiled programs from the cache),
then the large one. The small one is also scanned in float32 on the CPU and in each precision on the devices, and the
scores are compared. Writes NAME.json and NAME.md.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from mirscan.genome import open_genome
from mirscan.store import ScoreStore

HG38_MEGABASES = 3100.0
LETTERS = np.frombuffer(b"ACGTNN", dtype=np.uint8)
LINE = 80
PROGRAM = [sys.executable, "-c", "from mirscan.cli import main; main()"]


def make_genome(source: Path, target: Path, bases: int, folder: Path) -> int:
    """Write copies of a genome's contigs, each with other random bases, until there are ``bases``."""
    random = np.random.default_rng(0)
    written = copy = 0
    with open_genome(source, spool=folder, log=lambda line: None) as genome, target.open("wb") as file:
        while written < bases:
            for number, contig in enumerate(genome.contigs):
                codes = genome.codes(number, 0, min(contig.length, bases - written)).copy()
                if copy:
                    drawn = np.flatnonzero((random.random(len(codes)) < 1 / 8) & (codes < 4))
                    codes[drawn] = random.integers(0, 4, len(drawn))
                letters = LETTERS[codes]
                whole = len(letters) // LINE * LINE
                lines = np.full((whole // LINE, LINE + 1), ord("\n"), dtype=np.uint8)
                lines[:, :LINE] = letters[:whole].reshape(-1, LINE)
                rest = letters[whole:].tobytes()
                file.write(b">%s.%d\n" % (contig.name.encode(), copy) + lines.tobytes() + rest + b"\n" * bool(rest))
                written += len(codes)
                if written >= bases:
                    break
            copy += 1
    return written


def mirscan(*arguments: str | Path, on_cpu: bool = False) -> float:
    """Run a command; seconds of the whole process."""
    began = time.perf_counter()
    environment = os.environ | ({"JAX_PLATFORMS": "cpu"} if on_cpu else {})
    subprocess.run([*PROGRAM, *map(str, arguments)], check=True, env=environment)
    return time.perf_counter() - began


def scan(genome: Path, model: str, output: Path, precision: str | None = None, on_cpu: bool = False) -> dict[str, Any]:
    """`mirscan genome` of a model; its record, with the seconds of the whole process."""
    chosen = ["--precision", precision] if precision else []
    seconds = mirscan("genome", genome, "-o", output, "--model", model, "--fresh", *chosen, on_cpu=on_cpu)
    return json.loads(Path(f"{output.with_suffix('')}.run.json").read_text()) | {"process_seconds": seconds}


def scores(output: Path) -> np.ndarray:
    """All scores of a scan that could be given, float32."""
    values = np.concatenate([part for _, part in ScoreStore.open(f"{output}.store").iter_scores()])
    return values[np.isfinite(values)]


def compare(genome: Path, model: str, folder: Path) -> dict[str, dict[str, float]]:
    """How far scores of the devices are from those of the CPU in float32."""
    scan(genome, model, folder / "cpu.bw", "float32", on_cpu=True)
    expected, result = scores(folder / "cpu.bw"), {}
    for precision in ("float32", "bfloat16"):
        output = folder / f"{precision}.bw"
        scan(genome, model, output, precision)
        found = scores(output)
        apart = np.abs(found.astype(np.float64) - expected)
        ranks = (values.argsort(kind="stable").argsort() for values in (found, expected))
        result[precision] = {
            "windows": len(found),
            "greatest_difference": float(apart.max()),
            "mean_difference": float(apart.mean()),
            "rank_correlation": float(np.corrcoef(*ranks)[0, 1]),
        }
    return result


def measure(model: str, small: Path, large: Path, megabases: tuple[float, float], folder: Path) -> dict[str, Any]:
    """All figures of one model."""
    scan(small, model, folder / "first.bw")
    start = scan(small, model, folder / "small.bw")
    whole = scan(large, model, folder / "large.bw")
    mirscan("bench", "--model", model, "--json", folder / "bench.json")
    (measured,) = json.loads((folder / "bench.json").read_text())["models"]
    together = measured["runs"][-1]
    seconds = whole["process_seconds"] - start["process_seconds"]
    rate = (megabases[1] - megabases[0]) / seconds
    busy = together["seconds_per_megabase"]["device"] * megabases[1] / whole["scan_seconds"]
    return {
        "model": model,
        "precision": measured["precision"],
        "devices": whole["devices"],
        "windows": whole["windows"],
        "calls": whole["calls"],
        "process_seconds": whole["process_seconds"],
        "start_up_seconds": start["process_seconds"],
        "scan_seconds": whole["scan_seconds"],
        "megabases_per_second": rate,
        "windows_per_second": 2 * (whole["windows"] - start["windows"]) / seconds,
        "device_idle_share": max(0.0, 1.0 - busy),
        "hg38_minutes_projected": (HG38_MEGABASES / rate + start["process_seconds"]) / 60,
        "against_cpu": compare(small, model, folder),
        "bench": together,
    }


def report(result: dict[str, Any]) -> str:
    """The figures as Markdown."""
    lines = [
        "# `mirscan genome` on this machine's devices", "", f"`{result['command']}`", "",
        f"{result['machine']}; {', '.join(result['devices'])}; {result['date']}; commit {result['commit']}.",
        f"{result['megabases']:.1f} Mb, both strands, FASTA to bigWig, whole process. hg38 is a projection: 3.1 Gb at "
        "the rate without start-up, plus start-up. Idle: the share of the scan that the devices' own time, from "
        "`mirscan bench`, leaves.", "",
        "| model | precision | process, s | start-up, s | Mb/s | windows/s | devices idle | hg38, min (projected) |",
        "|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for run in result["models"]:
        lines.append(
            f"| {run['model']} | {run['precision']} | {run['process_seconds']:.1f} | {run['start_up_seconds']:.1f} | "
            f"{run['megabases_per_second']:.3g} | {run['windows_per_second']:,.0f} | {run['device_idle_share']:.0%} | "
            f"{run['hg38_minutes_projected']:,.0f} |"
        )
    lines += ["", "Scores against float32 on the CPU of the same machine:", ""]
    lines += [
        "| model | precision | windows | greatest difference | mean | rank correlation |",
        "|---|---|---|---|---|---|",
    ]
    for run in result["models"]:
        for precision, found in run["against_cpu"].items():
            lines.append(
                f"| {run['model']} | {precision} | {found['windows']:,} | {found['greatest_difference']:.2g} | "
                f"{found['mean_difference']:.2g} | {found['rank_correlation']:.6f} |"
            )
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse, make the genomes, measure, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("genome", type=Path, help="FASTA of real sequence, at least a megabase or so")
    parser.add_argument("--megabases", type=float, default=200.0)
    parser.add_argument("--small", type=float, default=0.1, help="megabases of the small genome")
    parser.add_argument("--model", action="append", help="repeatable (default: duplex)")
    parser.add_argument("--output", type=Path, required=True, help="without suffix")
    options = parser.parse_args()
    if not 0 < options.small < options.megabases:
        parser.error("--small must be above 0 and below --megabases")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        small, large = folder / "small.fa", folder / "large.fa"
        sizes = tuple(
            make_genome(options.genome, path, round(1e6 * megabases), folder) / 1e6
            for path, megabases in ((small, options.small), (large, options.megabases))
        )
        models = [measure(model, small, large, sizes, folder) for model in options.model or ["duplex"]]
        about = json.loads((folder / "bench.json").read_text())
    result = {
        "command": f"python benchmarks/speed/accelerator.py {' '.join(sys.argv[1:])}",
        "date": datetime.date.today().isoformat(),
        **{key: about[key] for key in ("machine", "devices", "python", "versions", "commit")},
        "megabases": sizes[1],
        "models": models,
    }
    options.output.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")
    options.output.with_suffix(".md").write_text(report(result))
    print(report(result), end="")


if __name__ == "__main__":
    main()
