"""A contig to its proposed hairpins on both strands, with all a hairpin model reads: duplexes and a few numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np

from mirscan.kernels.bases import reverse_complement
from mirscan.kernels.duplex import (
    GAPS,
    INTERIOR,
    LENGTH,
    LOOP_BASES,
    PAIRS,
    align_duplexes,
    best_opposite,
    trinucleotide_entropy,
)
from mirscan.kernels.hairpins import Scan, Tables, scan_hairpins, trace_hairpins
from mirscan.structure.copies import Copies
from mirscan.structure.engines import NUMBA, Engine, over_tiles
from mirscan.structure.proposals import Proposals, composition_threshold, propose
from mirscan.structure.turner import turner_tables

SPAN = 120
MARGIN = 512
"""Bases around a piece that its hairpins, their neighbours and their flanks can depend on."""
SCALARS = (
    "energy", "energy_per_base", "energy_residual", "length", "a", "c", "g", "u", "entropy", "opposite_energy",
    "opposite_difference", "pairs", "loop", "gaps", "interior", "columns", "copies",
)  # fmt: skip
"""Columns of `Hairpins.scalars`: kcal/mol, bases, shares, bits; counts of the duplex; log2 of copies in the genome."""


class Hairpins(NamedTuple):
    """Proposed hairpins of a contig; coordinates 0-based half-open on its plus strand, in the order of centres.

    Attributes
    ----------
    starts, ends : (H,) int64
    minus : (H,) bool
    energies : (H,) float32
        kcal/mol.
    duplexes : (H, columns, 3) uint8
        From `mirscan.kernels.duplex.align_duplexes`, 5' to 3' on the hairpin's strand.
    scalars : (H, 17) float32
        By `SCALARS`.
    """

    starts: np.ndarray
    ends: np.ndarray
    minus: np.ndarray
    energies: np.ndarray
    duplexes: np.ndarray
    scalars: np.ndarray

    def take(self, rows: np.ndarray) -> Hairpins:
        """The hairpins of some rows: an index array or a mask."""
        return Hairpins(*(column[rows] for column in self))

    @property
    def size(self) -> int:
        """Number of hairpins."""
        return len(self.starts)


def find_hairpins(
    codes: np.ndarray,
    first: int = 0,
    last: int | None = None,
    span: int = SPAN,
    tables: Tables | None = None,
    copies: Copies | None = None,
    scan: Callable[..., Scan] = scan_hairpins,
) -> Hairpins:
    """Proposed hairpins of both strands whose centre lies in ``codes[first:last]``, ready for a hairpin model.

    Pieces together give exactly what the whole contig gives, each hairpin once, and the reverse complement gives the
    same hairpins with strands exchanged. Memory grows with the piece, some 10 kB a kilobase.

    Parameters
    ----------
    codes : (n,) uint8
        The whole contig, plus strand.
    first, last : int
        Where centres may lie; the whole contig by default.
    span : int
        Longest hairpin in bases.
    tables : Tables, optional
        Loop energies; those of Turner 2004 by default.
    copies : Copies, optional
        Counts of the genome's words; without them every hairpin counts as unique.
    scan : callable
        What computes the stem-loops; see `mirscan.structure.engines.Engine`.
    """
    tables = turner_tables() if tables is None else tables
    last = len(codes) if last is None else last
    low, high = max(0, first - MARGIN), min(len(codes), last + MARGIN)
    plus = codes[low:high]
    minus = reverse_complement(plus)
    near = max(0, first - low - span), min(len(plus), last - low + span)
    found = propose(plus, tables, *near, span, scan=scan)
    turned = propose(minus, tables, len(plus) - near[1], len(plus) - near[0], span, scan=scan)
    back = Proposals(
        (len(plus) - turned.ends)[::-1].copy(), (len(plus) - turned.starts)[::-1].copy(), turned.energies[::-1].copy()
    )

    strands = []
    for mine, other, strand in ((found, back, plus), (back, found, minus)):
        centres = mine.starts + mine.ends - 1 + 2 * low
        inside = (centres >= 2 * first) & (centres < 2 * last)
        opposite = best_opposite(mine.starts, mine.ends, other.starts, other.ends, other.energies)[inside]
        kept = Proposals(*(column[inside] for column in mine))
        repeated = np.zeros(len(kept.starts)) if copies is None else copies.of(plus, kept.starts, kept.ends)
        strands.append(_encode(kept, opposite, repeated, strand, tables, low, is_minus=strand is minus))
    return in_order(strands)


def in_order(pieces: Iterable[Hairpins]) -> Hairpins:
    """Pieces of one contig, or its strands, as one table in the order of centres."""
    joined = Hairpins(*(np.concatenate(columns) for columns in zip(*pieces, strict=True)))
    return joined.take(np.lexsort((joined.minus, joined.starts + joined.ends)))


def _encode(
    found: Proposals,
    opposite: np.ndarray,
    repeated: np.ndarray,
    strand: np.ndarray,
    tables: Tables,
    low: int,
    *,
    is_minus: bool,
) -> Hairpins:
    """Duplexes and scalars of one strand's proposals, which are in plus coordinates of the piece."""
    starts = len(strand) - found.ends if is_minus else found.starts
    lengths = found.ends - found.starts
    partners = trace_hairpins(strand, tables, starts, lengths)
    duplexes, counts = align_duplexes(strand, starts, lengths, partners)
    fractions = np.empty((len(starts), 4))
    for base in range(4):
        before = np.concatenate([[0], np.cumsum(strand == base)])
        fractions[:, base] = (before[starts + lengths] - before[starts]) / lengths
    energies = found.energies
    columns = [
        energies, energies / lengths, energies - composition_threshold(fractions, lengths), lengths, *fractions.T,
        trinucleotide_entropy(strand, starts, starts + lengths), opposite, energies - opposite,
        *(counts[:, k] for k in (PAIRS, LOOP_BASES, GAPS, INTERIOR, LENGTH)),
        repeated,
    ]  # fmt: skip
    scalars = np.stack([np.asarray(column, dtype=np.float32) for column in columns], axis=1)
    minus = np.full(len(starts), is_minus)
    return Hairpins(found.starts + low, found.ends + low, minus, energies, duplexes, scalars)


def contig_hairpins(
    codes: np.ndarray, span: int = SPAN, threads: int = 1, copies: Copies | None = None, engine: Engine = NUMBA
) -> Hairpins:
    """`find_hairpins` of a whole contig, piece by piece, the pieces spread over threads."""
    tables = turner_tables()
    pieces = over_tiles(
        lambda first, last: find_hairpins(codes, first, last, span, tables, copies, engine.scan),
        len(codes),
        threads,
        tile=engine.piece,
    )
    return in_order(pieces)
