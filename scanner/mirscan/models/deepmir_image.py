"""DeepMir: convolutional networks that look at the picture of a hairpin.

Cordero, Menkovski & Allmer, bioRxiv 840579: 48 networks of three kinds, VGG, Inception and ResNet, of one to four
modules and four widths each (Tables 3 to 5). Where the published code departs from the paper, the rows follow the code,
whose figures the paper reports: VGG networks of three modules convolve 5 x 5 (rows of their own have the paper's
3 x 3), those of four have 48, 60, 72 and 72 filters, Inception networks drop features out before the last layer, and
the first layer of a ResNet is as wide as the others. Initial weights and batch norm are those of Keras.
"""

from __future__ import annotations

import abc
import itertools
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.kernels.images import hairpin_images
from mirscan.models.layers import Precision, max_pool, second_share
from mirscan.types import ModelSpec, Molecules

ROWS, COLUMNS, COLOURS = 25, 100, 3
WHITE = 255
FILTERS = (48, 60, 72, 72)
"""Of the modules of a VGG network."""
BLANK = (50.0, -50.0)
"""Logits of an empty canvas."""


def _round(x: Array, precision: Precision) -> Array:
    # converted inside a product, a matrix takes XLA's slow path on a CPU: hence the barrier
    return x if precision.operands == jnp.float32 else jax.lax.optimization_barrier(x.astype(precision.operands))


def _product(left: Array, right: Array, dimension: int = 0) -> Array:
    """Product of two matrices with float32 sums, over ``dimension`` of the right one."""
    return jax.lax.dot_general(left, right, (((1,), (dimension,)), ((), ())), preferred_element_type=jnp.float32)


def _flat(kernel: Array, precision: Precision) -> Array:
    """Kernel as a matrix: a row for each column offset and input channel, a column for each row offset and output."""
    high, wide, inputs, outputs = kernel.shape
    return _round(kernel.transpose(1, 2, 0, 3).reshape(wide * inputs, high * outputs), precision)


def _columns(image: Array, wide: int, sides: tuple[int, int], precision: Precision) -> Array:
    """An image beside its copies shifted by 1 ... ``wide`` - 1 columns, after ``sides`` columns of zeros."""
    image = jnp.pad(image, ((0, 0), sides, (0, 0)))
    length = image.shape[1] - wide + 1
    return _round(jnp.concatenate([image[:, s : s + length] for s in range(wide)], axis=-1), precision)


@partial(jax.custom_vjp, nondiff_argnums=(3, 4, 5))
def convolve(
    x: Float[Array, "B H W I"],
    kernel: Float[Array, "k l I O"],
    bias: Float[Array, "O"],
    sides: tuple[int, int],
    rectified: bool,
    precision: Precision,
) -> Float[Array, "B H V O"]:
    """Convolution on a CPU, image by image: what an image needs stays in the core's cache.

    The image beside its copies shifted by columns is multiplied once with all of the kernel, and the parts of the
    product that belong to the kernel's rows are added, shifted by rows. With its gradient this takes two thirds of the
    time of XLA's own convolution, and a third in bfloat16, of which XLA's has no use.

    Parameters
    ----------
    sides : (int, int)
        Columns of zeros on the left and on the right; rows are added so that the output is as high as the input.
    rectified : bool
        Whether a ReLU follows.
    """
    weight, before = _flat(kernel, precision), (kernel.shape[0] - 1) // 2

    def one(image: Array) -> Array:
        columns = _columns(image, kernel.shape[1], sides, precision)
        high, wide, _ = columns.shape
        parts = _product(columns.reshape(high * wide, -1), weight).reshape(high, wide, kernel.shape[0], -1)
        y = sum(_shifted(parts[:, :, row], row - before) for row in range(kernel.shape[0])) + bias
        return nnx.relu(y) if rectified else y

    return jax.lax.map(one, x)


def _shifted(x: Array, rows: int) -> Array:
    """Each row replaced by the one ``rows`` below it, or by zeros."""
    if rows > 0:
        return jnp.pad(x[rows:], ((0, rows), (0, 0), (0, 0)))
    return jnp.pad(x[: len(x) + rows], ((-rows, 0), (0, 0), (0, 0)))


def _forward(
    x: Array, kernel: Array, bias: Array, sides: tuple[int, int], rectified: bool, precision: Precision
) -> tuple[Array, tuple[Array, Array, Array | None]]:
    y = convolve(x, kernel, bias, sides, rectified, precision)
    return y, (x, kernel, y if rectified else None)


def _backward(
    sides: tuple[int, int],
    rectified: bool,
    precision: Precision,
    kept: tuple[Array, Array, Array | None],
    gradient: Array,
) -> tuple[Array, Array, Array]:
    x, kernel, y = kept
    high, wide, inputs, outputs = kernel.shape
    weight, before = _flat(kernel, precision), (high - 1) // 2
    left, width = sides[0], x.shape[2]

    def one(total: tuple[Array, Array], row: tuple[Array, Array | None, Array]) -> tuple[tuple[Array, Array], Array]:
        image, y, gradient = row
        if y is not None:
            gradient = jnp.where(y > 0, gradient, 0)
        columns = _columns(image, wide, sides, precision)
        parts = jnp.concatenate([_shifted(gradient, before - row) for row in range(high)], axis=-1)
        parts = _round(parts, precision).reshape(-1, high * outputs)
        # transposed in three dimensions, which XLA cannot fold into the product: bfloat16 would take its slow path
        of_weight = _product(columns.transpose(2, 0, 1).reshape(wide * inputs, -1), parts)
        of_columns = _product(parts, weight, 1).reshape(*columns.shape[:2], wide, inputs)
        shifts = [((0, 0), (s, wide - 1 - s), (0, 0)) for s in range(wide)]
        parted = [jnp.pad(of_columns[:, :, s], shift) for s, shift in enumerate(shifts)]
        of_image = sum(parted[1:], start=parted[0])
        return (total[0] + of_weight, total[1] + gradient.sum((0, 1))), of_image[:, left : left + width]

    zeros = (jnp.zeros((wide * inputs, high * outputs)), jnp.zeros(outputs))
    (of_weight, of_bias), of_x = jax.lax.scan(one, zeros, (x, y, gradient))
    return of_x, of_weight.reshape(wide, inputs, high, outputs).transpose(2, 0, 1, 3), of_bias


convolve.defvjp(_forward, _backward)


class Convolution2D(nnx.Module):
    """Convolution of ``width`` x ``width`` pixels, as large as its input (``same``) or without its edges.

    An even width reaches one pixel further down and to the right than up and to the left, as TensorFlow has it.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        width: int,
        *,
        same: bool = True,
        rectified: bool = True,
        precision: Precision,
        rngs: nnx.Rngs,
    ) -> None:
        before = (width - 1) // 2
        self.edge = (before, width - 1 - before) if same else (0, 0)
        self.rectified, self.precision = rectified, precision
        self.kernel = nnx.Param(nnx.initializers.glorot_uniform()(rngs.params(), (width, width, inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x: Float[Array, "B H W I"]) -> Float[Array, "B H2 W2 O"]:
        dtype = self.precision.activations
        x, kernel, bias = (jnp.asarray(array, dtype) for array in (x, self.kernel[...], self.bias[...]))
        if jax.default_backend() != "cpu":
            y = jax.lax.conv_general_dilated(
                x, kernel, (1, 1), (self.edge, self.edge), dimension_numbers=("NHWC", "HWIO", "NHWC")
            )
            return nnx.relu(y + bias) if self.rectified else y + bias
        if x.shape[-1] == COLOURS:  # so few channels that the kernel's rows are better laid side by side too
            width = len(kernel)
            x = jnp.pad(x, ((0, 0), self.edge, (0, 0), (0, 0)))
            height = x.shape[1] - width + 1
            x = jnp.concatenate([x[:, row : row + height] for row in range(width)], axis=-1)
            kernel = kernel.transpose(1, 0, 2, 3).reshape(1, width, -1, len(bias))
        return convolve(x, kernel, bias, self.edge, self.rectified, self.precision)


def neighbour_pool(x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
    """Largest of each pixel and those below, right and below right of it, where there are such."""
    x = jnp.concatenate([jnp.maximum(x[:, :-1], x[:, 1:]), x[:, -1:]], axis=1)
    return jnp.concatenate([jnp.maximum(x[:, :, :-1], x[:, :, 1:]), x[:, :, -1:]], axis=2)


def _linear(inputs: int, outputs: int, rngs: nnx.Rngs) -> nnx.Linear:
    return nnx.Linear(inputs, outputs, kernel_init=nnx.initializers.glorot_uniform(), rngs=rngs)


class ImageNetwork(nnx.Module):
    """What the three kinds share: an image's pixels, its features, two logits, column 1 for a precursor.

    Only hairpins have images, so an empty canvas is no precursor, whatever the weights.
    """

    last: nnx.Linear

    @abc.abstractmethod
    def features(self, x: Float[Array, "B 25 100 3"]) -> Float[Array, "B F"]:
        """Of images whose pixels lie in [0, 1]."""

    def __call__(self, images: UInt8[Array, "B 25 100 3"]) -> Float[Array, "B 2"]:
        logits = self.last(self.features(images.astype(jnp.float32) / 255).astype(jnp.float32))
        return jnp.where((images == WHITE).all(axis=(1, 2, 3))[:, None], jnp.array(BLANK), logits)


class VGG(ImageNetwork):
    """Modules of two convolutions, pooling and dropout, then a dense layer (Table 3)."""

    def __init__(self, *, modules: int, units: int, width: int = 3, precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        channels = (COLOURS, *FILTERS[:modules])
        self.convolutions: Any = nnx.List([])
        for inputs, outputs in itertools.pairwise(channels):
            for first in (inputs, outputs):
                same = len(self.convolutions) > 0
                self.convolutions.append(Convolution2D(first, outputs, width, same=same, precision=chosen, rngs=rngs))
        high, wide = ((size - width + 1) // 2**modules for size in (ROWS, COLUMNS))
        self.dropout, self.dropout_last = nnx.Dropout(0.25, rngs=rngs), nnx.Dropout(0.5, rngs=rngs)
        self.dense = _linear(high * wide * channels[-1], units, rngs)
        self.last = _linear(units, 2, rngs)

    def features(self, x: Float[Array, "B 25 100 3"]) -> Float[Array, "B F"]:
        for number, convolution in enumerate(self.convolutions):
            x = convolution(x)
            if number % 2:
                x = self.dropout(max_pool(x))
        x = x.reshape(len(x), -1).astype(jnp.float32)
        return self.dropout_last(nnx.relu(self.dense(x)))


def _each(function: Callable[[Array], Array], x: Float[Array, "B H W C"]) -> Float[Array, "B F"]:
    """A function of images; on a CPU one by one and again for the gradient, so that all layers stay in its cache."""
    if jax.default_backend() != "cpu":
        return function(x)
    return jax.lax.map(jax.checkpoint(lambda image: function(image[None])[0], prevent_cse=False), x)


class InceptionModule(nnx.Module):
    """Four towers over the same pixels: pooled, 2 x 2, 3 x 3 and 1 x 1 (Figure 8)."""

    def __init__(self, inputs: int, filters: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        self.pooled = Convolution2D(inputs, filters, 1, precision=precision, rngs=rngs)
        self.narrow = nnx.List([Convolution2D(inputs, filters, 1, precision=precision, rngs=rngs) for _ in range(2)])
        self.wide = nnx.List(
            [Convolution2D(filters, filters, width, precision=precision, rngs=rngs) for width in (2, 3)]
        )
        self.single = Convolution2D(inputs, filters, 1, precision=precision, rngs=rngs)

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W F"]:
        towers = [wide(narrow(x)) for narrow, wide in zip(self.narrow, self.wide, strict=True)]
        return jnp.concatenate([self.pooled(neighbour_pool(x)), *towers, self.single(x)], axis=-1)


class Inception(ImageNetwork):
    """A convolution of 64 filters, then Inception modules at full resolution (Table 4)."""

    def __init__(self, *, modules: int, filters: int, precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        self.first = Convolution2D(COLOURS, 64, 3, precision=chosen, rngs=rngs)
        inputs = (64, *(modules - 1) * (4 * filters,))
        self.blocks = nnx.List([InceptionModule(n, filters, precision=chosen, rngs=rngs) for n in inputs])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)
        self.last = _linear(ROWS * COLUMNS * 4 * filters, 2, rngs)

    def features(self, x: Float[Array, "B 25 100 3"]) -> Float[Array, "B F"]:
        return self.dropout(_each(self._flat_features, x))

    def _flat_features(self, x: Float[Array, "B H W C"]) -> Float[Array, "B F"]:
        x = self.first(x)
        for block in self.blocks:
            x = block(x)
        return x.reshape(len(x), -1)


class ResidualModule(nnx.Module):
    """Twice [batch norm, ReLU, convolution], added to the input (He et al. 2016, full pre-activation)."""

    def __init__(self, filters: int, *, precision: Precision, rngs: nnx.Rngs) -> None:
        options = {"momentum": 0.99, "epsilon": 1e-3, "dtype": precision.activations}
        self.norms = nnx.List([nnx.BatchNorm(filters, **options, rngs=rngs) for _ in range(2)])
        self.convolutions = nnx.List(
            [Convolution2D(filters, filters, 3, rectified=False, precision=precision, rngs=rngs) for _ in range(2)]
        )

    def __call__(self, x: Float[Array, "B H W C"]) -> Float[Array, "B H W C"]:
        y = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            y = convolution(nnx.relu(norm(y)))
        return x + y


class ResNet(ImageNetwork):
    """A convolution, residual modules at its resolution, and the mean over the image (Table 5)."""

    def __init__(self, *, modules: int, filters: int, precision: str = "float32", rngs: nnx.Rngs) -> None:
        chosen = Precision.named(precision)
        self.first = Convolution2D(COLOURS, filters, 3, same=False, precision=chosen, rngs=rngs)
        self.blocks = nnx.List([ResidualModule(filters, precision=chosen, rngs=rngs) for _ in range(modules)])
        self.last = _linear(filters, 2, rngs)

    def features(self, x: Float[Array, "B 25 100 3"]) -> Float[Array, "B F"]:
        x = self.first(x)
        for number, module in enumerate(self.blocks):
            x = module(x)
            if number == 0 and len(self.blocks) == 4:
                x = nnx.relu(x)  # one ReLU more, which the published network of four modules has, and no other
        return x.astype(jnp.float32).mean(axis=(1, 2))


def encode(molecules: Molecules) -> tuple[np.ndarray]:
    """Images (B, 25, 100, 3) uint8; white where a molecule has no terminal loop."""
    return (hairpin_images(molecules.codes, molecules.lengths, molecules.partners)[0],)


def _row(name: str, kind: type[ImageNetwork], summary: str, **options: int) -> ModelSpec:
    return ModelSpec(
        name=f"deepmir-{name}",
        build=partial(kind, **options),
        score=second_share,
        summary=f"DeepMir on hairpin images: {summary}",
        reference="Cordero et al. 2019, bioRxiv 840579",
        needs=frozenset({"fold"}),
        encode=encode,
        shapes=((ROWS, COLUMNS, COLOURS),),
        wide=kind is VGG,
        mini_batch=8,
    )


def _rows() -> Iterator[ModelSpec]:
    """The published grid, module by module."""
    for m in range(1, 5):
        for units in (32, 64, 128, 256):
            name = f"vgg-{m}m-{units}fu"
            summary = f"VGG, {m} modules, {units} dense units"
            yield _row(name, VGG, summary, modules=m, units=units, width=5 if m == 3 else 3)
            if m == 3:
                yield _row(f"{name}-3x3", VGG, f"{summary}, 3 x 3 as in the paper", modules=m, units=units, width=3)
    for m in range(1, 5):
        for filters in (8, 12, 16, 20):
            summary = f"Inception, {m} modules, {filters} filters a tower"
            yield _row(f"inception-{m}m-{filters}ck", Inception, summary, modules=m, filters=filters)
    for m in range(1, 5):
        for filters in (20, 24, 28, 32):
            summary = f"ResNet, {m} modules, {filters} filters"
            yield _row(f"resnet-{m}m-{filters}ck", ResNet, summary, modules=m, filters=filters)


MODELS = {row.name: row for row in _rows()}
