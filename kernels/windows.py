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
    """Codes of windows, uint8 (rows, window): row ``r`` from ``starts[r]``, reverse complemented where ``minus[r]``."""
    if not len(starts) == len(minus) or (len(starts) and (starts.min() < 0 or starts.max() + window > len(codes))):
        raise ValueError(f"{len(starts)} windows and {len(minus)} strands do not fit a stretch of {len(codes)} bases")
    out = np.empty((len(starts), window), dtype=np.uint8)
    _cut(np.ascontiguousarray(codes), np.ascontiguousarray(starts), np.ascontiguousarray(minus), out)
    return out


def one_hot(codes: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """One-hot of codes, float32 (rows, window, 4) in the order A, C, G, T/U; other codes are four zeros.

    For CPU pipelines and training; scans send codes to the device and expand them there.
    """
    if out is None:
        out = np.empty((*codes.shape, 4), dtype=np.float32)
    _one_hot(np.ascontiguousarray(codes).reshape(-1), out.reshape(-1, 4))
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


@kernel()
def _cut(codes: np.ndarray, starts: np.ndarray, minus: np.ndarray, out: np.ndarray) -> None:
    rows, window = out.shape
    for r in range(rows):
        start = starts[r]
        if minus[r]:
            last = start + window - 1
            for i in range(window):
                code = codes[last - i]
                out[r, i] = 3 - code if code < 4 else code
        else:
            for i in range(window):
                out[r, i] = codes[start + i]


@kernel()
def _one_hot(codes: np.ndarray, out: np.ndarray) -> None:
    for i in range(len(codes)):
        code = codes[i]
        out[i, 0] = code == 0
        out[i, 1] = code == 1
        out[i, 2] = code == 2
        out[i, 3] = code == 3
