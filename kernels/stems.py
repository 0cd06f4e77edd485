"""Structures as tables of pairs, and the alphabets in which published networks read them.

Rows are molecules as in `mirscan.types.Molecules`: codes 5' to 3' from column 0 on, and for each base the column of its
partner. What is made of a row depends on that row alone, and not on the columns beyond its end. Every function raises a
`ValueError` where the shapes of its tables differ or a length leaves them.
"""

from collections.abc import Sequence

import numpy as np

from mirscan.kernels._jit import kernel

OPEN, CLOSE, UNPAIRED, LOOP = 0, 1, 2, 3
"""Marks: pairs downstream, pairs upstream, unpaired, unpaired in a terminal loop."""

_BEYOND = 255  # mark beyond the end of a molecule
_BRACKETS = np.array([1, 3, 2, 2], dtype=np.uint8)  # of a mark: 1 '(', 2 '.', 3 ')'
_LEFT, _RIGHT, _DOT = b"()."


@kernel()
def _pair(letters: np.ndarray, ends: np.ndarray, partners: np.ndarray) -> int:
    """Fill the table; the first letter that is foreign or has no partner, -1 where there is none."""
    opened = np.empty(partners.shape[1], dtype=np.int64)
    start = 0
    for row in range(len(ends)):
        depth = 0
        for i in range(ends[row] - start):
            letter = letters[start + i]
            if letter == _LEFT:
                opened[depth] = i
                depth += 1
            elif letter == _RIGHT and depth > 0:
                depth -= 1
                partners[row, i] = opened[depth]
                partners[row, opened[depth]] = i
            elif letter != _DOT:
                return start + i
        if depth > 0:
            return start + opened[depth - 1]
        start = ends[row]
    return -1


def pair_table(structures: Sequence[str], width: int | None = None) -> np.ndarray:
    """Partner of every base of structures in dot-bracket notation.

    Parameters
    ----------
    structures : sequence of str
        Of ``(``, ``)`` and ``.`` alone.
    width : int, optional
        Columns of the table; the longest structure without.

    Returns
    -------
    (B, width) int16
        -1 where a base is unpaired, and beyond the end.

    Raises
    ------
    ValueError
        If a structure holds another letter or a bracket without a partner (the message names the row and the place,
        both from 0 on), or is longer than ``width`` or than int16 can count.
    """
    lengths = np.array([len(structure) for structure in structures], dtype=np.int64)
    longest = int(lengths.max(initial=0))
    width = longest if width is None else width
    if not longest <= width <= np.iinfo(np.int16).max:
        raise ValueError(f"a structure of {longest} bases does not fit a table of {width} columns")
    ends = lengths.cumsum()
    partners = np.full((len(structures), width), -1, dtype=np.int16)
    letters = np.frombuffer("".join(structures).encode("ascii", "replace"), dtype=np.uint8)
    wrong = int(_pair(letters, ends, partners))
    if wrong >= 0:
        row = int(ends.searchsorted(wrong, side="right"))
        place = wrong - int(ends[row] - lengths[row])
        what = "has no partner" if letters[wrong] in (_LEFT, _RIGHT) else "is no ( ) or ."
        raise ValueError(f"structure {row}: {structures[row][place]!r} at place {place} {what}")
    return partners


@kernel()
def _mark(lengths: np.ndarray, partners: np.ndarray, out: np.ndarray) -> None:
    for row in range(len(lengths)):
        opened = -1  # place of an opening bracket that only dots have followed
        for i in range(lengths[row]):
            partner = partners[row, i]
            if partner < 0:
                out[row, i] = UNPAIRED
            elif partner > i:
                out[row, i] = OPEN
                opened = i
            else:
                out[row, i] = CLOSE
                if opened >= 0:
                    out[row, opened + 1 : i] = LOOP
                opened = -1


def marks(lengths: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Mark of every base: `OPEN`, `CLOSE`, `UNPAIRED`, or `LOOP` for an unpaired base of a terminal loop.

    Terminal loops are the runs of dots directly between an opening and a closing bracket, in multiloops too.

    Parameters
    ----------
    lengths : (B,) int64
        Bases of each molecule.
    partners : (B, L) int16

    Returns
    -------
    (B, L) uint8
        255 beyond the end.
    """
    lengths, partners = _rows(lengths, partners)
    out = np.full(partners.shape, _BEYOND, dtype=np.uint8)
    _mark(lengths, partners, out)
    return out


@kernel()
def _copy_right(values: np.ndarray, firsts: np.ndarray, step: int, counts: np.ndarray, out: np.ndarray) -> None:
    """The value at ``firsts`` becomes the last of a row, the next one, ``step`` further on, the one before it."""
    width = out.shape[1]
    for row in range(len(counts)):
        for k in range(min(counts[row], width)):
            out[row, width - 1 - k] = values[row, firsts[row] + step * k]


def aligned_right(values: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Rows of values (B, L) uint8, moved to the right end of ``width`` columns.

    This is Keras's way with sequences: zeros before a short one, and of a long one the last ``width`` values.
    """
    lengths, values = _rows(lengths, values)
    out = np.zeros((len(values), width), dtype=np.uint8)
    _copy_right(values, lengths - 1, -1, lengths, out)
    return out


def bases_right(codes: np.ndarray, lengths: np.ndarray, width: int) -> np.ndarray:
    """Bases (B, width) uint8, right aligned: 1 A or an ambiguous letter, 2 C, 3 G, 4 U; 0 is padding."""
    return aligned_right(1 + _bases(codes), lengths, width)


def structure_right(lengths: np.ndarray, partners: np.ndarray, width: int) -> np.ndarray:
    """Structures (B, width) uint8, right aligned: 1 ``(``, 2 ``.``, 3 ``)``; 0 is padding."""
    return aligned_right(_BRACKETS.take(marks(lengths, partners), mode="clip"), lengths, width)


def symbols(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray, width: int) -> np.ndarray:
    """Base and mark of each position as one of 16 symbols, ``1 + 4 * base + mark``.

    The input of deepMiRGene (Park et al. 2017), where any letter but C, G and U counts as A. The marks are those of
    the whole molecule, of which the last ``width`` bases are kept.

    Parameters
    ----------
    codes : (B, L) uint8
    lengths : (B,) int64
    partners : (B, L) int16
    width : int
        Published: 400. With fewer columns a molecule that fits them has the same symbols and less padding.

    Returns
    -------
    (B, width) uint8
        Right aligned; 0 is padding.
    """
    lengths, codes, partners = _rows(lengths, codes, partners)
    return aligned_right(1 + 4 * _bases(codes) + marks(lengths, partners) % 4, lengths, width)


@kernel()
def _centre(lengths: np.ndarray, marked: np.ndarray, out: np.ndarray) -> None:
    for row in range(len(lengths)):
        first = -1
        end = lengths[row]
        for i in range(lengths[row]):
            if marked[row, i] == LOOP:
                first = i if first < 0 else first
                end = i + 1
        out[row] = (max(first, 0) + end) // 2


def loop_centres(lengths: np.ndarray, partners: np.ndarray) -> np.ndarray:
    """Where each molecule is split into its arms, (B,) int64: bases of the forward arm.

    That is half-way from the first base of the 5'-most terminal loop to the last one of the 3'-most, which are mostly
    the same loop; without any loop it is the middle of the molecule. The paper (Park et al. 2016, arXiv:1605.00017)
    leaves open what an odd middle base and a molecule without a loop do: here the base goes to the backward arm.
    """
    lengths, partners = _rows(lengths, partners)
    centres = np.empty(len(lengths), dtype=np.int64)
    _centre(lengths, marks(lengths, partners), centres)
    return centres


def flipped_arms(lengths: np.ndarray, partners: np.ndarray, width: int) -> tuple[np.ndarray, np.ndarray]:
    """The structure's two arms, split at the loop's centre and the second one flipped, so that both end in the loop.

    The input of deepMiRGene of 2016 (Park et al., arXiv:1605.00017). The paper names neither length nor side of the
    padding, nor what becomes of longer arms: here padding comes first and an arm keeps what is nearest to the loop.

    Parameters
    ----------
    lengths : (B,) int64
    partners : (B, L) int16
    width : int

    Returns
    -------
    forward, backward : (B, width) uint8
        5' end to centre, and 3' end to centre: 1 ``(``, 2 ``.``, 3 ``)``, right aligned; 0 is padding. A bracket
        keeps its direction when it is flipped.
    """
    lengths, partners = _rows(lengths, partners)
    brackets = _BRACKETS.take(marks(lengths, partners), mode="clip")
    centres = loop_centres(lengths, partners)
    forward, backward = np.zeros((2, len(lengths), width), dtype=np.uint8)
    _copy_right(brackets, centres - 1, -1, centres, forward)
    _copy_right(brackets, centres, 1, lengths - centres, backward)
    return forward, backward


@kernel()
def _number(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray, out: np.ndarray) -> None:
    width = out.shape[1]
    for row in range(len(lengths)):
        left = max(0, width - lengths[row]) // 2
        cut = max(0, lengths[row] - width) // 2
        for k in range(min(lengths[row], width)):
            code = codes[row, cut + k]
            for base in range(4):
                out[row, left + k, base] = code == base if code < 4 else 0.25
            partner = partners[row, cut + k]
            if partner >= 0:
                out[row, left + k, 4] = 1 if partner > cut + k else -1


def nucleotide_numbers(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray, width: int) -> np.ndarray:
    """Each base as five fixed numbers: its shares of A, C, G and U, and its side of a pair.

    The embedding of mirDNN (Yones et al. 2021), except for ambiguous letters: published, a sequence ends before its
    first n; here the letter stands for a quarter of each base, as in the row for n of the published table.

    Parameters
    ----------
    codes : (B, L) uint8
    lengths : (B,) int64
    partners : (B, L) int16
    width : int
        Published: 160 for animals, 320 for plants.

    Returns
    -------
    (B, width, 5) float32
        The last number is +1 where a base pairs downstream, -1 upstream, 0 where it is unpaired. Molecules are
        centred, and of longer ones the middle is kept; an odd column more, of padding or cut, is on the right.
    """
    lengths, codes, partners = _rows(lengths, codes, partners)
    out = np.zeros((len(codes), width, 5), dtype=np.float32)
    _number(codes, lengths, partners, out)
    return out


def _bases(codes: np.ndarray) -> np.ndarray:
    return np.where(codes < 4, codes, np.uint8(0))


def _rows(lengths: np.ndarray, *tables: np.ndarray) -> tuple[np.ndarray, ...]:
    """Lengths and tables as the kernels want them."""
    shape = tables[0].shape
    if len(shape) != 2 or any(table.shape != shape for table in tables) or np.shape(lengths) != shape[:1]:
        raise ValueError(f"lengths {np.shape(lengths)} and tables {[table.shape for table in tables]} do not fit")
    lengths = np.ascontiguousarray(lengths, dtype=np.int64)
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= shape[1]:
        raise ValueError(f"lengths {lengths.min()} ... {lengths.max()} leave tables of {shape[1]} columns")
    return lengths, *(np.ascontiguousarray(table) for table in tables)
