"""Mirtron or canonical precursor: one convolution over the one-hot sequence and the best match of each filter.

Zheng et al. 2019, with filters of 3, 4, 5 or 6 bases, or a quarter of each. As in their code, filters are as wide as
the one-hot code and padded in width too, so that each of 128 filters sees the four columns of the code in four shifts,
of which three cut some of them off; and a ReLU follows the last layer, so that logits below zero are equal.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.models.layers import Precision, first_bases, one_hot, product, second_share
from mirscan.types import ModelSpec

LENGTH = 164
"""Bases that the network reads: the longest molecule of the published data.

Longer molecules lose their 3' end, as published. Ambiguous bases are zeros to it, as absent ones are.
"""
SHIFTS = 4
"""Columns of the output of a filter: those of the one-hot code, with one column of zeros before and two behind."""


class Filters(nnx.Module):
    """Convolution of ``height`` bases x 4 letters, 'same' padding on both axes, ReLU, the maximum over all positions.

    Written as one matrix product: its columns are the letters of ``height`` bases in a row, and its weight holds each
    filter in all four shifts.
    """

    def __init__(self, height: int, filters: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        self.precision = precision
        self.kernel = nnx.Param(nnx.initializers.truncated_normal(0.01)(rngs.params(), (height, 4, filters)))
        self.bias = nnx.Param(jnp.full(filters, 0.1))

    def __call__(self, bases: Float[Array, "B L 4"]) -> Float[Array, "B S F"]:
        kernel = self.kernel[...]
        height, _, filters = kernel.shape
        edge = jnp.pad(bases, ((0, 0), ((height - 1) // 2, height // 2), (0, 0)))
        columns = jnp.concatenate([edge[:, tap : tap + bases.shape[1]] for tap in range(height)], axis=2)
        # in shift s, letter x meets the filter's column x - s + 1, if it has one
        wide = jnp.pad(kernel, ((0, 0), (2, 1), (0, 0)))
        shifted = jnp.stack([wide[:, 3 - shift : 7 - shift] for shift in range(SHIFTS)], axis=2)
        weight = shifted.reshape(4 * height, SHIFTS * filters).astype(bases.dtype)
        responses = product(columns.reshape(-1, 4 * height), weight, self.precision)
        # ReLU and bias rise with the response: behind the maximum they give what they give before it
        best = responses.reshape(len(bases), -1, SHIFTS, filters).max(axis=1).astype(jnp.float32)
        return nnx.relu(best + self.bias[...])


class MirtronCNN(nnx.Module):
    """Codes to two logits, none below zero, column 1 for a mirtron.

    Where the last ReLU clips both logits of a molecule, its score is 0.5 and no parameter learns from it; the published
    code then answers mirtron.

    Parameters
    ----------
    heights : tuple of int
        Bases that filters read; 128 filters in all, shared equally.
    """

    def __init__(self, *, heights: tuple[int, ...], precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        normal, tenth = nnx.initializers.truncated_normal(0.01), nnx.initializers.constant(0.1)
        self.dtype = chosen.activations
        self.filters = nnx.List([Filters(h, 128 // len(heights), precision=chosen, rngs=rngs) for h in heights])
        self.dense = nnx.Linear(SHIFTS * 128, 128, kernel_init=normal, bias_init=tenth, rngs=rngs)
        self.classes = nnx.Linear(128, 2, kernel_init=normal, bias_init=tenth, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(self, codes: UInt8[Array, "B L"]) -> Float[Array, "B 2"]:
        bases = one_hot(codes, self.dtype)
        found = jnp.concatenate([filters(bases).reshape(len(codes), -1) for filters in self.filters], axis=1)
        return nnx.relu(self.classes(self.dropout(nnx.relu(self.dense(found)))))


def _row(name: str, heights: tuple[int, ...], summary: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=lambda **options: MirtronCNN(heights=heights, **options),
        score=second_share,
        summary=summary,
        reference="Zheng et al. 2019, Scientific Reports 9, doi:10.1038/s41598-018-36946-4",
        task="mirtron",
        encode=partial(first_bases, length=LENGTH),
        shapes=((LENGTH,),),
        mini_batch=8,
    )


MODELS = {
    row.name: row
    for row in (
        *(
            _row(f"mirtron-conv{height}", (height,), f"mirtron or canonical: 128 filters of {height} bases")
            for height in (3, 4, 5, 6)
        ),
        _row("mirtron-concat", (3, 4, 5, 6), "mirtron or canonical: 32 filters each of 3, 4, 5 and 6 bases"),
    )
}
