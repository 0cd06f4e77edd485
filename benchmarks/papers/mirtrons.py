"""Mirtrons against canonical precursors: Tasdelen and Sen (paper 003) and Zheng et al., rerun.

    python benchmarks/papers/mirtrons.py ../shared/data --work FOLDER [--seeds 0 1 2] [--rows cnn-lstm ...]
        [--protocols "5 folds" "Zheng's split" ...] [--masks read masked]

Stratified five folds; Zheng's own split; folds without relatives across them; and all again with the last three bases
masked, since one rule without any learning, "ends in CAG or UAG", nearly solves the task.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import Labelled, mirtrons, stratified_folds
from families import family_folds
from figures import figures, mean_of, row
from rerun import Examples, cost_table, cross_validate, encoded, recipe_of, rerun

from mirscan.models import MODELS

ROWS = ("cnn-lstm", "cnn-lstm-pooled", "mirtron-conv3", "mirtron-conv4", "mirtron-conv5", "mirtron-conv6",
        "mirtron-concat")  # fmt: skip
PROTOCOLS = ("5 folds", "Zheng's split", "5 folds, relatives kept apart")
MASKS = ("read", "masked")
NAMES = ("Acc", "SE", "SP", "F", "MCC")
CNN_LSTM = ".943 ± .014 | .935 ± .016 | .948 ± .029 | .925 ± .016 | .880 ± .028"
PAPER = {
    ("cnn-lstm", "5 folds"): CNN_LSTM,
    ("cnn-lstm-pooled", "5 folds"): CNN_LSTM,
    ("mirtron-conv6", "Zheng's split"): ".920 | .871 | .970 | .916 | .845",
    ("mirtron-concat", "Zheng's split"): ".910 | .846 | .975 | .904 | .827",
}
"""Paper 003, Tables 3 and 4; Zheng's published weights give .890 and .888 accuracy on that split."""


def rule(sequences: tuple[str, ...]) -> np.ndarray:
    """1 where a sequence ends in CAG or UAG."""
    return np.array([sequence.endswith(("CAG", "UAG")) for sequence in sequences], dtype=float)


def masked(sequences: tuple[str, ...]) -> list[str]:
    """The same without a word on their last three bases."""
    return [sequence[:-3] + "NNN" for sequence in sequences]


def examples_of(name: str, some: Labelled, mask: str, work: Path) -> Examples:
    """What a model reads of a set: with its last three bases ``read``, or ``masked``."""
    texts = masked(some.sequences) if mask == "masked" else list(some.sequences)
    return encoded(MODELS[name], texts, some.positive, work / "folds.npz")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--rows", nargs="*", default=list(ROWS))
    parser.add_argument("--protocols", nargs="*", choices=PROTOCOLS, default=list(PROTOCOLS))
    parser.add_argument("--masks", nargs="*", choices=MASKS, default=list(MASKS))
    options = parser.parse_args()
    home = options.work / "mirtrons"
    home.mkdir(parents=True, exist_ok=True)
    whole, train, test = (mirtrons(options.data, part) for part in ("all", "train", "test"))
    kept, apart = family_folds(whole, 5, seed=0)
    clean = whole.take(kept)
    trainings = sum(1 if protocol == "Zheng's split" else 5 for protocol in options.protocols) * len(options.masks)
    costs = {name: (examples_of(name, train, "read", home), trainings * len(options.seeds)) for name in options.rows}
    print("\n".join(cost_table(costs, home)), flush=True)

    print("\n| model | protocol | last three bases | " + " | ".join(NAMES) + " | seeds |")
    print("|---|---|---|" + "---|" * (len(NAMES) + 1))
    sets = zip(PROTOCOLS, (whole, test, clean), strict=True)
    judged = {protocol: some for protocol, some in sets if protocol in options.protocols}
    for protocol, some in judged.items():
        print(row(f"ends in CAG or UAG | {protocol} | read", [figures(some.positive, rule(some.sequences))], NAMES))
    for name in options.rows:
        for protocol, some in judged.items():
            if (name, protocol) in PAPER:
                print(f"| {name}, as published | {protocol} | read | {PAPER[name, protocol]} | |")
            for mask in options.masks:
                runs = []
                for seed in options.seeds:
                    place = home / name / protocol.replace(" ", "-") / mask / f"seed{seed}"
                    learned, training = examples_of(name, some, mask, home), recipe_of(name, seed)
                    if protocol == "Zheng's split":
                        start = examples_of(name, train, mask, home)
                        found = rerun(name, training, start, {"test": learned}, place)["test"]
                        runs.append(figures(some.positive, found))
                        continue
                    folds = apart if some is clean else stratified_folds(some, seed=seed)
                    runs.append(mean_of(cross_validate(name, training, learned, folds, place)))
                print(row(f"{name} | {protocol} | {mask}", runs, NAMES), flush=True)


if __name__ == "__main__":
    main()
