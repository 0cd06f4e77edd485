"""Tracks of a store: what an independent reader finds is what was scored."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import make_plan

from mirscan.errors import IncompleteError, InputError, UsageError
from mirscan.scanning.tracks import check_format, export, track_files
from mirscan.store import ScoreStore
from mirscan.types import Grid, Plan, Segment

pyBigWig = pytest.importorskip("pyBigWig")


def make_store(
    folder: Path | str,
    lengths: Sequence[int],
    seed: int = 0,
    part_windows: int = 16,
    grid: Grid | None = None,
    segments: tuple[Segment, ...] | None = None,
) -> tuple[ScoreStore, np.ndarray]:
    """A finished store of random scores with zeros and NaN, and those scores (windows, 2)."""
    plan = make_plan(lengths, part_windows, grid, **({} if segments is None else {"segments": segments}))
    rng = np.random.default_rng(seed)
    scores = rng.random((plan.windows, 2), dtype=np.float32)
    scores[rng.random(scores.shape) < 0.2] = 0.0
    scores[rng.random(scores.shape) < 0.2] = np.nan
    scores[rng.random(len(scores)) < 0.1] = np.nan
    store = ScoreStore.create_or_open(os.path.join(folder, "store"), plan)
    for part in range(plan.parts):
        store.write(part, scores[slice(*plan.bounds(part))])
    return store, scores


def plain_bases(plan: Plan, values: np.ndarray) -> dict[str, np.ndarray]:
    """Base by base: window k draws the step bases at its centre, the anchored tail what is left of its own."""
    bases = {contig.name: np.full(contig.length, np.nan, np.float32) for contig in plan.contigs}
    window, step = plan.grid.window, plan.grid.step
    row = 0
    for segment in plan.segments:
        contig = plan.contigs[segment.contig]
        for k in range(segment.first, segment.first + segment.count):
            centre = min(k * step, contig.length - window) + (window - step) // 2
            # The interval before this one, whether or not it was part of the scan, ends here at the latest.
            before = (k - 1) * step + (window - step) // 2 + step if k else 0
            bases[contig.name][max(centre, before) : centre + step] = values[row]
            row += 1
    return bases


def read_bases(path: Path) -> dict[str, np.ndarray]:
    with pyBigWig.open(str(path)) as file:
        return {
            name: np.array(file.values(name, 0, length), dtype=np.float32) if length else np.empty(0, np.float32)
            for name, length in file.chroms().items()
        }


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert list(found) == list(expected)
    for name, values in expected.items():
        np.testing.assert_array_equal(found[name], values)


def test_bigwig_per_strand(tmp_path: Path) -> None:
    store, scores = make_store(tmp_path, [1000, 60, 543, 100, 101])
    files = export(store, tmp_path / "s.bw", per_strand=True)
    assert [path.name for path in files] == ["s.bw", "s.plus.bw", "s.minus.bw"]
    for path, values in zip(files, [np.fmax(*scores.T), scores[:, 0], scores[:, 1]], strict=True):
        assert_same(read_bases(path), plain_bases(store.plan, values))
    assert {path.name for path in tmp_path.iterdir()} == {"store", "s.bw", "s.plus.bw", "s.minus.bw"}


def test_one_item_a_window(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [1000])
    store.write(0, np.full((16, 2), 0.5, dtype=np.float32))
    (path,) = export(store, tmp_path / "s.bw")
    with pyBigWig.open(str(path)) as file:
        items = file.intervals("c0", 40, 360)
    assert items == tuple((40 + 20 * k, 60 + 20 * k, 0.5) for k in range(16))


def test_zero_is_drawn_and_nan_is_not(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [1000], part_windows=64)
    scores = np.zeros((46, 2), dtype=np.float32)
    scores[5] = np.nan
    scores[6, 0] = np.nan
    store.write(0, scores)
    values = read_bases(export(store, tmp_path / "s.bw")[0])["c0"]
    drawn = np.flatnonzero(values == 0)
    assert sorted(set(range(40, 960)) - set(drawn)) == list(range(140, 160))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 900), min_size=1, max_size=5),
    part_windows=st.integers(10, 60),
    step=st.sampled_from([1, 7, 20, 99, 100]),
    seed=st.integers(0, 99),
)
def test_any_genome_and_grid(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], part_windows: int, step: int, seed: int
) -> None:
    folder = tmp_path_factory.mktemp("h")
    store, scores = make_store(f"memory://{folder.name}", lengths, seed, part_windows, Grid(100, step))
    (path,) = export(store, folder / "s.bw")
    assert_same(read_bases(path), plain_bases(store.plan, np.fmax(*scores.T)))


def test_regions_use_the_grid_of_their_contig(tmp_path: Path) -> None:
    lengths = [1010, 500]
    whole, scores = make_store(tmp_path / "whole", lengths)
    everywhere = plain_bases(whole.plan, np.fmax(*scores.T))
    segments = (Segment(0, 3, 5), Segment(0, 20, 27), Segment(1, 20, 1))
    store, _ = make_store(tmp_path / "regions", lengths, segments=segments)
    rows = np.concatenate([np.arange(3, 8), np.arange(20, 47), [47 + 20]])
    for part in range(store.plan.parts):
        store.write(part, scores[rows[slice(*store.plan.bounds(part))]])
    found = read_bases(export(store, tmp_path / "r.bw")[0])
    assert_same(found, plain_bases(store.plan, np.fmax(*scores.T)[rows]))
    for name, values in found.items():
        drawn = ~np.isnan(values)
        assert drawn.any()
        np.testing.assert_array_equal(values[drawn], everywhere[name][drawn])


@pytest.mark.parametrize("name", ["s.bedGraph", "s.bedgraph.gz"])
def test_bedgraph(tmp_path: Path, name: str) -> None:
    store, scores = make_store(tmp_path, [1000, 543])
    files = export(store, tmp_path / name, per_strand=True)
    assert files[1].name == name.replace("s.", "s.plus.", 1)
    for path, values in zip(files, [np.fmax(*scores.T), scores[:, 0], scores[:, 1]], strict=True):
        found = {contig.name: np.full(contig.length, np.nan, np.float32) for contig in store.plan.contigs}
        for line in read_lines(path):
            contig, start, end, value = line.split("\t")
            found[contig][int(start) : int(end)] = np.float32(value)
        assert_same(found, plain_bases(store.plan, values))


@pytest.mark.parametrize("name", ["s.bed", "s.bed.gz"])
def test_bed_has_a_row_for_each_window_and_strand(tmp_path: Path, name: str) -> None:
    store, scores = make_store(tmp_path, [1000, 543])
    (path,) = export(store, tmp_path / name)
    rows = [line.split("\t") for line in read_lines(path)]
    expected, place = [], 0
    for segment in store.plan.segments:
        start, end = store.plan.grid.intervals(store.plan.contigs[segment.contig].length, 0, segment.count)
        for k in range(segment.count):
            for strand in (0, 1):
                if not np.isnan(scores[place, strand]):
                    expected.append((f"c{segment.contig}", start[k], end[k], "+-"[strand], scores[place, strand]))
            place += 1
    found = [(row[0], int(row[1]), int(row[2]), row[5], np.float32(row[6])) for row in rows]
    assert found == expected
    assert all(0 <= int(row[4]) <= 1000 and abs(int(row[4]) - 1000 * float(row[6])) <= 1 for row in rows)


def read_lines(path: Path) -> list[str]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    return [line for line in text.splitlines() if not line.startswith(("#", "track"))]


def test_the_bytes_do_not_depend_on_the_parts(tmp_path: Path) -> None:
    written = set()
    for part_windows in (1, 16, 1000):
        folder = tmp_path / str(part_windows)
        folder.mkdir()
        store, _ = make_store(folder, [1000, 60, 543], part_windows=part_windows)
        written.add(export(store, folder / "s.bw")[0].read_bytes())
    assert len(written) == 1


def test_an_unfinished_store_leaves_no_file(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [1000, 543])
    (tmp_path / "s.bw").write_text("an older file")
    (tmp_path / "store/scores/c/3/0").unlink()  # marked, but gone: found only on reading
    with pytest.raises(IncompleteError, match=r"\(3\)"):
        export(store, tmp_path / "s.bw", per_strand=True)
    (tmp_path / "store/parts/1.json").unlink()
    with pytest.raises(IncompleteError, match=r"\(1\)"):
        export(store, tmp_path / "s.bw", per_strand=True)
    assert {path.name for path in tmp_path.iterdir()} == {"store", "s.bw"}
    assert (tmp_path / "s.bw").read_text() == "an older file"


def test_an_empty_scan(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [60, 0, 20])
    assert read_bases(export(store, tmp_path / "s.bw")[0]).keys() == {"c0", "c1", "c2"}


@pytest.mark.parametrize("name", ["s.wig", "s", "s.bw.gz", ".bw", "s.bedgraph.bz2", "sbw"])
def test_unknown_suffixes(tmp_path: Path, name: str) -> None:
    store, _ = make_store(tmp_path, [300])
    with pytest.raises(UsageError, match=r"\.bw \.bigwig \.bedgraph \.bedgraph\.gz \.bed \.bed\.gz"):
        export(store, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"store"}


def test_names_of_the_strands() -> None:
    names = [path.name for path in track_files("a/b.c.BigWig", True)]
    assert names == ["b.c.BigWig", "b.c.plus.BigWig", "b.c.minus.BigWig"]
    assert track_files("x.bed.gz") == (Path("x.bed.gz"),)
    with pytest.raises(UsageError, match="each strand already"):
        track_files("x.bed", per_strand=True)


def test_a_format_that_cannot_hold_the_contigs_is_refused_before_the_scan() -> None:
    long = [("chr1", 100), ("chr2", 1 << 32)]
    with pytest.raises(InputError, match=r"^x\.bw: chr2: 4294967296 bases, but bigWig .* use bedGraph"):
        check_format(Path("x.bw"), long)
    for name in ("x.bedgraph.gz", "x.bed"):
        check_format(Path(name), long)


def test_a_name_in_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store, _ = make_store(Path("."), [300])
    export(store, "s.bw")
    assert Path("s.bw").is_file()


def test_an_unwritable_file_is_bad_input(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [300])
    with pytest.raises(InputError, match=r"none/s\.bw cannot be written"):
        export(store, tmp_path / "none/s.bw")


def test_a_contig_too_long_for_a_bigwig(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [5_000_000_000], segments=(Segment(0, 0, 20),))
    with pytest.raises(InputError, match="bedGraph"):
        export(store, tmp_path / "s.bw")
    (path,) = export(store, tmp_path / "s.bedgraph")
    assert read_lines(path)[0].startswith("c0\t")


def test_a_full_disk(tmp_path: Path) -> None:
    store, _ = make_store(tmp_path, [2_000_000], part_windows=8192)
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=100k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        with pytest.raises(IncompleteError, match="disk full"):
            export(store, place / "s.bw")
        assert list(place.iterdir()) == []
    finally:
        subprocess.run(["umount", str(place)], check=True)


@pytest.mark.slow
def test_sixty_thousand_contigs(tmp_path: Path) -> None:
    store, scores = make_store(tmp_path, [1000] * 60_000, part_windows=1 << 18)
    begun = time.process_time()
    (path,) = export(store, tmp_path / "s.bw")
    assert time.process_time() - begun < 10
    with pyBigWig.open(str(path)) as file:
        assert len(file.chroms()) == 60_000
        values = np.array(file.values("c59999", 0, 1000), dtype=np.float32)
    tail = np.repeat(np.fmax(*scores[-46:].T), 20)
    np.testing.assert_array_equal(values[40:960], tail)
