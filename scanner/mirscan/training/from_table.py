"""Train a model on labelled sequences: read, fold, fit by its published recipe, keep the weights."""

from __future__ import annotations

import csv
import gzip
import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import nnx

from mirscan.checkpoints import weights
from mirscan.devices import best_precision, configure
from mirscan.errors import InputError, UsageError
from mirscan.evaluation.ranking import average_precision
from mirscan.files.folders import claim
from mirscan.files.kinds import TRAINING, WEIGHTS
from mirscan.host import cores
from mirscan.kernels.bases import AMBIGUOUS, CODE
from mirscan.models import find_model, load_model, plain, set_weights
from mirscan.paths import Paths
from mirscan.structure.molecules import LONGEST, digest_of, fold_once, molecules_of
from mirscan.training.loop import Batch, fit
from mirscan.training.losses import LONG, SHORT
from mirscan.training.published import Published, published
from mirscan.types import ModelSpec

LABELS = {"1": True, "0": False}
COLUMNS = ("name", "sequence", "label")


class Labelled(NamedTuple):
    """Sequences and whether each is what a model looks for."""

    names: list[str]
    texts: list[str]
    positive: np.ndarray


def read_labelled(path: Path) -> Labelled:
    """Read a table with the columns ``name``, ``sequence`` and ``label`` (1 or 0), tab-separated, plain or gzip.

    Raises
    ------
    InputError
        Naming the line, if it is no such table, a sequence is none, or one of the classes is missing.
    """
    names, texts, positive = [], [], []
    try:
        opener: Callable[..., Any] = gzip.open if path.suffix == ".gz" else open
        with opener(path, "rt", newline="") as file:
            rows = csv.DictReader(file, delimiter="\t")
            missing = [column for column in COLUMNS if column not in (rows.fieldnames or ())]
            if missing:
                raise InputError(f"{path}:1: no column {missing[0]!r}; the first line names name, sequence and label")
            for row in rows:
                where = f"{path}:{rows.line_num}"
                text, label = (row["sequence"] or "").strip().upper(), (row["label"] or "").strip()
                if label not in LABELS:
                    raise InputError(f"{where}: label {label!r}; write 1 for what is looked for and 0 for all else")
                if not text or len(text) > LONGEST:
                    raise InputError(f"{where}: a sequence of {len(text)} bases; give 1 to {LONGEST}")
                if not text.isascii() or (CODE[np.frombuffer(text.encode(), np.uint8)] > AMBIGUOUS).any():
                    raise InputError(f"{where}: {text[:20]!r} holds a letter that is no nucleotide code")
                names.append(row["name"])
                texts.append(text.replace("T", "U"))
                positive.append(LABELS[label])
    except (OSError, EOFError, UnicodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable table ({error})") from error
    if len(set(positive)) < 2:
        raise InputError(f"{path}: {len(names)} sequences, not of both labels; a model learns from 1 and 0")
    return Labelled(names, texts, np.array(positive))


def learn(
    spec: ModelSpec,
    inputs: tuple[np.ndarray, ...],
    positive: np.ndarray,
    training: Published,
    folder: Path,
    *,
    log: Callable[[str], None],
    start: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Fit a model from random weights, or from ``start``, and return a plain tree; a killed run resumes in ``folder``.

    Parameters
    ----------
    inputs : tuple of arrays
        As the model's row encodes molecules.
    positive : (B,) bool

    Raises
    ------
    UsageError
        If the folder holds a training by another recipe, on other examples or of more epochs.
    """
    generator = np.random.default_rng(training.recipe.seed)
    aside = np.zeros(len(positive), dtype=bool)
    if training.validation:
        for kind in (True, False):  # as many of each kind, whatever the order of the table
            rows = generator.permutation(np.flatnonzero(positive == kind))
            aside[rows[: max(1, round(training.validation * len(rows)))]] = True
    held = named(tuple(column[aside] for column in inputs))
    module = spec.build(rngs=nnx.Rngs(training.recipe.seed), precision=best_precision(spec))
    if start is not None:
        set_weights(module, start)

    def evaluate(predict: Callable[[Batch], np.ndarray], epoch: int) -> dict[str, float]:
        scores = np.asarray(spec.score(jnp.asarray(predict(held))))
        return {"average_precision": average_precision(positive[aside], scores)}

    data = examples(tuple(column[~aside] for column in inputs), positive[~aside], training)
    chosen: dict[str, Any] = {"evaluate": evaluate, "better": "average_precision"} if training.validation else {}
    names = digest(inputs, positive)
    return fit(module, training.loss, data, training.recipe, folder, log=log, examples=names, **chosen)


def digest(inputs: tuple[np.ndarray, ...], positive: np.ndarray) -> str:
    """Sha256 (hex) of examples."""
    found = hashlib.sha256()
    for column in (*inputs, positive):
        found.update(f"{column.dtype}{column.shape}".encode() + np.ascontiguousarray(column).tobytes())
    return found.hexdigest()


def named(inputs: tuple[np.ndarray, ...]) -> Batch:
    """Inputs of a model by the names that losses know (`mirscan.training.losses.logits_of`)."""
    return {f"input{number}": column for number, column in enumerate(inputs)}


def examples(inputs: tuple[np.ndarray, ...], positive: np.ndarray, training: Published) -> Batch:
    """Examples by the names that losses know; balanced, both classes count the same and the mean weight is 1.

    They tell which are ``long`` (`mirscan.training.losses.logits_of`) where these are few.
    """
    weight = np.ones(len(positive), dtype=np.float32)
    if training.balanced:
        for kind in (True, False):
            weight[positive == kind] = len(positive) / (2 * max(1, int((positive == kind).sum())))
    data = named(inputs) | {"positive": positive, "weight": weight}
    if training.recurrent:
        long = np.any([column[:, :-SHORT].any(axis=1) for column in inputs], axis=0)
        batch, steps = training.recipe.batch, len(positive) // training.recipe.batch
        if steps and long.any() and -(-int(long.sum()) // steps) <= batch // LONG:
            data["long"] = long
    return data


def train_file(
    name: str,
    table: Path,
    output: Path,
    *,
    folder: str = "viennarna",
    epochs: int | None = None,
    seed: int = 0,
    start: Path | None = None,
    threads: int | None = None,
    log: Callable[[str], None],
) -> Path:
    """Train a model on a table of labelled sequences; returns the folder of its weights, ``output/weights``.

    Raises
    ------
    InputError
        If the table cannot be used (see `read_labelled`), the weights to start from are not the model's, or the folder
        is not ours.
    UsageError
        If the model does not learn from a table, or the folder holds another training.
    """
    spec = find_model(name)
    training = published(name)
    changes: dict[str, Any] = {"seed": seed} | ({} if epochs is None else {"epochs": epochs})
    training = replace(training, recipe=replace(training.recipe, **changes))
    paths = Paths().reads("--data", table).reads_folder("--start", start, WEIGHTS)
    paths.makes("--output", output, TRAINING).makes("its training", output / "training", TRAINING)
    for place in ("weights", "training/state", "training/best"):
        paths.makes(f"its {place}", output / place, WEIGHTS)
    paths.look()
    configure(threads)
    labelled = read_labelled(table)
    begin = None if start is None else plain(load_model(name, start)[1])  # refuses weights of another model
    count = cores(threads)
    claim(output, TRAINING)
    if "fold" in spec.needs:
        kept = output / f"{folder}-{digest_of(labelled.texts, folder)[:8]}.npz"  # of another table: another file
        molecules = fold_once(labelled.texts, kept, folder, count)
    else:
        molecules = molecules_of(labelled.texts)
    log(f"{name}: {int(labelled.positive.sum())} positives, {int((~labelled.positive).sum())} negatives")
    if spec.encode is None:
        raise UsageError(f"model {name!r} does not learn from a table")
    inputs = spec.encode(molecules)
    tree = learn(spec, inputs, labelled.positive, training, output / "training", log=log, start=begin)
    about = {"model": name, "seed": seed, "examples": len(labelled.texts), "epochs": training.recipe.epochs}
    weights.save(output / "weights", tree, about)
    return output / "weights"
