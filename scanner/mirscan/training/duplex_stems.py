"""Precursors published without their lower stem get one: a genome shows hairpins whole.

Most entries of the databases begin and end where Drosha cuts, some twenty-two pairs from the loop. In its genome such a
hairpin goes on for about eleven pairs more (Han et al. 2006, Cell 125:887). A model that learns from truncated hairpins
learns a stem's end that no genome shows.
"""

from __future__ import annotations

import csv
import gzip
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mirscan.errors import InputError
from mirscan.known.precursors import Precursor

SHORT = 70
"""Longest entry, bases, that is taken to begin and end at the cuts where its mature sequences do not tell."""
LACKING, WHOLE, LONGEST = 8, 11, 40
"""Bases beyond the cuts: fewer is no lower stem, as many as these make a lender, more make none."""


def read_arms(path: Path) -> dict[str, tuple[int, int]]:
    """Where the 5' mature sequence of each precursor begins and its 3' one ends, 0-based half-open, if both are known.

    Parameters
    ----------
    path : Path
        Tab-separated, plain or gzip, with the columns ``hairpin_id``, ``start1`` and ``end1`` (1-based, closed).

    Raises
    ------
    InputError
        If the file cannot be read or lacks a column.
    """
    found: dict[str, list[tuple[int, int]]] = {}
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt") as lines:  # type: ignore[operator]
            for row in csv.DictReader(lines, delimiter="\t"):
                found.setdefault(row["hairpin_id"], []).append((int(row["start1"]) - 1, int(row["end1"])))
    except (OSError, EOFError, UnicodeError, KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a table of mature sequences ({error!r})") from error
    pairs = {name: (min(places), max(places)) for name, places in found.items()}
    return {name: (first[0], last[1]) for name, (first, last) in pairs.items() if first[1] <= last[0]}


def cuts(precursors: Sequence[Precursor], arms: Mapping[str, tuple[int, int]]) -> np.ndarray:
    """Where each precursor is cut (int64, (P, 2)): its first base between the cuts and the one beyond the last; or -1.

    Entries of MirGeneDB (``_pre``) and entries of at most `SHORT` bases are taken to end at the cuts.
    """
    found = np.full((len(precursors), 2), -1, dtype=np.int64)
    for number, precursor in enumerate(precursors):
        length = len(precursor.codes)
        if precursor.name in arms:
            found[number] = arms[precursor.name]
        elif precursor.name.endswith("_pre") or length <= SHORT:
            found[number] = 0, length
    return found


def with_lower_stems(
    precursors: Sequence[Precursor], places: np.ndarray, may_lend: np.ndarray, generator: np.random.Generator
) -> list[Precursor]:
    """Precursors that lack a lower stem with one that another lends, of the same family where one can; others as is.

    Parameters
    ----------
    precursors : sequence of Precursor
    places : (P, 2) int64
        From `cuts`.
    may_lend : (P,) bool
        Who may lend, if it has a lower stem: not the loci that a model will be judged on.
    generator : numpy.random.Generator
        Chooses the lenders.
    """
    lengths = np.array([len(p.codes) for p in precursors])
    beyond = np.stack([places[:, 0], lengths - places[:, 1]], axis=1)
    known = places[:, 0] >= 0
    lacking = known & (beyond.min(axis=1) < LACKING)
    lenders = np.flatnonzero(known & may_lend & (beyond.min(axis=1) >= WHOLE) & (beyond.max(axis=1) <= LONGEST))
    if not len(lenders):
        return list(precursors)
    families: dict[str, list[int]] = {}
    for number in lenders.tolist():
        families.setdefault(precursors[number].family, []).append(number)
    completed = list(precursors)
    for number in np.flatnonzero(lacking).tolist():
        mine = precursors[number]
        lender = int(generator.choice(families.get(mine.family, lenders)))
        first, last = places[lender]
        parts = (
            precursors[lender].codes[:first],
            mine.codes[slice(*places[number])],
            precursors[lender].codes[last:],
        )
        completed[number] = replace(mine, codes=np.concatenate(parts))
    return completed
