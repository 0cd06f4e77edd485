"""miRe2e's later release (paper 004, section 4.2): learn the human miRBase 21, find what miRBase 22 added.

    python benchmarks/papers/later_release.py ../shared/data --work FOLDER [--seeds 0 1 2] [--negatives 20000 60000]

The paper's negatives were not published; these are drawn anew from two pieces of the human genome (releases.py). All
examples are windows of 100 bases: shorter ones lie in the middle of a flat of the same part, of longer ones the middle
counts. Of miRe2e's cascade the classifier is trained here; structure and energy networks are the shipped ones, which
learned from ViennaRNA what folds, not what is a precursor.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from data import Labelled
from figures import row
from flax import nnx
from releases import WINDOW, negatives, positives
from rerun import Examples, recipe_of, rerun
from sklearn.metrics import roc_auc_score

from mirscan.devices import best_precision
from mirscan.evaluation.ranking import average_precision, max_f1, precision_recall
from mirscan.kernels.bases import CODE
from mirscan.models import find_model, load_model, set_weights
from mirscan.structure.molecules import window_inputs
from mirscan.training.loop import Recipe, fit, runner
from mirscan.training.losses import focal_loss
from mirscan.training.mire2e import predicted_structure

NAMES = ("AUPR", "max F1", "F1 at recall .2", "false at recall .2", "AUROC")
PAPER = {
    "mire2e": ".17 (joined by straight lines) | | .26 | 11 | ",
    "deepmir-seq": ".08 (joined by straight lines) | | .08 | 113 | ",
}
"""Section 4.2: 27 positives among 12,500 hairpins and 112,500 flats."""
TEST = 12_500, 112_500
CLASSIFIER = Recipe(batch=128, epochs=4, learning_rate=5e-4, positive_share=0.25, epoch_size=16_000)


def windows(some: Labelled, flats: Labelled, seed: int) -> np.ndarray:
    """Codes (uint8, (N, WINDOW)): each sequence in the middle of a flat, or the middle of the sequence."""
    generator = np.random.default_rng(seed)
    around = [flats.sequences[row] for row in generator.integers(0, len(flats), len(some))]
    rows = []
    for sequence, flat in zip(some.sequences, around, strict=True):
        cut = max(0, len(sequence) - WINDOW) // 2
        inside = sequence[cut : cut + WINDOW]
        left = (WINDOW - len(inside)) // 2
        rows.append(flat[:left] + inside + flat[left + len(inside) :])
    return CODE[np.frombuffer("".join(rows).encode(), dtype=np.uint8)].reshape(-1, WINDOW)


def drawn(data: Path, part: str, found: Labelled, hairpins: int, flats: int, path: Path) -> tuple[np.ndarray, ...]:
    """Windows of positives, hairpins and flats, and which are positive; made once."""
    if not path.is_file():
        others = negatives(data, part, hairpins, flats)  # type: ignore[arg-type]
        flat = others.take(np.flatnonzero([origin == "flat" for origin in others.origins]))
        codes = np.concatenate([windows(found, flat, 0), windows(others, flat, 1)])
        np.savez_compressed(path, codes=codes, positive=np.arange(len(codes)) < len(found))
    with np.load(path) as saved:
        return saved["codes"], saved["positive"]


def ranking(positive: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Figures of a ranking; those at a recall of .2 are at the first threshold that reaches it."""
    precision, recall, _ = precision_recall(positive, scores)
    first = int(np.argmax(recall >= 0.2))
    found = recall[first] * positive.sum()
    return {
        "AUPR": average_precision(positive, scores),
        "max F1": max_f1(positive, scores)[0],
        "F1 at recall .2": 2 * precision[first] * recall[first] / (precision[first] + recall[first]),
        "false at recall .2": found / precision[first] - found,
        "AUROC": float(roc_auc_score(positive, scores)),
    }


class Cascade:
    """miRe2e with its shipped first two networks, which are run once."""

    def __init__(self, home: Path, codes: dict[str, np.ndarray]) -> None:
        self.spec, self.home = find_model("mire2e"), home
        graph, state = load_model("mire2e", precision=best_precision(self.spec))
        model = nnx.merge(graph, state)
        self.inputs = {}
        for part, some in codes.items():
            signs = predicted_structure(model, some, home / f"{part}_structure.npy", print)
            energy = runner(model.energy)({"codes": some, "structure": signs})
            self.inputs[part] = {"codes": some, "structure": signs, "energy": energy}

    def scores(self, positive: np.ndarray, seed: int) -> np.ndarray:
        """Scores of the test by a classifier that is trained from random weights."""
        kept = self.home / "mire2e" / f"seed{seed}" / "scores.npy"
        if not kept.is_file():
            module = self.spec.build(rngs=nnx.Rngs(seed), precision=best_precision(self.spec)).classifier  # type: ignore[attr-defined]
            recipe = Recipe(**(vars(CLASSIFIER) | {"seed": seed}))
            data = self.inputs["train"] | {"positive": positive}
            set_weights(module, fit(module, focal_loss, data, recipe, kept.parent, log=print))
            module.eval()
            logits = runner(module)(self.inputs["test"])
            np.save(kept, logits[:, 0] - logits[:, 1])
        return np.load(kept)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument(
        "--negatives", type=int, nargs=2, default=[20_000, 60_000], help="hairpins, flats to learn from"
    )
    options = parser.parse_args()
    home = options.work / "later-release"
    home.mkdir(parents=True, exist_ok=True)
    old, new = positives(options.data)
    train, learned = drawn(options.data, "train", old, *options.negatives, home / "train.npz")
    test, truth = drawn(options.data, "test", new, *TEST, home / "test.npz")

    print(f"learned from: {learned.sum():,} positives, {(~learned).sum():,} negatives; {truth.sum()} to find\n")
    print("| model | " + " | ".join(NAMES) + " | seeds |")
    print("|---|" + "---|" * (len(NAMES) + 1))
    spec = find_model("deepmir-seq")
    codes = {"train": train, "test": test}
    read = {part: window_inputs(spec, some, None) for part, some in codes.items()}
    runs = []
    for seed in options.seeds:
        training, place = recipe_of(spec.name, seed), home / spec.name / f"seed{seed}"
        judged = {"test": Examples(read["test"], truth)}
        runs.append(ranking(truth, rerun(spec.name, training, Examples(read["train"], learned), judged, place)["test"]))
    print(f"| deepmir-seq, as published | {PAPER['deepmir-seq']} | |")
    print(row("deepmir-seq", runs, NAMES), flush=True)
    cascade = Cascade(home, codes)
    runs = [ranking(truth, cascade.scores(learned, seed)) for seed in options.seeds]
    print(f"| mire2e, as published | {PAPER['mire2e']} | |")
    print(row("mire2e", runs, NAMES), flush=True)


if __name__ == "__main__":
    main()
