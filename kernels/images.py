"""A hairpin as a picture: its two arms as rows of coloured bars, the terminal loop on the left.

The picture of DeepMir (Cordero et al.). The page of the paper that defines it is short; the rules below are those that
its published images obey, pixel for pixel.

1. The central loop is the terminal loop whose opening bracket, or the base behind whose closing bracket, is nearest to
   ``length // 2``; of equals the 5' one. A molecule without a terminal loop has no image.
2. The 5' arm runs from the 5' end to the end of that loop, the 3' arm from the 3' end back to its start, so the loop
   stands in both.
3. Columns are laid from the open ends inwards: two unpaired bases share one, an unpaired base before a bracket stands
   opposite a gap, two brackets share one whether or not they are a pair. They end with the shorter arm: side hairpins
   shift the register, and of a multiloop what is next to the loop may be lost.
4. The last column is drawn first, at the left. A molecule of more than 100 columns loses its open end.
5. Each base is a bar of its colour: of the 5' arm from row 12 upwards, of the 3' arm from row 13 downwards.
6. A bar is 1 pixel, and 1 (G-C), 2 (A-U), 3 (G-U), 4 (other letters) or 1 (a gap on either side), and what an unpaired
   base adds, cut at the edge. That is twice its distance to the last paired column before it; from half the sum of the
   columns on both sides on, it falls again: a triangle over the terminal loop, saw teeth in inner loops.
"""

import numpy as np

from mirscan.kernels._jit import kernel

ROWS, COLUMNS = 25, 100
"""Pixels of an image."""

_MIDDLE = 12  # row in which bars of the 5' arm begin
_GAP = 5  # beside the codes of bases, of which 4 is any ambiguous letter
_COLOURS = np.array(
    [(255, 255, 0), (0, 0, 255), (255, 0, 0), (0, 255, 0), (0, 0, 0), (0, 0, 0)], dtype=np.uint8
)  # A yellow, C blue, G red, U green


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
    """Places of the brackets around the central loop; -1, -1 without one."""
    nearest = length + 1
    first, last = -1, -1
    opened = -1
    for i in range(length):
        partner = partners[row, i]
        if partner > i:
            opened = i
        elif partner >= 0:
            if 0 <= opened < i - 1:
                distance = min(abs(opened - length // 2), abs(i + 1 - length // 2))
                if distance < nearest:
                    nearest = distance
                    first, last = opened, i
            opened = -1
    return first, last


@kernel()
def _align(partners: np.ndarray, row: int, length: int, first: int, last: int, arms: np.ndarray) -> int:
    """Places of the bases of both arms by column, from the open ends on, -1 for a gap; how many columns there are."""
    i, j = 0, length - 1
    column = 0
    while i < last and j > first:
        left = partners[row, i] >= 0
        right = partners[row, j] >= 0
        both = left == right
        arms[0, column] = i if both or right else -1
        arms[1, column] = j if both or left else -1
        i += both or right
        j -= both or left
        column += 1
    return column


@kernel()
def _draw(codes: np.ndarray, lengths: np.ndarray, partners: np.ndarray, images: np.ndarray, drawn: np.ndarray) -> None:
    arms = np.empty((2, 2 * partners.shape[1]), dtype=np.int64)
    pair = np.empty((2, COLUMNS), dtype=np.int64)
