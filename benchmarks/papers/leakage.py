"""What the published splits leak and mislabel, and what is left of them when families are kept apart.

    python benchmarks/papers/leakage.py ../shared/data > benchmarks/results/leakage.md

Prints Markdown. What counts as a relative is said in families.py.
"""

from __future__ import annotations

import argparse
import datetime
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from data import TABLE_2, Labelled, deepmir, deepmirgene, deepmirgene_folds, join, mirtrons, stratified_folds
from families import both_labels, cleaned_test, clusters, copies, doubtful, family_folds, molecules, related, sharing
from releases import ENTRIES, PUBLISHED, human, positives

Pairs = Sequence[tuple[Labelled, Labelled]]
"""What is trained on and what is judged: once, or for each fold."""
NOTE = """\
A molecule is its sequence or, where only that was published, its image or name; positive + negative. *Copies* are rows
whose molecule stood before; *two labels* counts molecules that are positive in one row and negative in another;
*doubtful* are negatives with exactly the sequence of a miRBase precursor (releases 18, 20, 21 or 22, any species).
*Verbatim* are judged rows whose molecule is trained on, with its own / with the other label. A shared word is an exact
one, with a training molecule of the same class, in percent of the judged molecules with a known sequence. *Relatives*
are judged rows of the class that share a word of 16, a family by name or an image with anything trained on; *cleaned*
is the test without them, without copies, two labels and doubtful negatives. Where there are folds, columns from
*verbatim* on add up over them.
"""
TABLE_2_NOTE = """\
## DeepMir's Table 2: what its models had seen

*Base* is trained on modhsa_train, *fine-tuned* also on nonhsa_modmirbase, of which no images were published. *By name*
and *same image* count rows of the set that are trained on, the latter in the base training with the same / with the
other label; a shared word is one with any training positive, in percent of the known sequences. Cleaned: rows left
without relatives in training, as above; where sequences are unknown only names and images can tell.
"""
FOLDS_NOTE = """\
## Five folds with families apart (seed 0)

Copies, molecules with two labels and doubtful negatives are left out; the largest family is in molecules.
"""


def in_turn(labelled: Labelled, folds: np.ndarray) -> Pairs:
    """Each fold judged by what is trained on the others."""
    return [(labelled.take(folds != fold), labelled.take(folds == fold)) for fold in range(max(folds) + 1)]


def published_splits(data: Path) -> dict[str, Pairs]:
    """The splits of the papers."""
    found: dict[str, Pairs] = {}
    for name, title in (("human", "deepMiRGene human"), ("whole", "deepMiRGene cross-species")):
        train = deepmirgene(data, name, "train")
        found[f"{title}, test"] = [(train, deepmirgene(data, name, "test"))]
        found[f"{title}, 5 folds of the rest"] = in_turn(train, deepmirgene_folds(data, name))
    found["deepMiRGene new, by cross-species"] = [(deepmirgene(data, "whole"), deepmirgene(data, "new"))]
    found["mirtrons, Zheng's split"] = [(mirtrons(data, "train"), mirtrons(data, "test"))]
    everything = mirtrons(data)
    found["mirtrons, 5 stratified folds"] = in_turn(everything, stratified_folds(everything))
    for name in ("modhsa", "hsapseudo"):
        found[f"DeepMir {name}"] = [(deepmir(data, f"{name}_train"), deepmir(data, f"{name}_test"))]
    found["human miRBase 21, then 22"] = [positives(data)]
    return found


def share(found: np.ndarray) -> str:
    """Count and percentage of a mask."""
    return f"{found.sum()} ({100 * found.mean():.0f} %)" if len(found) else "–"


def signed(sets: Iterable[Labelled]) -> str:
    """How many are positive and how many negative."""
    positive, negative = np.sum([one.counts() for one in sets], axis=0)
    return f"{positive} + {negative}"


def known(labelled: Labelled) -> np.ndarray:
    """Rows (bool) whose sequence is known."""
    return np.array([bool(sequence) for sequence in labelled.sequences], dtype=bool)


def row(*cells: object) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(map(str, cells)) + " |"


def header(*columns: str) -> str:
    """The first two lines of a Markdown table."""
    return row(*columns) + "\n|" + "---|" * len(columns)


def of_class(labelled: Labelled, real: bool) -> Labelled:
    """The positives, or the negatives."""
    return labelled.take(labelled.positive == real)


def split_row(title: str, pairs: Pairs) -> str:
    """What a split leaks."""
    train, test = pairs[0]
    whole = join([train, test])
    contested = {key for key, bad in zip(molecules(whole), both_labels(whole), strict=True) if bad}
    verbatim = [0, 0]
    common: dict[tuple[bool, int], list[np.ndarray]] = {(True, 20): [], (True, 30): [], (False, 20): []}
    kin: dict[bool, list[np.ndarray]] = {True: [], False: []}
    for train, test in pairs:
        for real, found in kin.items():
            found.append(related(of_class(test, real), train))
        for real in (True, False):
            sides = [set(molecules(of_class(train, real == same))) for same in (True, False)]
            judged = molecules(of_class(test, real))
            verbatim = [count + sum(key in side for key in judged) for count, side in zip(verbatim, sides, strict=True)]
        for (real, k), masks in common.items():
            judged_rows = of_class(test, real)
            masks.append(sharing(judged_rows.sequences, of_class(train, real).sequences, k)[known(judged_rows)])
    shares = [share(np.concatenate(masks)) for masks in [*common.values(), *kin.values()]]
    return row(
        title, signed([pairs[0][0]]), signed([pairs[0][1]]), share(known(whole)), copies(whole).sum(), len(contested),
        doubtful(whole).sum(), " / ".join(map(str, verbatim)), *shares,
        signed(cleaned_test(train, test) for train, test in pairs),
    )  # fmt: skip


def table_2_row(title: str, judged: Labelled, base: Labelled, tuned: Labelled) -> str:
    """What the two models of DeepMir had seen of a benchmark set, all of whose rows have one label."""
    real = bool(judged.positive[0])
    names = list(zip(judged.origins, map(str.lower, judged.names), strict=True))
    cells: list[object] = []
    for train in (base, tuned):
        seen = set(zip(train.origins, map(str.lower, train.names), strict=True))
        cells.append(sum(name in seen for name in names))
    for same in (True, False):
        drawn = of_class(base, real == same).images
        if judged.images is None or drawn is None:
            cells.append("–")
        else:
            seen_images = {image.tobytes() for image in drawn}
            cells.append(sum(image.tobytes() in seen_images for image in judged.images))
    for train in (base, tuned):
        cells.append(share(sharing(judged.sequences, of_class(train, True).sequences, 20)[known(judged)]))
    cleaned = (sum(cleaned_test(train, judged).counts()) for train in (base, tuned))
    return row(title, len(judged), known(judged).sum(), *cells, *cleaned)


def fold_row(title: str, labelled: Labelled) -> str:
    """Five folds that keep families apart."""
    rows, folds = family_folds(labelled)
    kept = labelled.take(rows)
    sizes = np.unique(clusters(kept), return_counts=True)[1]
    parts = (signed([kept.take(folds == fold)]) for fold in range(max(folds) + 1))
    return row(title, signed([labelled]), signed([kept]), len(sizes), sizes.max(), ", ".join(parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--machine", default=f"{os.cpu_count()} cores", help="named in the first lines")
    options = parser.parse_args()
    data = options.data
    print("# Leakage and label noise in the papers' data\n")
    print(f"`python benchmarks/papers/leakage.py ../shared/data`, {options.machine}, {datetime.date.today()}.\n")
    print(NOTE)
    print(header(
        "split", "trained on", "judged", "sequence known", "copies", "two labels", "doubtful", "verbatim",
        "positives sharing 20", "sharing 30", "negatives sharing 20", "positive relatives", "negative relatives",
        "cleaned",
    ))  # fmt: skip
    splits = published_splits(data)
    for title, pairs in splits.items():
        print(split_row(title, pairs))
    at_hand = [len(human(data, release)) for release in ENTRIES]
    print(
        f"\nmiRe2e's section 4.2 trained on {PUBLISHED['train'][0]:,} and judged {PUBLISHED['test'][0]} positives. The"
        f" releases had {ENTRIES['v21']:,} and {ENTRIES['v22']:,} human\nprecursors, of which {at_hand[0]:,} and"
        f" {at_hand[1]:,} are at hand.\n"
    )

    print(TABLE_2_NOTE)
    print(header(
        "set", "rows", "sequence known", "by name, base", "fine-tuned", "same image, same label", "other label",
        "sharing 20, base", "fine-tuned", "cleaned, base", "fine-tuned",
    ))  # fmt: skip
    base = deepmir(data, "modhsa_train")
    tuned = join([base, deepmir(data, "nonhsa_modmirbase")])
    for title, name in TABLE_2.items():
        print(table_2_row(title, deepmir(data, name), base, tuned))

    print("\n" + FOLDS_NOTE)
    print(header("set", "published", "kept", "families", "largest", "folds"))
    for title, name in (("human", "human"), ("cross-species", "whole"), ("new", "new")):
        print(fold_row(f"deepMiRGene {title}", deepmirgene(data, name)))
    print(fold_row("mirtrons", mirtrons(data)))
    print(fold_row("DeepMir modhsa", join([deepmir(data, f"modhsa_{part}") for part in ("train", "test")])))


if __name__ == "__main__":
    main()
