"""Rows of numbers → text, a column at a time: cells are matrices of bytes, zero bytes are dropped at the end."""

from __future__ import annotations

import numpy as np

_PLACES = 12
"""Decimal places of float32 scores from 0.0001 on: at most nine digits behind three zeros."""


def rows(*cells: bytes | np.ndarray) -> bytes:
    """Rows of text, concatenated.

    Parameters
    ----------
    cells : bytes or uint8 (n, width)
        From left to right; bytes are the same in every row. Zero bytes are blanks and vanish.
    """
    count = next(len(cell) for cell in cells if isinstance(cell, np.ndarray))
    columns = [
        cell if isinstance(cell, np.ndarray) else np.broadcast_to(np.frombuffer(cell, np.uint8), (count, len(cell)))
        for cell in cells
    ]
    return np.concatenate(columns, axis=1).tobytes().translate(None, b"\0")


def integers(numbers: np.ndarray) -> np.ndarray:
    """Numbers >= 0 (int64) as cells."""
    width = len(str(int(numbers.max(initial=0))))
    digits = _digits(numbers, width)
    leading = numbers[:, None] < 10 ** np.arange(width - 1, 0, -1)
    digits[:, :-1][leading] = 0
    return digits


def floats(values: np.ndarray) -> np.ndarray:
    """float32 numbers as cells: the shortest decimals that read back as the same float32."""
    usual = (values >= np.float32(1e-4)) & (values < 1)
    cells = np.zeros((len(values), _PLACES + 4), np.uint8)
    cells[usual, : _PLACES + 2] = _fractions(values[usual].astype(np.float64))
    text = values[~usual].astype(f"S{cells.shape[1]}")
    cells[~usual] = text.view(np.uint8).reshape(len(text), cells.shape[1])
    return cells


def _fractions(value: np.ndarray) -> np.ndarray:
    """``0.…`` of float32 numbers in [0.0001, 1), given as float64."""
    magnitude = np.floor(np.log10(value))
    places = np.zeros(len(value), np.int64)
    for digits in (9, 8, 7, 6):  # nine always suffice; a decimal of fewer than six is one of six that ends in zeros
        scale = 10.0 ** (digits - 1 - magnitude)
        mantissa = np.rint(value * scale)
        same = (mantissa / scale).astype(np.float32) == value
        places[same] = (mantissa * (10.0**_PLACES / scale))[same]
    cells = _digits(places, _PLACES)
    trailing = places[:, None] % 10 ** np.arange(_PLACES - 1, 0, -1) == 0
    cells[:, 1:][trailing] = 0
    point = np.broadcast_to(np.frombuffer(b"0.", np.uint8), (len(value), 2))
    return np.concatenate([point, cells], axis=1)


def _digits(numbers: np.ndarray, width: int) -> np.ndarray:
    """The last `width` decimal digits of int64 numbers, as ASCII (n, width)."""
    cells = np.empty((width, len(numbers)), np.uint8)
    for place in range(width - 1, -1, -1):
        left = numbers // 10
        cells[place] = numbers - 10 * left + ord("0")
        numbers = left
    return cells.T.copy()
