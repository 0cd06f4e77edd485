"""Candidate loci from the window scores of a store: merge, keep the best window, refine it to its stem-loop.

How many calls: the threshold follows from a budget of calls per scanned megabase (`budget_threshold`), because scores
rank windows but are no probabilities, and what a reader can look at is a number of loci.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from mirscan.kernels.bases import LETTERS
from mirscan.kernels.tracks import merge_runs, run_levels
from mirscan.structure.folders import Folder
from mirscan.types import STRANDS, Call

if TYPE_CHECKING:
    from mirscan.genome import Genome
    from mirscan.store import ScoreStore

MIN_PAIRS = 16
"""Base pairs below which a stem-loop is no better a locus than its window."""

_LEVELS_HELD = 1 << 18
"""Numbers held before those that no longer matter are forgotten."""
_COMPLEMENT = str.maketrans("ACGT", "TGCA")
_log = logging.getLogger(__name__)


def call(
    store: ScoreStore,
    genome: Genome | None = None,
    *,
    calls_per_mb: float = 20.0,
    min_score: float | None = None,
    folder: Folder | None = None,
) -> list[Call]:
    """Candidate precursor loci, in the genome's order.

    Parameters
    ----------
    store : ScoreStore
        A finished scan of a window model.
    genome : Genome, optional
        Adds each call's sequence (DNA letters, 5' to 3' on its strand).
    calls_per_mb : float
        Budget: calls per megabase covered by scored windows, both strands together, rounded up.
    min_score : float, optional
        Threshold instead of the budget.
    folder : Folder, optional
        Refines calls: the best window is cut to the stem-loop with the most base pairs of its minimum free energy
        structure, where that has at least `MIN_PAIRS`. ``structure`` and ``energy`` are then those of ``sequence``
        folded by itself, so that anyone can repeat them. Needs the genome.

    Returns
    -------
    list of Call
        One for each run of overlapping windows above the threshold on one strand: the run's best window (the first of
        equals) or the stem-loop in it, named ``mirscan_000001`` and so on. Empty where nothing scored enough.

    Raises
    ------
    IncompleteError
        If parts of the store are missing or damaged.
    ValueError
        If the budget is negative, or a folder comes without a genome.
    """
    if calls_per_mb < 0:
        raise ValueError(f"calls_per_mb {calls_per_mb}: need at least 0")
    if folder is not None and genome is None:
        raise ValueError("a folder needs the genome whose windows it folds")
    if min_score is None:
        threshold, budget = budget_threshold(store, calls_per_mb)
        runs = list(_runs(store, threshold)) if budget else []
        if len(runs) > budget:
            _log.warning("%d loci share the highest score; the %d longest are kept", len(runs), budget)
            runs = sorted(runs, key=lambda run: -run.windows)[:budget]
    else:
        runs = list(_runs(store, np.float32(min_score)))
    calls = [_call_of(run, store) for run in runs]
    if genome is not None:
        calls = _with_sequences(calls, genome)
    if folder is not None:
        calls = _refined(calls, folder)
    order = {contig.name: number for number, contig in enumerate(store.plan.contigs)}
    calls.sort(key=lambda call: (order[call.contig], call.start, call.end, STRANDS.index(call.strand)))
    return [dataclasses.replace(call, name=f"mirscan_{number:06d}") for number, call in enumerate(calls, 1)]


def budget_threshold(store: ScoreStore, calls_per_mb: float) -> tuple[np.float32, int]:
    """The lowest threshold that keeps within a budget of calls, and the budget as a number of calls.

    Exact, in one pass, without holding the scores. Lowering the threshold adds runs but also merges them, so their
    number may fall again (at the bottom every contig is one run); meant is the lowest threshold such that neither it
    nor any higher one gives more runs than the budget. Thresholds are positive: a score of 0 is never called.

    Runs are counted from the levels of `run_levels`. They only ever add to the number of runs at a threshold, so once
    the levels seen so far exceed the (largest possible) budget at some score, everything below that score is
    forgotten; what is held is of the order of the budget.

    Returns
    -------
    threshold : float32
        Where more loci than the budget share the highest score, that score.
    budget : int
        ``calls_per_mb`` times the megabases covered by scored windows, rounded up.
    """
    plan = store.plan
    window = plan.grid.window
    possible = sum((segment.count - 1) * plan.grid.step + window for segment in plan.segments if segment.count)
    most = math.ceil(calls_per_mb * possible / 1e6)
    levels = _Levels()
    neighbours = (window - 1) // plan.grid.step + 1
    before = _Piece(-1, np.empty(0, np.int64), np.empty((0, 2), np.float32))
    covered, covered_to = 0, 0
    limit = _LEVELS_HELD
    for piece in _pieces(store):
        if piece.contig != before.contig:
            before = _Piece(piece.contig, before.starts[:0], before.scores[:0])
            covered_to = 0
        scored = piece.starts[np.isfinite(piece.scores).any(axis=1)]
        if len(scored):
            covered_before = np.concatenate([[covered_to], scored[:-1] + window])
            covered += int((scored + window - np.maximum(scored, covered_before)).sum())
            covered_to = int(scored[-1]) + window
        skip = len(before.starts)
        both = _Piece(
            piece.contig,
            np.concatenate([before.starts, piece.starts]),
            np.concatenate([before.scores, piece.scores]),
        )
        for strand in range(len(STRANDS)):
            scores = np.ascontiguousarray(both.scores[:, strand])
            levels.add(*run_levels(both.starts, window, scores, skip, levels.floor))
        if levels.held > limit:
            levels.forget(most)
            limit = max(_LEVELS_HELD, 2 * levels.held)
        before = _Piece(piece.contig, both.starts[-neighbours:], both.scores[-neighbours:])
    budget = math.ceil(calls_per_mb * covered / 1e6)
    return levels.threshold(budget), budget


class _Levels:
    """The number of runs as a function of the threshold, from ``floor`` upwards; ``held`` numbers describe it."""

    def __init__(self) -> None:
        self.floor = np.nextafter(np.float32(0), np.float32(1))
        self.held = 0
        self._values: list[np.ndarray] = []
        self._changes: list[np.ndarray] = []

    def add(self, score: np.ndarray, level_below: np.ndarray) -> None:
        """Add what `run_levels` returned."""
        level_below = level_below[level_below >= self.floor]
        self._values += [score, level_below]
        self._changes += [np.ones(len(score), np.int64), np.full(len(level_below), -1, np.int64)]
        self.held += len(score) + len(level_below)

    def forget(self, budget: int) -> None:
        """Drop the levels under the highest one at which the budget is exceeded."""
        values, runs = self._runs_at_levels()
        exceeded = np.flatnonzero(runs > budget)
        if len(exceeded):
            values, runs = values[: exceeded[0] + 1], runs[: exceeded[0] + 1]
            self.floor = values[-1]
        self._values, self._changes, self.held = [values], [np.diff(runs, prepend=0)], len(values)

    def threshold(self, budget: int) -> np.float32:
        """The lowest threshold from which upwards the budget is kept; the highest score if there is none."""
        values, runs = self._runs_at_levels()
        exceeded = np.flatnonzero(runs > budget)
        if not len(exceeded):
            return self.floor
        level = values[exceeded[0]]
        return np.float32(level if exceeded[0] == 0 else np.nextafter(level, np.float32(np.inf)))

    def _runs_at_levels(self) -> tuple[np.ndarray, np.ndarray]:
        """Levels, descending, and the number of runs with each as the threshold; only where that number changes."""
        values, place = np.unique(np.concatenate([np.empty(0, np.float32), *self._values]), return_inverse=True)
        changes = np.zeros(len(values), np.int64)
        np.add.at(changes, place, np.concatenate([np.empty(0, np.int64), *self._changes]))
        kept = np.flatnonzero(changes)[::-1]
        return values[kept], np.cumsum(changes[kept])


@dataclasses.dataclass(frozen=True)
class _Piece:
    """Consecutive windows of one contig: starts int64 (n,), scores float32 (n, 2)."""

    contig: int
    starts: np.ndarray
    scores: np.ndarray


def _pieces(store: ScoreStore) -> Iterator[_Piece]:
    plan = store.plan
    for part, scores in store.iter_scores():
        row = 0
        for piece in plan.pieces(*plan.bounds(part)):
            starts = plan.grid.starts(plan.contigs[piece.contig].length, piece.first, piece.count)
            yield _Piece(piece.contig, starts, scores[row : row + piece.count])
            row += piece.count


@dataclasses.dataclass(frozen=True)
class _Run:
    """Merged windows of one strand, which end at ``end``; ``best`` is the start of the best one."""

    contig: int
    strand: int
    end: int
    best: int
    score: float
    windows: int


def _runs(store: ScoreStore, threshold: np.float32) -> Iterator[_Run]:
    """Runs of both strands, by place; those that cross from one part into the next are joined."""
    window = store.plan.grid.window
    unfinished: list[_Run | None] = [None for _ in STRANDS]
    for piece in _pieces(store):
        for strand in range(len(STRANDS)):
            scores = np.ascontiguousarray(piece.scores[:, strand])
            first, last, best, count = merge_runs(piece.starts, window, scores, threshold)
            for start, end, place, score, windows in zip(
                piece.starts[first].tolist(),
                (piece.starts[last] + window).tolist(),
                piece.starts[best].tolist(),
                scores[best].tolist(),
                count.tolist(),
                strict=True,
            ):
                run = _Run(piece.contig, strand, end, place, score, windows)
                before = unfinished[strand]
                if before is not None:
                    if before.contig == piece.contig and start < before.end:
                        better = run if run.score > before.score else before
                        run = dataclasses.replace(better, end=end, windows=before.windows + windows)
                    else:
                        yield before
                unfinished[strand] = run
    yield from (run for run in unfinished if run is not None)


def _call_of(run: _Run, store: ScoreStore) -> Call:
    plan = store.plan
    return Call(
        contig=plan.contigs[run.contig].name,
        start=run.best,
        end=run.best + plan.grid.window,
        strand=STRANDS[run.strand],
        score=run.score,
        name="",
        windows=run.windows,
    )


def _with_sequences(calls: list[Call], genome: Genome) -> list[Call]:
    number = {contig.name: index for index, contig in enumerate(genome.contigs)}
    done = []
    for call in calls:
        sequence = LETTERS[genome.codes(number[call.contig], call.start, call.end)].tobytes().decode()
        if call.strand == "-":
            sequence = sequence.translate(_COMPLEMENT)[::-1]
        done.append(dataclasses.replace(call, sequence=sequence))
    return done


def _refined(calls: list[Call], folder: Folder) -> list[Call]:
    """Calls cut to their stem-loops, with the structure and energy of what remains."""
    windows = [call.sequence or "" for call in calls]
    cut = [_cut(call, *_stem_loop(structure)) for call, (structure, _) in zip(calls, folder.fold(windows), strict=True)]
    return [
        dataclasses.replace(call, structure=structure, energy=energy)
        for call, (structure, energy) in zip(cut, folder.fold([call.sequence or "" for call in cut]), strict=True)
    ]


def _stem_loop(structure: str) -> tuple[int, int]:
    """``[start, end)`` of the stem-loop with the most pairs, the first of equals; all of it where none has enough.

    A stem-loop is a hairpin loop and every pair around it that encloses no other hairpin loop.
    """
    loops: list[tuple[int, int, int]] = []
    enclosing: list[tuple[int, list[tuple[int, int, int]]]] = []
    for place, mark in enumerate(structure):
        if mark == "(":
            enclosing.append((place, loops))
            loops = []
        elif mark == ")":
            opening, before = enclosing.pop()
            if len(loops) < 2:
                loops = [(opening, place + 1, loops[0][2] + 1 if loops else 1)]
            loops = before + loops
    start, end, pairs = max(loops, key=lambda loop: loop[2], default=(0, 0, 0))
    return (start, end) if pairs >= MIN_PAIRS else (0, len(structure))


def _cut(call: Call, start: int, end: int) -> Call:
    """A call reduced to ``[start, end)`` of its own sequence, which runs backwards on the minus strand."""
    sequence = call.sequence or ""
    left = start if call.strand == "+" else len(sequence) - end
    return dataclasses.replace(
        call, start=call.start + left, end=call.start + left + end - start, sequence=sequence[start:end]
    )
