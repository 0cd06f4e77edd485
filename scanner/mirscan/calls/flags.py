"""Words that warn of a call: what its sequence, or the sequence around it, says against it."""

from __future__ import annotations

import numpy as np

from mirscan.kernels.bases import AMBIGUOUS
from mirscan.kernels.duplex import trinucleotide_entropy

LOW_COMPLEXITY = 4.0
"""Bits of trinucleotide entropy: 1 known animal precursor in 1,000 has less, and 6 to 11 % of proposed hairpins."""
REPEAT = 3.0
"""Mean log2 of copies in the genome: eight copies of each word of the hairpin, see `mirscan.structure.copies`."""
NEAR = 100
"""Bases beside a call in which an ambiguous one makes it doubtful: a gap of the assembly, or its poor edge."""


def find_flags(codes: np.ndarray, start: int, end: int, copies: float) -> tuple[str, ...]:
    """Flags of the call ``[start, end)``; of none, the empty tuple.

    ``repeat``: the genome holds many copies of it (`REPEAT`). ``low_complexity``: its trinucleotides repeat, on either
    strand alike (`LOW_COMPLEXITY`). ``near_N``: an ambiguous base lies in it or within `NEAR` bases.

    Parameters
    ----------
    codes : (n,) uint8
        The call with at least `NEAR` bases on either side, or what the contig has of them.
    start, end : int
        Its place in ``codes``.
    copies : float
        Mean log2 of the copies of its words in the genome.
    """
    ambiguous = (codes[max(0, start - NEAR) : end + NEAR] == AMBIGUOUS).any()
    entropy = trinucleotide_entropy(codes, np.array([start]), np.array([end]))[0]
    found = {"repeat": copies >= REPEAT, "low_complexity": entropy < LOW_COMPLEXITY, "near_N": ambiguous}
    return tuple(word for word, holds in found.items() if holds)
