"""Runs of overlapping windows, against plain Python."""

from __future__ import annotations

from itertools import chain

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.tracks import best_hairpins, merge_runs, run_levels
from mirscan.types import Grid

LOWEST = np.nextafter(np.float32(0), np.float32(1))


def plain_runs(starts: np.ndarray, window: int, scores: np.ndarray, threshold: float) -> list[list[int]]:
    """Connected components of the overlap graph of the windows above the threshold."""
    kept = [i for i in range(len(starts)) if scores[i] >= threshold]
    runs: list[list[int]] = []
    for i in kept:
        touching = [run for run in runs if any(abs(starts[i] - starts[j]) < window for j in run)]
        runs = [run for run in runs if run not in touching] + [sorted([*chain(*touching), i])]
    return sorted(runs)


@st.composite
def tracks(draw: st.DrawFn) -> tuple[np.ndarray, int, np.ndarray]:
    """A contig's grid with its tail, some windows cut out, scores with ties and NaN."""
    window = draw(st.integers(1, 30))
    step = draw(st.integers(1, window))
    length = draw(st.integers(window, window + 12 * step))
    grid = Grid(window, step)
    starts = grid.starts(length, 0, grid.count(length))
    kept = draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts)))
    starts = starts[kept]
    values = st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0, float("nan")])
    scores = draw(st.lists(values, min_size=len(starts), max_size=len(starts)))
    return starts, window, np.array(scores, dtype=np.float32)


@settings(max_examples=200, deadline=None)
@given(track=tracks(), threshold=st.sampled_from([0.0, 0.25, 0.6, 1.0]))
def test_merge_runs(track: tuple[np.ndarray, int, np.ndarray], threshold: float) -> None:
    starts, window, scores = track
    first, last, best, count = merge_runs(starts, window, scores, np.float32(threshold))
    runs = plain_runs(starts, window, scores, threshold)
    assert first.tolist() == [run[0] for run in runs]
    assert last.tolist() == [run[-1] for run in runs]
    assert count.tolist() == [len(run) for run in runs]
    assert best.tolist() == [max(run, key=lambda i: (scores[i], -i)) for run in runs]


@settings(max_examples=200, deadline=None)
@given(track=tracks(), floor=st.sampled_from([LOWEST, np.float32(0.5)]), skip=st.integers(0, 5))
def test_run_levels(track: tuple[np.ndarray, int, np.ndarray], floor: np.float32, skip: int) -> None:
    """At every threshold from the floor on, births less deaths is the number of runs."""
    starts, window, scores = track
    score, below = run_levels(starts, window, scores, 0, floor)
    for threshold in (0.25, 0.5, 0.6, 0.75, 1.0):
        if threshold >= floor:
            opened = int((score >= threshold).sum() - (below >= threshold).sum())
            assert opened == len(plain_runs(starts, window, scores, threshold))
    # Windows that were only neighbours are those that a call with fewer windows would have counted.
    skip = min(skip, len(starts))
    front = run_levels(starts[:skip], window, scores[:skip], 0, floor)[0]
    assert len(run_levels(starts, window, scores, skip, floor)[0]) == len(score) - len(front)


def test_touching_windows_are_two_runs() -> None:
    starts = np.array([0, 100, 199], dtype=np.int64)
    first, last, best, _ = merge_runs(starts, 100, np.ones(3, dtype=np.float32), np.float32(0.5))
    assert first.tolist() == [0, 1]
    assert last.tolist() == [0, 2]
    assert best.tolist() == [0, 1]


def test_nothing_scored() -> None:
    scores = np.full(5, np.nan, dtype=np.float32)
    starts = np.arange(5, dtype=np.int64)
    assert all(len(column) == 0 for column in merge_runs(starts, 3, scores, np.float32(0)))
    assert all(len(column) == 0 for column in run_levels(starts, 3, scores, 0, LOWEST))


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_best_hairpins_is_the_definition(data: st.DataObject) -> None:
    grid = Grid(100, data.draw(st.sampled_from([7, 20, 100])))
    length = data.draw(st.integers(100, 700))
    count = grid.count(length)
    windows, intervals = grid.starts(length, 0, count), grid.intervals(length, 0, count)
    spans = data.draw(st.lists(st.tuples(st.integers(0, length - 20), st.integers(16, 140)), max_size=12))
    starts = np.array([s for s, _ in spans], dtype=np.int64)
    ends = np.array([min(length, s + n) for s, n in spans], dtype=np.int64)
    scores = np.array(data.draw(st.lists(st.floats(0, 1, width=32), min_size=len(spans), max_size=len(spans))), "f4")
    expected, owned = np.zeros(count, dtype=np.float32), np.zeros(len(spans), dtype=bool)
    for w in range(count):
        for i in range(len(spans)):
            contained = windows[w] <= starts[i] and ends[i] <= windows[w] + 100
            centred = intervals[0][w] <= (starts[i] + ends[i]) // 2 < intervals[1][w]
            if contained or centred:
                expected[w] = max(expected[w], scores[i])
                owned[i] = True
    assert np.array_equal(best_hairpins(windows, 100, intervals, starts, ends, scores), expected)
    assert owned.all()  # every hairpin is in at least one window
