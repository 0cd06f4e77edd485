"""Similarity of hairpins to known precursors: words of eleven bases they share, extended without gaps and chained."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from mirscan.kernels._jit import kernel

WORD = 11
"""Bases of an exact word that starts a comparison; the index holds a place for each of the 4^11 words."""
NEW = 5
"""A base counts where the word of so many bases that ends in it is new in the hairpin: repeats count once."""
MISMATCH = 1.5
DROP = 6.0
"""An extension ends where it lies so far below its best."""
SHIFT = 12
"""Bases by which the two arms of a hairpin may lie closer or wider than in the precursor."""
JUMP = 4.0
"""What such a shift, or a stretch without similarity, costs."""
_BREAK = 4


class Words(NamedTuple):
    """Known precursors and where each word stands in them, from `index_words`.

    Attributes
    ----------
    text : (n,) uint8
        All precursors in a row, ambiguous bases between and around them.
    owner : (n,) int32
        Number of the precursor at each place of the text.
    offsets : (4^11 + 1,) int32
        Where the places of each word begin, and the total at the end.
    places : (w,) int32
        Places in the text of the words' first bases, ascending for each word.
    precursors : int
        Number of precursors.
    """

    text: np.ndarray
    owner: np.ndarray
    offsets: np.ndarray
    places: np.ndarray
    precursors: int


@kernel()
def _words(text: np.ndarray) -> np.ndarray:
    """The word (int64) that begins at each place of a text; -1 where a base of it is ambiguous, or the text ends."""
    words = np.full(text.size, -1, dtype=np.int64)
    word = np.int64(0)
    length = 0
    for i in range(text.size):
        if text[i] >= 4:
            length = 0
            continue
        word = ((word << 2) | np.int64(text[i])) & ((1 << (2 * WORD)) - 1)
        length += 1
        if length >= WORD:
            words[i - WORD + 1] = word
    return words


def index_words(precursors: Sequence[np.ndarray]) -> Words:
    """Index the words of precursors.

    Parameters
    ----------
    precursors : sequence of (length,) uint8
        Codes, 5' to 3'. Words with an ambiguous or absent base are left out.
    """
    gap = np.full(1, _BREAK, dtype=np.uint8)
    text = np.concatenate([gap, *(part for codes in precursors for part in (codes, gap))])
    lengths = np.array([len(codes) + 1 for codes in precursors], dtype=np.int64)
    owner = np.concatenate([[0], np.repeat(np.arange(len(precursors)), lengths)]).astype(np.int32)
    words = _words(text)
    counts = np.bincount(words[words >= 0], minlength=4**WORD)
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int32)
    places = np.argsort(words, kind="stable")[text.size - offsets[-1] :].astype(np.int32)  # those without come first
    return Words(text, owner, offsets, places, len(precursors))


@kernel()
def _similarity(
    codes: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    minus: np.ndarray,
    text: np.ndarray,
    owner: np.ndarray,
    offsets: np.ndarray,
    places: np.ndarray,
    precursors: int,
    homology: np.ndarray,
    best: np.ndarray,
) -> None:
    longest = 0
    for h in range(starts.size):
        longest = max(longest, ends[h] - starts[h])
    bases = np.empty(longest, dtype=np.uint8)
    worth = np.empty(longest, dtype=np.float32)
    last_seen = np.full(4**NEW, -1, dtype=np.int64)
    # the best chain on each precursor: its score, where it ends in the hairpin, and how far the precursor is ahead
    score = np.zeros(precursors, dtype=np.float32)
    reached = np.zeros(precursors, dtype=np.int64)
    diagonal = np.zeros(precursors, dtype=np.int64)
    touched = np.empty(precursors, dtype=np.int64)
    for h in range(starts.size):
        length = ends[h] - starts[h]
        word = np.int64(0)
        known = 0
        for i in range(length):
            code = codes[ends[h] - 1 - i] if minus[h] else codes[starts[h] + i]
            if code < 4 and minus[h]:
                code = 3 - code
            bases[i] = code
            worth[i] = 1.0
            if code >= 4:
                known = 0
                continue
            word = ((word << 2) | np.int64(code)) & ((1 << (2 * NEW)) - 1)
            known += 1
            if known >= NEW:
                if last_seen[word] == h:
                    worth[i] = 0.0
                last_seen[word] = h
        count = 0
        word = np.int64(0)
        known = 0
        for end in range(1, length + 1):
            code = bases[end - 1]
            if code >= 4:
                known = 0
                continue
            word = ((word << 2) | np.int64(code)) & ((1 << (2 * WORD)) - 1)
            known += 1
            if known < WORD:
                continue
            start = end - WORD
            for k in range(offsets[word], offsets[word + 1]):
                place = places[k]
                if start > 0 and bases[start - 1] == text[place - 1] and text[place - 1] < 4:
                    continue  # the word before began the same stretch
                total = np.float32(0.0)
                for i in range(start, end):
                    total += worth[i]
                first, last = start, end
                run = total
                i, j = end, place + WORD
                while i < length and text[j] < 4 and run >= total - DROP:
                    run += worth[i] if bases[i] == text[j] else -np.float32(MISMATCH)
                    i += 1
                    j += 1
                    if run > total:
                        total, last = run, i
                run = total
                i, j = start - 1, place - 1
                while i >= 0 and text[j] < 4 and run >= total - DROP:
                    run += worth[i] if bases[i] == text[j] else -np.float32(MISMATCH)
                    if run > total:
                        total, first = run, i
                    i -= 1
                    j -= 1
                if total < WORD:
                    continue
                p = owner[place]
                ahead = place - start
                if score[p] == 0.0:
                    touched[count] = p
                    count += 1
                elif first >= reached[p] and abs(ahead - diagonal[p]) <= SHIFT:
                    total += max(np.float32(0.0), score[p] - np.float32(JUMP))
                if total > score[p]:
                    score[p], reached[p], diagonal[p] = total, last, ahead
        for k in range(count):
            p = touched[k]
            if score[p] > homology[h] or (score[p] == homology[h] and p < best[h]):
                homology[h], best[h] = score[p], p
            score[p] = 0.0


def similarity(
    codes: np.ndarray, starts: np.ndarray, ends: np.ndarray, minus: np.ndarray, words: Words
) -> tuple[np.ndarray, np.ndarray]:
    """How similar hairpins are, on their own strand, to the known precursor that each is most similar to.

    Every shared word of eleven bases is extended to both sides without gaps: a matching base counts 1, a mismatch
    -1.5. Stretches of one precursor that follow one another in the hairpin, and lie at most twelve bases nearer or
    further apart than there, are added up, less 4 for each step: the two arms around another loop. A base counts only
    where the word of five that ends in it is new in the hairpin, so a repeat cannot be similar to every other one.
    Ambiguous and absent bases match nothing.

    Parameters
    ----------
    codes : (n,) uint8
        Plus strand.
    starts, ends : (H,) int64
        0-based half-open.
    minus : (H,) bool
        Strand of each hairpin.
    words : Words

    Returns
    -------
    homology : (H,) float32
        In bases, multiples of a half; 0 without a stretch that counts at least 11.
    best : (H,) int32
        Number of that precursor, of equals the first; -1 without one.
    """
    homology = np.zeros(len(starts), dtype=np.float32)
    best = np.full(len(starts), -1, dtype=np.int32)
    columns = np.asarray(starts, np.int64), np.asarray(ends, np.int64), np.asarray(minus, np.bool_)
    _similarity(codes, *columns, *words, homology, best)
    return homology, best
