"""How often the words (k-mers) of a genome occur in it, either strand, in a table of bounded size."""

from __future__ import annotations

import numpy as np

from mirscan.kernels._jit import kernel

MIXER = np.uint64(0x9E3779B97F4A7C15)
"""2^64 divided by the golden ratio: its product spreads words over the high bits (Knuth 1998, section 6.4)."""
UNITS = 65536.0
"""Parts of a bit in which logarithms are summed."""
SHRUNK = 8.0
"""Added to counts and to what is foretold: a rare word that is found twice tells nothing."""


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
def count_short_words(codes: np.ndarray, k: int, counts: np.ndarray) -> None:
    """Count all words of a sequence exactly, each as the smaller of itself and its reverse complement.

    Parameters
    ----------
    codes : (n,) uint8
        Words with an ambiguous base do not count.
    k : int
        Bases of a word, at most 15.
    counts : (4**k,) uint32
        Added to.
    """
    forward, backward, run = np.uint64(0), np.uint64(0), 0
    for i in range(len(codes)):
        code = codes[i]
        if code > 3:
            run = 0
            continue
        forward, backward = _append(forward, backward, code, k)
        run += 1
        if run >= k:
            counts[min(forward, backward)] += np.uint32(1)


def foretell(counts: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """What the pairs of neighbouring bases of a genome foretell of the frequencies of its words.

    Parameters
    ----------
    counts : (4**k,) uint32
        From `count_short_words`.

    Returns
    -------
    pairs : (4, 4) int64
        log2 of the share of a pair of bases among all pairs of both strands, in units of 2**-16: whole numbers, so
        that the sum over a word is that over its reverse complement.
    inner : (4,) int64
        The same of a base among all bases. A word's log2 of frequency is the sum of its pairs less that of its inner
        bases (a first-order Markov chain; Burge, Campbell & Karlin 1992, PNAS 89:1358, on odds of words).
    """
    first = counts.reshape(16, -1).sum(axis=1, dtype=np.int64).reshape(4, 4)
    last = counts.reshape(-1, 16).sum(axis=0, dtype=np.int64).reshape(4, 4)
    seen = first + last
    seen = seen + seen[::-1, ::-1].T + 1  # both strands; one more, for pairs that a small genome lacks
    pairs = np.rint(UNITS * np.log2(seen / seen.sum())).astype(np.int64)
    bases = seen.sum(axis=0) + seen.sum(axis=1)  # first and second of a pair: ends of contigs tell them apart
    return pairs, np.rint(UNITS * np.log2(bases / bases.sum())).astype(np.int64)


@kernel()
def excess_words(
    codes: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    k: int,
    counts: np.ndarray,
    pairs: np.ndarray,
    inner: np.ndarray,
    total: int,
) -> np.ndarray:
    """By how much the words of each stretch ``codes[start:end]`` are more frequent than their pairs of bases foretell.

    For each word log2 of (count + `SHRUNK`) / (foretold + `SHRUNK`). The same for a stretch and its reverse complement.

    Parameters
    ----------
    starts, ends : (H,) int64
    k, counts : see `count_short_words`
    pairs, inner : see `foretell`
    total : int
        Words counted.

    Returns
    -------
    (H, 2) float32
        The most frequent word's excess, at least 0, and the mean of all; 0 for a stretch without a word.
    """
    found = np.zeros((len(starts), 2), dtype=np.float32)
    for row in range(len(starts)):
        forward, backward, run = np.uint64(0), np.uint64(0), 0
        most, together, words = 0, 0, 0
        for i in range(starts[row], ends[row]):
            code = codes[i]
            if code > 3:
                run = 0
                continue
            forward, backward = _append(forward, backward, code, k)
            run += 1
            if run < k:
                continue
            chance = pairs[codes[i - k + 1], codes[i - k + 2]]
            for j in range(i - k + 2, i):
                chance += pairs[codes[j], codes[j + 1]] - inner[codes[j]]
            strands = 1.0 if forward == backward else 2.0
            foretold = strands * total * 2.0 ** (chance / UNITS)
            ratio = np.log2((counts[min(forward, backward)] + SHRUNK) / (foretold + SHRUNK))
            excess = int(np.rint(UNITS * ratio))  # whole numbers, so that the sum has no order
            most = max(most, excess)
            together += excess
            words += 1
        if words:
            found[row, 0] = most / UNITS
            found[row, 1] = together / (UNITS * words)
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
