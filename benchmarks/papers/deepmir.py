"""DeepMir's hairpin-image networks (paper 000, Tables 1, 2 and 7 to 9), rerun on the published images.

    python benchmarks/papers/deepmir.py ../shared/data --work FOLDER [--rows deepmir-vgg-3m-256fu ...] [--seeds 0 1 2]
        [--epochs 100] [--pretrain EPOCHS]

Trained on the 2,562 images of modhsa_train, judged on the 1,098 of modhsa_test after the last epoch. The images of the
paper's pre-training set were not published: `--pretrain` learns from a surrogate, its positives drawn anew from
miRBase 21 and the negatives at hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from data import TABLE_2, Labelled, deepmir
from families import clean_rows
from figures import figures, row
from rerun import Examples, cost_table, encoded, recipe_of, rerun, trained

from mirscan.models import MODELS

NAMES = ("Acc", "SE", "SP", "F", "MCC", "AUROC")
ROWS = ("deepmir-vgg-3m-256fu",)
PAPER = {"deepmir-vgg-3m-256fu": (".917", ".952")}
"""Accuracy on modhsa_test without and with pre-training (Table 6)."""
PAPER_TABLE_2 = {
    "NegHsa": (93, 97), "Zou": (43, 26), "Pseudo": (74, 91), "NotBestFold": (97, 97), "Shuffled": (96, 99),
    "Chen": (62, 65), "hsa": (98, 98), "mmu": (91, 93), "mmu*": (95, 97), "miRBase": (82, 93), "MirGeneDB": (99, 100),
    "hsa+": (99, 100), "mmu+": (98, 99), "gga+": (99, 100), "dre+": (99, 100),
}  # fmt: skip
"""Per cent right, without and with pre-training."""


def as_examples(some: Labelled) -> Examples:
    """A set whose images were published."""
    assert some.images is not None
    return Examples((some.images,), some.positive)


def redrawn(name: str, some: Labelled, folds: Path) -> Examples:
    """A set drawn anew from its sequences; molecules without any are left out."""
    rows = np.flatnonzero([bool(text) for text in some.sequences])
    kept = some.take(rows)
    return encoded(MODELS[name], list(kept.sequences), kept.positive, folds)


def surrogate(name: str, data: Path, work: Path) -> Examples:
    """What stands in for the pre-training set: its own names, as far as sequences are known."""
    return redrawn(name, deepmir(data, "nonhsa_modmirbase"), work / "surrogate.npz")


def beginning(name: str, seed: int, pretrain: int | None, data: Path, home: Path) -> tuple[Path, dict[str, Any] | None]:
    """Where a training is kept, and the weights it starts from: of so many epochs of the surrogate, or none."""
    if not pretrain:
        return home / name / "base" / f"seed{seed}", None
    first = recipe_of(name, seed, pretrain)
    start = trained(name, first, surrogate(name, data, home), home / name / "surrogate" / f"seed{seed}-{pretrain}")
    return home / name / f"after-{pretrain}" / f"seed{seed}", start


def unseen(train: Labelled, test: Labelled) -> np.ndarray:
    """Rows (bool) of a test whose image is no training image."""
    assert train.images is not None
    assert test.images is not None
    seen = {image.tobytes() for image in train.images}
    return np.array([image.tobytes() not in seen for image in test.images])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the published 100")
    parser.add_argument("--pretrain", type=int, metavar="EPOCHS", help="learn from the surrogate first (published: 40)")
    parser.add_argument("--table-2", action="store_true", help="also judge every set of Table 2")
    options = parser.parse_args()
    home = options.work / "deepmir"
    home.mkdir(parents=True, exist_ok=True)
    train, test = deepmir(options.data, "modhsa_train"), deepmir(options.data, "modhsa_test")
    learned = as_examples(train)
    costs = {name: (learned, len(options.seeds)) for name in options.rows}
    print("\n".join(cost_table(costs, home, options.epochs)), flush=True)
    judged = {"modhsa_test": as_examples(test)}
    if options.table_2:
        for label, stem in TABLE_2.items():
            some = deepmir(options.data, stem)
            sources = as_examples(some) if some.images is not None else redrawn(
                options.rows[0], some, home / f"{stem}.npz"
            )  # fmt: skip
            if len(sources.positive):
                judged[label] = sources
    parts = {
        "modhsa_test": np.ones(len(test), dtype=bool),
        "modhsa_test without training images": unseen(train, test),
        "modhsa_test, cleaned": clean_rows(train, test),
    }

    print("\n| model | epochs | judged on | " + " | ".join(NAMES) + " | seeds |")
    print("|---|---|---|" + "---|" * (len(NAMES) + 1))
    right: dict[str, list[float]] = {label: [] for label in judged}
    for name in options.rows:
        published = PAPER.get(name)
        if published:
            print(f"| {name}, as published | 100 | modhsa_test | {published[bool(options.pretrain)]} | | | | | | |")
        runs: dict[str, list[dict[str, float]]] = {part: [] for part in parts}
        for seed in options.seeds:
            training = recipe_of(name, seed, options.epochs)
            place, start = beginning(name, seed, options.pretrain, options.data, home)
            scores = rerun(name, training, learned, judged, place, start)
            for part, rows in parts.items():
                runs[part].append(figures(test.positive[rows], scores["modhsa_test"][rows]))
            for each, some in judged.items():
                right[each].append(float(((scores[each] >= 0.5) == some.positive).mean()))
        after = f", after {options.pretrain} of the surrogate" if options.pretrain else ""
        what = f"{training.recipe.epochs}{after}"
        for part, found in runs.items():
            print(row(f"{name} | {what} | {part}", found, NAMES), flush=True)
    if options.table_2:
        print("\n| set | images | published, base / fine-tuned (%) | ours (%) |\n|---|---|---|---|")
        for label, (base, tuned) in PAPER_TABLE_2.items():
            if label in right:
                some = deepmir(options.data, TABLE_2[label])
                drawn = "published" if some.images is not None else "drawn anew"
                values = 100 * np.array(right[label])
                spread = f" ± {values.std(ddof=1):.1f}" if len(values) > 1 else ""
                count = len(judged[label].positive)
                print(f"| {label} ({count:,}) | {drawn} | {base} / {tuned} | {values.mean():.1f}{spread} |")


if __name__ == "__main__":
    main()
