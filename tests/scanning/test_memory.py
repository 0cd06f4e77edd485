"""Memory of a scan, and genomes in very many pieces.

Everything runs but the model: a scorer of constant cost stands in for it, because even the smallest model would need
an hour for the 25 million windows of a 250-Mb contig. Its batches have the same shape as the model's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

PROGRAM = """
import json, sys
from pathlib import Path
import numpy as np
import mirscan.scanning.run as run
from mirscan.scanning.options import Options

class Constant:
    def __init__(self, *model, rows, mini, devices):
        self.rows = rows

    def submit(self, codes):
        words = np.ascontiguousarray(codes[:, 40:48]).view(np.uint64)[:, 0]  # hashed, so that scores differ
        return ((words * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(40)).astype(np.float32) / np.float32(1 << 24)

run.Scorer = Constant
genome, output, weights = map(Path, sys.argv[1:])
options = Options(output=output, model="mire2e-tiny", weights=weights, bed=output.with_suffix(".bed"))
record = run.scan_genome(genome, options)
# not ru_maxrss: a process inherits that from the one that started it
(peak,) = (line.split() for line in open("/proc/self/status") if line.startswith("VmHWM:"))
record["peak"] = 1024 * int(peak[1])
print(json.dumps(record))
"""


def write_contigs(path: Path, lengths: list[int]) -> Path:
    """Random bases, made piece by piece: this process must not grow either."""
    random = np.random.default_rng(0)
    letters = np.frombuffer(b"ACGT", dtype=np.uint8)
    with open(path, "wb") as file:
        for number, length in enumerate(lengths):
            file.write(f">contig_{number}\n".encode())
            for start in range(0, length, 1_000_000):
                size = min(1_000_000, length - start)
                rows = np.full((size // 100, 101), ord("\n"), dtype=np.uint8)
                rows[:, :100] = letters[random.integers(0, 4, (size // 100, 100), dtype=np.uint8)]
                file.write(rows.tobytes())
    return path


def scan(genome: Path, weights: Path) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, genome, genome.with_suffix(".bw"), weights]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_memory_hardly_grows_with_a_contig(tmp_path: Path, tiny_weights: Path) -> None:
    scan(write_contigs(tmp_path / "warm.fa", [10_000]), tiny_weights)  # compiles the kernels, which takes memory too
    small = scan(write_contigs(tmp_path / "small.fa", [1_000_000]), tiny_weights)
    large = scan(write_contigs(tmp_path / "large.fa", [250_000_000]), tiny_weights)
    assert large["windows"] == 12_499_996
    assert large["scored"] == 2 * large["windows"]
    growth = (large["peak"] - small["peak"]) / 249e6
    print(f"{growth:.2f} bytes a base, peak {large['peak'] / 1e6:.0f} MB, {large['seconds']} s")
    assert growth < 3


@pytest.mark.parametrize("contigs", [3_000, pytest.param(60_000, marks=pytest.mark.slow)])
def test_a_genome_in_many_pieces_is_one_array(tmp_path: Path, tiny_weights: Path, contigs: int) -> None:
    pyBigWig = pytest.importorskip("pyBigWig")
    record = scan(write_contigs(tmp_path / "pieces.fa", [1000] * contigs), tiny_weights)
    print(f"peak {record['peak'] / 1e6:.0f} MB, {record['seconds']} s")
    assert record["windows"] == 46 * contigs
    assert record["scored"] == 2 * 46 * contigs
    chunks = list((tmp_path / "pieces.bw.store" / "scores" / "c").iterdir())
    assert len(chunks) == record["parts"] == -(-46 * contigs // 8192)
    assert len(list((tmp_path / "pieces.bw.store" / "scores").iterdir())) == 2  # one array: its description, its chunks
    with pyBigWig.open(str(tmp_path / "pieces.bw")) as track:
        assert len(track.chroms()) == contigs
        for number in (0, contigs // 2, contigs - 1):
            assert len(track.intervals(f"contig_{number}")) == 46
