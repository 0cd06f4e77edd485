"""Which published molecules are copies or relatives of one another, and splits that keep families apart.

Two molecules are relatives where they share an exact word of 16 bases, a miRNA family by name or a hairpin image (or a
published name, where a sequence is not known); a family is what such relations join, step by step. Among nine thousand
molecules of 90 bases chance makes some seventy pairs with a common word of 16 and none with one of 20: these splits
lose a few molecules too many rather than keep a relative.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from data import Labelled

from mirscan.kernels.bases import encode
from mirscan.known.precursors import kmers

WORD = 16
"""Bases of an exact word that makes two molecules relatives."""
WRONG_FOLD = "mirbase_acc"
"""Origin of negatives that are precursors in a wrong fold: their sequence does not contradict their label."""


def words(sequences: Sequence[str], k: int) -> tuple[np.ndarray, np.ndarray]:
    """Hashes (uint64) of all words of ``k <= 31`` bases, and the row (int64) each stands in."""
    text = "".join(sequence + "N" for sequence in sequences)
    hashes = kmers(encode(np.frombuffer(text.encode("ascii"), dtype=np.uint8)), k)
    rows = np.repeat(np.arange(len(sequences)), [len(sequence) + 1 for sequence in sequences])[: len(hashes)]
    whole = hashes != np.iinfo(np.uint64).max  # no ambiguous base, and so no border between two sequences
    return hashes[whole], rows[whole]


def sharing(sequences: Sequence[str], others: Sequence[str], k: int) -> np.ndarray:
    """Which sequences (bool) share an exact word of ``k`` bases with any of the others."""
    hashes, rows = words(sequences, k)
    known = np.sort(words(others, k)[0])
    # by bisection: NumPy's isin builds hash tables, which takes several times as long here
    common = np.searchsorted(known, hashes, side="left") < np.searchsorted(known, hashes, side="right")
    found = np.zeros(len(sequences), dtype=bool)
    found[rows[common]] = True
    return found


def molecules(labelled: Labelled) -> list[Hashable]:
    """What is equal for copies of a molecule: the sequence, else the image, else origin and name."""
    return [marks[0] for marks in _marks(labelled)]


def _marks(labelled: Labelled) -> list[list[Hashable]]:
    """Of each row what makes a copy of another, surest first."""
    images: Sequence[bytes] = [b""] * len(labelled)
    if labelled.images is not None:
        images = [image.tobytes() for image in labelled.images]
    columns = zip(labelled.sequences, images, labelled.origins, labelled.names, strict=True)
    return [
        [mark for mark in (sequence, image, "" if sequence else (origin, name.lower())) if mark]
        for sequence, image, origin, name in columns
    ]


def _kinship(labelled: Labelled) -> list[list[Hashable]]:
    """Of each row all but words that makes it a relative of another."""
    return [
        marks + [("family", family)] * bool(family)
        for marks, family in zip(_marks(labelled), labelled.families, strict=True)
    ]


def _first(labelled: Labelled) -> np.ndarray:
    """Row (int64) in which the molecule of each row stands first."""
    seen: dict[Hashable, int] = {}
    return np.array([seen.setdefault(key, row) for row, key in enumerate(molecules(labelled))], dtype=np.int64)


def copies(labelled: Labelled) -> np.ndarray:
    """Rows (bool) whose molecule stood in an earlier row."""
    return _first(labelled) != np.arange(len(labelled))


def both_labels(labelled: Labelled) -> np.ndarray:
    """Rows (bool) whose molecule is positive in one row and negative in another."""
    first = _first(labelled)
    return np.isin(first, first[labelled.positive]) & np.isin(first, first[~labelled.positive])


def doubtful(labelled: Labelled) -> np.ndarray:
    """Negatives (bool) with exactly the sequence of a miRBase precursor; none in the mirtron task."""
    columns = zip(labelled.families, labelled.origins, strict=True)
    named = [bool(family) and origin != WRONG_FOLD for family, origin in columns]
    return np.array(named, dtype=bool) & ~labelled.positive & (labelled.task == "precursor")


def clusters(labelled: Labelled, k: int = WORD) -> np.ndarray:
    """Family (int64, the number of one of its rows) of each row."""
    parent = list(range(len(labelled)))

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    hashes, rows = words(labelled.sequences, k)
    order = np.argsort(hashes, kind="stable")
    hashes, rows = hashes[order], rows[order]
    common = np.flatnonzero((hashes[1:] == hashes[:-1]) & (rows[1:] != rows[:-1]))
    for one, other in zip(rows[common].tolist(), rows[common + 1].tolist(), strict=True):
        parent[root(one)] = root(other)
    first: dict[Hashable, int] = {}
    for row, kinship in enumerate(_kinship(labelled)):
        for reason in kinship:
            parent[root(row)] = root(first.setdefault(reason, row))
    return np.array([root(row) for row in range(len(labelled))], dtype=np.int64)


def family_folds(labelled: Labelled, count: int = 5, seed: int = 0, k: int = WORD) -> tuple[np.ndarray, np.ndarray]:
    """The rows (int64) that are kept, and a fold (int64) for each: no family in two, both classes spread evenly.

    Left out are copies of an earlier row, molecules with both labels, and doubtful negatives. Families are dealt out
    from the largest to the smallest, equal ones in random order, each to the fold that holds least of their classes.

    Raises
    ------
    ValueError
        If there are fewer families than folds.
    """
    kept = np.flatnonzero(~(copies(labelled) | both_labels(labelled) | doubtful(labelled)))
    rows = labelled.take(kept)
    numbers, family = np.unique(clusters(rows, k), return_inverse=True)
    if len(numbers) < count:
        raise ValueError(f"{len(numbers)} families cannot be spread over {count} folds")
    members = np.zeros((len(numbers), 2))
    np.add.at(members, (family, rows.positive.astype(np.int64)), 1)
    shares = members / np.maximum(members.sum(axis=0), 1)
    order = np.random.default_rng(seed).permutation(len(numbers))
    held, home = np.zeros((count, 2)), np.empty(len(numbers), dtype=np.int64)
    for number in order[np.argsort(-members[order].sum(axis=1), kind="stable")]:
        home[number] = np.argmin(held @ shares[number])
        held[home[number]] += shares[number]
    return kept, home[family]


def related(labelled: Labelled, others: Labelled, k: int = WORD) -> np.ndarray:
    """Rows (bool) that are relatives of any row of the others; relatives of relatives are not looked for."""
    reasons = {reason for kinship in _kinship(others) for reason in kinship}
    named = [not reasons.isdisjoint(kinship) for kinship in _kinship(labelled)]
    return sharing(labelled.sequences, others.sequences, k) | np.array(named, dtype=bool)


def clean_rows(train: Labelled, test: Labelled, k: int = WORD) -> np.ndarray:
    """Rows (bool) of a test without relatives in training, each molecule once, without contested or doubtful labels."""
    return ~(related(test, train, k) | copies(test) | both_labels(test) | doubtful(test))


def cleaned_test(train: Labelled, test: Labelled, k: int = WORD) -> Labelled:
    """The `clean_rows` of a test."""
    return test.take(clean_rows(train, test, k))
