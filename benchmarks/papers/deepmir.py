"""DeepMir's hairpin-image networks (paper 000, Tables 1, 2 and 7 to 9), rerun on the published images.

    python benchmarks/papers/deepmir.py ../shared/data --work FOLDER [--rows deepmir-vgg-3m-256fu ...] [--seeds 0 1 2]
        [--epochs 100] [--pretrain EPOCHS] [--table-2]

`--rows all` are the 48 networks. Trained on the 2,562 images of modhsa_train, judged on the 1,098 of modhsa_test after
the last epoch. The images of the paper's pre-training set were not published: `--pretrain` learns from a surrogate, its
positives drawn anew from miRBase 21 and the negatives at hand.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
from data import TABLE_2, Labelled, deepmir
from families import clean_rows
from figures import figures, row
from rerun import Examples, cost_table, encoded, recipe_of, rerun, scores_of, trained

from mirscan.models import MODELS

NAMES = ("Acc", "SE", "SP", "F", "MCC", "AUROC")
BEST = "deepmir-vgg-3m-256fu"
WIDTHS = {"vgg": "32fu 64fu 128fu 256fu", "inception": "8ck 12ck 16ck 20ck", "resnet": "20ck 24ck 28ck 32ck"}
TABLES = {
    "vgg-1m": ".9044 .8889 .8934 .8962 .9417 .9454 .9472 .9408",
    "vgg-2m": ".9162 .9144 .9199 .9180 .9390 .9390 .9381 .9426",
    "vgg-3m": ".8989 .8807 .8907 .9171 .9362 .9454 .9472 .9517",
    "vgg-4m": ".9162 .9089 .9199 .9089 .9244 .9381 .9426 .9408",
    "inception-1m": ".8843 .8880 .5000 .5000 .9311 .9299 .9344 .5000",
    "inception-2m": ".8907 .8807 .8953 .8852 .9353 .5000 .9290 .9290",
    "inception-3m": ".8834 .8916 .8880 .5000 .9235 .9271 .9335 .9281",
    "inception-4m": ".8871 .8843 .8934 .8862 .9281 .9235 .9262 .9226",
    "resnet-1m": ".5009 .9098 .9044 .9135 .8242 .9208 .5082 .5337",
    "resnet-2m": ".5055 .5000 .5000 .5000 .8780 .6366 .6967 .8652",
    "resnet-3m": ".5893 .9199 .9044 .5310 .9117 .8470 .6894 .9117",
    "resnet-4m": ".9062 .8233 .8925 .9123 .5729 .8525 .5337 .7570",
}
"""Accuracy on modhsa_test of the four widths without pre-training, then of the same with it (Tables 7 to 9)."""
PAPER = {
    f"deepmir-{kind}-{width}": tuple(accuracies.split()[at::4])
    for kind, accuracies in TABLES.items()
    for at, width in enumerate(WIDTHS[kind.split("-")[0]].split())
}
"""The 48 networks, and their accuracy without and with pre-training."""
RENEWED = "modhsa_test, averages of batch norm taken anew"
"""Keras' averages look back over a hundred steps, which are five epochs here."""
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


def place(name: str, seed: int, pretrain: int | None, home: Path) -> Path:
    """Where a training is kept."""
    return home / name / (f"after-{pretrain}" if pretrain else "base") / f"seed{seed}"


def beginning(name: str, seed: int, pretrain: int | None, data: Path, home: Path) -> dict[str, Any] | None:
    """The weights a training starts from: those of so many epochs of the surrogate, or none."""
    if not pretrain:
        return None
    kept = home / name / "surrogate" / f"seed{seed}-{pretrain}"
    return trained(name, recipe_of(name, seed, pretrain), surrogate(name, data, home), kept)


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
    parser.add_argument("--rows", nargs="*", default=[BEST], help="models, or all")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--epochs", type=int, help="instead of the published 100")
    parser.add_argument("--pretrain", type=int, metavar="EPOCHS", help="learn from the surrogate first (published: 40)")
    parser.add_argument("--table-2", action="store_true", help="also judge every set of Table 2")
    options = parser.parse_args()
    options.rows = list(PAPER) if options.rows == ["all"] else options.rows
    home = options.work / "deepmir"
    home.mkdir(parents=True, exist_ok=True)
    train, test = deepmir(options.data, "modhsa_train"), deepmir(options.data, "modhsa_test")
    learned = as_examples(train)
    costs = {}
    for name in options.rows:
        homes = [place(name, seed, options.pretrain, home) for seed in options.seeds]
        missing = sum(not scores_of(kept, recipe_of(name, 0, options.epochs)).is_file() for kept in homes)
        if missing:
            costs[name] = learned, missing
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
            start = beginning(name, seed, options.pretrain, options.data, home)
            kept = place(name, seed, options.pretrain, home)
            scores = rerun(name, training, learned, judged, kept, start)
            for part, rows in parts.items():
                runs[part].append(figures(test.positive[rows], scores["modhsa_test"][rows]))
            if "resnet" in name:
                again = rerun(name, training, learned, {"test": judged["modhsa_test"]}, kept, start, renew=True)["test"]
                runs.setdefault(RENEWED, []).append(figures(test.positive, again))
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
