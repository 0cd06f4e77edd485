"""Letters to codes and back: A 0, C 1, G 2, T or U 3, any other letter 4 (ambiguous), 5 not a base (padding, masked)."""

import numpy as np

from mirscan.kernels._jit import kernel

AMBIGUOUS = 4
ABSENT = 5
"""Padding beyond a short sequence, or a soft-masked base under ``--soft-mask skip``: never scored."""

_INVALID = 255
LETTERS = np.frombuffer(b"ACGTN.", dtype=np.uint8)


def _table() -> np.ndarray:
    table = np.full(256, _INVALID, dtype=np.uint8)
    for letter in b"RYSWKMBDHVN":
        table[letter] = AMBIGUOUS
    for code, letters in enumerate((b"A", b"C", b"G", b"TU")):
        for letter in letters:
            table[letter] = code
    for letter in range(ord("A"), ord("Z") + 1):
        table[letter + 32] = table[letter]
    return table


CODE = _table()
"""uint8 (256,): the code of every byte; 255 where a byte is no IUPAC letter in either case."""
