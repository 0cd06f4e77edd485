"""Speed of the window kernels, one core, beside NumPy and JAX in the same run.

    python benchmarks/speed/windows.py --output benchmarks/results/windows.md

Windows of 100 bases every 20, both strands, cut and expanded as a scan does: a stretch of the genome at a time. The
rows of a table are measured in turns, and each figure is the median of the turns, in million windows a second.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

os.environ["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"

import jax
import numpy as np

from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.windows import cut, one_hot, scorable

WINDOW, STEP = 100, 20
STRETCH = 20 << 13
ROWS = 512
YARDSTICKS = {"codes of windows: `cut`, both strands": 31.0, "one-hot float32: `one_hot` into a buffer": 8.0}


def measure(turns: int) -> dict[str, float]:
    """Median million windows a second of each contestant."""
    codes = np.random.default_rng(0).integers(0, 4, STRETCH, dtype=np.uint8)
    starts = np.arange(0, STRETCH - WINDOW + 1, STEP, dtype=np.int64)
    twice, minus = np.repeat(starts, 2), np.arange(2 * len(starts)) % 2 == 1
    rows = cut(codes, twice[:ROWS], minus[:ROWS], WINDOW)
    buffer = np.empty((ROWS, WINDOW, 4), dtype=np.float32)
    expand = jax.jit(lambda codes: jax.nn.one_hot(codes, 4))

    def sliding() -> np.ndarray:
        views = np.lib.stride_tricks.sliding_window_view
        plus = views(codes, WINDOW)[starts]
        return np.stack([plus, views(reverse_complement(codes), WINDOW)[STRETCH - WINDOW - starts]], axis=1)

    contestants: dict[str, tuple[int, Callable[[], object]]] = {
        "windows without N: `scorable`": (len(starts), lambda: scorable(codes, starts, WINDOW, 4)),
        "codes of windows: `cut`, both strands": (len(twice), lambda: cut(codes, twice, minus, WINDOW)),
        "codes of windows: `sliding_window_view`, both strands": (len(twice), sliding),
        "one-hot float32: `one_hot` into a buffer": (ROWS, lambda: one_hot(rows, buffer)),
        "one-hot float32: `one_hot`, new array": (ROWS, lambda: one_hot(rows)),
        "one-hot float32: jitted `jax.nn.one_hot`": (ROWS, lambda: expand(rows).block_until_ready()),
        "one-hot float32: `jax.nn.one_hot`": (ROWS, lambda: jax.nn.one_hot(rows, 4).block_until_ready()),
    }
    np.testing.assert_array_equal(sliding().reshape(-1, WINDOW), cut(codes, twice, minus, WINDOW))
    np.testing.assert_array_equal(np.asarray(expand(rows)), one_hot(rows, buffer))
    rates: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(turns):
        for name, (windows, work) in contestants.items():
            repeats = max(1, 200_000 // windows)
            began = time.perf_counter()
            for _ in range(repeats):
                work()
            rates[name].append(repeats * windows / (time.perf_counter() - began) / 1e6)
    return {name: statistics.median(values) for name, values in rates.items()}


def main() -> None:
    """Parse, measure, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=31)
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    lines = [
        "# Window kernels",
        "",
        "`python benchmarks/speed/windows.py`: million windows of 100 bases a second, one core.",
        "",
    ]
    lines += ["| what | million windows/s | yardstick |", "|---|---:|---:|"]
    for name, rate in measure(options.turns).items():
        yardstick = f"{YARDSTICKS[name]:g}" if name in YARDSTICKS else ""
        lines.append(f"| {name} | {rate:.1f} | {yardstick} |")
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    load = os.getloadavg()[0]
    lines += ["", f"{machine}; {datetime.date.today().isoformat()}; load average {load:.1f}."]
    text = "\n".join(lines) + "\n"
    print(text, end="")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text)


if __name__ == "__main__":
    main()
