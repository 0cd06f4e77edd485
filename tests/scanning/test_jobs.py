"""Hairpin models in a scan: what a part gives must not depend on the parts, and windows must show their hairpins."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirscan.calls.flags import LOW_COMPLEXITY
from mirscan.calls.of_hairpins import non_redundant
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.kernels.clusters import DOUBT
from mirscan.kernels.duplex import trinucleotide_entropy
from mirscan.models import MODELS
from mirscan.scanning.jobs import HAIRPIN, REACH
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome, scan_shard
from mirscan.store import ScoreStore
from mirscan.structure.hairpins import contig_hairpins
from mirscan.types import Grid

GRID = Grid(100, 20)


def sequence(generator: np.random.Generator, length: int) -> np.ndarray:
    """Random bases with stem-loops in them, so that there is something to propose."""
    codes = generator.integers(0, 4, length).astype(np.uint8)
    for start in range(150, length - 150, 400):
        arm = generator.integers(0, 4, 28).astype(np.uint8)
        codes[start : start + 28] = arm
        codes[start + 38 : start + 66] = reverse_complement(arm)
    return codes


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[np.ndarray]]:
    """Three contigs, one of them too short; the first repeats itself, the second holds ambiguous bases."""
    generator = np.random.default_rng(5)
    contigs = [sequence(generator, 3460), sequence(generator, 2077), generator.integers(0, 4, 80).astype(np.uint8)]
    contigs[0][2300:2420] = contigs[0][920:1040]
    contigs[1][700:760] = 4
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">c{n}\n{decode(codes).decode()}\n" for n, codes in enumerate(contigs)))
    return path, contigs


def scanned(path: Path, folder: Path, weights_folder: Path, **options: Any) -> tuple[np.ndarray, np.ndarray]:
    """Window scores and hairpins of a run, parts joined."""
    folder.mkdir()
    scan_genome(path, Options(output=folder / "x.bw", model="duplex", weights=weights_folder, **options))
    store = ScoreStore.open(str(folder / "x.bw.store"))
    tables = [store.read_hairpins(part) for part in range(store.plan.parts)]
    return np.concatenate([scores for _, scores in store.iter_scores()]), np.concatenate(tables)


@pytest.fixture(scope="module")
def whole(
    genome: tuple[Path, list[np.ndarray]], duplex_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[np.ndarray, np.ndarray]:
    """The scan in one part."""
    return scanned(genome[0], tmp_path_factory.mktemp("whole") / "run", duplex_weights)


def test_the_table_is_every_proposed_hairpin_once(
    genome: tuple[Path, list[np.ndarray]], whole: tuple[np.ndarray, np.ndarray]
) -> None:
    rows = []
    for contig, codes in enumerate(genome[1][:2]):
        found = contig_hairpins(codes)
        rows += list(zip([contig] * found.size, found.starts, found.ends, found.minus, strict=True))
    table = whole[1]
    assert len(rows) > 20
    assert sorted(rows) == sorted(zip(*(table[name] for name in ("contig", "start", "end", "minus")), strict=True))


def test_shards_give_what_one_run_gives(
    genome: tuple[Path, list[np.ndarray]], whole: tuple[np.ndarray, np.ndarray], duplex_weights: Path, tmp_path: Path
) -> None:
    options = Options(store=str(tmp_path / "s"), weights=duplex_weights, part_windows=70)
    for number in (2, 0, 1):
        assert scan_shard(genome[0], options, number, 3)["parts"] == 4
    store = ScoreStore.open(tmp_path / "s")
    np.testing.assert_array_equal(np.concatenate([scores for _, scores in store.iter_scores()]), whole[0])
    np.testing.assert_array_equal(np.concatenate([store.read_hairpins(part) for part in range(4)]), whole[1])


def test_a_window_has_the_score_of_its_best_hairpin(
    genome: tuple[Path, list[np.ndarray]], whole: tuple[np.ndarray, np.ndarray]
) -> None:
    scores, table = whole
    row = 0
    for contig, codes in enumerate(genome[1][:2]):
        count = GRID.count(len(codes))
        starts, intervals = GRID.starts(len(codes), 0, count), GRID.intervals(len(codes), 0, count)
        for window, start in enumerate(starts):
            if (codes[start : start + 100] > 3).any():
                assert np.isnan(scores[row]).all()
            else:
                for strand in range(2):
                    mine = table[(table["contig"] == contig) & (table["minus"] == bool(strand))]
                    centre = (mine["start"] + mine["end"]) // 2
                    inside = (mine["start"] >= start) & (mine["end"] <= start + 100)
                    inside |= (centre >= intervals[0][window]) & (centre < intervals[1][window])
                    assert scores[row, strand] == (mine["score"][inside].max() if inside.any() else 0)
            row += 1
    assert row == len(scores)
    assert (scores == 0).any()
    assert (scores > 0).any()


def test_a_good_neighbour_lifts_a_hairpin(
    genome: tuple[Path, list[np.ndarray]],
    whole: tuple[np.ndarray, np.ndarray],
    duplex_weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    spec = MODELS["duplex"]
    assert spec.neighbour > 0
    monkeypatch.setitem(MODELS, "duplex", dataclasses.replace(spec, neighbour=0.0))
    _, alone = scanned(genome[0], tmp_path / "run", duplex_weights)
    assert np.array_equal(alone["start"], whole[1]["start"])
    lifted = np.zeros(len(alone), dtype=bool)
    for row, mine in enumerate(alone):
        apart = (alone["end"] <= mine["start"]) | (alone["start"] >= mine["end"])
        near = np.abs(alone["start"] + alone["end"] - mine["start"] - mine["end"]) <= 2 * REACH
        others = alone[apart & near & (alone["contig"] == mine["contig"]) & (alone["minus"] == mine["minus"])]
        best = np.log(others["score"] / (1 - others["score"])).max(initial=-np.inf)
        expected = mine["score"]
        if best > 0:
            lifted[row] = True
            odds = 1 + spec.neighbour / (1 + np.exp(DOUBT - best))
            expected = 1 / (1 + (1 / mine["score"] - 1) / odds)
        assert whole[1]["score"][row] == pytest.approx(expected, rel=1e-4)
    assert lifted.any()


def test_copies_nearby_count_against_a_hairpin(
    genome: tuple[Path, list[np.ndarray]], duplex_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = dataclasses.replace(MODELS["duplex"], neighbour=0.0)
    assert spec.copied > 0
    tables = []
    for number, copied in enumerate((spec.copied, 0.0)):
        monkeypatch.setitem(MODELS, "duplex", dataclasses.replace(spec, copied=copied))
        tables.append(scanned(genome[0], tmp_path / str(number), duplex_weights)[1])
    with_copies, without = tables
    lower = with_copies["score"] < without["score"]
    assert np.array_equal(with_copies["score"][~lower], without["score"][~lower])
    first = with_copies["contig"] == 0
    repeated = first & np.any([(with_copies["start"] < b) & (with_copies["end"] > a) for a, b in
                               ((920, 1040), (2300, 2420))], axis=0)  # fmt: skip
    before, after = (np.log(table["score"] / (1 - table["score"])) for table in (without, with_copies))
    assert np.median((before - after)[repeated]) > 2
    assert np.median((before - after)[~repeated]) == 0  # some repeat by chance, or hold one arm of two
    assert np.quantile((before - after)[~repeated], 0.75) < 0.3


@pytest.mark.parametrize(
    "options", [{"part_windows": 17}, {"part_windows": 60, "batch": 1, "devices": 1, "threads": 1}]
)
def test_parts_batches_and_devices_change_nothing(
    genome: tuple[Path, list[np.ndarray]],
    whole: tuple[np.ndarray, np.ndarray],
    duplex_weights: Path,
    tmp_path: Path,
    options: dict[str, Any],
) -> None:
    scores, table = scanned(genome[0], tmp_path / "run", duplex_weights, **options)
    assert scores.tobytes() == whole[0].tobytes()
    assert np.array_equal(np.sort(table, order=table.dtype.names), np.sort(whole[1], order=table.dtype.names))


def test_a_region_scores_as_the_full_run_does(
    genome: tuple[Path, list[np.ndarray]],
    whole: tuple[np.ndarray, np.ndarray],
    duplex_weights: Path,
    tmp_path: Path,
) -> None:
    scores, table = scanned(genome[0], tmp_path / "run", duplex_weights, regions=("c0:1,001-2,000",))
    assert scores.tobytes() == whole[0][50 : 50 + len(scores)].tobytes()
    assert set(table.tolist()) <= set(whole[1].tolist())


def test_the_reverse_complement_exchanges_the_strands(
    genome: tuple[Path, list[np.ndarray]], duplex_weights: Path, tmp_path: Path
) -> None:
    codes = genome[1][0]
    assert (len(codes) - 100) % 20 == 0  # no tail: both grids are mirror images
    results = []
    for name, mine in (("forth", codes), ("back", reverse_complement(codes))):
        path = tmp_path / f"{name}.fa"
        path.write_text(f">c\n{decode(mine).decode()}\n")
        results.append(scanned(path, tmp_path / name, duplex_weights))
    # a centre between two bases rounds down on either strand, so a hairpin may change the window it is central in
    (forth, _), (back, _) = results
    same = forth == back[::-1, ::-1]
    assert same.mean() > 0.95
    tables = [np.sort(t, order=("start", "end", "minus")) for _, t in results]
    turned = tables[1].copy()
    turned["start"], turned["end"] = len(codes) - tables[1]["end"], len(codes) - tables[1]["start"]
    turned["minus"] = ~tables[1]["minus"]
    assert np.array_equal(np.sort(turned, order=("start", "end", "minus")), tables[0])


def test_non_redundant_keeps_the_best_of_each_strand() -> None:
    generator = np.random.default_rng(2)
    table = np.zeros(300, dtype=HAIRPIN)
    table["start"] = generator.integers(0, 4000, 300)
    table["end"] = table["start"] + generator.integers(20, 120, 300)
    table["minus"], table["contig"] = generator.random(300) < 0.5, generator.integers(0, 2, 300)
    table["score"] = np.round(generator.random(300), 1)
    kept = non_redundant(table, table["score"])
    assert (np.diff(table["score"][kept]) <= 0).all()

    def overlap(a: np.void, b: np.void) -> bool:
        here = a["contig"] == b["contig"] and a["minus"] == b["minus"]
        return bool(here and a["start"] < b["end"] and b["start"] < a["end"])

    chosen = [table[i] for i in kept]
    assert not any(overlap(a, b) for n, a in enumerate(chosen) for b in chosen[:n])
    for i in set(range(300)) - set(kept.tolist()):
        assert any(overlap(table[i], other) and other["score"] >= table["score"][i] for other in chosen)


def test_calls_are_hairpins_with_their_own_structure(
    genome: tuple[Path, list[np.ndarray]], duplex_weights: Path, tmp_path: Path
) -> None:
    options = Options(
        output=tmp_path / "x.bw", bed=tmp_path / "x.bed", model="duplex", weights=duplex_weights, calls_per_mb=2000
    )
    record = scan_genome(genome[0], options)
    rows = [line.split("\t") for line in (tmp_path / "x.bed").read_text().splitlines() if not line.startswith("#")]
    assert 0 < len(rows) == record["calls"] <= 12
    for contig, start, end, _, _, strand, _, energy, structure, letters, flags in rows:
        codes = genome[1][int(contig[1])][int(start) : int(end)]
        codes = reverse_complement(codes) if strand == "-" else codes
        assert decode(codes).decode() == letters
        assert len(structure) == len(letters)
        assert structure[0] == "("
        assert structure[-1] == ")"
        assert float(energy) < 0
        near = genome[1][int(contig[1])][max(0, int(start) - 100) : int(end) + 100]
        simple = trinucleotide_entropy(codes, np.array([0]), np.array([len(codes)]))[0] < LOW_COMPLEXITY
        words = [word for word, holds in (("low_complexity", simple), ("near_N", (near == 4).any())) if holds]
        assert flags == (",".join(words) or ".")
