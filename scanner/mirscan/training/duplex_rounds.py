"""Train a hairpin model in rounds: each learns from random background and from what fooled the last one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from flax import nnx

from mirscan.models import set_weights
from mirscan.structure.hairpins import Hairpins
from mirscan.training.loop import Recipe, fit, runner
from mirscan.training.losses import weighted_cross_entropy
from mirscan.types import ModelSpec


@dataclass(frozen=True)
class Rounds:
    """How often, how long, and on how many negatives."""

    epochs: tuple[int, ...] = (2, 2, 3)
    """Epochs of each round."""
    random: int = 750_000
    """Background hairpins of a round, drawn anew."""
    searched: int = 750_000
    """Background hairpins in which hard ones are looked for after a round."""
    hard: int = 20_000
    """The highest scoring of them: they stay for the rounds that follow,"""
    repeated: int = 8
    """and each stands so many times among the negatives, as a third of all: calls are the best few of a million."""
    antisense: int = 25_000
    """Other strands of positives in a round, drawn anew."""
    batch: int = 64
    """Small, so that activations stay in a core's L2 cache: 1.4 times the speed of 256."""
    epoch_size: int = 160_000
    positive_share: float = 0.3
    swapped: float = 0.15
    """Share of base pairs that are turned round each time a hairpin is drawn, and"""
    changed: float = 0.1
    """of unpaired bases that are drawn anew: or the network learns its negatives by heart."""
    learning_rate: float = 7e-4
    weight_decay: float = 1e-2
    seed: int = 0


def mine(
    spec: ModelSpec,
    positives: Hairpins,
    weights: np.ndarray,
    background: Hairpins,
    antisense: Hairpins,
    rounds: Rounds,
    folder: Path,
    log: Callable[[str], None],
) -> dict[str, Any]:
    """Train from random weights and return the last ones as a plain tree.

    Parameters
    ----------
    spec : ModelSpec
        A model whose unit is the hairpin.
    positives : Hairpins
    weights : (P,) float32
        What each positive counts in the loss; negatives count 1.
    background : Hairpins
        Negatives to draw from and to mine; hundreds of thousands.
    antisense : Hairpins
        Other strands of positives, labelled negative.
    rounds : Rounds
    folder : Path
        A run that was killed resumes here.
    """
    module = spec.build(rngs=nnx.Rngs(rounds.seed))
    hard = np.empty(0, dtype=np.int64)
    tree: dict[str, Any] = {}
    for number, epochs in enumerate(rounds.epochs):
        generator = np.random.default_rng((rounds.seed, number))
        drawn = generator.choice(background.size, min(rounds.random, background.size), replace=False)
        rows = np.concatenate([np.setdiff1d(drawn, hard), np.tile(hard, rounds.repeated)])
        turned = generator.choice(antisense.size, min(rounds.antisense, antisense.size), replace=False)
        parts = (positives, background.take(rows), antisense.take(turned))
        data = {
            "duplexes": np.concatenate([part.duplexes for part in parts]),
            "scalars": np.concatenate([part.scalars for part in parts]),
            "weight": np.concatenate([weights, np.ones(len(rows) + len(turned))]).astype(np.float32),
        }
        data["positive"] = np.arange(len(data["weight"])) < positives.size
        recipe = Recipe(
            batch=rounds.batch,
            epochs=epochs,
            learning_rate=rounds.learning_rate,
            warmup=200,
            weight_decay=rounds.weight_decay,
            positive_share=rounds.positive_share,
            epoch_size=rounds.epoch_size,
            seed=rounds.seed + number,
        )
        log(f"round {number + 1}: {positives.size} positives, {len(rows)} background, {len(turned)} antisense")
        tree = fit(
            module,
            partial(weighted_cross_entropy, swapped=rounds.swapped, changed=rounds.changed),
            data,
            recipe,
            folder / f"round{number + 1}",
            log=log,
        )
        set_weights(module, tree)
        if number + 1 < len(rounds.epochs):
            looked = generator.choice(background.size, min(rounds.searched, background.size), replace=False)
            looked = np.sort(looked)
            scores = score_hairpins(module, background.take(looked))
            hard = np.union1d(hard, looked[np.argsort(-scores, kind="stable")[: rounds.hard]])
    return tree


def score_hairpins(module: Any, found: Hairpins, rows: int = 256) -> np.ndarray:
    """Logits (float32) of hairpins; the module is left in training mode."""
    if not found.size:
        return np.empty(0, dtype=np.float32)
    module.eval()
    scores = runner(module, rows)({"duplexes": found.duplexes, "scalars": found.scalars})
    module.train()
    return scores
