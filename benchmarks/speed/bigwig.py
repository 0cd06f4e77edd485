"""Speed and memory of the bigWig writer.

    python benchmarks/speed/bigwig.py --values 20000000 --threads 2

Prints one JSON line: million values a second, growth of resident memory, bytes a value, machine and date.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import platform
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil

from mirscan.formats.bigwig import BigWigWriter

BATCH = 1 << 18


def resident() -> float:
    """Resident memory of this process in MB."""
    return psutil.Process().memory_info().rss / 1e6


def measure(values: int, threads: int, level: int, step: int, absent: float) -> dict[str, object]:
    """Stream scores of two contigs through the writer, a quarter of a million a call."""
    random = np.random.default_rng(0)
    batches = [random.beta(0.3, 3.0, BATCH).astype(np.float32) for _ in range(4)]
    for batch in batches:
        batch[random.random(BATCH) < absent] = np.nan
    half = values // 2
    contigs = [("chr1", half * step + 100), ("empty", 5000), ("chr2", half * step + 100)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "scores.bw")
        before, peak, begin = resident(), 0.0, time.perf_counter()
        with BigWigWriter(path, contigs, step_hint=step, threads=threads, level=level) as writer:
            for contig in ("chr1", "chr2"):
                for k, first in enumerate(range(0, half, BATCH)):
                    batch = batches[k % 4][: half - first]
                    writer.add(contig, 40 + first * step, batch, step, step)
                    peak = max(peak, resident() - before)
        seconds = time.perf_counter() - begin
        peak = max(peak, resident() - before)
        size = path.stat().st_size
    return {
        "benchmark": "bigwig",
        "values": 2 * half,
        "threads": threads,
        "level": level,
        "absent": absent,
        "million_values_per_second": round(2 * half / seconds / 1e6, 2),
        "resident_growth_mb": round(peak, 1),
        "bytes_per_value": round(size / (2 * half), 2),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--values", type=int, default=20_000_000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--level", type=int, default=1)
    parser.add_argument("--step", type=int, default=20)
    parser.add_argument("--absent", type=float, default=0.0, help="share of windows without a score")
    options = parser.parse_args()
    figures = measure(**vars(options))
    machine = f"{platform.machine()}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"
    print(json.dumps({**figures, "machine": machine, "date": datetime.date.today().isoformat()}))


if __name__ == "__main__":
    main()
