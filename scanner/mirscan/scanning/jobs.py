"""What a scan scores in a part of the genome: its windows, or the hairpins proposed in it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol
from weakref import WeakKeyDictionary

import numpy as np

from mirscan.genome import Genome
from mirscan.genome.halves import fold_of
from mirscan.kernels.bases import ABSENT, AMBIGUOUS
from mirscan.kernels.clusters import best_neighbours, copied_nearby, lift, logit, lower, probability
from mirscan.kernels.homology import Words, similarity
from mirscan.kernels.tracks import best_hairpins
from mirscan.kernels.windows import cut, scorable
from mirscan.structure.copies import Copies, count_copies
from mirscan.structure.engines import NUMBA, Engine, over_tiles
from mirscan.structure.hairpins import MARGIN, SCALARS, SPAN, Hairpins, find_hairpins, in_order
from mirscan.structure.molecules import RowFolder, row_folder, window_inputs
from mirscan.structure.turner import turner_tables
from mirscan.types import STRANDS, ModelSpec, Plan, Segment

STRETCH = 1 << 13
"""Windows cut from the genome at a time: few enough that their codes stay in the cache."""
COMPARED = 1 << 12
"""Hairpins that a thread compares with known precursors at a time."""
REACH = 1000
"""How far from a hairpin its best neighbour may lie, centre to centre, in bases: most clusters are denser than that."""
COPIES_REACH = 2000
"""How far from a hairpin copies of it count against it, in bases."""
HAIRPIN = np.dtype([
    ("contig", "<u4"), ("start", "<i8"), ("end", "<i8"), ("minus", "?"), ("score", "<f4"), ("energy", "<f4"),
    ("copies", "<f4"), ("homology", "<f4"), ("known", "<i4"),
])  # fmt: skip
"""A row of a store's hairpin table: genomic, 0-based half-open; energy in kcal/mol; log2 of copies in the genome;
homology to the best known precursor in bases, and the number of that one: 0 and -1 where there is none."""

_COPIES: WeakKeyDictionary[Genome, Copies] = WeakKeyDictionary()
"""Of the genomes that are open: a worker that is given part after part counts their words once."""

Batch = tuple[np.ndarray, tuple[np.ndarray, ...]]
"""Slots (int64) and the model's inputs, with one row each."""


class Job(Protocol):
    """One part's work."""

    part: int
    slots: int
    """Scores that the part needs; every slot is filled, or stays NaN."""
    resumable: bool
    """Whether its batches are the same again, so that finished ones can be kept when the scan is stopped."""

    def batches(self, rows: int, skip: int = 0) -> Iterator[Batch]:
        """Inputs of the model, ``rows`` at a time, without the first ``skip``."""

    def finish(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Window scores, float32 (windows, 2), and the table of hairpins if there is one, from the slots' values."""

    def place(self, slot: int) -> str:
        """Where a slot lies, for a message."""


class WindowJob:
    """Both strands of every scorable window; a slot is a place in the flattened (windows, strands) scores.

    ``fold`` folds the windows of a model that needs it.
    """

    resumable = True

    def __init__(self, plan: Plan, genome: Genome, part: int, spec: ModelSpec, fold: RowFolder | None) -> None:
        self.plan, self.genome, self.part = plan, genome, part
        self.spec, self.fold = spec, fold
        self.first, self.end = plan.bounds(part)
        self.slots = 2 * (self.end - self.first)

    def batches(self, rows: int, skip: int = 0) -> Iterator[Batch]:
        """See `Job.batches`."""
        grid = self.plan.grid
        pending: list[tuple[np.ndarray, np.ndarray]] = []
        held = 0
        for stretch in range(self.first, self.end, STRETCH):
            at = stretch - self.first
            for piece in self.plan.pieces(stretch, min(stretch + STRETCH, self.end)):
                starts, bases, good = _cut_from(self.plan, self.genome, piece)
                starts -= starts[0]
                twice = np.repeat(np.flatnonzero(good), 2)
                minus = np.arange(len(twice)) % 2 == 1
                fresh = slice(min(skip, len(twice)), None)
                skip -= fresh.start
                slots = (2 * (at + twice) + minus)[fresh]
                pending.append((slots, cut(bases, starts[twice[fresh]], minus[fresh], grid.window)))
                held += len(slots)
                at += piece.count
                if held >= rows:
                    slots, codes = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
                    whole = held - held % rows
                    for begin in range(0, whole, rows):
                        chosen = slice(begin, begin + rows)
                        yield slots[chosen], window_inputs(self.spec, codes[chosen], self.fold)
                    pending, held = [(slots[whole:], codes[whole:])], held - whole
        if held:
            slots, codes = (np.concatenate(arrays) for arrays in zip(*pending, strict=True))
            yield slots, window_inputs(self.spec, codes, self.fold)

    def finish(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Job.finish`."""
        return values.reshape(-1, 2), None

    def place(self, slot: int) -> str:
        """See `Job.place`."""
        where = next(self.plan.pieces(self.first + slot // 2, self.first + slot // 2 + 1))
        contig = self.plan.contigs[where.contig]
        at = int(self.plan.grid.starts(contig.length, where.first, 1)[0])
        return f"the window {contig.name}:{at + 1}-{at + self.plan.grid.window} ({STRANDS[slot % 2]})"


class _Stretch(NamedTuple):
    """Windows of one contig in a part, and the hairpins that can belong to them or are near those."""

    piece: Segment
    starts: np.ndarray
    good: np.ndarray
    found: Hairpins
    homology: np.ndarray
    known: np.ndarray
    low: int
    codes: np.ndarray
    """The bases from ``low`` on."""


class HairpinJob:
    """Every hairpin that can belong to a window of the part, and their neighbours; a slot is a hairpin.

    ``spec`` tells what copies and the best hairpin nearby count, and into how many folds the genome falls.
    """

    resumable = False

    def __init__(
        self,
        plan: Plan,
        genome: Genome,
        part: int,
        spec: ModelSpec,
        threads: int,
        copies: Copies,
        engine: Engine,
        words: Words | None = None,
    ) -> None:
        self.plan, self.part = plan, part
        self.spec, self.folds = spec, spec.folds
        self.stretches = [
            _stretch(plan, genome, piece, threads, copies, engine, words) for piece in plan.pieces(*plan.bounds(part))
        ]
        self.slots = sum(stretch.found.size for stretch in self.stretches)

    def batches(self, rows: int, skip: int = 0) -> Iterator[Batch]:
        """See `Job.batches`."""
        duplexes, scalars = (
            np.concatenate([getattr(stretch.found, name) for stretch in self.stretches])
            for name in ("duplexes", "scalars")
        )
        inputs: tuple[np.ndarray, ...] = duplexes, scalars
        if self.folds:
            of_stretches = [
                fold_of(stretch.piece.contig, stretch.found.starts, stretch.found.ends, self.folds)
                for stretch in self.stretches
            ]
            inputs += (np.concatenate(of_stretches),)
        for begin in range(skip, self.slots, rows):
            end = min(begin + rows, self.slots)
            yield np.arange(begin, end), tuple(column[begin:end] for column in inputs)

    def finish(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """See `Job.finish`: a hairpin stands in the table of the part whose track intervals hold its centre."""
        grid, scores, tables = self.plan.grid, [], []
        cuts = np.cumsum([stretch.found.size for stretch in self.stretches])[:-1]
        for stretch, mine in zip(self.stretches, np.split(values, cuts), strict=True):
            piece, found = stretch.piece, stretch.found
            mine = self._lifted(stretch, mine)
            length = self.plan.contigs[piece.contig].length
            intervals = grid.intervals(length, piece.first, piece.count)
            both = np.full((piece.count, 2), np.nan, dtype=np.float32)
            for strand in range(2):
                rows = found.minus == bool(strand)
                best = best_hairpins(
                    stretch.starts, grid.window, intervals, found.starts[rows], found.ends[rows], mine[rows]
                )
                both[:, strand] = np.where(stretch.good, best, np.nan)
            low = 0 if piece.first == 0 else intervals[0][0]
            high = length if piece.first + piece.count == grid.count(length) else intervals[1][-1]
            centres = (found.starts + found.ends) // 2
            owned = (centres >= low) & (centres < high)
            table = np.empty(int(owned.sum()), dtype=HAIRPIN)
            table["contig"], table["score"] = piece.contig, mine[owned]
            for name, column in (("start", found.starts), ("end", found.ends), ("minus", found.minus)):
                table[name] = column[owned]
            table["energy"] = found.energies[owned]
            table["copies"] = found.scalars[owned, SCALARS.index("copies")]
            table["homology"], table["known"] = stretch.homology[owned], stretch.known[owned]
            scores.append(both)
            tables.append(table)
        return np.concatenate(scores), np.concatenate(tables)

    def _lifted(self, stretch: _Stretch, scores: np.ndarray) -> np.ndarray:
        """Scores (float32) of hairpins with what lies near them counted in."""
        found = stretch.found
        starts, ends = found.starts - stretch.low, found.ends - stretch.low
        alone = logit(scores)
        logits = in_place(alone, starts, ends, found.minus, stretch.codes, self.spec)
        return np.where(logits == alone, scores, probability(logits))

    def place(self, slot: int) -> str:
        """See `Job.place`."""
        for stretch in self.stretches:
            if slot < stretch.found.size:
                name = self.plan.contigs[stretch.piece.contig].name
                start, end, minus = (getattr(stretch.found, k)[slot] for k in ("starts", "ends", "minus"))
                return f"the hairpin {name}:{start + 1}-{end} ({STRANDS[int(minus)]})"
            slot -= stretch.found.size
        raise ValueError(f"slot {slot} lies beyond the part")


def in_place(
    logits: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray, codes: np.ndarray, spec: ModelSpec
) -> np.ndarray:
    """Logits (float32) of hairpins as a scan ranks them: copies nearby count against them, a good neighbour for them.

    Parameters
    ----------
    logits : (H,) float32
        What the model gives them.
    starts, ends, minus : (H,)
        Their places, in the order of centres.
    codes : (n,) uint8
        The bases that ``starts`` and ``ends`` count.
    """
    if spec.copied:
        logits = lower(logits, copied_nearby(starts, ends, codes, COPIES_REACH), spec.copied)
    if spec.neighbour:
        logits = lift(logits, best_neighbours(starts, ends, minus, logits, REACH, codes), spec.neighbour)
    return logits


def jobs(
    plan: Plan,
    genome: Genome,
    parts: Iterable[int],
    spec: ModelSpec,
    threads: int = 1,
    words: Words | None = None,
    engine: Engine = NUMBA,
) -> Iterator[Job]:
    """The work of each part, one after another, for a model of windows or of hairpins.

    Hairpins are compared with the known precursors of ``words``, and stem-loops computed by ``engine``; neither changes
    a score.
    """
    if spec.unit == "window":
        fold = row_folder(spec, plan.folder, threads)
        for part in parts:
            yield WindowJob(plan, genome, part, spec, fold)
        return
    parts = list(parts)
    if not parts:
        return
    copies = _COPIES.get(genome)
    if copies is None:  # whatever is scanned of it
        copies = _COPIES[genome] = count_copies(genome.codes, [contig.length for contig in genome.contigs])
    for part in parts:
        yield HairpinJob(plan, genome, part, spec, threads, copies, engine, words)


def _cut_from(plan: Plan, genome: Genome, piece: Segment) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Starts of a piece's windows, the bases from the first to the last, and which windows can be scored."""
    grid = plan.grid
    starts = grid.starts(plan.contigs[piece.contig].length, piece.first, piece.count)
    bases = genome.codes(piece.contig, int(starts[0]), int(starts[-1]) + grid.window)
    return starts, bases, scorable(bases, starts - starts[0], grid.window, _limit(plan))


def _limit(plan: Plan) -> int:
    """The lowest code that keeps a window from being scored."""
    return AMBIGUOUS if plan.ambiguous == "skip" else ABSENT


def _stretch(
    plan: Plan, genome: Genome, piece: Segment, threads: int, copies: Copies, engine: Engine, words: Words | None
) -> _Stretch:
    length = plan.contigs[piece.contig].length
    starts = plan.grid.starts(length, piece.first, piece.count)
    first, last = max(0, int(starts[0]) - REACH), min(length, int(starts[-1]) + plan.grid.window + REACH)
    around = max(MARGIN, SPAN + COPIES_REACH)
    low, high = max(0, first - around), min(length, last + around)
    codes = genome.codes(piece.contig, low, high)
    good = scorable(codes, starts - low, plan.grid.window, _limit(plan))
    tables = turner_tables()
    pieces = over_tiles(
        lambda a, b: find_hairpins(codes, first - low + a, first - low + b, SPAN, tables, copies, engine.scan),
        last - first,
        threads,
        tile=engine.piece,
    )
    found = in_order(pieces)
    homology, known = _compare(codes, found, words, threads)
    placed = found._replace(starts=found.starts + low, ends=found.ends + low)
    return _Stretch(piece, starts, good, placed, homology, known, low, codes)


def _compare(codes: np.ndarray, found: Hairpins, words: Words | None, threads: int) -> tuple[np.ndarray, np.ndarray]:
    """Homology of hairpins and the precursors it is to; 0 and -1 where there are none to compare with."""
    homology, known = np.zeros(found.size, dtype=np.float32), np.full(found.size, -1, dtype=np.int32)
    if words is None:
        return homology, known

    def compare(first: int, last: int) -> None:
        some = slice(first, last)
        homology[some], known[some] = similarity(codes, found.starts[some], found.ends[some], found.minus[some], words)

    over_tiles(compare, found.size, threads, tile=COMPARED)
    return homology, known
