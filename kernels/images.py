"""A hairpin as a picture: its two arms as rows of coloured bars, the tip of the terminal loop at the left.

The input of the networks of DeepMir (Cordero et al. 2019, bioRxiv 840579). These rules are what the published images
obey, pixel for pixel:

1. The central loop is the terminal loop whose opening bracket, or the base behind whose closing bracket, is nearest to
   base ``length // 2``; of equals the 5' one. A molecule without a terminal loop has no image.
2. The 5' arm runs from the 5' end to the end of that loop, the 3' arm from the 3' end back to the loop's start: the
   loop stands in both.
3. Columns are laid from the open ends inwards: two unpaired bases share one, an unpaired base opposite a bracket stands
   opposite a gap, two brackets share one whether they pair or not. They end with the shorter arm. So side hairpins
   shift the register, and of a multiloop the part near the central loop may be lost.
4. The last column is drawn first, at the left. Of more than 100 columns the open end is lost.
5. A base is a bar, of the 5' arm from row 12 upwards, of the 3' arm from row 13 downwards: A yellow, C blue, G red,
   U green, a gap or an ambiguous letter black.
6. A bar is 2 pixels high at G-C, 3 at A-U, 4 at G-U, 5 at any other two letters, paired or not, and 2 at a gap. An
   unpaired base adds to its own bar twice its place in the run of unpaired bases, counted from the left, or, where the
   place is beyond half the sum of the run's two ends, twice what is left of that sum. This makes a triangle of the
   terminal loop, where the sum is the run's length, and mostly saw teeth of other runs. The edge cuts bars off.
"""

import numpy as np

from mirscan.kernels._jit import kernel

ROWS, COLUMNS = 25, 100
"""Pixels of an image."""

_UPPER = 13  # rows for the 5' arm, above those for the 3' arm
_AMBIGUOUS, _GAP = 4, 5  # beside the codes of bases
_COLOURS = np.array([(255, 255, 0), (0, 0, 255), (255, 0, 0), (0, 255, 0), (0, 0, 0), (0, 0, 0)], dtype=np.uint8)


def _heights() -> np.ndarray:
    """Pixels of a bar by the two codes of its column, (6, 6), without what an unpaired base adds."""
    heights = np.full((6, 6), 5)
    heights[_GAP] = heights[:, _GAP] = 2
    for left, right, height in ((1, 2, 2), (0, 3, 3), (2, 3, 4)):
        heights[left, right] = heights[right, left] = height
    return heights


_HEIGHTS = _heights()


@kernel()
def _central_loop(partners: np.ndarray, row: int, length: int) -> tuple[int, int]:
    """Places of the two brackets around the central loop; -1 and -1 without one."""
    middle = length // 2
    nearest = length
    first = last = opened = -1
    for i in range(length):
        if partners[row, i] > i:
            opened = i
        elif partners[row, i] >= 0:
            distance = min(abs(opened - middle), abs(i + 1 - middle))
            if 0 <= opened < i - 1 and distance < nearest:
                nearest = distance
                first = opened
                last = i
            opened = -1
    return first, last


@kernel()
def _align(partners: np.ndarray, row: int, length: int, first: int, last: int, arms: np.ndarray) -> int:
    """Fill ``arms`` from its end with the places of both arms' bases, -1 for a gap; the first column filled."""
    i = 0
    j = length - 1
    column = arms.shape[1]
    while i < last and j > first:
        column -= 1
        arms[:, column] = -1
        open5 = partners[row, i] < 0
        open3 = partners[row, j] < 0
        if open5 or not open3:
            arms[0, column] = i
            i += 1
        if open3 or not open5:
            arms[1, column] = j
            j -= 1
    return column


@kernel()
def _letter(codes: np.ndarray, row: int, place: int) -> int:
    return min(codes[row, place], _AMBIGUOUS) if place >= 0 else _GAP


@kernel()
def _bars(codes: np.ndarray, partners: np.ndarray, row: int, arms: np.ndarray, side: int, image: np.ndarray) -> None:
    columns = arms.shape[1]
    start = end = 0  # of the run of unpaired bases that x stands in or has left behind
    for x in range(min(columns, COLUMNS)):
        if x >= end:
            start = end = x
            while end < columns and arms[side, end] >= 0 and partners[row, arms[side, end]] < 0:
                end += 1
        letter = _letter(codes, row, arms[side, x])
        height = _HEIGHTS[letter, _letter(codes, row, arms[1 - side, x])]
        if x < end:
            place = x - start + 1
            both = start + end
            height += 2 * (place if place <= both // 2 else max(0, both - place + 1))
        top = max(0, _UPPER - height) if side == 0 else _UPPER
        bottom = _UPPER if side == 0 else min(ROWS, _UPPER + height)
        for y in range(top, bottom):
            for channel in range(3):
                image[y, x, channel] = _COLOURS[letter, channel]


@kernel()
def _draw(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray, images: np.ndarray, drawn: np.ndarray) -> None:
    scratch = np.empty((2, 2 * codes.shape[1]), dtype=np.int64)  # every column has a base of one of the arms
    for row in range(len(lengths)):
        first, last = _central_loop(partners, row, lengths[row])
        drawn[row] = first >= 0
        if drawn[row]:
            arms = scratch[:, _align(partners, row, lengths[row], first, last, scratch) :]
            for side in range(2):
                _bars(codes, partners, row, arms, side, images[row])


def hairpin_images(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draw molecules.

    Parameters
    ----------
    codes : (B, L) uint8
        5' to 3' from column 0 on. Ambiguous letters are black and pair with nothing; the published images hold none.
    lengths : (B,) int64
        Bases of each.
    partners : (B, L) int16
        Column of the base that each base pairs with, -1 where it is unpaired.

    Returns
    -------
    images : (B, 25, 100, 3) uint8
        Rows from the top, columns from the terminal loop outwards, red, green, blue; white where nothing is drawn.
    drawn : (B,) bool
        Which molecules have a terminal loop; the images of others are white.

    Raises
    ------
    ValueError
        If the shapes do not fit, or a length leaves the tables.
    """
    if codes.ndim != 2 or partners.shape != codes.shape or np.shape(lengths) != codes.shape[:1]:
        raise ValueError(f"codes {codes.shape}, lengths {np.shape(lengths)} and partners {partners.shape} do not fit")
    lengths = np.ascontiguousarray(lengths, dtype=np.int64)
    if len(lengths) and not 0 <= lengths.min() <= lengths.max() <= codes.shape[1]:
        raise ValueError(f"lengths {lengths.min()} ... {lengths.max()} leave tables of {codes.shape[1]} columns")
    images = np.full((len(codes), ROWS, COLUMNS, 3), 255, dtype=np.uint8)
    drawn = np.zeros(len(codes), dtype=np.bool_)
    _draw(np.ascontiguousarray(codes), lengths, np.ascontiguousarray(partners), images, drawn)
    return images, drawn
