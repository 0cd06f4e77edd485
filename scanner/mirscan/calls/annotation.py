"""Score and homology in one value, to annotate a genome: what is like a known precursor goes before what is not.

    logit(annotation) = intercept + a * logit(score) + b * evidence

Evidence is homology as far as it is this hairpin's alone: a precursor that many places of a genome resemble, or a
hairpin whose words have many copies, is a repeat that once was taken for a precursor. Discoveries are no matter of
homology: neither the score nor a track has any part in it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

CHANCE = 15.0
"""Homology, in bases, that unrelated hairpins have too: one in ten of a genome against 50,000 precursors."""
CERTAIN = 35.0
"""Homology beyond which more of it tells nothing more."""
CLAIM = 20.0
"""Homology from which a place counts as one of those that resemble a precursor."""
ONCE = 1.0
"""Mean log2 of copies, of words of a hairpin, that chance gives to a unique one."""
HIGHEST = 16.0
"""Logits beyond this are not told apart: float32 scores end there."""


class Weights(NamedTuple):
    """Coefficients of the logistic combination: a constant, of the score's logit, of the evidence."""

    intercept: float
    score: float
    evidence: float


WEIGHTS = {"duplex": Weights(-5.79, 0.62, 0.52)}
"""By model, from `benchmarks/discovery/annotate.py`."""


def count_claims(table: np.ndarray, precursors: int) -> np.ndarray:
    """How many places of a genome resemble each known precursor, int64 (precursors,).

    Parameters
    ----------
    table : structured array
        Rows of a hairpin table (`mirscan.scanning.jobs.HAIRPIN`) of all that was scanned; those below `CLAIM` do not
        count. Hairpins that overlap on a strand, one chain of them, are one place.
    precursors : int
    """
    table = table[table["homology"] >= CLAIM]
    table = table[np.lexsort((table["start"], table["minus"], table["contig"], table["known"]))]
    claims = np.zeros(precursors, dtype=np.int64)
    if not len(table):
        return claims
    fresh = np.ones(len(table), dtype=bool)
    fresh[1:] = np.any([np.diff(table[name].astype(np.int64)) != 0 for name in ("known", "contig", "minus")], axis=0)
    # the furthest end so far within a group: groups are kept apart by a shift that no contig is long enough for
    shift = np.cumsum(fresh) * (int(table["end"].max()) + 1)
    furthest = np.maximum.accumulate(table["end"] + shift) - shift
    places = fresh.copy()
    places[1:] |= table["start"][1:] >= furthest[:-1]
    np.add.at(claims, table["known"][places], 1)
    return claims


def evidence(homology: np.ndarray, copies: np.ndarray, claims: np.ndarray) -> np.ndarray:
    """Homology above chance and up to certainty, shared among copies and claims: float64 (H,), 0 to 20.

    Parameters
    ----------
    homology : (H,) float
        In bases, from `mirscan.kernels.homology.similarity`.
    copies : (H,) float
        Mean log2 of the copies of a hairpin's words in its genome (`mirscan.structure.copies`).
    claims : (H,) int
        Places that resemble the same precursor (`count_claims`).
    """
    shared = np.exp2(np.maximum(np.asarray(copies, dtype=np.float64) - ONCE, 0.0)) * np.maximum(claims, 1)
    return np.clip(homology / shared, CHANCE, CERTAIN) - CHANCE


def annotation(logits: np.ndarray, shown: np.ndarray, weights: Weights) -> np.ndarray:
    """The combined value, float32 (H,) in 0 to 1, of the scores' logits and the `evidence`."""
    combined = weights.intercept + weights.score * _bounded(logits) + weights.evidence * shown
    return (1.0 / (1.0 + np.exp(-combined))).astype(np.float32)


def annotate(table: np.ndarray, claims: np.ndarray, weights: Weights) -> np.ndarray:
    """`annotation` of the rows of a hairpin table; ``claims`` are those of each precursor."""
    score = table["score"].astype(np.float64)
    with np.errstate(divide="ignore"):
        logits = np.log(score) - np.log1p(-score)
    mine = np.where(table["known"] >= 0, claims[table["known"]], 0) if len(claims) else np.zeros(len(table), np.int64)
    return annotation(logits, evidence(table["homology"], table["copies"], mine), weights)


def fit_annotation(
    logits: np.ndarray, shown: np.ndarray, positive: np.ndarray, positive_weight: float = 1.0, ridge: float = 1e-2
) -> Weights:
    """Fit the combination by logistic regression (Newton's method).

    Parameters
    ----------
    logits : (N,) float
        Of scores by models that have not seen the hairpins.
    shown : (N,) float
        Their `evidence`, against precursors without the hairpins themselves.
    positive : (N,) bool
        Known hairpins.
    positive_weight : float
        What a positive counts relative to a negative.
    ridge : float
        Penalty on the squares of both slopes: finite weights where the classes fall apart.

    Raises
    ------
    ValueError
        If all hairpins are positive, or none is.
    """
    positive = np.asarray(positive, dtype=bool)
    if positive.all() or not positive.any():
        raise ValueError(f"{int(positive.sum())} of {len(positive)} hairpins are positive: nothing to tell apart")
    columns = np.stack([np.ones(len(positive)), _bounded(logits), np.asarray(shown, dtype=np.float64)], axis=1)
    weight = np.where(positive, positive_weight, 1.0)
    penalty = np.array([0.0, ridge, ridge])
    share = weight @ positive / weight.sum()
    line = np.array([np.log(share / (1 - share)), 0.0, 0.0])

    def loss(line: np.ndarray) -> float:
        margin = np.where(positive, 1, -1) * (columns @ line)
        return float(weight @ np.logaddexp(0.0, -margin) + penalty @ line**2 / 2)

    for _ in range(100):
        probability = np.exp(-np.logaddexp(0.0, -(columns @ line)))
        slope = columns.T @ (weight * (positive - probability)) - penalty * line
        curvature = (columns * (weight * probability * (1 - probability))[:, None]).T @ columns + np.diag(penalty)
        step = np.linalg.solve(curvature + 1e-12 * np.eye(3), slope)
        before = loss(line)
        while loss(line + step) > before and np.abs(step).max() > 1e-9:
            step /= 2  # Newton may leap where probabilities are near 0 or 1
        line = line + step
        if np.abs(step).max() < 1e-8:
            break
    return Weights(*line.tolist())


def _bounded(logits: np.ndarray) -> np.ndarray:
    return np.clip(np.asarray(logits, dtype=np.float64), -HIGHEST, HIGHEST)
