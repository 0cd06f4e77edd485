"""The stem-loops worth a classifier's look: locally best, non-redundant, better than their composition explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from mirscan.kernels.hairpins import Scan, Tables, compact_hairpins, scan_hairpins

COMPACTNESS = 15
"""Cost of a base in dcal/mol: of the stem-loops around one loop the compact one is proposed, not the longest."""
RADIUS = 12
"""Loop centres closer than this, in half bases, compete: six bases to either side."""
CEILING = -300
"""Energy plus cost of length, dcal/mol, above which nothing is looked at."""

Threshold = Callable[[np.ndarray, np.ndarray], np.ndarray]
"""``(fractions (P, 4) of A C G U, lengths (P,)) -> (P,)``: highest energy in kcal/mol that is proposed."""


class Proposals(NamedTuple):
    """Stem-loops of one strand in the order of their centres; 0-based, half-open, 5' to 3'.

    Attributes
    ----------
    starts : (P,) int64
    ends : (P,) int64
    energies : (P,) float32
        kcal/mol, with the mismatch or dangles of the neighbouring bases.
    """

    starts: np.ndarray
    ends: np.ndarray
    energies: np.ndarray


def composition_threshold(fractions: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Energy (kcal/mol) a stem-loop must reach to be more than its length and bases explain.

    A stem-loop of GC-rich sequence is stable without meaning anything: one limit for all would propose up to a
    hundred thousand a megabase there. The limit falls with the chance that two of its own bases pair (products of
    fractions) and with its length. Its direction was fitted by logistic regression of 16,540 MirGeneDB precursors and
    the miRBase 22 loci of worm, human and fly genomes against background stem-loops of worm, human, fly and
    herpesvirus genomes, equally many of each genome; the constant keeps 97 % of the loci and 99 % of MirGeneDB
    (``benchmarks/speed/proposals.py``).
    """
    a, c, g, u = fractions.T
    chance = 140.0 * a * u + 196.0 * c * g + 31.0 * g * u + 32.5 * (c + g)
    return 46.9 - chance - 0.388 * lengths


def propose(
    codes: np.ndarray,
    tables: Tables,
    first: int = 0,
    last: int | None = None,
    span: int = 120,
    threshold: Threshold = composition_threshold,
    compactness: int = COMPACTNESS,
    radius: int = RADIUS,
    ceiling: int = CEILING,
    scan: Callable[..., Scan] = scan_hairpins,
) -> Proposals:
    """Locally best stem-loops of one strand whose centre lies in ``codes[first:last]``.

    Around every loop centre the least energy plus cost of length stands for all stem-loops there; a centre is proposed
    where none within the radius is lower and its energy reaches the threshold. Pieces together give exactly what the
    whole contig gives, each stem-loop once.

    Parameters
    ----------
    codes : (n,) uint8
        One strand of the whole contig (the reverse complement for the other strand).
    tables : Tables
        From `mirscan.structure.turner.turner_tables`.
    first, last : int
        Where centres may lie; the whole contig by default. Memory grows with it, some 40 bytes a base.
    span : int
        Longest stem-loop in bases.
    threshold : Threshold
        From composition and length.
    compactness, radius, ceiling : int
        See `COMPACTNESS`, `RADIUS`, `CEILING`.
    scan : callable
        What computes the stem-loops; see `mirscan.structure.engines.Engine`.

    Returns
    -------
    Proposals
    """
    last = len(codes) if last is None else last
    opens = max(0, first - span // 2 - radius)
    centres = scan(codes, tables, span, opens, min(len(codes), last + radius), compactness).centres
    start, length, score = np.empty((3, 2 * (last - first)), dtype=np.int32)
    low = 2 * (first - opens)
    found = compact_hairpins(centres, low, low + len(start), radius, ceiling, start, length, score)
    starts, lengths = start[:found].astype(np.int64) + opens, length[:found].astype(np.int64)
    ends = starts + lengths
    energies = ((score[:found] - compactness * length[:found]) / 100).astype(np.float32)
    fractions = np.empty((found, 4))
    for base in range(4):
        before = np.concatenate([[0], np.cumsum(codes[opens : last + span] == base)])
        fractions[:, base] = (before[ends - opens] - before[starts - opens]) / lengths
    kept = energies <= threshold(fractions, lengths)
    return Proposals(starts[kept], ends[kept], energies[kept])
