"""How often the words (k-mers) of a genome occur in it, either strand, in a table of bounded size."""

from __future__ import annotations

import numpy as np

from mirscan.kernels._jit import kernel

MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: its product spreads words over the high bits (Knuth 1998, section 6.4)."""


@kernel()
def count_words(codes: np.ndarray, k: int, rare: int, counts: np.ndarray) -> None:
    """Count the words of a sequence, each as the smaller of itself and its reverse complement.

    Parameters
    ----------
    codes : (n,) uint8
        Words with an ambiguous base do not count.
    k : int
        Bases of a word, at most 31.
    rare : int
        Only one word in ``2**rare`` is looked at, chosen by its hash: for genomes with more words than slots.
    counts : (2**bits,) uint8
        Added to, up to 255; words that fall into one slot are counted together.
    """
    bits = _bits(counts)
    forward, backward, run = np.uint64(0), np.uint64(0), 0
    for i in range(len(codes)):
        code = codes[i]
        if code > 3:
            run = 0
            continue
        forward, backward = _append(forward, backward, code, k)
        run += 1
        if run >= k:
            mixed = min(forward, backward) * MIXER
            if _chosen(mixed, rare):
                slot = mixed >> np.uint64(64 - bits)
                if counts[slot] < 255:
                    counts[slot] += np.uint8(1)


@kernel()
def mean_copies(
    codes: np.ndarray, starts: np.ndarray, ends: np.ndarray, k: int, rare: int, counts: np.ndarray
) -> np.ndarray:
    """Mean log2 (float32) of the counts of the words of each stretch ``codes[start:end]``; 0 where none was counted.

    The same for a stretch and its reverse complement. Parameters as in `count_words`.
    """
    bits = _bits(counts)
    found = np.zeros(len(starts), dtype=np.float32)
    for row in range(len(starts)):
        forward, backward, run = np.uint64(0), np.uint64(0), 0
        tally = np.zeros(256, dtype=np.int64)  # whole numbers, so that the sum has no order
        words = 0
        for i in range(starts[row], ends[row]):
            code = codes[i]
            if code > 3:
                run = 0
                continue
            forward, backward = _append(forward, backward, code, k)
            run += 1
            if run >= k:
                mixed = min(forward, backward) * MIXER
                if _chosen(mixed, rare):
                    count = counts[mixed >> np.uint64(64 - bits)]
                    if count > 0:
                        tally[count] += 1
                        words += 1
        total = 0.0
        for count in range(2, 256):
            if tally[count]:
                total += tally[count] * np.log2(count)
        if words:
            found[row] = total / words
    return found


@kernel()
def _append(forward: np.uint64, backward: np.uint64, code: int, k: int) -> tuple[np.uint64, np.uint64]:
    """A word and its reverse complement, one base further."""
    mask = (np.uint64(1) << np.uint64(2 * k)) - np.uint64(1)
    forward = ((forward << np.uint64(2)) | np.uint64(code)) & mask
    return forward, (backward >> np.uint64(2)) | (np.uint64(3 - code) << np.uint64(2 * (k - 1)))


@kernel()
def _bits(counts: np.ndarray) -> int:
    bits = 0
    while (1 << bits) < len(counts):
        bits += 1
    return bits


@kernel()
def _chosen(mixed: np.uint64, rare: int) -> bool:
    return (mixed & ((np.uint64(1) << np.uint64(rare)) - np.uint64(1))) == np.uint64(0)
