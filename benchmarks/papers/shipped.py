"""Train the published models that are shipped, one row a family, judge them, and put their weights into a folder.

    python benchmarks/papers/shipped.py ../shared/data --work FOLDER --out FOLDER [--rows deepmirgene ...]

Models of precursors learn the cross-species set of deepMiRGene and are judged on its "new" set: all of them on equal
terms. The image network learns DeepMir's own images, the models of mirtrons all 1,124 of their sequences, and their
figures are those of deepmir.py and mirtrons.py. All with seed 0 and the last weights; above 5 MB in float16.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import deepmir, mirtrons
from deepmir import as_examples, beginning, place
from deepmirgene import NAMES, Rerun
from figures import row
from mirtrons import examples_of
from rerun import Examples, recipe_of, trained

from mirscan.checkpoints import weights
from mirscan.training.published import published

PRECURSORS = ("deepmirgene", "deepmirgene2016", "deepmir-seq", "mirdnn-animal")
IMAGES = ("deepmir-vgg-3m-256fu",)
MIRTRONS = ("cnn-lstm-pooled", "mirtron-conv6")
LARGE = 5 << 20
"""Bytes of float32 weights above which they are shipped in float16."""


def put(name: str, tree: dict, examples: Examples, epochs: int, what: str, out: Path) -> None:
    """Write a model's weights into ``out/name``, with what they were trained on."""
    positive = int(examples.positive.sum())
    about = {
        "model": name, "seed": 0, "epochs": epochs, "data": what,
        "positives": positive, "negatives": len(examples.positive) - positive,
    }  # fmt: skip
    weights.save(out / name, tree, about, half=_bytes(tree) > LARGE)


def _bytes(tree: dict) -> int:
    return sum(_bytes(leaf) if isinstance(leaf, dict) else np.asarray(leaf).nbytes for leaf in tree.values())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True, help="where a folder for each model is made")
    parser.add_argument("--rows", nargs="*", default=[*PRECURSORS, *IMAGES, *MIRTRONS])
    parser.add_argument("--epochs", type=int, help="instead of the published number")
    parser.add_argument("--pretrain", type=int, metavar="EPOCHS", help="of the image network, as for deepmir.py")
    options = parser.parse_args()
    kept = options.work / "deepmirgene"
    kept.mkdir(parents=True, exist_ok=True)
    papers = Rerun(options.data, kept, options.epochs)
    print("| model | set | " + " | ".join(NAMES) + " | seeds |")
    print("|---|---|" + "---|" * (len(NAMES) + 1))
    for name in options.rows:
        epochs = options.epochs or published(name).recipe.epochs
        if name in PRECURSORS:
            epochs = papers.test_epochs(name)
            learned, judged = ("whole", "all"), ("new", "all")
            whole, cleaned = papers.test(name, 0, learned, judged)
            print(row(f"{name} | new", [whole], NAMES))
            print(row(f"{name} | new, cleaned", [cleaned], NAMES), flush=True)
            examples, what = papers.examples(name, *learned), "deepMiRGene's cross-species set (paper 001)"
            tree = trained(name, recipe_of(name, 0, epochs), examples, papers.home(name, 0, judged))
        elif name in IMAGES:
            examples, what = as_examples(deepmir(options.data, "modhsa_train")), "DeepMir's modhsa_train"
            if options.pretrain:
                what += f", after {options.pretrain} epochs of the surrogate for its pre-training"
            home = options.work / "deepmir"
            start = beginning(name, 0, options.pretrain, options.data, home)
            tree = trained(name, recipe_of(name, 0, epochs), examples, place(name, 0, options.pretrain, home), start)
        else:
            home = options.work / "shipped" / name
            home.parent.mkdir(parents=True, exist_ok=True)
            examples = examples_of(name, mirtrons(options.data, "all"), "read", home.parent)
            what = "mirtrons and canonical precursors of paper 003"
            tree = trained(name, recipe_of(name, 0, epochs), examples, home)
        put(name, tree, examples, epochs, what, options.out)


if __name__ == "__main__":
    main()
