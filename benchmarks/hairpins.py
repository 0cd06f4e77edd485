"""Speed of the stem-loop recurrence beside RNA.fold, on one core, in one run.

    python benchmarks/hairpins.py [--bases 400000]

Rounds of both alternate, so that what else the machine does hits both; rates are per second of this process's CPU
time, best and median of the rounds. Prints one Markdown table.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import RNA

from mirscan.folding import turner_tables
from mirscan.kernels.hairpins import scan_hairpins, trace_hairpins
from mirscan.proposals import propose

STEP = 20
WINDOW = 100
FOLDED = 60  # windows RNA.fold gets a round


def cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bases", type=int, default=400_000, help="random bases a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    random = np.random.default_rng(0)
    codes = random.integers(0, 4, arguments.bases).astype(np.uint8)
    windows = ["".join("ACGU"[x] for x in codes[s : s + WINDOW]) for s in range(0, FOLDED * STEP, STEP)]
    tables = turner_tables()
    found = propose(codes, tables)
    lengths = found.ends - found.starts

    def fold() -> None:
        for window in windows:
            RNA.fold(window)

    jobs: dict[str, tuple[Callable[[], object], float]] = {"RNA.fold, 100-nt windows at step 20": (fold, FOLDED * STEP)}
    for span in (100, 120, 200):
        jobs[f"stem-loops, span {span}"] = (partial(scan_hairpins, codes, tables, span), arguments.bases)
    jobs["proposals, span 120"] = (lambda: propose(codes, tables), arguments.bases)
    jobs["their traceback"] = (lambda: trace_hairpins(codes, tables, found.starts, lengths), arguments.bases)
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for job, _ in jobs.values():
        job()
    for _ in range(arguments.rounds):
        for name, (job, _) in jobs.items():
            start = time.process_time()
            job()
            seconds[name].append(time.process_time() - start)
    print(f"`python benchmarks/hairpins.py`, one core of {cpu()}, {datetime.date.today()}; one strand, random bases.\n")
    print("| | Mb/s, best | Mb/s, median | times RNA.fold (medians of a round) |\n|---|---|---|---|")
    base, base_bases = next(iter(seconds.values())), FOLDED * STEP
    for name, (_, bases) in jobs.items():
        ratios = [(bases / mine) / (base_bases / theirs) for mine, theirs in zip(seconds[name], base, strict=True)]
        best, median = bases / min(seconds[name]) / 1e6, bases / statistics.median(seconds[name]) / 1e6
        print(f"| {name} | {best:.4g} | {median:.4g} | {statistics.median(ratios):.4g} |")
    print(f"\n{len(lengths)} proposals a strand, {1e6 * len(lengths) / arguments.bases:,.0f} a megabase.")


if __name__ == "__main__":
    main()
