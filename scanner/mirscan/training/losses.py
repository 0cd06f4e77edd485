"""Losses: what each training minimises, one function for each."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax

from mirscan.kernels.duplex import PAIRED

SHORT, LONG = 112, 16
"""Steps of a recurrence that nearly all molecules fit into, and the share of longer ones, one in so many, that is
computed apart: deepMiRGene learns 2.4 times as fast then."""


def squared_error(module: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Mean squared error of the first stage's structure, or the second's energy."""
    inputs = [batch[name] for name in ("codes", "structure") if name in batch]
    return jnp.mean((module(*inputs) - batch["target"]) ** 2)


def guided_error(module: Any, batch: dict[str, jax.Array], weight: float = 0.5) -> jax.Array:
    """Squared error of the first stage's structure, plus a guide for attention.

    The guide is the cross entropy of one attention head of each layer against the base that each base pairs with
    (itself where unpaired), as syntax guides attention in Strubell et al. 2018 (EMNLP, section 3.2). Signs alone say
    little about who pairs with whom, and attention would find complementary stems late.
    """
    signs, logits = module.attend(batch["codes"])
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), batch["partner"][None, ..., None], axis=-1)
    return jnp.mean((signs - batch["target"]) ** 2) - weight * jnp.mean(chosen)


def focal_loss(module: Any, batch: dict[str, jax.Array], gamma: float = 2.0) -> jax.Array:
    """Cross entropy of the logits, each example weighted by (1 - p)^gamma of its true class (Lin et al. 2017, eq. 4).

    The published code feeds softmax outputs to a loss that expects logits; this is what was meant.
    """
    logits = module(batch["codes"], batch["structure"], batch["energy"])
    log = jax.nn.log_softmax(logits.astype(jnp.float32))
    chosen = jnp.where(batch["positive"], log[:, 0], log[:, 1])
    return -jnp.mean((1 - jnp.exp(chosen)) ** gamma * chosen)


def altered(duplexes: jax.Array, draw: jax.Array, swapped: float, changed: float) -> jax.Array:
    """Duplexes (uint8, (B, columns, 3)) as they might have been: the same hairpin of another sequence.

    Each base pair is turned round with the probability ``swapped``; each base that does not pair is drawn anew with the
    probability ``changed``. Pairs, bulges and loops stay, and almost the energy.
    """
    turn, alter = jax.random.split(jax.random.key(draw))
    left, right, state = duplexes[..., 0], duplexes[..., 1], duplexes[..., 2]
    turned = jax.random.bernoulli(turn, swapped, state.shape) & (state == PAIRED)
    left, right = jnp.where(turned, right, left), jnp.where(turned, left, right)
    sides = jnp.stack([left, right], axis=-1)
    bits = jax.random.bits(alter, sides.shape, jnp.uint32)
    hit = ((bits >> 8) < jnp.uint32(changed * (1 << 24))) & (state != PAIRED)[..., None] & (sides < 4)
    sides = jnp.where(hit, (bits & 3).astype(jnp.uint8), sides)
    return jnp.concatenate([sides, state[..., None]], axis=-1)


def weighted_cross_entropy(
    module: Any, batch: dict[str, jax.Array], swapped: float = 0.0, changed: float = 0.0
) -> jax.Array:
    """Binary cross entropy of a hairpin model's logits on `altered` hairpins, each example counted by its weight."""
    logits = module(altered(batch["duplexes"], batch["draw"], swapped, changed), batch["scalars"])
    losses = optax.sigmoid_binary_cross_entropy(logits, batch["positive"].astype(jnp.float32))
    return jnp.sum(losses * batch["weight"]) / jnp.sum(batch["weight"])


def logits_of(module: Any, batch: Mapping[str, Any]) -> Any:
    """What a model makes of the inputs ``input0``, ``input1`` and so on of a batch.

    If the batch tells which examples are ``long``, these are its last rows, at most one in `LONG`, and only those are
    given in full width; of all others the last `SHORT` steps are, which hold all of them. The logits are the same.
    """
    inputs = tuple(batch[f"input{number}"] for number in range(sum(name.startswith("input") for name in batch)))
    if "long" not in batch:
        return module(*inputs)
    few = len(inputs[0]) // LONG
    return jnp.concatenate([module(*(x[:-few, -SHORT:] for x in inputs)), module(*(x[-few:] for x in inputs))])


def class_cross_entropy(module: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Cross entropy of the softmax of two logits a molecule, column 1 being positive, counted by ``weight``.

    It is also Keras' binary cross entropy over both outputs of a softmax, whose two terms are equal.
    """
    logits = logits_of(module, batch)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, batch["positive"].astype(jnp.int32))
    return jnp.mean(losses * batch["weight"])


def class_squared_error(module: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Squared error of two sigmoid outputs against 0 and 1, as deepMiRGene 2016 is trained (section 3.3)."""
    found = jax.nn.sigmoid(logits_of(module, batch))
    wanted = jnp.stack([~batch["positive"], batch["positive"]], axis=1).astype(jnp.float32)
    return jnp.mean(jnp.mean((found - wanted) ** 2, axis=1) * batch["weight"])


def class_focal_loss(module: Any, batch: dict[str, jax.Array], gamma: float = 2.0) -> jax.Array:
    """Focal loss (Lin et al. 2017, eq. 4) of one logit a molecule, counted by ``weight``."""
    logits = logits_of(module, batch)
    log = jax.nn.log_sigmoid(jnp.where(batch["positive"], logits, -logits))
    return -jnp.mean((1 - jnp.exp(log)) ** gamma * log * batch["weight"])


def findings_cross_entropy(module: Any, batch: dict[str, jax.Array]) -> jax.Array:
    """Binary cross entropy of the logits that the last layers of each network give to its findings."""
    logits = module(batch["findings"].astype(jnp.float32))
    targets = jnp.broadcast_to(batch["positive"][:, None], logits.shape).astype(jnp.float32)
    return jnp.mean(optax.sigmoid_binary_cross_entropy(logits, targets))
