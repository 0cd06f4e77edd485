"""miRe2e: a cascade of three networks that predict structure, energy and class of a 100-nt window.

Raad, Bugnon, Milone & Stegmayer, Bioinformatics 2022. Written from the paper's description. Where the published code
departs from the paper, this follows the paper: attention never mixes windows of a batch (the code reshapes where it
should transpose), the 3' strand of a predicted structure reaches the later stages (the code clips it with a ReLU on
the input), and layers of a stack start with different weights.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.models.layers import EncoderLayer, Front, Precision, Residual, average_pool, one_hot
from mirscan.types import ModelSpec

WINDOW = 100
POSITIONS = 111
"""Positional features of each base, and channels of the convolutions beside them."""


def positional_features(length: int = WINDOW, width: int = POSITIONS) -> np.ndarray:
    """The paper's positional features, float32 (length, width).

    Of a base at ``p`` = 1 ... length, with ``r = p / length``: p, r, 1/p, 1/p², sin(np) and sin(nr) for n = 1 ... 49,
    r², r³, r⁴, and Gaussian terms exp(-x²) sqrt(2^i / i!) x^i (i = 0, 1, 2) of p and r. ``p`` itself is divided by
    `WINDOW`: as published it runs to 100 while every other feature is about 1, and the first attention then sees
    little else.
    """
    p = np.arange(1, length + 1, dtype=np.float64)
    r = p / length
    columns = [p / WINDOW, r, 1 / p, 1 / p**2]
    for n in range(1, 50):
        columns += [np.sin(n * p), np.sin(n * r)]
    columns += [r**2, r**3, r**4]
    for i in range(3):
        columns += [np.exp(-(x**2)) * math.sqrt(2**i / math.factorial(i)) * x**i for x in (p, r)]
    return np.stack(columns, axis=1).astype(np.float32)[:, :width]


class Structure(nnx.Module):
    """One-hot sequence to one number a base in (-1, 1): +1 pairs downstream, -1 upstream, 0 unpaired (section 2.1)."""

    def __init__(self, *, width: int, blocks: int, layers: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.dtype, self.width = precision.activations, width
        self.pad = precision.operands != jnp.float32
        self.front = Front(4, width, precision=precision, rngs=rngs)
        self.blocks = nnx.List([Residual(width, precision=precision, rngs=rngs) for _ in range(blocks)])
        self.layers = nnx.List(
            [EncoderLayer(2 * width, 2, 8 * width, 0.1, precision=precision, rngs=rngs) for _ in range(layers)]
        )
        sizes = (2 * width, 100, 10, 1)
        self.head = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])

    def __call__(self, codes: UInt8[Array, "B L"]) -> Float[Array, "B L"]:
        return self.attend(codes)[0]

    def attend(self, codes: UInt8[Array, "B L"]) -> tuple[Float[Array, "B L"], Float[Array, "N B L L"]]:
        """The structure, and the logits of the first attention head of each layer, which training can guide."""
        x = self.front(one_hot(codes, self.dtype))
        for block in self.blocks:
            x = block(x)
        places = jnp.asarray(positional_features(codes.shape[1], self.width), self.dtype)
        places = jnp.where((codes == 5)[..., None], 0, jnp.broadcast_to(places, x.shape))
        x = jnp.concatenate([x, places.astype(self.dtype)], axis=-1)
        if self.pad:
            x = jnp.pad(x, ((0, 0), (0, 0), (0, -x.shape[-1] % 8)))
        heads = []
        for layer in self.layers:
            x, logits = layer.attend(x)
            heads.append(logits[:, 0])
        x = x[..., : 2 * self.width].astype(jnp.float32)
        signs = jnp.tanh(self.head[2](nnx.elu(self.head[1](nnx.elu(self.head[0](x))))))[..., 0]
        return signs, jnp.stack(heads)


class Energy(nnx.Module):
    """Sequence and structure to |minimum free energy| per base, in kcal/mol (section 2.2)."""

    def __init__(self, *, width: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.dtype = precision.activations
        self.front = Front(5, width, precision=precision, rngs=rngs)
        self.blocks = nnx.List([Residual(width, precision=precision, rngs=rngs) for _ in range(3)])
        self.dense = nnx.List(
            [
                nnx.Linear(WINDOW // 8 * width, 100, rngs=rngs),
                nnx.Linear(100, 30, rngs=rngs),
                nnx.Linear(30, 1, rngs=rngs),
            ]
        )
        self.norms = nnx.List([nnx.BatchNorm(n, momentum=0.9, epsilon=1e-5, rngs=rngs) for n in (100, 30)])

    def __call__(self, codes: UInt8[Array, "B L"], structure: Float[Array, "B L"]) -> Float[Array, "B"]:
        x = self.front(_with_structure(codes, structure, self.dtype))
        for block in self.blocks:
            x = average_pool(block(x))
        # channels before positions: each channel's profile is contiguous, as in the published layout
        x = x.transpose(0, 2, 1).reshape(len(x), -1).astype(jnp.float32)
        for dense, norm in zip(self.dense, self.norms, strict=False):
            x = norm(nnx.elu(dense(x)))
        return nnx.elu(self.dense[2](x))[:, 0]


class Classifier(nnx.Module):
    """Sequence, structure and energy to two logits, column 0 for a precursor (section 2.3)."""

    def __init__(self, *, width: int, blocks: int, dense: int, precision: Precision, rngs: nnx.Rngs) -> None:
        self.dtype, self.width = precision.activations, width
        self.front = Front(5, width, precision=precision, rngs=rngs)
        self.blocks = nnx.List([Residual(width, precision=precision, rngs=rngs) for _ in range(4 * blocks)])
        self.layers = nnx.List(
            [EncoderLayer(width, 4, 4 * width, 0.1, precision=precision, rngs=rngs) for _ in range(3)]
        )
        flat = WINDOW // 16 * width + 1
        sizes = (flat, dense, dense, dense, 2)
        self.dense = nnx.List([nnx.Linear(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.norms = nnx.List([nnx.BatchNorm(n, momentum=0.9, epsilon=1e-5, rngs=rngs) for n in (flat, dense)])
        self.dropout = nnx.Dropout(0.5, rngs=rngs)

    def __call__(
        self, codes: UInt8[Array, "B L"], structure: Float[Array, "B L"], energy: Float[Array, "B"]
    ) -> Float[Array, "B 2"]:
        x = self.front(_with_structure(codes, structure, self.dtype))
        each = len(self.blocks) // 4
        for number, block in enumerate(self.blocks, start=1):
            x = block(x)
            if number % each == 0:
                x = average_pool(x)
        x = x * math.sqrt(self.width) + jnp.asarray(_waves(x.shape[1], self.width), self.dtype)
        for layer in self.layers:
            x = layer(x)
        x = jnp.concatenate([x.reshape(len(x), -1).astype(jnp.float32), energy[:, None]], axis=-1)
        x = self.norms[1](nnx.elu(self.dense[0](self.norms[0](x))))
        x = nnx.elu(self.dense[1](self.dropout(x)))
        return self.dense[3](nnx.elu(self.dense[2](x)))


class MiRe2e(nnx.Module):
    """The cascade: codes of windows to the classifier's two logits."""

    def __init__(
        self,
        *,
        width: int = POSITIONS,
        layers: int = 6,
        channels: int = 64,
        blocks: int = 3,
        dense: int = 1000,
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        chosen = Precision.named(precision)
        self.structure = Structure(width=width, blocks=blocks, layers=layers, precision=chosen, rngs=rngs)
        self.energy = Energy(width=channels, precision=chosen, rngs=rngs)
        self.classifier = Classifier(width=channels, blocks=blocks, dense=dense, precision=chosen, rngs=rngs)

    def __call__(self, codes: UInt8[Array, "B L"]) -> Float[Array, "B 2"]:
        structure = self.structure(codes)
        return self.classifier(codes, structure, self.energy(codes, structure))


def _with_structure(codes: Array, structure: Array, dtype: Any) -> Array:
    return jnp.concatenate([one_hot(codes, dtype), structure[..., None].astype(dtype)], axis=-1)


def _waves(length: int, width: int) -> np.ndarray:
    """Fixed sine and cosine of position (Vaswani et al. 2017, section 3.5), float32 (length, width)."""
    angle = np.arange(length)[:, None] / 10000 ** (np.arange(0, width, 2)[None] / width)
    return np.stack([np.sin(angle), np.cos(angle)], axis=-1).reshape(length, width).astype(np.float32)


def _probability(logits: Float[Array, "B 2"]) -> Float[Array, "B"]:
    """Softmax of column 0, float32."""
    return jax.nn.sigmoid((logits[:, 0] - logits[:, 1]).astype(jnp.float32))


def _energy_of(model: MiRe2e, codes: Array) -> Array:
    return model.energy(codes, jnp.zeros(codes.shape, jnp.float32))


def _classes_of(model: MiRe2e, codes: Array) -> Array:
    return model.classifier(codes, jnp.zeros(codes.shape, jnp.float32), jnp.zeros(len(codes), jnp.float32))


STAGES = {"structure": lambda model, codes: model.structure(codes), "energy": _energy_of, "classifier": _classes_of}
REFERENCE = "Raad et al. 2022, Bioinformatics 38(5):1191-1197"
MODELS = {
    "mire2e": ModelSpec(
        name="mire2e",
        build=MiRe2e,
        score=_probability,
        summary="Transformer cascade: structure, energy and class of each window from sequence alone",
        reference=REFERENCE,
        window=WINDOW,
        wide=True,
        stages=STAGES,
    ),
    "mire2e-tiny": ModelSpec(
        name="mire2e-tiny",
        build=lambda **options: MiRe2e(width=8, layers=1, channels=8, blocks=1, dense=16, **options),
        score=_probability,
        summary="the same cascade, a thousand times smaller, for tests and rehearsals; no weights are shipped",
        reference=REFERENCE,
        window=WINDOW,
    ),
}
