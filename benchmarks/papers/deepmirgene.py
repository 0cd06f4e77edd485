"""deepMiRGene 2017 (paper 001, Tables 2 to 4 and Figure 3) and 2016 (paper 002), rerun on their own sets.

    python benchmarks/papers/deepmirgene.py ../shared/data --work FOLDER [--paper 2017|2016] [--seeds 0 1 2]
        [--parts test new human-cv whole-cv ablations] [--epochs 100]

Cross-validation on the published folds; the fixed tests by a model of the other 90 %; "new" by a model of all
cross-species sequences. Tests are judged once more on a cleaned part: no relative of training, each molecule once, no
doubtful label.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data import Labelled, deepmirgene, deepmirgene_folds
from families import clean_rows
from figures import figures, mean_of, row
from rerun import Examples, cost_table, cross_validate, encoded, recipe_of, rerun

from mirscan.models import MODELS
from mirscan.training.published import published

NAMES = ("SE", "SP", "PPV", "F", "g", "AUROC", "AUPR", "balanced F")
MAIN = {"2017": "deepmirgene", "2016": "deepmirgene2016"}
ABLATIONS = {
    "2017": ("deepmirgene-position", "deepmirgene-cnn", "deepmirgene-cnn-lstm", "deepmirgene-lstm", "deepmirgene-lstm1",
             "deepmirgene-bilstm", "deepmirgene-sequence", "deepmirgene-structure"),
    "2016": ("deepmirgene2016-noflip", "deepmirgene2016-sequence", "deepmirgene2016-structure"),
}  # fmt: skip
PARTS = ("test", "new", "human-cv", "whole-cv", "ablations")
PAPER = {
    ("2017", "human, 5 folds"): ".799 | .988 | .885 | .839 | .888 | .984 | .915 | ",
    ("2017", "human, test"): ".822 | .992 | .919 | .868 | .903 | .981 | .918 | ",
    ("2017", "cross-species, 5 folds"): ".886 | .982 | .911 | .898 | .933 | .985 | .927 | ",
    ("2017", "cross-species, test"): ".900 | .983 | .913 | .906 | .940 | .984 | .955 | ",
    ("2017", "new"): ".917 | .964 | .682 | .782 | .941 | .981 | .808 | ",
    ("2016", "human, 5 folds"): "~.89 | | | | | | | ~.93",
    ("2016", "cross-species, 5 folds"): "~.91 | | | | | | | ~.94",
    ("2016", "new"): "~.88 | ~.99 | | | | | | ",
}
"""Tables 2 and 3 of paper 001; of paper 002, whose own row is lost, what its text says."""
PAPER_F = {
    "deepmirgene-cnn": ".771", "deepmirgene-cnn-lstm": ".738", "deepmirgene-lstm": ".751",
    "deepmirgene-lstm1": ".824", "deepmirgene-bilstm": ".834",
}  # fmt: skip
"""Table 4 of paper 001: F of cross-validation on human."""


class Rerun:
    """The sets as a model reads them, and its trainings."""

    def __init__(self, data: Path, work: Path, epochs: int | None) -> None:
        self.data, self.work, self.epochs = data, work, epochs
        self._kept: dict[tuple[str, str, str], Examples] = {}

    def labelled(self, name: str, part: str) -> Labelled:
        """A published set."""
        return deepmirgene(self.data, name, part)  # type: ignore[arg-type]

    def examples(self, model: str, name: str, part: str) -> Examples:
        """A published set, encoded."""
        key = model, name, part
        if key not in self._kept:
            some = self.labelled(name, part)
            folds = self.work / f"{name}-{part}.npz"
            self._kept[key] = encoded(MODELS[model], list(some.sequences), some.positive, folds)
        return self._kept[key]

    def folds(self, model: str, name: str, seed: int) -> list[dict[str, float]]:
        """Figures of each of the published folds."""
        parts = deepmirgene_folds(self.data, name)
        training = recipe_of(model, seed, self.epochs)
        home = self.work / model / f"{name}-cv" / f"seed{seed}"
        return cross_validate(model, training, self.examples(model, name, "train"), parts, home)

    def test_epochs(self, model: str) -> int:
        """Epochs of a training for a fixed test: the scripts of deepMiRGene 2017 have 100 for these."""
        return self.epochs or (100 if model.split("-")[0] == "deepmirgene" else published(model).recipe.epochs)

    def home(self, model: str, seed: int, judged: tuple[str, str]) -> Path:
        """Where the training for a fixed test is kept."""
        return self.work / model / "-".join(judged) / f"seed{seed}"

    def test(self, model: str, seed: int, learned: tuple[str, str], judged: tuple[str, str]) -> tuple[dict, dict]:
        """Figures of a fixed test, whole and cleaned."""
        training = recipe_of(model, seed, self.test_epochs(model))
        home = self.home(model, seed, judged)
        found = self.examples(model, *judged)
        scores = rerun(model, training, self.examples(model, *learned), {"test": found}, home)["test"]
        clean = clean_rows(self.labelled(*learned), self.labelled(*judged))
        return figures(found.positive, scores), figures(found.positive[clean], scores[clean])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--paper", choices=tuple(MAIN), default="2017")
    parser.add_argument("--seeds", type=int, nargs="*", default=[0, 1, 2])
    parser.add_argument("--parts", nargs="*", choices=PARTS, default=list(PARTS))
    parser.add_argument("--epochs", type=int, help="instead of the published number")
    options = parser.parse_args()
    home = options.work / "deepmirgene"
    home.mkdir(parents=True, exist_ok=True)
    papers = Rerun(options.data, home, options.epochs)
    model = MAIN[options.paper]
    each = {"test": 2, "new": 1, "human-cv": 5, "whole-cv": 5, "ablations": 0}
    trainings = {model: sum(each[part] for part in options.parts)}
    if "ablations" in options.parts:
        trainings |= dict.fromkeys(ABLATIONS[options.paper], 5)
    costs = {
        name: (papers.examples(name, "human", "train"), count * len(options.seeds))
        for name, count in trainings.items()
        if count
    }
    print("\n".join(cost_table(costs, home, options.epochs)), flush=True)
    print("\n| model | set | " + " | ".join(NAMES) + " | seeds |")
    print("|---|---|" + "---|" * (len(NAMES) + 1))

    def paper(label: str) -> None:
        if (options.paper, label) in PAPER:
            print(f"| {model}, as published | {label} | {PAPER[options.paper, label]} | |")

    tests = {
        "human, test": (("human", "train"), ("human", "test")),
        "cross-species, test": (("whole", "train"), ("whole", "test")),
        "new": (("whole", "all"), ("new", "all")),
    }
    for label, (learned, judged) in tests.items():
        if ("new" if label == "new" else "test") in options.parts:
            paper(label)
            both = [papers.test(model, seed, learned, judged) for seed in options.seeds]
            print(row(f"{model} | {label}", [run for run, _ in both], NAMES), flush=True)
            print(row(f"{model} | {label}, cleaned", [run for _, run in both], NAMES), flush=True)
    for label, name in (("human, 5 folds", "human"), ("cross-species, 5 folds", "whole")):
        if f"{name}-cv" in options.parts:
            paper(label)
            runs = [papers.folds(model, name, seed) for seed in options.seeds]
            print(row(f"{model} | {label}", [mean_of(run) for run in runs], NAMES), flush=True)
            for number, fold in enumerate(zip(*runs, strict=True)):
                print(row(f"{model} | {label}: fold {number}", fold, NAMES), flush=True)
    for name in ABLATIONS[options.paper] if "ablations" in options.parts else ():
        means = [mean_of(papers.folds(name, "human", seed)) for seed in options.seeds]
        published = f" (published F {PAPER_F[name]})" if name in PAPER_F else ""
        print(row(f"{name}{published} | human, 5 folds", means, NAMES), flush=True)


if __name__ == "__main__":
    main()
