"""Our own classifier: the two arms of a hairpin opposite each other, column by column, and a few of its numbers.

A tower of residual convolutions over the columns of the duplex, halved three times, so that loop, stem
and flanks keep their places; what it found is read together with energies, composition and the same place on the
other strand.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.kernels.duplex import COLUMNS, NOTHING, PAIRED, UNPAIRED
from mirscan.models.layers import Convolution, DType, EncoderLayer, Front, Precision, Residual, average_pool, one_hot
from mirscan.types import ModelSpec

SCALARS = 17
"""Numbers of a hairpin beside its duplex: `mirscan.structure.hairpins.SCALARS`."""
CHANNELS = 30
MEMBERS = 2
"""Networks whose mean logit is the score."""
FOLDS = 2
"""Parts of a genome to which the last layers are adapted apart: each is scored by those that did not see it."""
NEIGHBOUR = 100.0
"""Precursors come in clusters (Altuvia et al. 2005, Nucleic Acids Research 33:2697): a third have another within a
kilobase, where chance would put one in three hundred."""

COPIED = 6.0
"""Of the false calls that scored best a third were worn tandem repeats; 6 to 20 rank worm, human and viruses alike."""


def duplex_channels(duplexes: UInt8[Array, "B C 3"], dtype: DType) -> Float[Array, "B C 30"]:
    """Both bases, the state, gaps and the kind of base pair of every column as zeros and ones."""
    left, right, state = duplexes[..., 0], duplexes[..., 1], duplexes[..., 2]
    bases = [one_hot(left, dtype), one_hot(right, dtype)]
    states = (state[..., None] == jnp.arange(NOTHING + 1, NOTHING + 5, dtype=state.dtype)).astype(dtype)
    gaps = jnp.stack([(state == UNPAIRED) & (side == 5) for side in (left, right)], axis=-1).astype(dtype)
    kind = (left * 4 + right)[..., None] == jnp.arange(16, dtype=left.dtype)
    kinds = (kind & (state == PAIRED)[..., None]).astype(dtype)
    return jnp.concatenate([*bases, states, gaps, kinds], axis=-1)


class Duplex(nnx.Module):
    """Duplexes and scalars of hairpins to one logit each, float32.

    Parameters
    ----------
    width, wide : int
        Channels before and after the first halving.
    blocks : int
        Residual blocks after each halving.
    layers : int
        Transformer encoder layers over the last columns; 0 for convolutions alone.
    dense : int
        Width of the layers that join the tower and the scalars.
    """

    def __init__(
        self,
        *,
        width: int = 32,
        wide: int = 64,
        blocks: int = 1,
        layers: int = 0,
        dense: int = 128,
        dropout: float = 0.3,
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        kind = Precision.named(precision)
        self.dtype: DType = kind.activations
        self.front = Front(CHANNELS, width, precision=kind, rngs=rngs)
        self.widen = Convolution(width, wide, precision=kind, rngs=rngs)
        self.stages = nnx.List(
            [
                nnx.List([Residual(wide, precision=kind, rngs=rngs) for _ in range(blocks)])
                for _ in range(3 if not layers else 2)
            ]
        )
        self.layers = nnx.List([EncoderLayer(wide, 4, 2 * wide, 0.1, precision=kind, rngs=rngs) for _ in range(layers)])
        self.places = nnx.Param(jnp.zeros((COLUMNS // 4, wide))) if layers else None
        self.scale = nnx.BatchNorm(SCALARS, momentum=0.99, epsilon=1e-5, use_bias=False, use_scale=False, rngs=rngs)
        sizes = (COLUMNS // 8 * wide + SCALARS, dense, dense // 2, 1)
        self.dense = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norm = nnx.BatchNorm(sizes[0] - SCALARS, momentum=0.99, epsilon=1e-5, rngs=rngs)
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, duplexes: UInt8[Array, "B C 3"], scalars: Float[Array, "B S"]) -> Float[Array, "B"]:
        return _judge(self.dense[1:], self.hidden(duplexes, scalars))

    def hidden(self, duplexes: UInt8[Array, "B C 3"], scalars: Float[Array, "B S"]) -> Float[Array, "B D"]:
        """What the last layers judge: the tower's findings and the scalars, joined; none is negative."""
        x = average_pool(nnx.relu(self.front(duplex_channels(duplexes, self.dtype))))
        x = self.widen(x)
        for number, stage in enumerate(self.stages):
            x = average_pool(x) if number else x
            for block in stage:
                x = block(x)
        if self.places is not None:
            x = x + self.places[...].astype(self.dtype)
            for layer in self.layers:
                x = layer(x)
            x = average_pool(x)
        tower = self.norm(nnx.relu(x).reshape(len(x), -1).astype(jnp.float32))
        x = jnp.concatenate([self.dropout(tower), jnp.clip(self.scale(scalars), -8.0, 8.0)], axis=-1)
        return self.dropout(nnx.relu(self.dense[0](x)))


def _judge(layers: Sequence[nnx.Linear], hidden: Float[Array, "B D"]) -> Float[Array, "B"]:
    """The last two layers: hidden units to a logit."""
    first, last = layers
    return last(nnx.relu(first(hidden)))[:, 0]


class Ensemble(nnx.Module):
    """The mean logit of networks that differ in their random start and in the negatives they saw.

    Parameters
    ----------
    members : int
        How many; further options are those of `Duplex`.
    """

    def __init__(self, *, members: int, rngs: nnx.Rngs, **options: Any) -> None:
        self.members = nnx.List([Duplex(rngs=rngs, **options) for _ in range(members)])

    def __call__(self, duplexes: UInt8[Array, "B C 3"], scalars: Float[Array, "B S"]) -> Float[Array, "B"]:
        logits = [member(duplexes, scalars) for member in self.members]
        return jnp.stack(logits).mean(axis=0)


class Findings(Ensemble):
    """What the networks of an ensemble find in a hairpin, before their last layers judge it."""

    def __call__(self, duplexes: UInt8[Array, "B C 3"], scalars: Float[Array, "B S"]) -> Float[Array, "B M D"]:
        return jnp.stack([member.hidden(duplexes, scalars) for member in self.members], axis=1)


class Judgement(nnx.Module):
    """The last two layers of every network of an ensemble: findings to a logit of each.

    Parameters
    ----------
    members : int
        How many networks.
    dense : int
        Width of the findings of each.
    """

    def __init__(self, *, members: int, dense: int = 128, rngs: nnx.Rngs) -> None:
        sizes = (dense, dense // 2, 1)
        self.members = nnx.List(
            [nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)]) for _ in range(members)]
        )

    def __call__(self, findings: Float[Array, "B M D"]) -> Float[Array, "B M"]:
        return jnp.stack([_judge(layers, findings[:, n]) for n, layers in enumerate(self.members)], axis=1)


class Adapted(nnx.Module):
    """An ensemble whose last layers were fitted again, once for every fold of a genome (`mirscan.training.adapt`).

    Parameters
    ----------
    members, folds : int
        How many networks, and how many sets of last layers each has; further options are those of `Duplex`.
    """

    def __init__(self, *, members: int, folds: int, rngs: nnx.Rngs, **options: Any) -> None:
        self.findings = Findings(members=members, rngs=rngs, **options)
        self.judgements = nnx.List([Judgement(members=members, rngs=rngs) for _ in range(folds)])

    def __call__(
        self, duplexes: UInt8[Array, "B C 3"], scalars: Float[Array, "B S"], fold: UInt8[Array, "B"]
    ) -> Float[Array, "B"]:
        findings = self.findings(duplexes, scalars)
        logits = jnp.stack([judgement(findings).mean(axis=1) for judgement in self.judgements], axis=1)
        return jnp.take_along_axis(logits, fold[:, None].astype(jnp.int32), axis=1)[:, 0]


def _probability(logits: Float[Array, "B"]) -> Float[Array, "B"]:
    return jax.nn.sigmoid(logits.astype(jnp.float32))


def _row(name: str, build: Callable[..., nnx.Module], summary: str, folds: int = 0) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=build,
        score=_probability,
        summary=summary,
        reference="this project",
        unit="hairpin",
        shapes=((COLUMNS, 3), (SCALARS,), *([()] if folds else [])),
        folds=folds,
        neighbour=NEIGHBOUR,
        copied=COPIED,
        mini_batch=64,
    )


MODELS = {
    row.name: row
    for row in (
        _row(
            "duplex",
            lambda **options: Ensemble(members=MEMBERS, **options),
            "convolutions over the aligned arms of every proposed hairpin, with its exact energies; two networks",
        ),
        _row("duplex-single", Duplex, "one such network: what is trained; no weights are shipped"),
        _row(
            "duplex-adapted",
            lambda **options: Adapted(members=MEMBERS, folds=FOLDS, **options),
            "duplex with its last layers fitted to a genome's own hairpins: `mirscan adapt` makes the weights",
            folds=FOLDS,
        ),
        _row(
            "duplex-attention",
            lambda **options: Duplex(layers=2, **options),
            "the same, with a Transformer encoder over the columns; no weights are shipped",
        ),
    )
}
