"""kernels/bases.py against plain Python."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.bases import (
    ABSENT,
    AMBIGUOUS,
    CODE,
    MASKED_CODE,
    complement,
    decode,
    encode,
    first_invalid,
    reverse_complement,
)

IUPAC = "ACGTURYSWKMBDHVN"
VALID = IUPAC + IUPAC.lower()
CODES = st.lists(st.integers(0, 5), max_size=300).map(lambda codes: np.array(codes, dtype=np.uint8))


def letters(text: str) -> np.ndarray:
    return np.frombuffer(text.encode(), dtype=np.uint8)


def test_every_byte_has_the_right_code() -> None:
    for byte in range(256):
        letter = chr(byte)
        expected = {"A": 0, "C": 1, "G": 2, "T": 3, "U": 3}.get(letter.upper(), 4) if letter in VALID else 255
        assert CODE[byte] == expected, letter
        masked = ABSENT if letter in IUPAC.lower() else expected
        assert MASKED_CODE[byte] == masked, letter


@settings(deadline=None, max_examples=50)
@given(st.text(alphabet=VALID, max_size=300))
def test_encode_is_the_table_and_decode_undoes_it(text: str) -> None:
    codes = encode(letters(text))
    assert codes.dtype == np.uint8
    assert codes.tolist() == [int(CODE[ord(letter)]) for letter in text]
    assert decode(codes).decode() == "".join("ACGTN"[CODE[ord(letter)]] for letter in text)


def test_encode_under_a_mask() -> None:
    assert encode(letters("AcgNRn"), MASKED_CODE).tolist() == [0, ABSENT, ABSENT, AMBIGUOUS, AMBIGUOUS, ABSENT]


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=60))
def test_first_invalid_finds_the_first(data: bytes) -> None:
    expected = next((i for i, byte in enumerate(data) if chr(byte) not in VALID), -1)
    array = np.frombuffer(data, dtype=np.uint8)
    assert first_invalid(array) == expected
    if expected >= 0:
        with pytest.raises(ValueError, match=f"position {expected}$"):
            encode(array)


def test_decode_refuses_a_code_that_is_none() -> None:
    assert decode(np.array([0, 1, 2, 3, 4, 5], dtype=np.uint8)) == b"ACGTN."
    with pytest.raises(ValueError, match="code 6"):
        decode(np.array([0, 6], dtype=np.uint8))


@settings(deadline=None, max_examples=50)
@given(CODES)
def test_complement_and_its_reverse(codes: np.ndarray) -> None:
    expected = [{0: 3, 1: 2, 2: 1, 3: 0}.get(code, code) for code in codes.tolist()]
    assert complement(codes).tolist() == expected
    assert reverse_complement(codes).tolist() == expected[::-1]
    assert np.array_equal(reverse_complement(reverse_complement(codes)), codes)


def test_reverse_complement_of_rows_works_along_the_last_axis() -> None:
    codes = np.random.default_rng(0).integers(0, 6, size=(2, 3, 7)).astype(np.uint8)
    for row in np.ndindex(2, 3):
        assert np.array_equal(reverse_complement(codes)[row], reverse_complement(codes[row]))
    strided = codes[..., ::2]
    assert np.array_equal(complement(strided), complement(strided.copy()))
    assert reverse_complement(np.empty((0, 7), dtype=np.uint8)).shape == (0, 7)
    assert reverse_complement(np.empty((3, 0), dtype=np.uint8)).shape == (3, 0)
