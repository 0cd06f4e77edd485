"""Train a published model on a published set, and score others with it; each run is kept and made once."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from figures import figures
from flax import nnx

from mirscan.devices import best_precision
from mirscan.host import cores
from mirscan.models import MODELS, plain, set_weights
from mirscan.structure.molecules import fold_once, molecules_of
from mirscan.training.from_table import examples, learn, named
from mirscan.training.loop import fit, runner
from mirscan.training.published import Published, published
from mirscan.types import ModelSpec


class Examples(NamedTuple):
    """Inputs of a model and their classes."""

    inputs: tuple[np.ndarray, ...]
    positive: np.ndarray

    def take(self, rows: np.ndarray) -> Examples:
        """Some of them."""
        return Examples(tuple(column[rows] for column in self.inputs), self.positive[rows])


def encoded(spec: ModelSpec, texts: list[str], positive: np.ndarray, folds: Path) -> Examples:
    """Sequences as a model reads them; ViennaRNA's structures are kept in ``folds``."""
    assert spec.encode is not None
    count = cores()
    molecules = fold_once(texts, folds, processes=count) if "fold" in spec.needs else molecules_of(texts)
    return Examples(spec.encode(molecules), positive)


def recipe_of(name: str, seed: int, epochs: int | None = None) -> Published:
    """The published training with a seed, and with other epochs where they are given."""
    training = published(name)
    recipe = replace(training.recipe, seed=seed, epochs=epochs or training.recipe.epochs)
    return replace(training, recipe=recipe)


def trained(
    name: str, training: Published, learned: Examples, home: Path, start: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Weights of a model trained on ``learned``, from ``start`` on where that is given; a killed run resumes."""
    return learn(MODELS[name], *learned, training, home, log=lambda line: None, start=start)


def scores_of(home: Path, training: Published, renew: bool = False) -> Path:
    """Where the scores of a training are kept."""
    return home / f"scores-{training.recipe.epochs}{'-renewed' if renew else ''}.npz"


def renewed(name: str, tree: dict[str, Any], learned: Examples, training: Published) -> dict[str, Any]:
    """The same weights, with the averages of batch norm taken anew: those of an epoch in which nothing is learned."""
    module = MODELS[name].build(rngs=nnx.Rngs(0))
    set_weights(module, tree)
    module.train()
    module.set_attributes(momentum=0.0)  # a batch leaves its own averages behind, and nothing of earlier ones
    graph, *state = nnx.split(module, nnx.Param, nnx.BatchStat, ...)

    @jax.jit
    def averages(state: list[Any], inputs: tuple[np.ndarray, ...]) -> Any:
        inner = nnx.merge(graph, *state)
        inner(*inputs)
        return nnx.state(inner, nnx.BatchStat)

    batch = training.recipe.batch
    order = np.random.default_rng(training.recipe.seed).permutation(len(learned.positive))
    batches = order[: len(order) // batch * batch].reshape(-1, batch)
    each = [averages(state, learned.take(rows).inputs) for rows in batches]
    nnx.update(module, jax.tree.map(lambda *some: np.mean(some, axis=0), *each))
    return plain(nnx.state(module, (nnx.Param, nnx.BatchStat)))


def rerun(
    name: str,
    training: Published,
    learned: Examples,
    judged: Mapping[str, Examples],
    home: Path,
    start: dict[str, Any] | None = None,
    renew: bool = False,
) -> dict[str, np.ndarray]:
    """Scores of every set that is judged by a model trained on ``learned``; kept in ``home``.

    Where a set has none yet, all are scored again, by the network that is kept there as well. A training of more epochs
    goes on from one of fewer. ``renew``: by the network as `renewed`, kept apart.
    """
    kept = scores_of(home, training, renew)
    if not kept.is_file() or not judged.keys() <= set(np.load(kept).files):
        spec, began = MODELS[name], time.time()
        tree = trained(name, training, learned, home, start)
        tree = renewed(name, tree, learned, training) if renew else tree
        module = spec.build(rngs=nnx.Rngs(0))
        set_weights(module, tree)
        module.eval()
        predict = runner(module, 128)
        scores = {key: np.asarray(spec.score(predict(named(some.inputs)))) for key, some in judged.items()}
        np.savez(kept, seconds=time.time() - began, **scores)  # type: ignore[arg-type]
    with np.load(kept) as saved:
        return {key: saved[key] for key in judged}


def seconds_an_epoch(name: str, learned: Examples, home: Path, steps: int = 4) -> float:
    """Time of an epoch by the published recipe, from a few steps after the first epoch has compiled them."""
    training, marks = published(name), []
    recipe = replace(training.recipe, epochs=2, epoch_size=steps * training.recipe.batch)
    data = examples(learned.inputs, learned.positive, training)

    def mark(predict: object, epoch: int) -> dict[str, float]:
        marks.append(time.perf_counter())
        return {}

    module = MODELS[name].build(rngs=nnx.Rngs(0), precision=best_precision(MODELS[name]))
    fit(module, training.loss, data, recipe, home, evaluate=mark, log=lambda line: None)
    return (marks[1] - marks[0]) / steps * max(1, len(learned.positive) // training.recipe.batch)


def cross_validate(
    name: str, training: Published, some: Examples, folds: np.ndarray, home: Path
) -> list[dict[str, float]]:
    """Figures of each fold by a model trained on the others."""
    each = []
    for fold in np.unique(folds):
        held = folds == fold
        scores = rerun(name, training, some.take(folds != fold), {"held": some.take(held)}, home / f"fold{fold}")
        each.append(figures(some.positive[held], scores["held"]))
    return each


def cost_table(rows: Mapping[str, tuple[Examples, int]], home: Path, epochs: int | None = None) -> list[str]:
    """What training each row costs on its examples: seconds an epoch, times epochs, times how often it is trained.

    Epochs are the published ones where none are given.
    """
    lines = ["| model | examples | seconds an epoch | epochs | trainings | core-minutes |", "|---|---|---|---|---|---|"]
    for name, (learned, runs) in rows.items():
        with tempfile.TemporaryDirectory(dir=home) as folder:
            seconds = seconds_an_epoch(name, learned, Path(folder))
        count = epochs or published(name).recipe.epochs
        minutes = seconds * count * runs / 60
        cells = [name, f"{len(learned.positive):,}", f"{seconds:.2f}", count, runs, f"{minutes:.1f}"]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return lines
