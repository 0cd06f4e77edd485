"""Calls against known hairpins: which are found, at what precision, at what rate of calls."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

RATES = (1, 5, 20, 100)
"""Calls per megabase at which recall is told."""
BLOCK = 1_000_000
"""Bases that are drawn together for an interval: neighbouring hairpins are no independent ones."""


class Places(NamedTuple):
    """Stretches of contigs; 0-based half-open, on the plus strand.

    Attributes
    ----------
    contig : (N,) int
        Number of the contig.
    start, end : (N,) int
    minus : (N,) bool
    """

    contig: np.ndarray
    start: np.ndarray
    end: np.ndarray
    minus: np.ndarray

    def take(self, rows: np.ndarray) -> Places:
        """Some rows, in the order given."""
        return Places(*(column[rows] for column in self))


class Matches(NamedTuple):
    """What calls hit, a row each.

    Attributes
    ----------
    known : (N,) int32
        Number of the known hairpin a call is the first to find; -1 where it finds none.
    antisense : (N,) bool
        The call finds none, but would on the other strand.
    """

    known: np.ndarray
    antisense: np.ndarray


@dataclass(frozen=True)
class Figures:
    """How good calls are; recall counts every known hairpin, those without a call included."""

    known: int
    found: int
    """Known hairpins any call finds, however low its score."""
    calls: int
    """Non-redundant calls."""
    megabases: float
    average_precision: float
    """Stepwise."""
    interval: tuple[float, float]
    """95 % of the average precision, blocks of a megabase drawn again."""
    max_f1: float
    recall: Mapping[int, float]
    """By `RATES`."""
    antisense: int
    """Calls on the other strand of a known hairpin among the best five a megabase; they count as false."""
    curve: np.ndarray
    """(K, 3) float64: score, precision, recall at every score that finds a hairpin."""


def non_redundant(calls: Places, scores: np.ndarray) -> np.ndarray:
    """Rows (int64) of the calls that overlap no better one on their strand, best first; of equals the first."""
    order = np.argsort(-scores, kind="stable")
    kept = np.zeros(len(order), dtype=bool)
    taken = {
        (contig, minus): np.zeros(int(calls.end[calls.contig == contig].max()), dtype=bool)
        for contig in np.unique(calls.contig).tolist()
        for minus in (False, True)
    }
    columns = (calls.contig, calls.minus, calls.start, calls.end)
    for rank, (contig, minus, start, end) in enumerate(zip(*(c[order].tolist() for c in columns), strict=True)):
        stretch = taken[contig, minus][start:end]
        if not stretch.any():
            stretch[:] = True
            kept[rank] = True
    return order[kept]


def match(calls: Places, known: Places) -> Matches:
    """Give each known hairpin to the first call that finds it, calls being in the order of their scores.

    A call finds a hairpin where it covers at least half of it on its strand and is at most three times as long. Of
    several it finds the one it covers most; each hairpin is found once, and what comes second finds nothing.
    """
    order = np.lexsort((calls.start, calls.contig))
    contig, start = calls.contig[order], calls.start[order]
    longest = int((calls.end - calls.start).max(initial=0))
    pairs: list[tuple[int, int, int]] = []
    others = np.zeros(len(calls.start), dtype=bool)
    for number, (where, first, last, minus) in enumerate(zip(*known, strict=True)):
        low, high = np.searchsorted(contig, where), np.searchsorted(contig, where, side="right")
        low, high = low + np.searchsorted(start[low:high], [first - longest, last])
        for row in order[low:high].tolist():
            length = calls.end[row] - calls.start[row]
            overlap = min(calls.end[row], last) - max(calls.start[row], first)
            if 2 * overlap >= last - first and length <= 3 * (last - first):
                if calls.minus[row] == minus:
                    pairs.append((row, -int(overlap), number))
                else:
                    others[row] = True
    found = np.full(len(calls.start), -1, dtype=np.int32)
    gone: set[int] = set()
    for row, _, number in sorted(pairs):
        if found[row] < 0 and number not in gone:
            found[row] = number
            gone.add(number)
    covering = np.zeros(len(found), dtype=bool)
    covering[[row for row, _, _ in pairs]] = True
    return Matches(found, others & ~covering)


def evaluate_calls(
    calls: Places,
    scores: np.ndarray,
    known: Places,
    megabases: float,
    aside: Places | None = None,
    draws: int = 500,
    seed: int = 0,
) -> Figures:
    """Judge scored calls, redundant ones included, by the known hairpins of the same contigs.

    Parameters
    ----------
    calls : Places
    scores : (N,) float
        Higher is better.
    known : Places
    megabases : float
        Unambiguous bases that were scanned, the strands together.
    aside : Places, optional
        Known hairpins of another kind: calls that find one of them are neither right nor false.
    draws : int
        Drawn sets of blocks for the interval.

    Raises
    ------
    ValueError
        If no hairpin is known, or a score is no number.
    """
    if not len(known.start) or not np.isfinite(scores).all():
        raise ValueError(f"{len(known.start)} known hairpins, {int((~np.isfinite(scores)).sum())} scores that are none")
    rows = non_redundant(calls, scores)
    total = len(known.start)
    if aside is not None:
        both = Places(*(np.concatenate(columns) for columns in zip(known, aside, strict=True)))
        rows = rows[match(calls.take(rows), both).known < total]
    best, ranked = calls.take(rows), np.asarray(scores, dtype=np.float64)[rows]
    matches = match(best, known)
    hit = matches.known >= 0
    ends = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.empty(0, dtype=np.int64)
    hits = np.cumsum(hit)[ends]
    precision, recall = hits / (ends + 1), hits / total
    f1 = 2 * hits / (ends + 1 + total)
    steps = np.flatnonzero(np.diff(hits, prepend=0))
    budget = int(5 * megabases)
    return Figures(
        known=total,
        found=int(hit.sum()),
        calls=len(rows),
        megabases=megabases,
        average_precision=_average(hit, np.ones(len(hit)), ends, total),
        interval=_interval(best, hit, matches.known, known, ends, draws, seed),
        max_f1=float(f1.max(initial=0.0)),
        recall={rate: float(hit[: int(rate * megabases)].sum()) / total for rate in RATES},
        antisense=int(matches.antisense[:budget].sum()),
        curve=np.stack([ranked[ends][steps], precision[steps], recall[steps]], axis=1),
    )


def _average(hit: np.ndarray, weight: np.ndarray, ends: np.ndarray, total: float) -> float:
    """Stepwise average precision of ranked calls, each counted ``weight`` times; equal scores are one threshold."""
    hits, calls = np.cumsum(hit * weight)[ends], np.cumsum(weight)[ends]
    return float(np.sum(hits / np.maximum(calls, 1e-9) * np.diff(hits, prepend=0.0)) / max(total, 1e-9))


def _interval(
    best: Places, hit: np.ndarray, found: np.ndarray, known: Places, ends: np.ndarray, draws: int, seed: int
) -> tuple[float, float]:
    """Percentiles 2.5 and 97.5 of the average precision over blocks drawn with replacement."""

    def block(places: Places) -> np.ndarray:
        return places.contig.astype(np.int64) * 10_000 + (places.start + places.end) // 2 // BLOCK

    of_call, of_known = block(best), block(known)
    of_call[hit] = of_known[found[hit]]  # a hairpin and its call stay together at a block's border
    last = int(np.flatnonzero(hit).max(initial=-1)) + 1  # calls below the last hit change nothing
    ends = np.append(ends[ends < last], last - 1) if last else ends[:0]
    blocks, number = np.unique(np.concatenate([of_call, of_known]), return_inverse=True)
    of_call, of_known = number[: len(of_call)][:last], number[len(of_call) :]
    generator = np.random.default_rng(seed)
    averages = []
    for _ in range(draws):
        weight = np.bincount(generator.integers(len(blocks), size=len(blocks)), minlength=len(blocks))
        total = weight[of_known].sum()
        if total:
            averages.append(_average(hit[:last], weight[of_call], ends, total))
    low, high = np.percentile(averages, [2.5, 97.5]) if averages else (0.0, 0.0)
    return float(low), float(high)
