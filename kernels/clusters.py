"""The best other hairpin near each hairpin: precursors come in clusters that are transcribed together."""

from __future__ import annotations

import math

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


def lift(logits: np.ndarray, neighbours: np.ndarray, weight: float) -> np.ndarray:
    """Logits (float32) raised by ``weight`` times the best neighbour's logit where that is above 0, else unchanged."""
    return (logits + np.float32(weight) * np.maximum(neighbours, 0)).astype(np.float32)


@kernel()
def logit(probabilities: np.ndarray) -> np.ndarray:
    """Log-odds (float32) of float32 probabilities; 0 and 1 count as the nearest number between them.

    One scalar after another, so that a number's place in the array cannot matter.
    """
    out = np.empty(len(probabilities), dtype=np.float32)
    for i in range(len(probabilities)):
        p = min(max(np.float64(probabilities[i]), 1e-38), 1 - 2.0**-25)
        out[i] = math.log(p) - math.log1p(-p)
    return out


@kernel()
def probability(logits: np.ndarray) -> np.ndarray:
    """The inverse of `logit`, float32."""
    out = np.empty(len(logits), dtype=np.float32)
    for i in range(len(logits)):
        out[i] = 1 / (1 + math.exp(-np.float64(logits[i])))
    return out
