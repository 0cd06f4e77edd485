"""How often the words of a hairpin occur in its genome: what has many copies is a repeat before it is a precursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mirscan.kernels.words import count_words, mean_copies

MOST_SLOTS = 1 << 28
"""Bytes of the largest table: genomes beyond some 270 Mb have a share of their words counted."""
PIECE = 1 << 24


class Copies(NamedTuple):
    """Counts of the words of a genome, both strands together.

    Attributes
    ----------
    k : int
        Bases of a word: the fewest of which a random genome of this size would hold less than one.
    rare : int
        One word in ``2**rare`` is counted.
    counts : (slots,) uint8
    """

    k: int
    rare: int
    counts: np.ndarray

    def of(self, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Mean log2 of copies (float32) of the words of each stretch ``codes[start:end]``, strands alike."""
        return mean_copies(codes, starts, ends, self.k, self.rare, self.counts)


def count_copies(
    read: Callable[[int, int, int], np.ndarray], lengths: Sequence[int], most_slots: int = MOST_SLOTS
) -> Copies:
    """Count the words of a genome, `PIECE` bases at a time.

    Parameters
    ----------
    read : callable
        ``(contig, start, end)`` to codes (uint8), as `mirscan.genome.Genome.codes`.
    lengths : sequence of int
        Bases of each contig. All together decide how long a word is and how many slots the table has.
    """
    total = sum(lengths)
    k = 8
    while 4**k < 2 * total:
        k += 1
    wanted = 1 << max(16, (2 * total - 1).bit_length())
    slots = min(wanted, most_slots)
    copies = Copies(k, (wanted // slots).bit_length() - 1, np.zeros(slots, dtype=np.uint8))
    for contig, length in enumerate(lengths):
        for start in range(0, length, PIECE):
            codes = read(contig, start, min(start + PIECE + k - 1, length))
            count_words(codes, copies.k, copies.rare, copies.counts)
    return copies
