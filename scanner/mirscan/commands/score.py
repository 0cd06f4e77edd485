"""`mirscan score`: candidate precursors of a FASTA to one score each, by any model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from mirscan.devices import Scorer, backend, best_precision, configure, local_devices, rows_for
from mirscan.files.kinds import WEIGHTS
from mirscan.formats.atomic import Output
from mirscan.formats.intervals import shortest
from mirscan.host import cores
from mirscan.kernels.bases import ABSENT
from mirscan.kernels.hairpins import dot_brackets
from mirscan.models import find_model, load_model
from mirscan.paths import Paths
from mirscan.structure.hairpins import find_hairpins
from mirscan.structure.molecules import fold_sequences, molecules_of, read_sequences
from mirscan.types import Grid, ModelSpec, Molecules

WIDTHS = (100, 200, 400)
"""A molecule is computed as wide as the first of these that holds it: time axes are then not longer than needed."""


def score_fasta(
    name: str,
    fasta: Path,
    output: Path,
    *,
    weights: Path | None = None,
    folder: str = "viennarna",
    precision: str | None = None,
    devices: int | None = None,
    threads: int | None = None,
) -> int:
    """Score every record of a FASTA and write a table: name, bases, score and, where the model folds, the structure.

    Returns
    -------
    int
        Records written.

    Raises
    ------
    InputError
        If the FASTA cannot be used (see `mirscan.structure.molecules.read_sequences`) or the weights are missing.
    """
    spec = find_model(name)
    paths = Paths().reads("the sequences", fasta).reads_folder("--weights", weights, WEIGHTS)
    paths.writes("--output", output).look()
    configure(threads)
    sequences = read_sequences(fasta)
    scores, molecules = score_texts(
        name, sequences.texts, weights=weights, folder=folder, precision=precision, devices=devices, threads=threads
    )
    folded = "fold" in spec.needs
    header = ["name", "bases", "score", *(["energy", "structure"] if folded else [])]
    with Output(output) as file:
        file.write(("\t".join(header) + "\n").encode())
        marks = dot_brackets(molecules.partners, molecules.lengths) if folded else []
        for row, (record, text) in enumerate(zip(sequences.names, sequences.texts, strict=True)):
            further = [f"{molecules.energies[row]:.2f}", marks[row]] if folded else []
            file.write(("\t".join([record, str(len(text)), shortest(scores[row]), *further]) + "\n").encode())
    return len(sequences.names)


def score_texts(
    name: str,
    texts: Sequence[str],
    *,
    weights: Path | None = None,
    folder: str = "viennarna",
    precision: str | None = None,
    devices: int | None = None,
    threads: int | None = None,
) -> tuple[np.ndarray, Molecules]:
    """Scores (float32) of sequences by any model, and the molecules that it was given, folded where it needs that.

    Raises
    ------
    InputError
        If the weights are missing.
    """
    spec = find_model(name)
    configure(threads)
    model = load_model(name, weights, precision=precision or best_precision(spec))
    count = cores(threads)
    structures = fold_sequences(texts, folder, count) if "fold" in spec.needs else None
    molecules = molecules_of(texts, structures)
    return score_molecules(spec, model, molecules, devices), molecules


def score_molecules(
    spec: ModelSpec, model: tuple[Any, Any], molecules: Molecules, devices: int | None = None
) -> np.ndarray:
    """Scores (float32) of molecules, each by itself: what else is in the table changes none of them.

    A model of windows without an encoding of its own gives a molecule the best score of its windows, one of hairpins
    that of the best hairpin in it, 0 where there is none.

    Parameters
    ----------
    model : (graph, state)
        As `mirscan.models.load_model` returns it.
    """
    scores = np.zeros(len(molecules.lengths), dtype=np.float32)
    chosen, platform = local_devices(devices), backend()
    for rows, inputs in _inputs(spec, molecules):
        if len(rows):
            shaped = replace(spec, shapes=tuple(column.shape[1:] for column in inputs))
            compiled = rows_for(spec, platform, -(-len(rows) // len(chosen)))
            scorer = Scorer(shaped, *model, rows=compiled, devices=chosen)
            np.maximum.at(scores, rows, scorer.score(*inputs))
    return scores


def _inputs(spec: ModelSpec, molecules: Molecules) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, ...]]]:
    """Inputs of a model, and the molecule (int64) that each of their rows is of."""
    if spec.unit == "hairpin":
        each = [find_hairpins(codes[:n]) for codes, n in zip(molecules.codes, molecules.lengths, strict=True)]
        rows = np.repeat(np.arange(len(each)), [found.size for found in each])
        fold = [np.zeros(len(rows), dtype=np.uint8)] * bool(spec.folds)
        yield rows, (*(np.concatenate([getattr(f, n) for f in each]) for n in ("duplexes", "scalars")), *fold)
        return
    if spec.encode is None:
        windows, rows = _windows(spec, molecules)
        yield rows, (windows,)
        return
    widths = np.array([*WIDTHS, max(WIDTHS[-1], molecules.codes.shape[1])])
    of_row = widths[np.searchsorted(widths, molecules.lengths)]
    for width in np.unique(of_row):
        rows = np.flatnonzero(of_row == width)
        yield rows, spec.encode(_as_wide(molecules.take(rows), int(width)))


def _as_wide(molecules: Molecules, width: int) -> Molecules:
    """The same molecules in tables of another width, which holds the longest of them."""

    def cut(table: np.ndarray, filling: int) -> np.ndarray:
        return np.pad(table[:, :width], [(0, 0), (0, max(0, width - table.shape[1]))], constant_values=filling)

    return molecules._replace(codes=cut(molecules.codes, ABSENT), partners=cut(molecules.partners, -1))


def _windows(spec: ModelSpec, molecules: Molecules) -> tuple[np.ndarray, np.ndarray]:
    """Windows (codes) of molecules and the row of each; a shorter molecule is one window, padded."""
    grid = Grid(spec.window, spec.step)
    windows, rows = [], []
    for row, (codes, length) in enumerate(zip(molecules.codes, molecules.lengths, strict=True)):
        whole = np.full(max(int(length), spec.window), ABSENT, dtype=np.uint8)
        whole[:length] = codes[:length]
        starts = grid.starts(len(whole), 0, grid.count(len(whole)))
        windows.append(whole[starts[:, None] + np.arange(spec.window)])
        rows.append(np.full(len(starts), row))
    return np.concatenate(windows), np.concatenate(rows)
