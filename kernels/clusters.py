"""What lies near a hairpin: another precursor, since they come in clusters, or worn copies of it, since repeats do."""

from __future__ import annotations

import math

import numpy as np

from mirscan.kernels._jit import kernel

WORD = 8
"""Bases of the words by which two hairpins are compared."""
RELATED = 0.08
"""Share of its words above which a hairpin is taken for a copy of its neighbour. Two unrelated hairpins share a
thousandth; two of one family of precursors, which share little more than the mature sequence, about this much."""
COPIED = 9
"""Bases of the words whose copies nearby are looked for: in 4 kb one turns up by chance in thirty times."""
CHANCE = 0.05
"""Share of a hairpin's words that is found again nearby by chance."""
DOUBT = 7.0
"""Logit at which a neighbour is as likely a precursor as not; negatives are far rarer in training than in a genome."""


@kernel()
def best_neighbours(
    starts: np.ndarray, ends: np.ndarray, minus: np.ndarray, logits: np.ndarray, reach: int, codes: np.ndarray
) -> np.ndarray:
    """Highest logit above 0 among the hairpins of the same strand that lie nearby, without overlap and no copies.

    Tandem repeats of one hairpin would otherwise vouch for one another.

    Parameters
    ----------
    starts, ends : (H,) int64
        0-based half-open, in the order of centres (``start + end``).
    minus : (H,) bool
    logits : (H,) float32
    reach : int
        Greatest distance of two centres, bases.
    codes : (n,) uint8
        The bases that ``starts`` and ``ends`` count, plus strand.

    Returns
    -------
    (H,) float32
        0 where there is no such hairpin.
    """
    best = np.zeros(len(starts), dtype=np.float32)
    mine = np.full(1 << (2 * WORD), -1, dtype=np.int32)  # the last hairpin that holds a word, by word
    other = np.full(1 << (2 * WORD), -1, dtype=np.int32)
    pair = 0
    low = 0
    for h in range(len(starts)):
        centre = starts[h] + ends[h]
        while starts[low] + ends[low] < centre - 2 * reach:
            low += 1
        words = -1
        k = low
        while k < len(starts) and starts[k] + ends[k] <= centre + 2 * reach:
            apart = ends[k] <= starts[h] or starts[k] >= ends[h]
            if logits[k] > best[h] and minus[k] == minus[h] and apart:
                if words < 0:
                    words, _ = _stamp_words(codes, starts[h], ends[h], mine, h, other, pair)
                others, shared = _stamp_words(codes, starts[k], ends[k], other, pair, mine, h)
                pair += 1
                if shared <= RELATED * min(words, others):
                    best[h] = logits[k]
            k += 1
    return best


@kernel()
def _stamp_words(
    codes: np.ndarray, start: int, end: int, seen: np.ndarray, stamp: int, among: np.ndarray, sought: int
) -> tuple[int, int]:
    """Stamp the words of a stretch in ``seen``: how many different ones, and how many bear ``sought`` in ``among``."""
    count, shared = 0, 0
    word, run = 0, 0
    for i in range(start, end):
        word = ((word << 2) | codes[i]) & ((1 << (2 * WORD)) - 1)
        run = run + 1 if codes[i] < 4 else 0
        if run >= WORD and seen[word] != stamp:
            seen[word] = stamp
            count += 1
            shared += among[word] == sought
    return count, shared


@kernel()
def copied_nearby(starts: np.ndarray, ends: np.ndarray, codes: np.ndarray, reach: int) -> np.ndarray:
    """Share of the words of each hairpin that are found again nearby, on either strand.

    Tandem repeats and inverted ones fold as well as precursors do, and age into something that looks like them.

    Parameters
    ----------
    starts, ends : (H,) int64
        0-based half-open.
    codes : (n,) uint8
        The bases that ``starts`` and ``ends`` count, plus strand; ``reach`` bases around every hairpin are needed,
        unless the contig ends there.
    reach : int
        How far before its start and behind its end a copy may lie, bases.

    Returns
    -------
    (H,) float32
        0 to 1; 0 for a hairpin without a word.
    """
    count = len(codes) - COPIED + 1
    words = np.full((2, max(count, 0)), -1, dtype=np.int32)
    forward, backward, run = 0, 0, 0
    for i in range(len(codes)):
        forward = ((forward << 2) | codes[i]) & ((1 << (2 * COPIED)) - 1)
        backward = (backward >> 2) | (((3 - codes[i]) & 3) << (2 * (COPIED - 1)))
        run = run + 1 if codes[i] < 4 else 0
        if run >= COPIED:
            words[0, i - COPIED + 1], words[1, i - COPIED + 1] = forward, backward
    holder = np.full(1 << (2 * COPIED), -1, dtype=np.int32)  # twice the last hairpin with a word, plus 1 if found again
    share = np.zeros(len(starts), dtype=np.float32)
    for h in range(len(starts)):
        first, last = starts[h], ends[h] - COPIED + 1
        for i in range(first, last):
            if words[0, i] >= 0:
                holder[words[0, i]] = holder[words[1, i]] = 2 * h
        for i in range(max(0, first - reach), min(count, ends[h] + reach - COPIED + 1)):
            if (i + COPIED <= first or i >= ends[h]) and words[0, i] >= 0 and holder[words[0, i]] == 2 * h:
                holder[words[0, i]] = 2 * h + 1
        mine, again = 0, 0
        for i in range(first, last):
            if words[0, i] >= 0:
                mine += 1
                again += holder[words[0, i]] == 2 * h + 1 or holder[words[1, i]] == 2 * h + 1
        share[h] = again / max(mine, 1)
    return share


def lower(logits: np.ndarray, copied: np.ndarray, weight: float) -> np.ndarray:
    """Logits (float32) of hairpins with their copies nearby counted against them.

    Parameters
    ----------
    logits : (H,) float32
    copied : (H,) float32
        From `copied_nearby`.
    weight : float
        What a hairpin loses that is copied as a whole.
    """
    return (logits - np.float32(weight) * np.maximum(copied - np.float32(CHANCE), np.float32(0))).astype(np.float32)


def lift(logits: np.ndarray, neighbours: np.ndarray, odds: float) -> np.ndarray:
    """Logits (float32) of hairpins with the best neighbour counted in.

    Parameters
    ----------
    logits : (H,) float32
    neighbours : (H,) float32
        From `best_neighbours`; where it is 0 a logit stays as it is.
    odds : float
        What a neighbour that is a precursor for certain multiplies the odds by; a doubtful one counts by the chance
        that it is one.
    """
    chance = 1 / (1 + np.exp(DOUBT - neighbours.astype(np.float64)))
    return np.where(neighbours > 0, logits + np.log1p(odds * chance), logits).astype(np.float32)


@kernel()
def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds (float32) of float32 probabilities; 0 and 1 count as the nearest number between them.

    One scalar after another, so that a number's place in the array cannot matter.
    """
    out = np.empty(len(probabilities), dtype=np.float32)
    for i in range(len(probabilities)):
        p = min(max(np.float64(probabilities[i]), 1e-38), 1 - 2.0**-25)
        out[i] = math.log(p) - math.log1p(-p)
    return out


@kernel()
def probability(logits: np.ndarray) -> np.ndarray:
    """The inverse of `logit`, float32."""
    out = np.empty(len(logits), dtype=np.float32)
    for i in range(len(logits)):
        out[i] = 1 / (1 + math.exp(-np.float64(logits[i])))
    return out
