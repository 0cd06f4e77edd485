"""The best other hairpin near each hairpin: precursors come in clusters that are transcribed together."""

from __future__ import annotations

import numpy as np

from mirscan.kernels._jit import kernel


@kernel()
def best_neighbours(
    starts: np.ndarray, ends: np.ndarray, minus: np.ndarray, logits: np.ndarray, reach: int
) -> np.ndarray:
    """Highest logit among the hairpins of the same strand that lie nearby without overlapping.

    Parameters
    ----------
    starts, ends : (H,) int64
        Genomic, 0-based half-open, in the order of centres (``start + end``).
    minus : (H,) bool
    logits : (H,) float32
    reach : int
        Greatest distance of two centres, bases.

    Returns
    -------
    (H,) float32
        Minus infinity where there is no such hairpin.
    """
    best = np.full(len(starts), -np.inf, dtype=np.float32)
    low = 0
    for h in range(len(starts)):
        centre = starts[h] + ends[h]
        while starts[low] + ends[low] < centre - 2 * reach:
            low += 1
        k = low
        while k < len(starts) and starts[k] + ends[k] <= centre + 2 * reach:
            if minus[k] == minus[h] and (ends[k] <= starts[h] or starts[k] >= ends[h]) and logits[k] > best[h]:
                best[h] = logits[k]
            k += 1
    return best
