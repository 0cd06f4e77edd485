"""How good a ranking is: stepwise average precision, maximal F1, and what they are computed from."""

from __future__ import annotations

import numpy as np


def precision_recall(truth: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Precision, recall and threshold (float64) at every distinct score, highest score first.

    Parameters
    ----------
    truth : array of bool, (N,)
    scores : array, (N,)
        Equal scores are one threshold: a ranking gets no credit for the order of ties.
    """
    truth, scores = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=np.float64)
    if truth.shape != scores.shape or not truth.any():
        raise ValueError(f"need one score per item and at least one positive, got {truth.sum()} of {truth.shape}")
    order = np.argsort(-scores, kind="stable")
    last = np.append(np.flatnonzero(np.diff(scores[order])), len(order) - 1)
    hits = np.cumsum(truth[order])[last]
    return hits / (last + 1), hits / truth.sum(), scores[order][last]


def average_precision(truth: np.ndarray, scores: np.ndarray) -> float:
    """Stepwise average precision: the sum of precision times the step in recall, without interpolation."""
    precision, recall, _ = precision_recall(truth, scores)
    return float(np.sum(precision * np.diff(recall, prepend=0.0)))


def max_f1(truth: np.ndarray, scores: np.ndarray) -> tuple[float, float]:
    """The largest F1 over all thresholds, and the threshold that reaches it."""
    precision, recall, threshold = precision_recall(truth, scores)
    f1 = 2 * precision * recall / np.maximum(precision + recall, 1e-12)
    best = int(f1.argmax())
    return float(f1[best]), float(threshold[best])


def percentile(scores: np.ndarray, background: np.ndarray) -> np.ndarray:
    """Share (0 to 100) of the background that scores lower than each score, ties counting half."""
    ranked = np.sort(np.asarray(background, dtype=np.float64))
    below = np.searchsorted(ranked, scores, side="left")
    upto = np.searchsorted(ranked, scores, side="right")
    return 50.0 * (below + upto) / len(ranked)
