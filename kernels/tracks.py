"""Values of windows and hairpins to what is drawn: runs above a threshold, the best over each window or base."""

import numpy as np

from mirscan.kernels._jit import kernel


@kernel()
def merge_runs(
    starts: np.ndarray, window: int, scores: np.ndarray, threshold: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merge windows that score at least ``threshold`` and overlap, whatever lies between them.

    Parameters
    ----------
    starts : int64 (n,)
        Window starts of one contig, ascending.
    window : int
        Bases of a window. Two windows overlap when their starts are less than this apart.
    scores : float32 (n,)
        Of one strand; NaN = not scored.
    threshold : float32
        Lowest score that counts.

    Returns
    -------
    first, last, best, count : int64 (runs,)
        Indices of a run's first, last and best window (the first of equals), and its number of windows.
    """
    runs = np.empty((4, len(starts)), dtype=np.int64)
    total = 0
    for i in range(len(starts)):
        if not scores[i] >= threshold:
            continue
        if total > 0 and starts[i] - starts[runs[1, total - 1]] < window:
            run = total - 1
            runs[1, run] = i
            if scores[i] > scores[runs[2, run]]:
                runs[2, run] = i
            runs[3, run] += 1
        else:
            runs[0, total] = i
            runs[1, total] = i
            runs[2, total] = i
            runs[3, total] = 1
            total += 1
    return runs[0, :total].copy(), runs[1, :total].copy(), runs[2, :total].copy(), runs[3, :total].copy()


@kernel()
def run_levels(
    starts: np.ndarray, window: int, scores: np.ndarray, skip: int, floor: float
) -> tuple[np.ndarray, np.ndarray]:
    """Score levels between which each window is the first of a run.

    A window opens a run at threshold t when it reaches t and no window before it that overlaps it does:
    ``level_below < t <= score``, with ``level_below`` the best score among those windows. So the number of runs at t
    is the number of windows whose ``score >= t`` less the number whose ``level_below >= t``, without merging anything.

    Parameters
    ----------
    starts, window, scores
        As for `merge_runs`.
    skip : int
        Windows at the front that serve only as neighbours of those after them.
    floor : float32
        Windows that score less are left out: the result is exact for thresholds from here on.

    Returns
    -------
    score, level_below : float32 (k,)
        For the windows that open a run at some threshold; ``level_below`` is -inf where nothing scored overlaps.
    """
    score = np.empty(len(starts), dtype=np.float32)
    level_below = np.empty(len(starts), dtype=np.float32)
    total = 0
    for i in range(skip, len(starts)):
        if not scores[i] >= floor:
            continue
        below = np.float32(-np.inf)
        j = i - 1
        while j >= 0 and starts[i] - starts[j] < window and below < scores[i]:
            if scores[j] > below:
                below = scores[j]
            j -= 1
        if below < scores[i]:
            score[total] = scores[i]
            level_below[total] = below
            total += 1
    return score[:total].copy(), level_below[:total].copy()


def best_hairpins(
    windows: np.ndarray,
    width: int,
    intervals: tuple[np.ndarray, np.ndarray],
    starts: np.ndarray,
    ends: np.ndarray,
    scores: np.ndarray,
) -> np.ndarray:
    """Score of each window: that of the best hairpin that belongs to it, 0 where there is none.

    A hairpin belongs to every window that wholly contains it, and to the window whose track interval holds its centre.

    Parameters
    ----------
    windows : int64 (n,)
        Starts of consecutive windows of one contig, ascending.
    width : int
        Bases of a window.
    intervals : (int64 (n,), int64 (n,))
        Start and end of each window's track interval, as `mirscan.types.Grid.intervals` gives them.
    starts, ends : int64 (m,)
        Hairpins of one strand, genomic, in any order.
    scores : float32 (m,)

    Returns
    -------
    float32 (n,)
    """
    centres = (starts + ends) // 2
    first = np.searchsorted(windows, ends - width, side="left")
    last = np.searchsorted(windows, starts, side="right")
    home = np.searchsorted(intervals[1], centres, side="right")
    inside = home < len(windows)
    inside[inside] = intervals[0][home[inside]] <= centres[inside]
    return _best_hairpins(first, last, np.where(inside, home, -1), scores, len(windows))


@kernel()
def _best_hairpins(
    first: np.ndarray, last: np.ndarray, home: np.ndarray, scores: np.ndarray, windows: int
) -> np.ndarray:
    best = np.zeros(windows, dtype=np.float32)
    for i in range(len(scores)):
        for w in range(first[i], last[i]):
            best[w] = max(best[w], scores[i])
        if home[i] >= 0:
            best[home[i]] = max(best[home[i]], scores[i])
    return best


def lay_over(energies: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Lowest energy over each base, where every row's stem-loop is laid over the bases it spans.

    Parameters
    ----------
    energies : int16 (n,)
        Of the stem-loop whose 5' end is each base, at most 0.
    lengths : int16 (n,)
        Its bases; 0 where there is none. What reaches beyond the last base is cut off.

    Returns
    -------
    int16 (n,)
        0 where no stem-loop lies.
    """
    lowest = np.zeros(len(energies), dtype=np.int16)
    _lay_over(energies, lengths, lowest)
    return lowest


@kernel()
def _lay_over(energies: np.ndarray, lengths: np.ndarray, lowest: np.ndarray) -> None:
    for i in range(len(energies)):
        energy = energies[i]
        for k in range(i, min(i + lengths[i], len(lowest))):
            lowest[k] = min(lowest[k], energy)
