"""Regions, exclusions and aliases to segments of the window grid (scanner/mirscan/genome/regions.py)."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.errors import InputError
from mirscan.genome.regions import ContigRow, contig_table, select_segments
from mirscan.types import Contig, Grid, Segment

CONTIGS = (Contig("chr1", 1000), Contig("2", 350, ambiguous=7), Contig("tiny", 99), Contig("chrM", 100), Contig("e", 0))
GRID = Grid(100, 20)


def selected(**options: Any) -> list[tuple[int, int, int]]:
    return [(s.contig, s.first, s.count) for s in select_segments(CONTIGS, GRID, **options)]


def test_everything_but_short_contigs_by_default() -> None:
    assert selected() == [(0, 0, 46), (1, 0, 14), (3, 0, 1)]
    assert selected(min_contig=350) == [(0, 0, 46), (1, 0, 14)]


@pytest.mark.parametrize(
    ("regions", "expected"),
    [
        (["chr1"], [(0, 0, 46)]),
        (["chr1:1-100"], [(0, 0, 1)]),
        (["chr1:2-120"], [(0, 1, 1)]),
        (["chr1:2-119"], []),
        (["chr1:801"], [(0, 40, 6)]),
        (["chr1:801-"], [(0, 40, 6)]),
        (["chr1:1-1,000"], [(0, 0, 46)]),
        (["2:200-350"], [(1, 10, 4)]),
        (["2:1-349"], [(1, 0, 13)]),
        (["2", "chr1:1-100"], [(0, 0, 1), (1, 0, 14)]),
        (["chr1:1-200", "chr1:101-300"], [(0, 0, 11)]),
        (["chr1:1-100", "chr1:21-120"], [(0, 0, 2)]),
        (["chr1:1-100", "chr1:501-600"], [(0, 0, 1), (0, 25, 1)]),
        (["chr1:501-600", "chr1:1-100", "chr1:501-620"], [(0, 0, 1), (0, 25, 2)]),
        (["tiny", "e"], []),
    ],
)
def test_regions(regions: list[str], expected: list[tuple[int, int, int]]) -> None:
    assert selected(regions=regions) == expected


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ("chr9", "no contig 'chr9'; it has chr1, 2, tiny, ..."),
        ("chr9:1-5", "no contig 'chr9'"),
        ("", "no contig ''"),
        ("chr1:", "malformed"),
        ("chr1:x-y", "malformed"),
        ("chr1:-5", "malformed"),
        ("chr1:1-2-3", "malformed"),
        ("chr1:1,00-200", "malformed"),
        ("chr1:" + "9" * 5000, "malformed"),
        ("chr1:0-100", "count from 1"),
        ("chr1:200-100", "reversed"),
        ("chr1:101-100", "reversed"),
        ("chr1:1-1001", "past the end of 'chr1', which has 1,000 bases"),
        ("chr1:1001", "past the end"),
        ("e:1-1", "past the end of 'e', which has 0 bases"),
    ],
)
def test_bad_regions(region: str, message: str) -> None:
    with pytest.raises(InputError, match=rf"^region .*{message}") as caught:
        selected(regions=[region])
    assert "\n" not in str(caught.value)


def test_names_with_colons_are_found_whole_first() -> None:
    contigs = (Contig("HLA-A*01:01", 300), Contig("HLA-A*01", 500), Contig("HLA-A*01:01:1-9", 200))
    for region, expected in (
        ("HLA-A*01:01", [Segment(0, 0, 11)]),
        ("HLA-A*01:01:1-120", [Segment(0, 0, 2)]),
        ("HLA-A*01:1-120", [Segment(1, 0, 2)]),
        ("HLA-A*01:01:1-9", [Segment(2, 0, 6)]),
    ):
        assert list(select_segments(contigs, GRID, regions=[region])) == expected
    kept = select_segments(contigs, GRID, exclude=["HLA-A*01"])
    assert [segment.contig for segment in kept] == [0, 2]


def test_a_bed_file(tmp_path: Path) -> None:
    bed = tmp_path / "x.bed"
    bed.write_bytes(
        b"#c\ntrack name=x\nbrowser position\n\nchr1\t0\t100\tname\r\nchr1 20 120\nchr2\t200\t350\nchr1\t5\t5\n"
    )
    assert selected(regions_file=bed) == [(0, 0, 2), (1, 10, 4)]
    assert selected(regions_file=bed, regions=["chrM"]) == [(0, 0, 2), (1, 10, 4), (3, 0, 1)]
    bed.write_text("# none\n")
    assert selected(regions_file=bed) == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"chr1\t0\t100\nchr1\t5\n", ":2: .*no BED line"),
        (b"chr1\t-1\t100\n", ":1: .*no BED line"),
        (b"chr1\t0\t1e3\n", ":1: .*no BED line"),
        (b"\nchr9\t0\t100\n", ":2: the genome has no contig 'chr9'"),
        (b"chr1\t0\t1001\n", ":1: 0 to 1001 is past the end"),
        (b"chr1\t100\t20\n", ":1: 100 to 20 is reversed"),
        (b"\x1f\x8b\xff", "not a UTF-8"),
    ],
)
def test_bad_bed_files(tmp_path: Path, text: bytes, message: str) -> None:
    (tmp_path / "x.bed").write_bytes(text)
    with pytest.raises(InputError, match=rf"x\.bed{message}|x\.bed: {message}"):
        selected(regions_file=tmp_path / "x.bed")


def test_an_absent_file(tmp_path: Path) -> None:
    for option in ("regions_file", "alias_file"):
        with pytest.raises(InputError, match=r"absent: cannot be read \(No such file"):
            selected(**{option: tmp_path / "absent"})


def test_exclude() -> None:
    assert selected(exclude=["chr*"]) == [(1, 0, 14)]
    assert selected(exclude=["chr[0-9]", "no*such", "MT"]) == [(1, 0, 14)]
    assert selected(exclude=["1"], regions=["chr1", "2"]) == [(1, 0, 14)]
    with pytest.raises(InputError, match=r"^exclude 'chr7': the genome has no contig 'chr7'"):
        selected(exclude=["chr7"])


def test_aliases(tmp_path: Path) -> None:
    for name, number in (("1", 0), ("chr2", 1), ("MT", 3), ("M", 3), ("chrMT", 3)):
        assert {row[0] for row in selected(regions=[name])} == {number}
        with pytest.raises(InputError, match="no contig"):
            selected(regions=[name], aliases=False)
    both = (Contig("1", 300), Contig("chr1", 200))
    assert select_segments(both, GRID, regions=["chr1"]) == (Segment(1, 0, 6),)
    table = tmp_path / "alias.tsv"
    table.write_text("# name\talias\nchr1\tNC_1\nCM_2\t2\nCM_2\tII\n")
    assert selected(regions=["NC_1:1-100", "CM_2:1-100"], alias_file=table, aliases=False) == [(0, 0, 1), (1, 0, 1)]
    table.write_text("chr1\tNC_1\nchr1 NC_2\n")
    with pytest.raises(InputError, match=r"alias\.tsv:2: .*two names"):
        selected(alias_file=table)


def test_the_contig_table() -> None:
    segments = select_segments(CONTIGS, GRID, regions=["chr1:1-100", "chr1:501-600", "chr2"])
    assert contig_table(CONTIGS, segments, GRID) == [
        ContigRow("chr1", 1000, 0, 2, ""),
        ContigRow("2", 350, 7, 14, ""),
        ContigRow("tiny", 99, 0, 0, "shorter than a window of 100"),
        ContigRow("chrM", 100, 0, 0, "not selected"),
        ContigRow("e", 0, 0, 0, "shorter than a window of 100"),
    ]


INTERVALS = st.lists(st.tuples(st.integers(0, 2), st.integers(0, 120), st.integers(0, 120)), max_size=8)


@settings(deadline=None, max_examples=200)
@given(INTERVALS, st.lists(st.integers(0, 120), min_size=3, max_size=3), st.integers(1, 12), st.integers(1, 12))
def test_the_windows_inside_any_region_each_once(
    intervals: list[tuple[int, int, int]], lengths: list[int], window: int, step: int
) -> None:
    grid = Grid(window, min(step, window))
    contigs = [Contig(f"c{i}", length) for i, length in enumerate(lengths)]
    regions = [(c, *sorted((a % (lengths[c] + 1), b % (lengths[c] + 1)))) for c, a, b in intervals]
    regions = [(c, a, b) for c, a, b in regions if a < b]
    texts = [f"c{c}:{a + 1}-{b}" for c, a, b in regions]
    segments = select_segments(contigs, grid, regions=texts or ["c0:1-1" if lengths[0] else "c0"])
    found = [(s.contig, int(start)) for s in segments for start in grid.starts(lengths[s.contig], s.first, s.count)]
    if not texts:
        regions = [(0, 0, min(1, lengths[0]))]
    expected = [
        (c, int(start))
        for c, length in enumerate(lengths)
        for start in grid.starts(length, 0, grid.count(length))
        if any(c == r and a <= start and start + window <= b for r, a, b in regions)
    ]
    assert found == expected
    assert all(np.diff([s.first for s in segments if s.contig == c]).min(initial=1) > 0 for c in range(3))
