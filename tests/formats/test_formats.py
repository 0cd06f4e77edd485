"""Output formats, read back by libraries of others: pyBigWig and pybigtools for bigWig, gzip for BGZF."""

from __future__ import annotations

import dataclasses
import gzip
import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pybigtools
import pyBigWig
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import mirscan.formats.bed as bed
import mirscan.formats.decimals as decimals
import mirscan.formats.gff3 as gff3
from mirscan.formats.atomic import BGZF_END, Output
from mirscan.formats.bed import BedGraphWriter, BedWriter
from mirscan.formats.bigwig import BigWigWriter
from mirscan.formats.fasta import write_fasta
from mirscan.formats.intervals import CHUNK
from mirscan.types import Call

CONTIGS = [("chrB", 2_000_000), ("empty", 500), ("chrA", 70_000)]
"""Out of alphabetical order: the contig tree is sorted, numbers follow the FASTA."""


def items(path: Path, contig: str) -> list[tuple[int, int, float]]:
    """What both libraries read, once they agree."""
    with pyBigWig.open(str(path)) as file:
        one = list(file.intervals(contig) or ())
    two = [tuple(item) for item in pybigtools.open(str(path)).records(contig)]
    assert one == two
    return one


def expected(start: np.ndarray, end: np.ndarray, values: np.ndarray) -> list[tuple[int, int, float]]:
    present = ~np.isnan(values)
    return list(zip(start[present].tolist(), end[present].tolist(), values[present].tolist(), strict=True))


def summary(path: Path) -> dict[str, float]:
    return pybigtools.open(str(path)).info()["summary"]


def no_files(folder: Path) -> bool:
    return not list(folder.iterdir())


def scores(count: int, seed: int = 0, absent: float = 0.0) -> np.ndarray:
    random = np.random.default_rng(seed)
    values = random.random(count, dtype=np.float32)
    values[random.random(count) < absent] = np.nan
    return values


# ---- bigWig: content ---------------------------------------------------------------------------------------------


def test_bigwig_values_and_header(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    b, a = scores(90_000, 1, absent=0.01), scores(3000, 2)
    b[500:900] = np.nan
    start = 40 + 20 * np.arange(len(b))
    end = start + 20
    end[-1] -= 13  # the tail window draws fewer bases
    with BigWigWriter(path, CONTIGS) as writer:
        writer.add_intervals("chrB", start, end, b)
        writer.add(2, 40, a, 20, 20)
    assert items(path, "chrB") == expected(start, end, b)
    assert items(path, "chrA") == expected(40 + 20 * np.arange(3000), 60 + 20 * np.arange(3000), a)
    assert items(path, "empty") == []
    with pyBigWig.open(str(path)) as file:
        header = file.header()
        assert file.chroms() == dict(CONTIGS)
        assert file.stats("empty") == [None]
    assert pybigtools.open(str(path)).chroms() == dict(CONTIGS)
    value = np.concatenate([b, a]).astype(np.float64)
    span = np.concatenate([end - start, np.full(3000, 20)])
    covered = int(span[~np.isnan(value)].sum())
    assert header["version"] == 4
    assert header["nBasesCovered"] == covered
    both = summary(path)
    assert both["basesCovered"] == covered
    assert both["min"] == np.nanmin(value)
    assert both["max"] == np.nanmax(value)
    assert both["sum"] == pytest.approx(np.nansum(value * span), rel=1e-12)
    assert header["sumData"] == int(np.nansum(value * span))
    assert header["sumSquared"] == int(np.nansum(value * value * span))
    assert both["std"] == pytest.approx(
        np.sqrt(np.nansum(value**2 * span) / covered - (np.nansum(value * span) / covered) ** 2), rel=1e-4
    )


def test_equal_neighbours_stay_apart(tmp_path: Path) -> None:
    with BigWigWriter(tmp_path / "x.bw", CONTIGS) as writer:
        writer.add("chrB", 0, np.zeros(5000, np.float32), 20, 20)
    assert len(items(tmp_path / "x.bw", "chrB")) == 5000


def test_bytes_do_not_depend_on_the_calls(tmp_path: Path) -> None:
    values = scores(CHUNK + 5000, 3, absent=0.02)
    with BigWigWriter(tmp_path / "one.bw", CONTIGS) as writer:
        writer.add("chrB", 40, values, 20, 20)
        writer.add("chrA", 40, values[:900], 20, 20)
    with BigWigWriter(tmp_path / "many.bw", CONTIGS, threads=1) as writer:
        for first in range(0, len(values), 777):
            writer.add("chrB", 40 + 20 * first, values[first : first + 777], 20, 20)
        for first in range(900):
            writer.add("chrA", 40 + 20 * first, values[first : first + 1], 20, 20)
    assert (tmp_path / "one.bw").read_bytes() == (tmp_path / "many.bw").read_bytes()


def test_no_data(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    with BigWigWriter(path, CONTIGS) as writer:
        writer.add("chrB", 0, np.full(100, np.nan, np.float32), 20, 20)
    assert items(path, "chrB") == []
    assert summary(path)["basesCovered"] == 0
    with pyBigWig.open(str(path)) as file:
        assert file.header()["nBasesCovered"] == 0
        assert file.chroms() == dict(CONTIGS)


def test_many_contigs_with_long_names(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    random = np.random.default_rng(4)
    order = random.permutation(60_000)
    contigs = [(f"scaffold_{k}".ljust(255 if k % 1000 == 0 else 1, "x"), 400 + int(k) % 7) for k in order]
    values = scores(15, 5)
    with BigWigWriter(path, contigs) as writer:
        for number in range(0, 60_000, 2):
            writer.add(number, 40, values, 20, 20)
    rows = expected(40 + 20 * np.arange(15), 60 + 20 * np.arange(15), values)
    file, other = pyBigWig.open(str(path)), pybigtools.open(str(path))
    assert file.chroms() == dict(contigs)
    assert other.chroms() == dict(contigs)
    assert summary(path)["basesCovered"] == 30_000 * 300
    for number in [*random.integers(0, 30_000, 20) * 2, 0, 59_998]:
        name = contigs[int(number)][0]
        assert list(file.intervals(name)) == rows
        assert [tuple(item) for item in other.records(name)] == rows
        assert file.stats(name, exact=False)[0] == pytest.approx(values.astype(np.float64).mean(), rel=1e-6)
        assert file.intervals(contigs[int(number) + 1][0]) is None
    file.close()


def test_coordinates_up_to_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    length = 2**32 - 1
    with BigWigWriter(path, [("long", length)]) as writer:
        writer.add_intervals("long", np.array([2**31, length - 20]), np.array([2**31 + 20, length]), np.ones(2))
    # pyBigWig.intervals turns starts above 2^31 negative, so this one is read by pybigtools alone.
    rows = [tuple(item) for item in pybigtools.open(str(path)).records("long")]
    assert rows == [(2**31, 2**31 + 20, 1.0), (length - 20, length, 1.0)]


@st.composite
def tracks(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Regular runs of random step and span with gaps, absent values, single intervals and a shorter tail."""
    start: list[int] = []
    end: list[int] = []
    at = 0
    for _ in range(draw(st.integers(1, 6))):
        at += draw(st.integers(0, 300))
        step = draw(st.integers(1, 50))
        span = draw(st.integers(1, step))
        for _ in range(draw(st.sampled_from([1, 2, 3, 127, 130, 400, 1500]))):
            start.append(at)
            end.append(at + span)
            at += step
    end[-1] = draw(st.integers(start[-1] + 1, end[-1]))
    values = scores(len(start), draw(st.integers(0, 99)), absent=draw(st.sampled_from([0.0, 0.01, 0.5])))
    return np.array(start), np.array(end), values


@settings(max_examples=40, deadline=None)
@given(track=tracks(), cut=st.integers(1, 3000), step=st.integers(1, 30))
def test_any_track_round_trips(
    tmp_path_factory: pytest.TempPathFactory, track: tuple[np.ndarray, np.ndarray, np.ndarray], cut: int, step: int
) -> None:
    path = tmp_path_factory.mktemp("track") / "x.bw"
    start, end, values = track
    contigs = [("before", 10), ("c", int(end[-1])), ("after", 10)]
    with BigWigWriter(path, contigs, step_hint=step) as writer:
        for first in range(0, len(start), cut):
            rows = slice(first, first + cut)
            writer.add_intervals("c", start[rows], end[rows], values[rows])
    assert items(path, "c") == expected(start, end, values)
    present = ~np.isnan(values)
    span, value = (end - start)[present], values[present].astype(np.float64)
    assert summary(path)["basesCovered"] == span.sum()
    for level in zoom_levels(path):
        records = np.array([list(row) for row in zoom(path, "c", level)], float).reshape(-1, 7)
        assert records[:, 2].sum() == span.sum()
        assert records[:, 5].sum() == pytest.approx((value * span).sum(), rel=1e-6)
        assert records[:, 6].sum() == pytest.approx((value**2 * span).sum(), rel=1e-6)
        assert (records[1:, 0] >= records[:-1, 1]).all()
        if len(value):
            assert records[:, 3].min() == value.min()
            assert records[:, 4].max() == value.max()


def test_scattered_intervals_share_blocks(tmp_path: Path) -> None:
    """Every second window of a track with one of nine absent: no block may be opened for a few items."""
    values = scores(90_000, 6)
    values[::9] = np.nan
    with BigWigWriter(tmp_path / "x.bw", CONTIGS) as writer:
        writer.add("chrB", 0, values, 20, 15)
    assert len(items(tmp_path / "x.bw", "chrB")) == 80_000
    assert int.from_bytes((tmp_path / "x.bw").read_bytes()[data_offset(tmp_path / "x.bw") :][:8], "little") <= 81


def data_offset(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:24], "little")


# ---- bigWig: zoom levels -----------------------------------------------------------------------------------------


def zoom_levels(path: Path) -> list[int]:
    data = path.read_bytes()
    return [
        int.from_bytes(data[64 + 24 * k : 68 + 24 * k], "little") for k in range(int.from_bytes(data[6:8], "little"))
    ]


def zoom(path: Path, contig: str, level: int) -> Iterator[tuple[float, ...]]:
    """``(start, end, covered, min, max, sum, sum of squares)`` of each record, as pybigtools reads them."""
    for start, end, record in pybigtools.open(str(path)).zoom_records(level, contig):
        names = ("bases_covered", "min_val", "max_val", "sum", "sum_squares")
        yield (start, end, *(record[name] for name in names))


def test_zoom_levels(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    values = scores(65_536, 7, absent=0.03)
    values[10_000:20_000] = np.nan
    step = 20
    with BigWigWriter(path, [("c", 65_536 * step), ("d", 1000)], step_hint=step) as writer:
        writer.add("c", 0, values, step, step)
        writer.add("d", 0, values[:7], step, step)
    levels = zoom_levels(path)
    assert levels == [32 * step * 4**k for k in range(len(levels))]
    assert len(levels) >= 6
    for level in levels:
        table = values.astype(np.float64).reshape(-1, level // step) if 65_536 * step % level == 0 else None
        assert table is not None
        table = table[~np.isnan(table).all(axis=1)]
        records = np.array(list(zoom(path, "c", level)))
        np.testing.assert_array_equal(records[:, 2], (~np.isnan(table)).sum(1) * step)
        np.testing.assert_array_equal(records[:, 3], np.nanmin(table, 1))
        np.testing.assert_array_equal(records[:, 4], np.nanmax(table, 1))
        np.testing.assert_allclose(records[:, 5], np.nansum(table, 1) * step, rtol=1e-7)
        np.testing.assert_allclose(records[:, 6], np.nansum(table**2, 1) * step, rtol=1e-7)
        assert len(list(zoom(path, "d", level))) == 1


@pytest.mark.parametrize("bins", [1, 4, 64, 256])
def test_zoom_means_are_the_exact_means(tmp_path: Path, bins: int) -> None:
    path = tmp_path / "x.bw"
    values = scores(65_536, 8, absent=0.02)
    with BigWigWriter(path, [("c", 65_536 * 20)]) as writer:
        for first in range(0, 65_536, 1000):
            writer.add("c", 20 * first, values[first : first + 1000], 20, 20)
    means = np.nanmean(values.astype(np.float64).reshape(bins, -1), axis=1)
    with pyBigWig.open(str(path)) as file:
        np.testing.assert_allclose(file.stats("c", nBins=bins, exact=False), means, rtol=1e-3)
        np.testing.assert_allclose(file.stats("c", nBins=bins, exact=True), means, rtol=1e-3)
    other = pybigtools.open(str(path)).values("c", 0, 65_536 * 20, bins=bins, summary="mean", exact=False, fillna=None)
    np.testing.assert_allclose(other, means, rtol=1e-3)


def test_zoom_sums_beyond_float32_stay_finite(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    with BigWigWriter(path, CONTIGS) as writer:
        writer.add("chrB", 0, np.full(200, 3e38, np.float32), 20, 20)
    assert all(np.isfinite(row).all() for row in zoom(path, "chrB", zoom_levels(path)[0]))


# ---- bigWig: errors ----------------------------------------------------------------------------------------------


def intervals(*rows: tuple[int, int, float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    start, end, value = zip(*rows, strict=True)
    return np.array(start), np.array(end), np.array(value, np.float32)


def write(path: Path, *calls: tuple[Any, ...]) -> None:
    with BigWigWriter(path, CONTIGS) as writer:
        for call in calls:
            writer.add_intervals(*call)


def write_and_fail(path: Path) -> None:
    with BigWigWriter(path, CONTIGS) as writer:
        writer.add("chrB", 0, scores(90_000), 20, 20)
        raise RuntimeError


@pytest.mark.parametrize(
    ("contig", "rows", "words"),
    [
        ("chrB", [(0, 20, 0.5), (20, 40, np.inf)], ["chrB", "inf", "[20, 40)"]),
        ("chrB", [(0, 20, -np.inf)], ["chrB", "-inf", "[0, 20)"]),
        ("chrB", [(0, 20, 0.5), (10, 30, 0.5)], ["chrB", "[10, 30)", "[0, 20)"]),
        ("chrB", [(100, 120, 0.5), (20, 40, 0.5)], ["chrB", "[20, 40)", "[100, 120)"]),
        ("chrB", [(20, 20, 0.5)], ["chrB", "[20, 20)"]),
        ("chrB", [(-20, 0, 0.5)], ["chrB", "[-20, 0)"]),
        ("chrA", [(69_990, 70_001, 0.5)], ["chrA", "[69990, 70001)", "70000"]),
        ("chrC", [(0, 20, 0.5)], ["unknown contig", "chrC"]),
        (3, [(0, 20, 0.5)], ["unknown contig", "3"]),
        (-1, [(0, 20, 0.5)], ["unknown contig", "-1"]),
    ],
)
def test_bad_intervals(tmp_path: Path, contig: str | int, rows: list[tuple[int, int, float]], words: list[str]) -> None:
    with pytest.raises(ValueError) as caught:
        write(tmp_path / "x.bw", (contig, *intervals(*rows)))
    assert all(word in str(caught.value) for word in words), caught.value
    assert no_files(tmp_path)


def test_order_is_kept_over_calls(tmp_path: Path) -> None:
    one = np.ones(1, np.float32)
    here, inside = (np.array([0]), np.array([20]), one), (np.array([10]), np.array([30]), one)
    with pytest.raises(ValueError, match=r"chrB: interval \[10, 30\) begins before .* \[0, 20\)"):
        write(tmp_path / "x.bw", ("chrB", *here), ("chrB", *inside))
    with pytest.raises(ValueError, match="chrB: comes after chrA"):
        write(tmp_path / "x.bw", ("chrA", *here), ("chrB", *here))
    with pytest.raises(ValueError, match="2 starts, 2 ends and 3 values"):
        write(tmp_path / "x.bw", ("chrB", np.array([0, 20]), np.array([20, 40]), np.ones(3, np.float32)))
    assert no_files(tmp_path)


@pytest.mark.parametrize(
    ("contigs", "words"),
    [
        ([], "at least one contig"),
        ([("a", 2**32)], r"a: 4294967296 bases"),
        ([("a", -1)], "a: length -1"),
        ([("a", 5), ("b", 5), ("a", 7)], "a: two contigs"),
        ([("a\tb", 5)], r"'a\\tb'"),
        ([("", 5)], "''"),
    ],
)
def test_bad_contigs(tmp_path: Path, contigs: list[tuple[str, int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        BigWigWriter(tmp_path / "x.bw", contigs)
    assert no_files(tmp_path)


def test_an_error_caught_by_the_caller_still_publishes_nothing(tmp_path: Path) -> None:
    writer = BigWigWriter(tmp_path / "x.bw", CONTIGS)
    with pytest.raises(ValueError):
        writer.add("chrB", 0, np.full(1, np.inf, np.float32), 20, 20)
    with pytest.raises(ValueError, match="closed"):
        writer.add("chrB", 0, np.ones(1, np.float32), 20, 20)
    writer.close()
    assert no_files(tmp_path)


def test_an_exception_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "x.bw"
    path.write_text("older")
    with pytest.raises(RuntimeError):
        write_and_fail(path)
    assert path.read_text() == "older"
    assert list(tmp_path.iterdir()) == [path]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        BigWigWriter(tmp_path / "missing" / "x.bw", CONTIGS)
    assert caught.value.filename == str(tmp_path / "missing" / "x.bw")


@pytest.mark.parametrize("limit", [100, 200_000, 400_000])
def test_full_disk(tmp_path: Path, limit: int) -> None:
    """A limit on file sizes fails writes as a full disk does: in the header, among the data, in the zoom levels."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError), BigWigWriter(tmp_path / "x.bw", CONTIGS) as writer:
            writer.add("chrB", 0, scores(90_000), 20, 20)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert no_files(tmp_path)


def test_a_kill_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    program = (
        "import os, sys, numpy as np\n"
        "from mirscan.formats.bigwig import BigWigWriter\n"
        "writer = BigWigWriter(sys.argv[1], [('c', 10**8)])\n"
        "writer.add('c', 0, np.ones(500_000, np.float32), 20, 20)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "x.bw")], check=False, timeout=60)
    assert done.returncode == -signal.SIGKILL
    assert [path.suffix for path in tmp_path.iterdir()] == [".mirscan"]


def test_outputs_follow_the_umask_and_links(tmp_path: Path) -> None:
    (tmp_path / "link.bw").symlink_to(tmp_path / "real.bw")
    older = os.umask(0o027)
    try:
        with BigWigWriter(tmp_path / "link.bw", CONTIGS):
            pass
    finally:
        os.umask(older)
    assert (tmp_path / "link.bw").is_symlink()
    assert (tmp_path / "real.bw").stat().st_mode & 0o777 == 0o640


def test_memory_is_flat(tmp_path: Path) -> None:
    batch = scores(1 << 18)
    contigs = [("c", 20_000_000 * 20)]
    before = psutil.Process().memory_info().rss
    peak = before
    with BigWigWriter(tmp_path / "x.bw", contigs) as writer:
        for first in range(0, 20_000_000, len(batch)):
            writer.add("c", first * 20, batch[: 20_000_000 - first], 20, 20)
            peak = max(peak, psutil.Process().memory_info().rss)
    peak = max(peak, psutil.Process().memory_info().rss)
    assert summary(tmp_path / "x.bw")["basesCovered"] == 400_000_000
    assert peak - before < 60e6


# ---- text formats ------------------------------------------------------------------------------------------------

CALLS = [
    Call("chrB", 40, 44, "+", float(np.float32(0.1)), "mir_1", -1.5, "(())", "ACGU", windows=3),
    Call("chrB", 60, 80, "-", 1.0, "mir_2"),
    Call("chrA", 0, 4, "-", 0.0, "mir_3", 0.0, "....", "acgt"),
]


def bgzf_blocks_of(data: bytes) -> list[bytes]:
    """The blocks, walked by their sizes as tabix does; each must inflate alone."""
    blocks = []
    while data:
        assert data[:4] == b"\x1f\x8b\x08\x04"
        assert data[10:16] == b"\x06\x00BC\x02\x00"
        size = int.from_bytes(data[16:18], "little") + 1
        blocks.append(gzip.decompress(data[:size]))
        data = data[size:]
    return blocks


@pytest.mark.parametrize("name", ["x.bedgraph", "x.bedgraph.gz"])
def test_bedgraph_rows(tmp_path: Path, name: str) -> None:
    values = scores(CHUNK + 100, 1, absent=0.1)
    values[:6] = [0.0, 1.0, 1e-7, 0.1, np.float32(1) / 3, 1.17549435e-38]
    start = 40 + 20 * np.arange(len(values))
    with BedGraphWriter(tmp_path / name, [("50%d", 2_000_000), ("b", 100)]) as writer:
        writer.add_intervals("50%d", start, start + 20, values)
        writer.add_intervals(1, *intervals((3, 5, 0.5)))
    data = (tmp_path / name).read_bytes()
    rows = [line.split("\t") for line in (gzip.decompress(data) if name.endswith("gz") else data).decode().splitlines()]
    assert rows.pop() == ["b", "3", "5", "0.5"]
    assert {row[0] for row in rows} == {"50%d"}
    read = [(int(row[1]), int(row[2]), float(np.float32(row[3]))) for row in rows]
    assert read == expected(start, start + 20, values)
    assert rows[3][3] == "0.1"


def test_decimals_are_the_shortest() -> None:
    """NumPy's own, number by number, is the slow reference."""
    random = np.random.default_rng(9)
    steps = np.arange(-40, 41)
    borders = [np.float32(10.0**k).view(np.int32) + steps for k in range(-5, 2)]
    values = np.concatenate(
        [
            random.random(20_000),
            10 ** random.uniform(-9, 2, 20_000),
            np.round(random.random(5000), 3),
            np.concatenate(borders).astype(np.int32).view(np.float32),
            [0.0, -0.0, -0.25, 3.4e38],
        ]
    ).astype(np.float32)
    read = decimals.rows(decimals.floats(values), b"\n").decode().split()
    slow = ["0.0001" if value == np.float32(1e-4) else str(value) for value in values]
    assert read == slow
    numbers = np.concatenate([random.integers(0, 10**10, 1000), [0, 9, 10, 99, 100, 2**40]])
    assert decimals.rows(decimals.integers(numbers), b"\n").decode().split() == [str(n) for n in numbers]


def test_bed_rows_of_both_strands(tmp_path: Path) -> None:
    values = np.array([[0.25, np.nan], [np.nan, np.nan], [0.9996, 0.0004]], np.float32)
    start = np.array([40, 60, 80])
    with BedWriter(tmp_path / "x.bed", CONTIGS) as writer:
        writer.add_intervals("chrB", start, start + 20, values)
    assert (tmp_path / "x.bed").read_text() == (
        "chrB\t40\t60\t.\t250\t+\t0.25\nchrB\t80\t100\t.\t1000\t+\t0.9996\nchrB\t80\t100\t.\t0\t-\t0.0004\n"
    )


@given(values=st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=50))
@settings(max_examples=40, deadline=None)
def test_bed_scores_round_trip(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    path = tmp_path_factory.mktemp("bed") / "x.bed"
    score = np.array([values, values], np.float32).T
    start = 20 * np.arange(len(values))
    with BedWriter(path, CONTIGS) as writer:
        writer.add_intervals("chrB", start, start + 20, score)
    rows = [line.split("\t") for line in path.read_text().splitlines()]
    assert [np.float32(row[6]) for row in rows] == score.reshape(-1).tolist()
    assert [int(row[4]) for row in rows] == [round(min(max(1000 * x, 0), 1000)) for x in score.reshape(-1).tolist()]
    assert [row[5] for row in rows] == ["+", "-"] * len(values)


@pytest.mark.parametrize("writer_class", [BedGraphWriter, BedWriter])
@pytest.mark.parametrize("name", ["x.bed", "x.bed.gz"])
def test_text_tracks_refuse_what_bigwig_refuses(
    tmp_path: Path, writer_class: type[BedGraphWriter | BedWriter], name: str
) -> None:
    def run(contig: str, *rows: tuple[int, int, float]) -> None:
        start, end, value = intervals(*rows)
        with writer_class(tmp_path / name, CONTIGS) as writer:
            writer.add_intervals(contig, start, end, value if writer_class is BedGraphWriter else np.c_[value, value])

    for contig, rows, words in [
        ("chrB", [(0, 20, np.inf)], "not finite"),
        ("chrB", [(0, 20, 0.5), (10, 30, 0.5)], r"\[10, 30\)"),
        ("chrA", [(69_990, 70_001, 0.5)], "past the contig"),
        ("chrC", [(0, 20, 0.5)], "unknown contig"),
    ]:
        with pytest.raises(ValueError, match=words):
            run(contig, *rows)
        assert no_files(tmp_path)


def test_bgzf_blocks(tmp_path: Path) -> None:
    text = np.random.default_rng(0).bytes(3_000_000)  # incompressible: the worst case for the size of a block
    with Output(tmp_path / "x.gz") as output:
        for first in range(0, len(text), 70_000):
            output.write(text[first : first + 70_000])
    data = (tmp_path / "x.gz").read_bytes()
    blocks = bgzf_blocks_of(data)
    assert b"".join(blocks) == text
    assert all(0 < len(block) <= 65280 for block in blocks[:-1])
    assert blocks[-1] == b""
    assert data.endswith(BGZF_END)
    with Output(tmp_path / "empty.gz"):
        pass
    assert (tmp_path / "empty.gz").read_bytes() == BGZF_END


def test_standard_output(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    with BedGraphWriter("-", CONTIGS) as writer:
        writer.add_intervals("chrB", *intervals((0, 20, 0.5)))
    assert capfdbinary.readouterr().out == b"chrB\t0\t20\t0.5\n"


def test_a_device_is_written_and_stays() -> None:
    with Output("/dev/null") as output:
        output.write(b"x")
    assert not Path("/dev/null").is_file()
    assert Path("/dev/null").exists()


def test_calls_as_bed(tmp_path: Path) -> None:
    bed.write_calls(tmp_path / "x.bed", CALLS)
    header, *rows = (tmp_path / "x.bed").read_text().splitlines()
    assert header.startswith("#")
    assert len(header.split("\t")) == 10
    assert [row.split("\t") for row in rows] == [
        ["chrB", "40", "44", "mir_1", "100", "+", "0.1", "-1.50", "(())", "ACGU"],
        ["chrB", "60", "80", "mir_2", "1000", "-", "1.0", ".", ".", "."],
        ["chrA", "0", "4", "mir_3", "0", "-", "0.0", "0.00", "....", "acgt"],
    ]


def test_calls_as_gff3(tmp_path: Path) -> None:
    odd = dataclasses.replace(CALLS[0], contig=">chr 1;%é~|", name="a;b=c&d,e%f")
    gff3.write_calls(tmp_path / "x.gff3", [odd, CALLS[1]], [(">chr 1;%é~|", 500), ("chrB", 2_000_000)])
    assert (tmp_path / "x.gff3").read_text().splitlines() == [
        "##gff-version 3",
        "##sequence-region %3Echr%201%3B%25%C3%A9%7E| 1 500",
        "##sequence-region chrB 1 2000000",
        "%3Echr%201%3B%25%C3%A9%7E|\tmirscan\tpre_miRNA\t41\t44\t0.1\t+\t.\t"
        "ID=a%3Bb%3Dc%26d%2Ce%25f;Name=a%3Bb%3Dc%26d%2Ce%25f;energy=-1.50;structure=(());windows=3",
        "chrB\tmirscan\tpre_miRNA\t61\t80\t1.0\t-\t.\tID=mir_2;Name=mir_2;windows=1",
    ]
    (tmp_path / "x.gff3").unlink()
    with pytest.raises(ValueError, match="two calls have the name mir_2"):
        gff3.write_calls(tmp_path / "x.gff3", [CALLS[1], CALLS[1]])
    assert no_files(tmp_path)


def test_calls_as_fasta(tmp_path: Path) -> None:
    write_fasta(tmp_path / "x.fa", [CALLS[0], CALLS[2]])
    assert (tmp_path / "x.fa").read_text() == (
        ">mir_1 chrB:41-44(+) score=0.1 energy=-1.50\nACGU\n>mir_3 chrA:1-4(-) score=0.0 energy=0.00\nacgt\n"
    )
    (tmp_path / "x.fa").unlink()
    for bad, words in [(CALLS[1], "no sequence"), (dataclasses.replace(CALLS[0], name="a b"), "first space")]:
        with pytest.raises(ValueError, match=words):
            write_fasta(tmp_path / "x.fa", [bad])
        assert no_files(tmp_path)


@pytest.mark.parametrize("write_calls", [bed.write_calls, gff3.write_calls, write_fasta])
@pytest.mark.parametrize(
    "change",
    [
        {"contig": "a\tb"},
        {"name": "a\nb"},
        {"name": ""},
        {"structure": "((\t))"},
        {"sequence": "AC\rGU"},
        {"start": -1},
        {"start": 44},
        {"strand": "."},
        {"score": float("nan")},
        {"energy": float("inf")},
    ],
)
def test_bad_calls(tmp_path: Path, write_calls: Callable[..., None], change: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"call "):
        write_calls(tmp_path / "x.gz", [CALLS[0], dataclasses.replace(CALLS[0], **{"name": "mir_9", **change})])
    assert no_files(tmp_path)
