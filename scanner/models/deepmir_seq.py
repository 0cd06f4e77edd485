"""DeepMir's network over the sequence alone: filters of 2 to 16 bases side by side, the best match of each.

Tang & Sun 2019 sort microRNAs into families. Raad et al. 2022 trained their network again with two classes, as the
end-to-end system beside miRe2e, and that is what stands here. They describe it as one-hot with two convolutions in a
row, which mixes the two networks of Tang & Sun: the one that reads images of structures has the convolutions in a row,
but these cannot read four columns; so this is the other one, which reads one-hot sequences. Nothing says what its
dropout should be but the published command: 0.7 is its ``keep_prob``, and the share that it drops.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int, UInt8

from mirscan.kernels.bases import ABSENT
from mirscan.models.layers import Precision, one_hot, product
from mirscan.types import ModelSpec, Molecules

LENGTH = 200
"""Bases that the network reads: the longest of the published families."""
HEIGHTS = tuple(range(2, 17, 2))
"""Bases in a row that a filter reads."""
FILTERS = 256
"""Filters of each height."""


def encode(molecules: Molecules) -> tuple[np.ndarray]:
    """Codes (B, 200) uint8 of the first 200 bases, `ABSENT` beyond the 3' end.

    Ambiguous bases are zeros to the network, as absent ones are; so a filter longer than a molecule sees all of it, and
    zeros beside.
    """
    codes = molecules.codes[:, :LENGTH]
    return (np.pad(codes, ((0, 0), (0, LENGTH - codes.shape[1])), constant_values=ABSENT),)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def best_matches(
    codes: UInt8[Array, "B L"], kernel: Float[Array, "H 4 F"], precision: Precision
) -> Float[Array, "B F"]:
    """Highest response of each filter to H bases in a row that all lie within the L positions, float32.

    Of the responses at L - H + 1 places one counts. On a CPU they are made molecule by molecule, so that they never
    leave the core's cache, and the gradient goes to the places that count and not through all the others: seven times
    as fast, forth and back, as a convolution with a maximum behind it.
    """
    return _each(lambda molecule: _responses(molecule, kernel, precision).max(axis=0), codes)


def _responses(molecule: UInt8[Array, "L"], kernel: Float[Array, "H 4 F"], precision: Precision) -> Float[Array, "P F"]:
    height, _, filters = kernel.shape
    places = len(molecule) - height + 1
    bases = one_hot(molecule[None], precision.activations)[0]
    columns = jnp.concatenate([bases[tap : tap + places] for tap in range(height)], axis=1)
    weight = kernel.reshape(4 * height, filters).astype(precision.activations)
    return product(columns, weight, precision).astype(jnp.float32)


def _each(function: Callable[[Array], Any], molecules: Array) -> Any:
    one_by_one = jax.default_backend() == "cpu"  # accelerators have no such cache, and are fast on many at once
    return jax.lax.map(function, molecules) if one_by_one else jax.vmap(function)(molecules)


def _forward(codes: Array, kernel: Array, precision: Precision) -> tuple[Array, tuple[Array, Array, Array]]:
    def best(molecule: Array) -> tuple[Array, Array]:
        responses = _responses(molecule, kernel, precision)
        highest, places = responses.max(axis=0), jnp.arange(len(responses))[:, None]
        # the first place that reaches the maximum: as argmax, which XLA does not vectorise on CPUs
        return highest, jnp.where(responses == highest, places, len(responses)).min(axis=0)

    highest, places = _each(best, codes)
    return highest, (codes, places, kernel)


def _backward(
    precision: Precision, kept: tuple[Array, Int[Array, "B F"], Array], gradient: Float[Array, "B F"]
) -> tuple[None, Float[Array, "H 4 F"]]:
    codes, places, kernel = kept
    letters = jnp.arange(4, dtype=codes.dtype)[:, None, None]
    taps = [jnp.take_along_axis(codes, places + tap, axis=1) for tap in range(len(kernel))]
    return None, jnp.stack([jnp.where(found == letters, gradient, 0).sum(axis=1) for found in taps])


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
        # filters are as wide as the one-hot code, (H, 4, 1, F) in the published layout: so many inputs has a filter
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


def _probability(logits: Float[Array, "B 2"]) -> Float[Array, "B"]:
    """Softmax of column 1, float32."""
    return jax.nn.sigmoid((logits[:, 1] - logits[:, 0]).astype(jnp.float32))


MODELS = {
    "deepmir-seq": ModelSpec(
        name="deepmir-seq",
        build=DeepMirSequence,
        score=_probability,
        summary="DeepMir on the bare sequence: the best match of each of 2,048 filters of 2 to 16 bases",
        reference="Tang & Sun 2019, BMC Bioinformatics 20(S23):646",
        encode=encode,
        shapes=((LENGTH,),),
        wide=True,
        mini_batch=64,
    )
}
