"""DeepMir's network over the sequence alone: filters of 2 to 16 bases side by side, the best match of each.

Tang & Sun 2019 sort microRNAs into families. Raad et al. 2022 trained their network again with two classes, as the
end-to-end system beside miRe2e, and that is what stands here. They describe it as one-hot with two convolutions in a
row, which mixes the two networks of Tang & Sun: the one that reads images of structures has the convolutions in a row,
but these cannot read four columns; so this is the other one, which reads one-hot sequences. Dropout is that of the
published code, which hands its ``keep_prob`` of 0.7 on as the share to drop; layers start as in Keras.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from mirscan.models.layers import Precision, first_bases, one_hot, product, second_share
from mirscan.types import ModelSpec

LENGTH = 200
"""Bases that the network reads: the longest of the published families.

Ambiguous bases are zeros to it, as absent ones are; a filter longer than a molecule sees all of it, and zeros beside.
"""
HEIGHTS = tuple(range(2, 17, 2))
"""Bases in a row that a filter reads."""
FILTERS = 256
"""Filters of each height."""


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def best_matches(
    codes: UInt8[Array, "B L"], kernel: Float[Array, "H 4 F"], precision: Precision
) -> Float[Array, "B F"]:
    """Highest response of each filter to H bases in a row that all lie within the L positions, float32.

    Of the responses at L - H + 1 places one counts, and its gradient goes to that place and not through all the others.
    Training on a CPU makes them molecule by molecule besides, so that they never leave the core's cache: forth and
    back it is seven times as fast as a convolution with a maximum behind it.
    """
    return _responses(codes, kernel, precision).max(axis=1)


def _responses(
    codes: UInt8[Array, "B L"], kernel: Float[Array, "H 4 F"], precision: Precision
) -> Float[Array, "B P F"]:
    height, _, filters = kernel.shape
    places = codes.shape[1] - height + 1
    bases = one_hot(codes, precision.activations)
    columns = jnp.concatenate([bases[:, tap : tap + places] for tap in range(height)], axis=2)
    weight = kernel.reshape(4 * height, filters).astype(precision.activations)
    responses = product(columns.reshape(-1, 4 * height), weight, precision)
    return responses.reshape(len(codes), places, filters).astype(jnp.float32)


def _forward(codes: Array, kernel: Array, precision: Precision) -> tuple[Array, tuple[Array, Array, Array]]:
    def best(codes: Array) -> tuple[Array, Array]:
        responses = _responses(codes, kernel, precision)
        highest, places = responses.max(axis=1), jnp.arange(responses.shape[1])[:, None]
        # the first place that reaches the maximum: as argmax, which XLA does not vectorise on CPUs
        reached = responses == highest[:, None]
        return highest, jnp.where(reached, places, len(places)).min(axis=1)

    if jax.default_backend() == "cpu":
        highest, places = (x[:, 0] for x in jax.lax.map(lambda molecule: best(molecule[None]), codes))
    else:
        highest, places = best(codes)
    return highest, (codes, places, kernel)


def _backward(
    precision: Precision, kept: tuple[Array, Int[Array, "B F"], Array], gradient: Float[Array, "B F"]
) -> tuple[None, Float[Array, "H 4 F"]]:
    codes, places, kernel = kept
    found = jax.vmap(lambda tap: jnp.take_along_axis(codes, places + tap, axis=1))(jnp.arange(len(kernel)))
    letters = jnp.arange(4, dtype=codes.dtype)[:, None, None]
    return None, jnp.where(found[:, None] == letters, gradient, 0).sum(axis=2)


best_matches.defvjp(_forward, _backward)


class DeepMirSequence(nnx.Module):
    """Codes to two logits, column 1 for a precursor.

    Parameters
    ----------
    dropout : float
        Share of the best matches that training leaves out.
    """

    def __init__(self, *, dropout: float = 0.7, precision: str = "float32", rngs: nnx.Rngs) -> None:
        self.precision = Precision.named(precision)
        glorot = nnx.initializers.glorot_uniform()
        # the published layout, (H, 4, 1, F), sets how wide they are drawn
        self.kernels = nnx.List(
            [nnx.Param(glorot(rngs.params(), (height, 4, 1, FILTERS))[:, :, 0]) for height in HEIGHTS]
        )
        self.bias = nnx.Param(jnp.zeros(len(HEIGHTS) * FILTERS))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)
        self.dense = nnx.Linear(len(HEIGHTS) * FILTERS, 512, kernel_init=glorot, rngs=rngs)
        self.classes = nnx.Linear(512, 2, kernel_init=glorot, rngs=rngs)

    def __call__(self, codes: UInt8[Array, "B L"]) -> Float[Array, "B 2"]:
        matches = [best_matches(codes, jnp.asarray(kernel[...]), self.precision) for kernel in self.kernels]
        # ReLU and bias rise with the response: behind the maximum they give what they give before it
        found = nnx.relu(jnp.concatenate(matches, axis=1) + self.bias[...])
        return self.classes(nnx.relu(self.dense(self.dropout(found))))


MODELS = {
    "deepmir-seq": ModelSpec(
        name="deepmir-seq",
        build=DeepMirSequence,
        score=second_share,
        summary="DeepMir on the bare sequence: the best match of each of 2,048 filters of 2 to 16 bases",
        reference="Tang & Sun 2019, BMC Bioinformatics 20(S23):646",
        encode=partial(first_bases, length=LENGTH),
        shapes=((LENGTH,),),
        wide=True,
        mini_batch=8,
    )
}
