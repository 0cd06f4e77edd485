"""kernels/windows.py against plain Python."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.windows import cut, one_hot, scorable

BASES = st.lists(st.integers(0, 5), min_size=1, max_size=120)


@st.composite
def stretches(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray, int]:
    """Codes, starts in any order, and a window that fits."""
    runs = draw(st.lists(st.tuples(st.integers(0, 5), st.integers(1, 12)), min_size=1, max_size=20))
    codes = np.array([code for code, times in runs for _ in range(times)], dtype=np.uint8)
    window = draw(st.integers(1, len(codes)))
    starts = draw(st.lists(st.integers(0, len(codes) - window), max_size=30))
    if draw(st.booleans()):
        starts.sort()
    return codes, np.array(starts, dtype=np.int64), window


@settings(deadline=None, max_examples=200)
@given(stretches(), st.sampled_from([4, 5]))
def test_scorable(stretch: tuple[np.ndarray, np.ndarray, int], limit: int) -> None:
    codes, starts, window = stretch
    rows = [codes[s : s + window].tolist() for s in starts]
    expected = [max(row) < limit and min(row) < 4 for row in rows]
    found = scorable(codes, starts, window, limit)
    assert found.dtype == np.bool_
    assert found.tolist() == expected


@settings(deadline=None, max_examples=100)
@given(stretches(), st.data())
def test_cut(stretch: tuple[np.ndarray, np.ndarray, int], data: st.DataObject) -> None:
    codes, starts, window = stretch
    flags = data.draw(st.lists(st.booleans(), min_size=len(starts), max_size=len(starts)))
    partner = [3, 2, 1, 0, 4, 5]
    expected = []
    for start, reverse in zip(starts, flags, strict=True):
        row = codes[start : start + window].tolist()
        expected.append([partner[code] for code in reversed(row)] if reverse else row)
    before = codes.copy()
    found = cut(codes, starts, np.array(flags, dtype=bool), window)
    assert found.dtype == np.uint8
    assert found.shape == (len(starts), window)
    assert found.tolist() == expected
    assert np.array_equal(codes, before)


@settings(deadline=None, max_examples=50)
@given(BASES, st.integers(1, 4))
def test_one_hot(bases: list[int], rows: int) -> None:
    codes = np.array([bases] * rows, dtype=np.uint8)
    expected = [[[float(code == base) for base in range(4)] for code in row] for row in codes]
    found = one_hot(codes)
    assert found.dtype == np.float32
    assert found.tolist() == expected
    out = np.full((*codes.shape, 4), np.nan, dtype=np.float32)
    assert one_hot(codes, out) is out
    assert out.tolist() == expected


def test_arrays_that_are_no_blocks_of_memory() -> None:
    codes = np.random.default_rng(0).integers(0, 6, 400, dtype=np.uint8)
    starts, minus = np.arange(0, 200, 5), np.arange(40) % 3 == 0
    spaced = np.repeat(codes, 2)[::2]
    assert not spaced.flags.c_contiguous
    args = np.repeat(starts, 2)[::2], np.repeat(minus, 2)[::2]
    np.testing.assert_array_equal(cut(spaced, *args, 30), cut(codes, starts, minus, 30))
    np.testing.assert_array_equal(scorable(spaced, args[0], 30, 4), scorable(codes, starts, 30, 4))
    block = codes.reshape(20, 20)
    np.testing.assert_array_equal(one_hot(block[:, ::2]), one_hot(block)[:, ::2])


def test_no_windows() -> None:
    codes, none = np.zeros(5, dtype=np.uint8), np.empty(0, dtype=np.int64)
    assert scorable(codes, none, 100, 4).shape == (0,)
    assert cut(codes, none, np.empty(0, dtype=bool), 100).shape == (0, 100)
    assert one_hot(np.empty((0, 100), dtype=np.uint8)).shape == (0, 100, 4)


@pytest.mark.parametrize("start", [-1, 91])
def test_windows_outside_are_refused(start: int) -> None:
    codes, starts = np.zeros(100, dtype=np.uint8), np.array([0, start], dtype=np.int64)
    with pytest.raises(ValueError, match="100 bases"):
        scorable(codes, starts, 10, 4)
    with pytest.raises(ValueError, match="100 bases"):
        cut(codes, starts, np.zeros(2, dtype=bool), 10)
    with pytest.raises(ValueError, match="1 windows and 2 strands"):
        cut(codes, starts[:1], np.zeros(2, dtype=bool), 10)


@pytest.mark.parametrize(
    "out",
    [
        np.empty((2, 3, 4)),
        np.empty((3, 2, 4), dtype=np.float32),
        np.empty((2, 3, 8), dtype=np.float32)[..., ::2],
    ],
)
def test_a_buffer_that_does_not_fit_is_refused(out: np.ndarray) -> None:
    with pytest.raises(ValueError, match="contiguous float32"):
        one_hot(np.zeros((2, 3), dtype=np.uint8), out)
