"""mirDNN: residual convolutions over the bases and brackets of a folded molecule, and its energy.

Yones et al. 2021, with one network for animals and a longer one for plants. Layers start as elsewhere in this package,
not as published, and the last one gives a logit.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float

from mirscan.kernels.stems import nucleotide_numbers
from mirscan.models.layers import Convolution, Precision, Residual
from mirscan.types import ModelSpec, Molecules

CHANNELS = 64
LAST = 10
"""Positions that the halvings leave."""


def encode(molecules: Molecules, *, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Bases and brackets (B, width, 5), and energy per base (B,) in kcal/mol, float32.

    Shorter molecules stand in the middle of zeros, longer ones lose both ends alike; energy and length are those of the
    whole molecule. An ambiguous base is a quarter of each (published: the sequence ends before it).
    """
    numbers = nucleotide_numbers(molecules.codes, molecules.lengths, molecules.partners, width)
    return numbers, (molecules.energies / molecules.lengths).astype(np.float32)


class MirDNN(nnx.Module):
    """Numbers of every base, and energy per base, to one logit.

    Parameters
    ----------
    halvings : int
        Stages of three residual blocks and a maximum of neighbouring positions, of which 10 are left in the end: 4 for
        160 positions, 5 for 320.
    """

    def __init__(self, *, halvings: int, precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        self.front = Convolution(5, CHANNELS, precision=chosen, rngs=rngs)
        self.stages = nnx.List(
            [nnx.List([Residual(CHANNELS, precision=chosen, rngs=rngs) for _ in range(3)]) for _ in range(halvings)]
        )
        norm = partial(nnx.BatchNorm, momentum=0.9, epsilon=1e-5, rngs=rngs)
        self.tower_norm, self.energy_norm, self.dense_norm = norm(CHANNELS), norm(1), norm(32)
        self.dense = nnx.Linear(LAST * CHANNELS + 1, 32, rngs=rngs)
        self.last = nnx.Linear(32, 1, rngs=rngs)

    def __call__(self, numbers: Float[Array, "B L 5"], energies: Float[Array, "B"]) -> Float[Array, "B"]:
        x = self.front(numbers)
        for stage in self.stages:
            for block in stage:
                x = block(x)
            x = x.reshape(len(x), -1, 2, CHANNELS).max(axis=2)
        x = self.tower_norm(nnx.elu(x.astype(jnp.float32))).reshape(len(x), -1)
        x = jnp.concatenate([x, self.energy_norm(energies[:, None])], axis=1)
        return self.last(self.dense_norm(nnx.elu(self.dense(x))))[:, 0]


def _probability(logits: Float[Array, "B"]) -> Float[Array, "B"]:
    return jax.nn.sigmoid(logits.astype(jnp.float32))


def _row(name: str, halvings: int, summary: str) -> ModelSpec:
    width = LAST * 2**halvings
    return ModelSpec(
        name=name,
        build=lambda **options: MirDNN(halvings=halvings, **options),
        score=_probability,
        summary=summary,
        reference="Yones et al. 2021, Computers in Biology and Medicine 134:104448",
        needs=frozenset({"fold"}),
        encode=partial(encode, width=width),
        shapes=((width, 5), ()),
        mini_batch=4,
    )


MODELS = {
    row.name: row
    for row in (
        _row("mirdnn-animal", 4, "mirDNN: residual convolutions over sequence and structure, up to 160 bases"),
        _row("mirdnn-plant", 5, "mirDNN: residual convolutions over sequence and structure, up to 320 bases"),
    )
}
