"""How often the words of a hairpin occur in its genome: what has many copies is a repeat before it is a precursor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from mirscan.kernels.words import count_short_words, count_words, excess_words, foretell, mean_copies

MOST_SLOTS = 1 << 27
"""Bytes of the largest table of long words: genomes beyond some 130 Mb have a share of their words counted."""
PIECE = 1 << 24
FEWEST, MOST = 6, 12
"""Bases of a short word."""
EXPECTED = 16
"""How often chance lets a short word occur in a genome, at least."""
ENOUGH = 1 << 29
"""Bases that are enough to count short words in: of larger genomes every other piece is read, or one in four ..."""


class Copies(NamedTuple):
    """Counts of the words of a genome, both strands together.

    Long words find copies that are nearly exact; short ones, counted against what the composition foretells, find
    families of repeats that are worn.

    Attributes
    ----------
    k : int
        Bases of a long word: the fewest of which a random genome of this size would hold less than one.
    rare : int
        One long word in ``2**rare`` is counted.
    counts : (slots,) uint8
    short : int
        Bases of a short word.
    short_counts : (4**short,) uint32
    pairs, inner : np.ndarray
        From `mirscan.kernels.words.foretell`.
    total : int
        Short words counted.
    """

    k: int
    rare: int
    counts: np.ndarray
    short: int
    short_counts: np.ndarray
    pairs: np.ndarray
    inner: np.ndarray
    total: int

    def of(self, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Mean log2 of copies (float32) of the long words of each stretch ``codes[start:end]``, strands alike."""
        return mean_copies(codes, starts, ends, self.k, self.rare, self.counts)

    def excess(self, codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
        """Excess of its short words, log2, highest and mean (float32 (H, 2)), of each ``codes[start:end]``."""
        return excess_words(codes, starts, ends, self.short, self.short_counts, self.pairs, self.inner, self.total)


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
    rare, counts = (wanted // slots).bit_length() - 1, np.zeros(slots, dtype=np.uint8)
    short = FEWEST
    while short < MOST and 2 * total >= EXPECTED * 4 ** (short + 1):
        short += 1
    short_counts = np.zeros(4**short, dtype=np.uint32)
    every = 1 << max(0, (total // ENOUGH).bit_length())
    number = 0
    for contig, length in enumerate(lengths):
        for start in range(0, length, PIECE):
            codes = read(contig, start, min(start + PIECE + k - 1, length))
            count_words(codes, k, rare, counts)
            if number % every == 0:
                count_short_words(codes[: PIECE + short - 1], short, short_counts)
            number += 1
    return Copies(k, rare, counts, short, short_counts, *foretell(short_counts, short), int(short_counts.sum()))
