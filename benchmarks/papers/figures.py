"""What papers report of a classifier: figures at the threshold one half, and of the ranking."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from sklearn.metrics import roc_auc_score

from mirscan.evaluation.ranking import average_precision


def figures(positive: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Sensitivity, specificity, accuracy, precision, F1, g-mean, Matthews correlation, AUROC and average precision.

    Also ``balanced F``: F1 as if both classes were equal in size, 2 SE / (1 + SE + 1 - SP), as deepMiRGene 2016 has it.

    Parameters
    ----------
    positive : (N,) bool
    scores : (N,)
        A molecule counts as positive from one half on.
    """
    called = np.asarray(scores) >= 0.5
    tp, fp = int((called & positive).sum()), int((called & ~positive).sum())
    fn, tn = int((~called & positive).sum()), int((~called & ~positive).sum())
    sensitivity, specificity = tp / max(tp + fn, 1), tn / max(tn + fp, 1)
    spread = np.sqrt(float(tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    both = positive.any() and not positive.all()
    return {
        "SE": sensitivity,
        "SP": specificity,
        "Acc": (tp + tn) / len(positive),
        "PPV": tp / max(tp + fp, 1),
        "F": 2 * tp / max(2 * tp + fp + fn, 1),
        "balanced F": 2 * sensitivity / (1 + sensitivity + 1 - specificity),
        "g": float(np.sqrt(sensitivity * specificity)),
        "MCC": (tp * tn - fp * fn) / spread if spread else 0.0,
        "AUROC": float(roc_auc_score(positive, scores)) if both else float("nan"),
        "AUPR": average_precision(positive, scores) if positive.any() else float("nan"),
    }


def mean_of(runs: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of each figure over runs, or over the folds of one."""
    return {name: float(np.mean([run[name] for run in runs])) for name in runs[0]}


def mean_and_spread(runs: Sequence[dict[str, float]], names: Sequence[str]) -> list[str]:
    """Mean of each figure over runs, with the standard deviation where there are several."""
    cells = []
    for name in names:
        values = np.array([run[name] for run in runs])
        cells.append(f"{values.mean():.3f}" + (f" ± {values.std(ddof=1):.3f}" if len(values) > 1 else ""))
    return cells


def row(label: str, runs: Sequence[dict[str, float]], names: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join([label, *mean_and_spread(runs, names)]) + f" | {len(runs)} |"
