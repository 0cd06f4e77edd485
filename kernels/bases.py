"""Letters to codes and back: A 0, C 1, G 2, T or U 3, any other letter 4 (ambiguous), 5 no base (padding, masked)."""

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

MASKED_CODE = CODE.copy()
"""As `CODE`, but soft-masked (lower-case) letters are `ABSENT`."""
MASKED_CODE[ord("a") : ord("z") + 1] = np.where(CODE[ord("a") : ord("z") + 1] == _INVALID, _INVALID, ABSENT)


@kernel()
def _look_up(table: np.ndarray, values: np.ndarray, out: np.ndarray) -> int:
    highest = 0
    for i in range(values.size):
        out[i] = table[values[i]]
        highest = max(highest, out[i])
    return highest


@kernel()
def _complement(codes: np.ndarray, reverse: bool, out: np.ndarray) -> None:
    rows, length = codes.shape
    for row in range(rows):
        for i in range(length):
            code = codes[row, length - 1 - i] if reverse else codes[row, i]
            out[row, i] = 3 - code if code < AMBIGUOUS else code


@kernel()
def _first_invalid(table: np.ndarray, letters: np.ndarray) -> int:
    for i in range(letters.size):
        if table[letters[i]] == _INVALID:
            return i
    return -1


def first_invalid(letters: np.ndarray) -> int:
    """Position of the first byte that is no base and no IUPAC code; -1 where there is none.

    Parameters
    ----------
    letters : np.ndarray
        uint8 (length,), ASCII.
    """
    return int(_first_invalid(CODE, letters))


def encode(letters: np.ndarray, table: np.ndarray = CODE) -> np.ndarray:
    """Codes of ASCII letters in either case.

    Parameters
    ----------
    letters : np.ndarray
        uint8 (length,), ASCII.
    table : np.ndarray
        uint8 (256,): `CODE`, or `MASKED_CODE` to make lower-case letters `ABSENT`.

    Returns
    -------
    np.ndarray
        uint8 (length,), 0 to 5.

    Raises
    ------
    ValueError
        If a byte is no base and no IUPAC code; the message names it and its position.
    """
    codes = np.empty(letters.shape, dtype=np.uint8)
    if _look_up(table, letters, codes) == _INVALID:
        position = first_invalid(letters)
        raise ValueError(f"no base or IUPAC code: {chr(letters[position])!r} at position {position}")
    return codes


def decode(codes: np.ndarray) -> bytes:
    """ASCII letters of uint8 codes (length,): A C G T, N where ambiguous, a dot where absent.

    Raises
    ------
    ValueError
        If a code is above 5.
    """
    try:
        return LETTERS[codes].tobytes()
    except IndexError:
        raise ValueError(f"no base has the code {int(codes.max())}") from None


def complement(codes: np.ndarray) -> np.ndarray:
    """Complement of uint8 codes, any shape: A with T, C with G; ambiguous and absent stay what they are."""
    return _strand(codes, reverse=False)


def reverse_complement(codes: np.ndarray) -> np.ndarray:
    """Reverse complement of uint8 codes (..., length) along the last axis; ambiguous and absent stay what they are."""
    return _strand(codes, reverse=True)


def _strand(codes: np.ndarray, reverse: bool) -> np.ndarray:
    rows = np.ascontiguousarray(codes).reshape(-1, codes.shape[-1]) if codes.size else codes.reshape(0, 0)
    out = np.empty(codes.shape, dtype=np.uint8)
    _complement(rows, reverse, out.reshape(rows.shape))
    return out
