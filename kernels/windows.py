"""Windows of a contig: which can be scored, their codes on both strands, one-hot."""

import numpy as np

from mirscan.kernels._jit import kernel


def scorable(codes: np.ndarray, starts: np.ndarray, window: int, limit: int) -> np.ndarray:
    """Which windows hold no code of ``limit`` or more.

    Parameters
    ----------
    codes : uint8 (bases,)
    starts : int64 (windows,)
        Each start, plus ``window``, lies within ``codes``.
    limit : int
        4 to reject ambiguous and absent bases, 5 to reject absent ones only; a window of nothing but ambiguous
        bases is rejected in any case.

    Returns
    -------
    bool (windows,)
    """
    if len(starts) and (starts.min() < 0 or starts.max() + window > len(codes)):
        raise ValueError(f"windows {starts.min()} ... {starts.max() + window} leave a stretch of {len(codes)} bases")
    return _scorable(np.ascontiguousarray(codes), np.ascontiguousarray(starts), window, limit)


def cut(codes: np.ndarray, starts: np.ndarray, minus: np.ndarray, window: int) -> np.ndarray:
    """Codes of windows on their strands.

    Parameters
    ----------
    codes : uint8 (bases,)
    starts : int64 (rows,)
        Each start, plus ``window``, lies within ``codes``.
    minus : bool (rows,)
        Which rows are reverse complemented.

    Returns
    -------
    uint8 (rows, window)
    """
    if not len(starts) == len(minus) or (len(starts) and (starts.min() < 0 or starts.max() + window > len(codes))):
        raise ValueError(f"{len(starts)} windows and {len(minus)} strands do not fit a stretch of {len(codes)} bases")
    out = np.empty((len(starts), window), dtype=np.uint8)
    codes, places = np.ascontiguousarray(codes), starts
    if minus.any():
        # Windows overlap: one reverse complement of the stretch, then every row is a plain copy.
        codes, places = _both_strands(codes), np.where(minus, 2 * len(codes) - starts - window, starts)
    _copy(codes, np.ascontiguousarray(places, dtype=np.uint64), out)
    return out


def one_hot(codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """One-hot of codes, float32 (rows, window, 4) in the order A, C, G, T/U; other codes are four zeros.

    For CPU pipelines and training; scans send codes to the device and expand them there. ``out`` is filled where it
    is given: a buffer that is used again is several times faster than a new one.
    """
    if out is None:
        out = np.empty((*codes.shape, 4), dtype=np.float32)
    if out.shape != (*codes.shape, 4) or out.dtype != np.float32 or not out.flags.c_contiguous:
        raise ValueError(f"out is {out.dtype} {out.shape}, needed is contiguous float32 {(*codes.shape, 4)}")
    _one_hot(np.ascontiguousarray(codes).reshape(-1), out.reshape(-1))
    return out


@kernel()
def _scorable(codes: np.ndarray, starts: np.ndarray, window: int, limit: int) -> np.ndarray:
    good = np.empty(len(starts), dtype=np.bool_)
    counted_to, bad_until, base_at = 0, -1, -1
    # a sweep: bad_until is the last rejected base seen, base_at the last real one (starts ascend within a contig)
    for w in range(len(starts)):
        start, end = starts[w], starts[w] + window
        if w > 0 and start < starts[w - 1]:
            counted_to, bad_until, base_at = start, -1, -1
        for i in range(max(counted_to, start), end):
            if codes[i] >= limit:
                bad_until = i
            if codes[i] < 4:
                base_at = i
        counted_to = max(counted_to, end)
        good[w] = bad_until < start and base_at >= start
    return good


# Unsigned places below: there is no negative index to think of, so loops run in vector registers.


@kernel()
def _both_strands(codes: np.ndarray) -> np.ndarray:
    length = np.uint64(len(codes))
    both = np.empty(2 * length, dtype=np.uint8)
    both[:length] = codes
    for k in range(length):
        i = np.uint64(k)
        code = codes[length - np.uint64(1) - i]
        both[length + i] = code ^ np.uint8(3) if code < 4 else code
    return both


@kernel()
def _copy(codes: np.ndarray, places: np.ndarray, out: np.ndarray) -> None:
    window = np.uint64(out.shape[1])
    for r in range(len(places)):
        row, source = out[r], codes[places[r] : places[r] + window]
        for i in range(row.size):
            row[i] = source[i]


@kernel()
def _one_hot(codes: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(codes)):
        code = codes[i]
        for base in range(4):  # flat and without a branch, so that it runs in vector registers
            out[4 * i + base] = np.float32(1) if code == base else np.float32(0)
