"""Mirtron or canonical precursor: three convolutions over the one-hot sequence, an LSTM, two dense layers.

Tasdelen & Sen 2021; written from Table 3 and the text, for there is no code. A molecule is one step of the LSTM's time
(the table leaves the number open, and the data have no other), so nothing recurs. Where the paper is silent, this is
Keras as it was used: gates of sigmoids, and its ways to start; the dense layer has a ReLU. Each convolution halves rows
and columns: by its stride, for the table has one layer for both, or by pooling (`cnn-lstm-pooled`), which gives the
same shapes and as many parameters, and which the text has among the layers of such networks.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.models.layers import DType, Precision, first_bases, max_pool, one_hot, product, second_share
from mirscan.types import ModelSpec

LENGTH = 164
"""Bases that the network reads: the longest molecule of the published data.

Ambiguous bases are zeros to it, as absent ones are: the published padding is the letter N.
"""
HEIGHT, WIDTH = 6, 4
"""Kernel of the convolutions: bases, and letters of the one-hot code."""
FILTERS, UNITS = 128, 100


class Halving(nnx.Module):
    """Convolution of 6 x 4, 'same' padding, ReLU, to half as many rows and columns.

    Where the input has fewer columns than a kernel, some of the kernel's meet nothing but padding: they are parameters
    that never matter, and are left out of the product.

    Parameters
    ----------
    pooled : bool
        The largest of each 2 x 2 outputs, an odd last one by itself; else every second row and column alone.
    """

    def __init__(self, inputs: int, *, pooled: bool, precision: Precision, rngs: nnx.Rngs) -> None:
        self.pooled, self.precision = pooled, precision
        shape = (HEIGHT, WIDTH, inputs, FILTERS)
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), shape))
        self.bias = nnx.Param(jnp.zeros(FILTERS))

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        dtype, stride = self.precision.activations, 1 if self.pooled else 2
        rows, above, below = _same(x.shape[1], HEIGHT, stride)
        columns, before, behind = _same(x.shape[2], WIDTH, stride)
        edge = jnp.pad(x.astype(dtype), ((0, 0), (above, below), (before, behind), (0, 0)))
        taken = [stride * column - before for column in range(columns)]
        used = [tap for tap in range(WIDTH) if any(0 <= column + tap < x.shape[2] for column in taken)]
        patches = [
            edge[:, row : row + stride * (rows - 1) + 1 : stride, tap : tap + stride * (columns - 1) + 1 : stride]
            for row in range(HEIGHT)
            for tap in used
        ]
        weight = self.kernel[...][:, used[0] : used[-1] + 1].reshape(-1, FILTERS).astype(dtype)
        sums = product(jnp.concatenate(patches, axis=3).reshape(-1, len(weight)), weight, self.precision)
        y = nnx.relu(sums + self.bias[...].astype(dtype)).reshape(len(x), rows, columns, FILTERS)
        if not self.pooled:
            return y
        # an odd last one meets a zero, which is no more than what a ReLU leaves
        return max_pool(jnp.pad(y, ((0, 0), (0, rows % 2), (0, columns % 2), (0, 0))))


def _same(size: int, kernel: int, stride: int) -> tuple[int, int, int]:
    """Length of the output, and zeros before and behind the input, of 'same' padding in TensorFlow."""
    length = -(-size // stride)
    zeros = max(stride * (length - 1) + kernel - size, 0)
    return length, zeros // 2, zeros - zeros // 2


class CNNLSTM(nnx.Module):
    """Codes to two logits, column 1 for a mirtron.

    An empty state stands before the only step: the recurrent kernel and the forget gate never matter either.

    Parameters
    ----------
    pooled : bool
        Whether the convolutions are halved by pooling.
    """

    def __init__(self, *, pooled: bool = False, precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        glorot = nnx.initializers.glorot_uniform()
        self.dtype = chosen.activations
        halving = partial(Halving, pooled=pooled, precision=chosen, rngs=rngs)
        self.convolutions = nnx.List([halving(n) for n in (1, FILTERS, FILTERS)])
        # 164 bases halved three times, of one column; the gates' sigmoid is the cell's default, as in TensorFlow 2
        self.lstm = nnx.OptimizedLSTMCell(21 * FILTERS, UNITS, kernel_init=glorot, bias_init=_forget_nothing, rngs=rngs)
        self.dense = nnx.Linear(UNITS, 256, kernel_init=glorot, rngs=rngs)
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.classes = nnx.Linear(256, 2, kernel_init=glorot, rngs=rngs)

    def __call__(self, codes: UInt8[Array, "B 164"]) -> Float[Array, "B 2"]:
        x = one_hot(codes, self.dtype)[..., None]
        for convolution in self.convolutions:
            x = convolution(x)
        empty = jnp.zeros((len(codes), UNITS))
        _, x = self.lstm((empty, empty), x.reshape(len(codes), -1).astype(jnp.float32))
        return self.classes(self.dropout(nnx.relu(self.dense(x))))


def _forget_nothing(key: Array, shape: tuple[int, ...], dtype: DType) -> Array:
    """Bias of the gates in, forget, cell, out: Keras starts the forget gate with 1."""
    return jnp.repeat(jnp.array([0, 1, 0, 0], dtype), shape[0] // 4)


def _row(name: str, pooled: bool, summary: str) -> ModelSpec:
    return ModelSpec(
        name=name,
        build=partial(CNNLSTM, pooled=pooled),
        score=second_share,
        summary=f"mirtron or canonical: three convolutions over the sequence{summary} and an LSTM",
        reference="Tasdelen & Sen 2021, Scientific Reports 11, doi:10.1038/s41598-021-93656-0",
        task="mirtron",
        encode=partial(first_bases, length=LENGTH),
        shapes=((LENGTH,),),
        mini_batch=16,
    )


MODELS = {row.name: row for row in (_row("cnn-lstm", False, ""), _row("cnn-lstm-pooled", True, ", each pooled,"))}
