"""Layers that more than one model family uses. Activations are (batch, length, channels)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.typing import ArrayLike
from jaxtyping import Array, Float, UInt8

from mirscan.kernels.bases import ABSENT
from mirscan.types import Molecules

DType = Any


def one_hot(codes: UInt8[Array, "B L"], dtype: DType = jnp.float32) -> Float[Array, "B L 4"]:
    """Codes to one-hot in the order A, C, G, T/U; ambiguous or absent bases are four zeros."""
    return (codes[..., None] == jnp.arange(4, dtype=codes.dtype)).astype(dtype)


def second_share(logits: Float[Array, "B 2"]) -> Float[Array, "B"]:
    """Softmax of two logits, the share of column 1, float32."""
    return jax.nn.sigmoid((logits[:, 1] - logits[:, 0]).astype(jnp.float32))


def first_bases(molecules: Molecules, *, length: int) -> tuple[np.ndarray]:
    """Codes (B, length) uint8 of the first bases of molecules, `ABSENT` beyond the 3' end."""
    codes = molecules.codes[:, :length]
    return (np.pad(codes, ((0, 0), (0, length - codes.shape[1])), constant_values=ABSENT),)


def max_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B H2 W2 C"]:
    """Largest of each 2 x 2 values; an odd last row or column is dropped."""
    # of slices, not along an axis: the gradient takes a third of the time
    x = x[:, : x.shape[1] // 2 * 2, : x.shape[2] // 2 * 2]
    x = jnp.maximum(x[:, ::2], x[:, 1::2])
    return jnp.maximum(x[:, :, ::2], x[:, :, 1::2])


@dataclass(frozen=True)
class Precision:
    """What matrices are multiplied in (sums are always float32), and what activations are kept in."""

    operands: DType
    activations: DType

    @classmethod
    def named(cls, name: str) -> Precision:
        """``float32``, or ``bfloat16``: on accelerators for activations too, on CPUs for matrix products alone.

        CPUs have bfloat16 instructions for products only; everything else would be converted back and forth.
        """
        if name == "float32":
            return cls(jnp.float32, jnp.float32)
        return cls(jnp.bfloat16, jnp.float32 if jax.default_backend() == "cpu" else jnp.bfloat16)


def product(rows: Float[Array, "N I"], weight: Float[Array, "I O"], precision: Precision) -> Float[Array, "N O"]:
    """Matrix product of activations and a weight."""
    if precision.operands == jnp.float32:
        return rows @ weight
    return _narrow_product(rows, weight).astype(precision.activations)


@jax.custom_vjp
def _narrow_product(rows: Array, weight: Array) -> Array:
    """Product of bfloat16 roundings with float32 sums, in its gradient too."""
    return _narrow_forward(rows, weight)[0]


def _narrow_forward(rows: Array, weight: Array) -> tuple[Array, tuple[Array, Array]]:
    left, right = _rounded(rows), _rounded(weight)
    return jax.lax.dot(left, right, preferred_element_type=jnp.float32), (left, right)


def _narrow_backward(kept: tuple[Array, Array], gradient: Array) -> tuple[Array, Array]:
    left, right = kept
    gradient = _rounded(gradient)
    of_rows = jax.lax.dot_general(gradient, right, (((1,), (1,)), ((), ())), preferred_element_type=jnp.float32)
    of_weight = jax.lax.dot_general(left, gradient, (((0,), (0,)), ((), ())), preferred_element_type=jnp.float32)
    return of_rows, of_weight


def _rounded(x: Array) -> Array:
    # fused into the product, a conversion takes XLA's slow path on a CPU: hence the barrier
    return jax.lax.optimization_barrier(x.astype(jnp.bfloat16))


_narrow_product.defvjp(_narrow_forward, _narrow_backward)


def average_pool(x: Float[Array, "B L C"]) -> Float[Array, "B L2 C"]:
    """Mean of neighbouring pairs of positions; an odd last position is dropped."""
    length = x.shape[1] // 2
    return x[:, : 2 * length].reshape(x.shape[0], length, 2, x.shape[2]).mean(axis=2)


def fit(parameter: ArrayLike, shape: tuple[int, ...], dtype: DType) -> Array:
    """A parameter, cast and padded with zeros at the end of each axis to ``shape``."""
    padding = [(0, wide - narrow) for narrow, wide in zip(jnp.shape(parameter), shape, strict=True)]
    return jnp.pad(jnp.asarray(parameter, dtype), padding)


class Convolution(nnx.Module):
    """Convolution of width 3, output as long as the input.

    Written as one matrix product of three shifted copies: as fast as XLA's convolution on a CPU at the batch sizes
    used there, and many times faster in its gradient.
    """

    def __init__(self, inputs: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        self.precision = precision
        self.kernel = nnx.Param(nnx.initializers.he_uniform()(rngs.params(), (3 * inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x: Float[Array, "B L I"]) -> Float[Array, "B L O"]:
        dtype = self.precision.activations
        edge = jnp.pad(x.astype(dtype), ((0, 0), (1, 1), (0, 0)))
        columns = jnp.concatenate([edge[:, :-2], edge[:, 1:-1], edge[:, 2:]], axis=-1).reshape(-1, 3 * x.shape[-1])
        rows = product(columns, jnp.asarray(self.kernel[...], dtype), self.precision) + self.bias[...].astype(dtype)
        return rows.reshape(*x.shape[:2], -1)


class Front(nnx.Module):
    """Batch norm, then a convolution: the entrance of an encoder, without a ReLU on the raw input."""

    def __init__(self, inputs: int, outputs: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        dtype = precision.activations
        self.norm = nnx.BatchNorm(inputs, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs)
        self.convolution = Convolution(inputs, outputs, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "B L I"]) -> Float[Array, "B L O"]:
        return self.convolution(self.norm(x))


class Residual(nnx.Module):
    """Twice [ReLU, batch norm, convolution], added to the input."""

    def __init__(self, channels: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        dtype = precision.activations
        self.norms = nnx.List(
            [nnx.BatchNorm(channels, momentum=0.9, epsilon=1e-5, dtype=dtype, rngs=rngs) for _ in range(2)]
        )
        self.convolutions = nnx.List(
            [Convolution(channels, channels, precision=precision, rngs=rngs) for _ in range(2)]
        )

    def __call__(self, x: Float[Array, "B L C"]) -> Float[Array, "B L C"]:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(norm(nnx.relu(y)))
        return x + y


class EncoderLayer(nnx.Module):
    """Transformer encoder layer with the norm after each sum (Vaswani et al. 2017, section 3.1).

    The input may be wider than ``width``, its further channels being zero: accelerators multiply matrices fast only
    where widths are multiples of 8. Parameters are then padded with zeros on the fly and the added channels stay
    zero, so the result is the same.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, dropout: float, *, precision: Precision, rngs: nnx.Rngs
    ) -> None:
        self.width, self.heads, self.size, self.hidden = width, heads, width // heads, hidden
        self.precision = precision
        xavier, zeros = nnx.initializers.xavier_uniform(), nnx.initializers.zeros_init()
        attention = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=0, out_axis=(1, 2))
        merge = nnx.initializers.variance_scaling(1.0, "fan_avg", "uniform", in_axis=(0, 1), out_axis=2)
        self.queries = nnx.Param(attention(rngs.params(), (width, heads, self.size)))
        self.keys = nnx.Param(attention(rngs.params(), (width, heads, self.size)))
        self.values = nnx.Param(attention(rngs.params(), (width, heads, self.size)))
        self.query_bias = nnx.Param(zeros(rngs.params(), (heads, self.size)))
        self.key_bias = nnx.Param(zeros(rngs.params(), (heads, self.size)))
        self.value_bias = nnx.Param(zeros(rngs.params(), (heads, self.size)))
        self.merge = nnx.Param(merge(rngs.params(), (heads, self.size, width)))
        self.merge_bias = nnx.Param(zeros(rngs.params(), (width,)))
        self.widen = nnx.Param(xavier(rngs.params(), (width, hidden)))
        self.widen_bias = nnx.Param(zeros(rngs.params(), (hidden,)))
        self.narrow = nnx.Param(xavier(rngs.params(), (hidden, width)))
        self.narrow_bias = nnx.Param(zeros(rngs.params(), (width,)))
        self.scales = nnx.Param(jnp.ones((2, width)))
        self.shifts = nnx.Param(jnp.zeros((2, width)))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def __call__(self, x: Float[Array, "B L W"]) -> Float[Array, "B L W"]:
        return self.attend(x)[0]

    def attend(self, x: Float[Array, "B L W"]) -> tuple[Float[Array, "B L W"], Float[Array, "B H L L"]]:
        """The layer's output, and the logits of each position's attention to every other."""
        wide = x.shape[-1]
        size, inner = self.size, self.hidden
        if wide > self.width:
            size, inner = -(-size // 8) * 8, -(-inner // 32) * 32

        def take(parameter: nnx.Param, *shape: int) -> Array:
            return fit(parameter[...], shape, self.precision.activations)

        rows = x.reshape(-1, wide)  # XLA's CPU matrix products are fastest, and fastest in reverse, in two dimensions
        matrices = [take(p, wide, self.heads, size) for p in (self.queries, self.keys, self.values)]
        biases = [take(p, self.heads, size) for p in (self.query_bias, self.key_bias, self.value_bias)]
        projected = product(rows, jnp.stack(matrices, axis=1).reshape(wide, -1), self.precision)
        projected = (projected + jnp.stack(biases).reshape(-1)).reshape(*x.shape[:2], 3, self.heads, size)
        queries, keys, values = projected.transpose(2, 0, 3, 1, 4)
        logits = jnp.matmul(queries, keys.transpose(0, 1, 3, 2), preferred_element_type=jnp.float32)
        logits = logits / math.sqrt(self.size)
        weights = jax.nn.softmax(logits, axis=-1).astype(values.dtype)
        mixed = jnp.matmul(self.dropout(weights), values).transpose(0, 2, 1, 3).reshape(len(rows), -1)
        merge = take(self.merge, self.heads, size, wide).reshape(-1, wide)
        mixed = product(mixed, merge, self.precision) + take(self.merge_bias, wide)
        rows = self._norm(rows + self.dropout(mixed), 0)
        hidden = product(rows, take(self.widen, wide, inner), self.precision) + take(self.widen_bias, inner)
        hidden = self.dropout(nnx.relu(hidden))
        mixed = product(hidden, take(self.narrow, inner, wide), self.precision) + take(self.narrow_bias, wide)
        return self._norm(rows + self.dropout(mixed), 1).reshape(x.shape), logits

    def _norm(self, x: Float[Array, "N W"], which: int) -> Float[Array, "N W"]:
        x = x.astype(jnp.float32)
        wide = x.shape[-1]
        mean = x.sum(axis=-1, keepdims=True) / self.width
        centred = jnp.where(jnp.arange(wide) < self.width, x - mean, 0.0)
        variance = (centred * centred).sum(axis=-1, keepdims=True) / self.width
        scale, shift = (fit(p[...][which], (wide,), jnp.float32) for p in (self.scales, self.shifts))
        return (centred * jax.lax.rsqrt(variance + 1e-5) * scale + shift).astype(self.precision.activations)
