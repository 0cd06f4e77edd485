"""Calls: merged across parts, within the budget, with coordinates on the right strand."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from plans import make_plan

from mirscan.calls.of_windows import MIN_PAIRS, _Levels, _stem_loop, budget_threshold, call
from mirscan.errors import IncompleteError
from mirscan.store import ScoreStore
from mirscan.types import Call, Contig, Grid

_numbers = itertools.count()


def make_store(
    lengths: Sequence[int], scores: np.ndarray | None, part_windows: int = 16, grid: Grid | None = None
) -> ScoreStore:
    """A store in memory with these scores, (windows, 2); None leaves it empty."""
    plan = make_plan(lengths, part_windows, grid)
    store = ScoreStore.create_or_open(f"memory://call-{next(_numbers)}", plan)
    if scores is not None:
        for part in range(plan.parts):
            store.write(part, scores[slice(*plan.bounds(part))].astype(np.float32))
    return store


def blank(lengths: Sequence[int], grid: Grid | None = None) -> np.ndarray:
    """Zeros for every window and strand."""
    return np.zeros((sum(map((grid or Grid(100, 20)).count, lengths)), 2), dtype=np.float32)


@dataclass
class FakeGenome:
    """Contigs held as codes."""

    sequences: list[np.ndarray]

    @property
    def contigs(self) -> tuple[Contig, ...]:
        return tuple(Contig(f"c{i}", len(codes)) for i, codes in enumerate(self.sequences))

    def codes(self, contig: int, start: int, end: int) -> np.ndarray:
        return self.sequences[contig][start:end]


class FakeFolder:
    """Pairs the letters of the planted hairpin and nothing else."""

    def __init__(self, hairpin: str, structure: str) -> None:
        self.hairpin = hairpin
        self.structure = structure

    def fold(self, sequences: Sequence[str]) -> list[tuple[str, float]]:
        folds = []
        for sequence in sequences:
            place = sequence.find(self.hairpin)
            dots = "." * len(sequence)
            if place >= 0:
                dots = dots[:place] + self.structure + dots[place + len(self.hairpin) :]
            folds.append((dots, -float(len(sequence))))
        return folds


def random_scores(rng: np.random.Generator, count: int, levels: int) -> np.ndarray:
    """Smooth-ish scores with ties and gaps, as neighbouring windows have."""
    noise = rng.random((count, 2))
    smooth = (noise + np.roll(noise, 1, axis=0)) / 2
    scores = np.round(smooth * levels) / levels
    scores[rng.random((count, 2)) < 0.1] = np.nan
    return scores.astype(np.float32)


def plain_runs(store: ScoreStore, scores: np.ndarray, threshold: float) -> list[tuple[int, int, int, float, int]]:
    """(contig, strand, start of the best window, score, windows) of every run."""
    plan, runs, row = store.plan, [], 0
    for segment in plan.segments:
        starts = plan.grid.starts(plan.contigs[segment.contig].length, 0, segment.count).tolist()
        for strand in (0, 1):
            track = scores[row : row + segment.count, strand]
            group: list[int] = []
            for i in [i for i in range(segment.count) if track[i] >= threshold] + [None]:
                if group and (i is None or starts[i] - starts[group[-1]] >= plan.grid.window):
                    best = max(group, key=lambda k: (track[k], -k))
                    runs.append((segment.contig, strand, starts[best], float(track[best]), len(group)))
                    group = []
                if i is not None:
                    group.append(i)
        row += segment.count
    return sorted(runs)


def plain_covered(store: ScoreStore, scores: np.ndarray) -> int:
    plan, total, row = store.plan, 0, 0
    for segment in plan.segments:
        covered = np.zeros(plan.contigs[segment.contig].length, dtype=bool)
        starts = plan.grid.starts(len(covered), 0, segment.count)
        for start, pair in zip(starts, scores[row : row + segment.count], strict=True):
            if not np.isnan(pair).all():
                covered[start : start + plan.grid.window] = True
        total += int(covered.sum())
        row += segment.count
    return total


def plain_threshold(store: ScoreStore, scores: np.ndarray, budget: int) -> float | None:
    """The lowest score level such that no level from there up has more runs than the budget."""
    best = None
    for level in sorted({float(score) for score in scores.ravel() if score > 0}, reverse=True):
        if len(plain_runs(store, scores, level)) > budget:
            return best
        best = level
    return best


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 1500), min_size=1, max_size=4),
    part_windows=st.integers(1, 60),
    step=st.sampled_from([7, 20, 50, 100]),
    levels=st.sampled_from([2, 10, 10_000]),
    calls_per_mb=st.sampled_from([300.0, 2000.0, 20_000.0]),
    seed=st.integers(0, 1000),
    held=st.sampled_from([0, 10, 1000]),
)
def test_budget_and_merging(
    lengths: list[int], part_windows: int, step: int, levels: int, calls_per_mb: float, seed: int, held: int
) -> None:
    grid = Grid(100, step)
    scores = random_scores(np.random.default_rng(seed), len(blank(lengths, grid)), levels)
    store = make_store(lengths, scores, part_windows, grid)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("mirscan.calls.of_windows._LEVELS_HELD", held)
        threshold, budget = budget_threshold(store, calls_per_mb)
    assert budget == math.ceil(calls_per_mb * plain_covered(store, scores) / 1e6)
    expected = plain_threshold(store, scores, budget)
    calls = call(store, calls_per_mb=calls_per_mb)
    assert len(calls) <= budget
    found = sorted((int(c.contig[1:]), "+-".index(c.strand), c.start, c.score, c.windows) for c in calls)
    if expected is not None:
        above = scores[scores >= threshold]
        assert above.min() == np.float32(expected)
        assert found == plain_runs(store, scores, expected)
    elif np.nanmax(scores, initial=0) > 0:
        runs = plain_runs(store, scores, float(np.nanmax(scores)))
        assert len(runs) > budget == len(found)
        assert set(found) <= set(runs)
        assert min(run[-1] for run in found) >= sorted((run[-1] for run in runs), reverse=True)[budget - 1]
    by_score = call(store, min_score=0.5)
    found = sorted((int(c.contig[1:]), "+-".index(c.strand), c.start, c.score, c.windows) for c in by_score)
    assert found == plain_runs(store, scores, 0.5)


def test_what_is_held_follows_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = [400_000] * 10
    scores = np.random.default_rng(1).random(blank(lengths).shape, dtype=np.float32)
    store = make_store(lengths, scores, 1024)
    everything = budget_threshold(store, 20.0)
    assert everything[1] == 80
    held = []
    forget = _Levels.forget

    def watched(levels: _Levels, budget: int) -> None:
        forget(levels, budget)
        held.append(levels.held)

    monkeypatch.setattr("mirscan.calls.of_windows._LEVELS_HELD", 1000)
    monkeypatch.setattr(_Levels, "forget", watched)
    assert budget_threshold(store, 20.0) == everything
    assert 0 < max(held) <= 4 * 80
    assert len(call(store)) == 80


def test_scanned_bases_leave_out_what_is_not_scored() -> None:
    lengths = [1_000_000, 400]
    scores = blank(lengths)
    scores[: len(scores) // 2] = np.nan
    scores[-1] = [np.nan, 0.5]
    store = make_store(lengths, scores, 1000)
    covered = plain_covered(store, scores)
    assert 499_000 < covered < 501_000
    assert budget_threshold(store, 1e6 / covered * 7)[1] in (7, 8)
    assert budget_threshold(store, 20)[1] == math.ceil(20 * covered / 1e6)


def test_a_run_across_parts_is_one_call() -> None:
    scores = blank([2000])
    scores[10:23, 1] = 0.5
    scores[[17, 19], 1] = 0.9
    for part_windows in (1, 4, 16, 100):
        (one,) = call(make_store([2000], scores, part_windows))
        assert (one.contig, one.start, one.end, one.strand) == ("c0", 17 * 20, 17 * 20 + 100, "-")
        assert (one.windows, one.name) == (13, "mirscan_000001")
        assert one.score == np.float32(0.9)


def test_runs_do_not_cross_contigs_or_strands() -> None:
    lengths = [500, 500]
    scores = blank(lengths)
    scores[:, 0] = 0.5
    scores[3:5, 1] = 0.4
    calls = call(make_store(lengths, scores, 7), min_score=0.4)
    assert [(c.contig, c.strand, c.windows) for c in calls] == [("c0", "+", 21), ("c0", "-", 2), ("c1", "+", 21)]
    assert [c.name for c in calls] == ["mirscan_000001", "mirscan_000002", "mirscan_000003"]


@pytest.mark.parametrize("value", [0.0, np.nan])
def test_nothing_to_call(value: float) -> None:
    scores = blank([5000]) + np.float32(value)
    assert call(make_store([5000], scores)) == []
    assert call(make_store([50], blank([50]))) == []


def test_no_budget_no_calls() -> None:
    scores = blank([5000]) + np.float32(0.5)
    assert call(make_store([5000], scores), calls_per_mb=0) == []
    with pytest.raises(ValueError, match="-1"):
        call(make_store([5000], scores), calls_per_mb=-1)


def test_ties_at_the_top_keep_the_longest(caplog: pytest.LogCaptureFixture) -> None:
    scores = blank([20_000])
    scores[[100, 200, 201, 300, 400], 0] = 1.0
    (one,) = call(make_store([20_000], scores), calls_per_mb=20)
    assert (one.start, one.windows) == (4000, 2)
    assert "4 loci share the highest score" in caplog.text


def test_an_unfinished_store() -> None:
    with pytest.raises(IncompleteError, match="missing"):
        call(make_store([5000], None))
    with pytest.raises(ValueError, match="genome"):
        call(make_store([500], blank([500])), folder=FakeFolder("A", "."))


STEM = "GATTACAGGCATGCCAAGTCGA"
HAIRPIN = STEM + "TTCAAGAGA" + STEM.translate(str.maketrans("ACGT", "TGCA"))[::-1]
STRUCTURE = "(" * len(STEM) + "." * 9 + ")" * len(STEM)


def planted(strand: str, place: int, length: int = 1000) -> tuple[FakeGenome, str]:
    """A random contig with the hairpin at ``place`` on a strand; its letters too."""
    rng = np.random.default_rng(5)
    text = "".join(rng.choice(list("ACGT"), length))
    insert = HAIRPIN if strand == "+" else HAIRPIN.translate(str.maketrans("ACGT", "TGCA"))[::-1]
    text = text[:place] + insert + text[place + len(insert) :]
    return FakeGenome([np.array(["ACGT".index(letter) for letter in text], dtype=np.uint8)]), text


@pytest.mark.parametrize("strand", ["+", "-"])
def test_refined_to_the_stem_loop(strand: str) -> None:
    genome, text = planted(strand, 437)
    scores = blank([1000])
    scores[21, "+-".index(strand)] = 0.75  # [420, 520)
    (one,) = call(make_store([1000], scores), genome, folder=FakeFolder(HAIRPIN, STRUCTURE))  # type: ignore[arg-type]
    assert (one.start, one.end, one.strand) == (437, 437 + len(HAIRPIN), strand)
    assert one.sequence == HAIRPIN
    assert one.structure == STRUCTURE
    assert one.energy == -len(HAIRPIN)  # of the sequence as cut, not of the window
    assert one.score == 0.75
    letters = text[one.start : one.end]
    assert letters == (HAIRPIN if strand == "+" else HAIRPIN.translate(str.maketrans("ACGT", "TGCA"))[::-1])


def test_unrefined_windows_keep_their_ends() -> None:
    genome, text = planted("+", 437)
    scores = blank([1000])
    scores[21, 1] = scores[10, 0] = 0.75
    store = make_store([1000], scores)
    plus, minus = call(store, genome, min_score=0.5)  # type: ignore[arg-type]
    assert plus.sequence == text[200:300]
    assert minus.sequence == text[420:520].translate(str.maketrans("ACGT", "TGCA"))[::-1]
    assert plus.structure is plus.energy is None
    folded = call(store, genome, min_score=0.5, folder=FakeFolder(HAIRPIN, STRUCTURE))  # type: ignore[arg-type]
    assert [(c.start, c.end, c.structure, c.energy) for c in folded] == [
        (200, 300, "." * 100, -100.0),
        (420, 520, "." * 100, -100.0),
    ]
    assert call(store, min_score=0.5)[0] == Call("c0", 200, 300, "+", 0.75, "mirscan_000001")


@pytest.mark.parametrize(
    ("structure", "expected"),
    [
        ("." * 30, (0, 30)),
        ("((((...))))", (0, 11)),  # too few pairs: the whole window
        (".." + "(" * 16 + "..." + ")" * 16 + "....", (2, 37)),
        # the longer of two neighbours, then the first of equals
        ("(" * 16 + "..." + ")" * 16 + "." + "(" * 17 + "..." + ")" * 17, (36, 73)),
        ("(" * 16 + "..." + ")" * 16 + "." + "(" * 16 + "..." + ")" * 16, (0, 35)),
        # bulges and interior loops belong to the stem, a multiloop does not
        ("(" * 8 + "." + "(" * 8 + "..." + ")" * 8 + ".." + ")" * 8, (0, 38)),
        ("((((" + "(" * 16 + "..." + ")" * 16 + "(((...)))" + "))))", (4, 39)),
    ],
)
def test_stem_loop(structure: str, expected: tuple[int, int]) -> None:
    assert MIN_PAIRS == 16
    assert _stem_loop(structure) == expected


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 100), strand=st.sampled_from("+-"), place=st.integers(400, 460))
def test_wherever_the_hairpin_lies(seed: int, strand: str, place: int) -> None:
    genome, text = planted(strand, place)
    scores = np.random.default_rng(seed).random(blank([1000]).shape, dtype=np.float32) / 2
    row = (place - (100 - len(HAIRPIN)) // 2) // 20
    scores[row, "+-".index(strand)] = 0.9
    store = make_store([1000], scores, part_windows=5)
    folder = FakeFolder(HAIRPIN, STRUCTURE)
    calls = call(store, genome, min_score=0.6, folder=folder)  # type: ignore[arg-type]
    whole = row * 20 <= place and place + len(HAIRPIN) <= row * 20 + 100
    assert [(c.start, c.end) for c in calls] == [(place, place + 53) if whole else (row * 20, row * 20 + 100)]
    for one in calls:
        letters = text[one.start : one.end]
        assert one.sequence == (letters if strand == "+" else letters.translate(str.maketrans("ACGT", "TGCA"))[::-1])
