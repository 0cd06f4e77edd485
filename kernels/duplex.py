"""A hairpin as its duplex: the two arms opposite each other, column by column, from its loop to its flanks.

Column by column a network sees what the cell's scissors see: how far it is from the loop, what pairs, what bulges, and
whether the stem goes on. Columns count from the loop: where a stem ends is doubtful, for the energy of a longer one is
lower by chance; where its loop is, is not.
"""

import numpy as np

from mirscan.kernels._jit import kernel

FLANK = 16
"""Bases beyond the stem on each side, opposite each other as if the stem went on."""
COLUMNS = 80
"""Columns of a duplex: loop, stem, flank. Of longer ones the outermost are left out."""

NOTHING, BEYOND, PAIRED, UNPAIRED, LOOP = range(5)
"""States of a column: unused, flank, base pair, bases of an interior loop or bulge, bases of the terminal loop."""
PAIRS, LOOP_BASES, GAPS, INTERIOR, LENGTH = range(5)
"""Columns of the counts: pairs, bases of the terminal loop, gaps, columns of interior loops, columns in all."""

_ABSENT = 5


@kernel()
def _put(out: np.ndarray, column: int, left: int, right: int, state: int) -> int:
    out[column, 0] = left
    out[column, 1] = right
    out[column, 2] = state
    return column + 1


@kernel()
def _align(
    codes: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    partners: np.ndarray,
    flank: int,
    duplexes: np.ndarray,
    counts: np.ndarray,
) -> None:
    out = np.empty((flank + partners.shape[1], 3), dtype=np.uint8)  # from the flank to the loop, as it is found
    for h in range(len(starts)):
        count = counts[h]
        start = starts[h]
        i = 0
        j = lengths[h] - 1
        for k in range(flank, 0, -1):
            left = codes[start - k] if start >= k else _ABSENT
            right = codes[start + j + k] if start + j + k < len(codes) else _ABSENT
            _put(out, flank - k, left, right, BEYOND)
        column = flank
        while True:
            column = _put(out, column, codes[start + i], codes[start + j], PAIRED)
            count[PAIRS] += 1
            p = i + 1
            while p < j and partners[h, p] < 0:
                p += 1
            closing = p == j
            q = i if closing else partners[h, p]  # of the terminal loop all bases are unpaired
            if closing:
                for k in range((j - i) // 2):
                    left = i + 1 + k
                    right = j - 1 - k
                    other = codes[start + right] if right > left else _ABSENT
                    column = _put(out, column, codes[start + left], other, LOOP)
                count[LOOP_BASES] = j - i - 1
                break
            before = p - i - 1
            after = j - q - 1
            for k in range(max(before, after)):
                left_base = codes[start + i + 1 + k] if k < before else _ABSENT
                right_base = codes[start + j - 1 - k] if k < after else _ABSENT
                column = _put(out, column, left_base, right_base, UNPAIRED)
            count[GAPS] += abs(before - after)
            count[INTERIOR] += max(before, after)
            i = p
            j = q
        count[LENGTH] = column - flank
        for k in range(min(column, duplexes.shape[1])):
            for part in range(3):  # one by one: for rows as wholes Numba compiles 4 s longer
                duplexes[h, k, part] = out[column - 1 - k, part]


def align_duplexes(
    codes: np.ndarray,
    starts: np.ndarray,
    lengths: np.ndarray,
    partners: np.ndarray,
    flank: int = FLANK,
    columns: int = COLUMNS,
) -> tuple[np.ndarray, np.ndarray]:
    """Lay the two arms of hairpins opposite each other, from the loop outwards.

    The terminal loop is folded in half; an odd middle base comes first and stands on the 5' side. Then come pair after
    pair and what lies between two pairs: bases of both sides opposite each other from the outer pair on, the rest of
    the longer side opposite gaps. The last ``flank`` columns are bases of the contig beyond the stem.

    Parameters
    ----------
    codes : (n,) uint8
        One strand.
    starts, lengths : (H,) int64
        5' ends and bases.
    partners : (H, at least max(lengths)) int16
        As from `mirscan.kernels.hairpins.trace_hairpins`; the end bases pair.
    flank, columns : int

    Returns
    -------
    duplexes : (H, columns, 3) uint8
        5' base, 3' base (5 where there is none: a gap, beyond the contig, an unused column), state.
    counts : (H, 5) int16
        Pairs, bases of the terminal loop, gaps, columns of interior loops and bulges, and columns from the loop to the
        last pair.
    """
    duplexes = np.empty((len(starts), columns, 3), dtype=np.uint8)
    duplexes[..., :2] = _ABSENT
    duplexes[..., 2] = NOTHING
    counts = np.zeros((len(starts), 5), dtype=np.int16)
    _align(codes, np.asarray(starts, np.int64), np.asarray(lengths, np.int64), partners, flank, duplexes, counts)
    return duplexes, counts


@kernel()
def _opposite(
    starts: np.ndarray,
    ends: np.ndarray,
    other_starts: np.ndarray,
    other_ends: np.ndarray,
    other_energies: np.ndarray,
    reach: int,
    out: np.ndarray,
) -> None:
    low = 0
    for h in range(len(starts)):
        centre = starts[h] + ends[h]
        while low < len(other_starts) and other_starts[low] + other_ends[low] < centre - 2 * reach:
            low += 1
        k = low
        while k < len(other_starts) and other_starts[k] + other_ends[k] <= centre + 2 * reach:
            overlap = min(ends[h], other_ends[k]) - max(starts[h], other_starts[k])
            if 2 * overlap >= ends[h] - starts[h] and other_energies[k] < out[h]:
                out[h] = other_energies[k]
            k += 1


def best_opposite(
    starts: np.ndarray, ends: np.ndarray, other_starts: np.ndarray, other_ends: np.ndarray, other_energies: np.ndarray
) -> np.ndarray:
    """Energy (float32, kcal/mol) of the best hairpin of the other strand that covers half of each; 0 without one.

    Both sets are in the order of their centres (``start + end``), in coordinates of the same strand.
    """
    out = np.zeros(len(starts), dtype=np.float32)
    reach = int(max((ends - starts).max(initial=0), (other_ends - other_starts).max(initial=0)))
    _opposite(starts, ends, other_starts, other_ends, other_energies, reach, out)
    return out


@kernel()
def _entropies(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray, out: np.ndarray) -> None:
    seen = np.zeros(64, dtype=np.int64)
    for h in range(len(starts)):
        seen[:] = 0
        total = 0
        for x in range(starts[h], ends[h] - 2):
            if codes[x] < 4 and codes[x + 1] < 4 and codes[x + 2] < 4:
                seen[np.int64(codes[x]) * 16 + np.int64(codes[x + 1]) * 4 + np.int64(codes[x + 2])] += 1
                total += 1
        entropy = 0.0
        for k in range(64):
            if seen[k] > 0:
                share = seen[k] / total
                entropy -= share * np.log2(share)
        out[h] = entropy


def trinucleotide_entropy(codes: np.ndarray, starts: np.ndarray, ends: np.ndarray) -> np.ndarray:
    """Shannon entropy (float32, bits, 0 to 6) of the overlapping trinucleotides of each ``codes[start:end]``."""
    out = np.zeros(len(starts), dtype=np.float32)
    _entropies(codes, np.asarray(starts, np.int64), np.asarray(ends, np.int64), out)
    return out
