"""Speed of the stem-loop recurrence beside RNA.fold, on one core, in one run; or on the devices of JAX beside a core.

    python benchmarks/speed/hairpins.py [--bases 400000]
    python benchmarks/speed/hairpins.py --engine jax [--bases 10000000]

Rounds of both alternate, so that what else the machine does hits both; rates are per second of this process's CPU
time, best and median of the rounds. With ``--engine jax`` they are per second of the clock, and every value of the
devices is compared with the kernel's: the first difference ends the run. Prints one Markdown table.
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

from mirscan.kernels.bases import AMBIGUOUS, reverse_complement
from mirscan.kernels.hairpins import Scan, scan_hairpins, trace_hairpins
from mirscan.structure.hairpins import SPAN
from mirscan.structure.proposals import propose
from mirscan.structure.turner import turner_tables

STEP = 20
WINDOW = 100
FOLDED = 60  # windows RNA.fold gets a round
GAP = 1000  # bases of each unknown stretch, one a megabase, where devices are compared with the kernel
MOVED = 161
"""Bytes of memory that the launches of a diagonal move for a cell, if every array is read once by each that needs it:
70 of the ring (30 rows read, 5 written), 40 of the newest diagonal, its exterior energies and special loops, 33 of the
best hairpins so far, 18 of keys."""
GENOME = 2 * 3.1e9  # bases of both strands of a human genome
BANDWIDTH = {"H100": 3.35e12, "H200": 4.8e12}  # bytes of memory a second, as the maker gives them


def cpu() -> str:
    """Name of the processor."""
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    return next((x.partition(": ")[2] for x in lines if x.startswith("model name")), platform.machine())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=["numba", "jax"], default="numba")
    parser.add_argument("--bases", type=int, help="random bases a round (400,000, with jax 10,000,000)")
    parser.add_argument("--chunk", type=int, nargs="+", default=[1 << 17, 1 << 20, 1 << 22], help="rows, with jax")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    if arguments.engine == "jax":
        return on_devices(arguments.bases or 10_000_000, arguments.chunk, arguments.rounds)
    arguments.bases = arguments.bases or 400_000
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
    print(f"`python benchmarks/speed/hairpins.py`, one core of {cpu()}, {datetime.date.today()};")
    print("one strand, random bases.\n")
    print("| | Mb/s, best | Mb/s, median | times RNA.fold (medians of a round) |\n|---|---|---|---|")
    base, base_bases = next(iter(seconds.values())), FOLDED * STEP
    for name, (_, bases) in jobs.items():
        ratios = [(bases / mine) / (base_bases / theirs) for mine, theirs in zip(seconds[name], base, strict=True)]
        best, median = bases / min(seconds[name]) / 1e6, bases / statistics.median(seconds[name]) / 1e6
        print(f"| {name} | {best:.4g} | {median:.4g} | {statistics.median(ratios):.4g} |")
    print(f"\n{len(lengths)} proposals a strand, {1e6 * len(lengths) / arguments.bases:,.0f} a megabase.")


def on_devices(bases: int, chunks: list[int], rounds: int) -> None:
    """Both strands of random bases on all devices: equal to the kernel in every value, and timed beside it."""
    import jax

    from mirscan.structure.recurrence_jax import DeviceScan

    random, tables, devices = np.random.default_rng(0), turner_tables(), tuple(jax.local_devices())
    plus = random.integers(0, 4, bases).astype(np.uint8)
    for start in random.integers(0, bases, bases // 1_000_000 + 1):
        plus[start : start + GAP] = AMBIGUOUS
    scans: dict[str, Callable[..., Scan]] = {"kernel, one core": scan_hairpins}
    scans |= {f"devices, chunks of {chunk:,}": DeviceScan(devices, chunk) for chunk in chunks}
    seconds: dict[str, list[float]] = {name: [] for name in scans}
    for scan in scans.values():
        scan(plus, tables, SPAN)  # compiles, on every device
    for _ in range(rounds):
        for strand in (plus, reverse_complement(plus)):
            expected = None
            for name, scan in scans.items():
                start = time.perf_counter()
                found = scan(strand, tables, SPAN)
                seconds[name].append(time.perf_counter() - start)
                expected = found if expected is None else expected
                for field, one, other in zip(Scan._fields, found, expected, strict=True):
                    np.testing.assert_array_equal(one, other, f"{name}: {field}")
    kinds = ", ".join(f"{len(devices)} x {kind}" for kind in {device.device_kind for device in devices})
    print(f"`python benchmarks/speed/hairpins.py --engine jax`, {kinds}, {cpu()}, {datetime.date.today()};")
    print(f"both strands of {bases:,} random bases, spans up to {SPAN}. All values are equal.\n")
    print("| | Mb/s of a strand, best | median | human genome, minutes |\n|---|---|---|---|")
    for name, times in seconds.items():
        best, median = bases / min(times) / 1e6, bases / statistics.median(times) / 1e6
        print(f"| {name} | {best:.4g} | {median:.4g} | {GENOME / median / 6e7:.3g} |")
    for name, bandwidth in BANDWIDTH.items():
        rate = bandwidth / (MOVED * (SPAN - 3)) / 1e6
        print(f"| projection for one {name}: its memory alone | {rate:.4g} | | {GENOME / rate / 6e7:.3g} |")


if __name__ == "__main__":
    main()
