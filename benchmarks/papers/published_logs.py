"""What deepMiRGene's own logs say at several epochs, beside which a rerun of the same epochs is to be seen.

    python benchmarks/papers/published_logs.py ../shared/data

The paper's tables were not made from a single epoch of these logs; they are the only figures of known epochs. Of
cross-validation the mean over the five folds is given, and then each fold.
"""

from __future__ import annotations

import argparse
import gzip
from pathlib import Path

import numpy as np

NAMES = ("SE:", "SP:", "PPV:", "F-score:", "g-mean:", "AUROC:", "AUPR:")
LOGS = {"human_cv": "human, 5 folds", "human_test": "human, test", "whole_cv": "cross-species, 5 folds",
        "whole_test": "cross-species, test", "new_test": "new"}  # fmt: skip
EPOCHS = (100, 200, 300)
LAST, LONG = 20, 100
"""Epochs over which a figure's spread is taken, of a mean of folds and of a fold."""


def read_log(path: Path) -> np.ndarray:
    """Figures (folds, epochs, names); a precision that is not defined is NaN."""
    with gzip.open(path, "rt") as lines:
        words = [line.split() for line in lines]
    figures = [[float(row[row.index(name) + 1]) for name in NAMES] for row in words]
    folds = len({row[0] for row in words})
    return np.array(figures).reshape(folds, -1, len(NAMES))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    options = parser.parse_args()
    folder = options.data / "papers" / "deepmirgene" / "published_logs"
    print("| set | epochs | SE | SP | PPV | F | g | AUROC | AUPR | AUPR, spread of the 20 epochs before |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    logs = {label: read_log(folder / f"{log}.rst.gz") for log, label in LOGS.items()}
    for label, folds in logs.items():
        mean = folds.mean(axis=0)
        rows = {str(epoch): epoch for epoch in EPOCHS if epoch <= len(mean)}
        rows["best F of all"] = int(mean[:, NAMES.index("F-score:")].argmax()) + 1
        for name, epoch in rows.items():
            spread = mean[max(0, epoch - LAST) : epoch, -1].std(ddof=1)
            print("| " + " | ".join([label, name, *(f"{x:.3f}" for x in mean[epoch - 1]), f"{spread:.3f}"]) + " |")
    print(f"\n| fold, last epoch | F | AUPR | F, the last {LONG} epochs | AUPR, the last {LONG} epochs |")
    print("|---|---|---|---|---|")
    for label, folds in logs.items():
        for number, fold in enumerate(folds if len(folds) > 1 else ()):
            chosen = fold[:, [NAMES.index("F-score:"), NAMES.index("AUPR:")]]
            late = chosen[-LONG:]
            cells = [f"{x:.3f}" for x in chosen[-1]]
            cells += [f"{m:.3f} ± {s:.3f}" for m, s in zip(late.mean(axis=0), late.std(axis=0, ddof=1), strict=True)]
            print("| " + " | ".join([f"{label}: fold {number}", *cells]) + " |")


if __name__ == "__main__":
    main()
