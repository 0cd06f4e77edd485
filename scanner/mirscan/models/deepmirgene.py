"""deepMiRGene: recurrent networks that read sequence and predicted structure of a candidate precursor.

Two generations. The second one (Park, Min, Choi & Yoon, NIPS 2017) reads base and structure of each position as one of
16 symbols: two LSTM layers, attention, three dense layers. Where its paper and its published code disagree this
follows the code, whose figures are the published ones: one attention vector for all positions instead of one for each
(`deepmirgene-position` has the paper's), gates with a hard sigmoid, Keras's random starts. The rows of the paper's
Table 4 differ in what stands before the dense layers, those of its Fig. 3 in the alphabet. The paper gives no sizes
for them. Here a lone LSTM layer has 20 units; each direction of the bidirectional layers has as many as the layer it
stands for; without attention a last LSTM layer hands on its last output alone; convolutions have width 3, 20 and 10
channels and ReLU, are not pooled, and take the place of the LSTM layers and attention, or of attention alone.

The first one (Park, Min, Choi & Yoon 2016, arXiv:1605.00017) reads three streams: the bases, and the two arms of the
structure, the second one flipped, so that both run from the open end into the loop. Left open are the place of its
dropout, here each LSTM's output, and the length and side of padding, here as in 2017. Without the flip
(`deepmirgene2016-noflip`, Fig. 6) the second arm is read from 5' to 3', and nothing else changes. With the sequence or
the structure alone (Fig. 5) nothing is left to join, and the dense layer that joins them goes too.

Published, class 0 is the precursor; here it is column 1 of the logits. Everything is computed in float32: the
recurrences wait for one another, not for matrix products.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, UInt8

from mirscan.kernels.stems import bases_right, flipped_arms, structure_right, symbols
from mirscan.models.layers import Convolution, Precision, second_share
from mirscan.types import ModelSpec, Molecules

LENGTH = 400
"""Steps of the published networks. Padding stands before the molecule, and fewer steps give the same scores."""
EPSILON = 1e-7
"""Keras's smallest share of attention."""
Encode = Callable[[Molecules], tuple[np.ndarray, ...]]

glorot = nnx.initializers.glorot_uniform()


def hard_sigmoid(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Keras's piecewise linear sigmoid: 0 below -2.5, 1 above 2.5."""
    return jax.lax.clamp(0.0, 0.2 * x + 0.5, 1.0)


class Lstm(nnx.Module):
    """Parameters of an LSTM layer as in Keras 2.0: tanh, hard sigmoid gates, a forget gate that starts open.

    Parameters
    ----------
    dropout : float
        Share of the inputs, and of the layer's own outputs, that each gate of a molecule does not see at any step.
    """

    def __init__(self, inputs: int, units: int, dropout: float, *, rngs: nnx.Rngs) -> None:
        self.units = units
        self.kernel = nnx.Param(glorot(rngs.params(), (inputs, 4 * units)))
        self.recurrent = nnx.Param(nnx.initializers.orthogonal()(rngs.params(), (units, 4 * units)))
        self.bias = nnx.Param(jnp.repeat(jnp.array([0.0, 1.0, 0.0, 0.0]), units))
        self.dropout = nnx.Dropout(dropout, rngs=rngs)

    def gates(self, rows: int) -> tuple[Float[Array, "4 H J"], Float[Array, "4 H 1"], Float[Array, "4 J B"]]:
        """Matrix, bias and dropout of input, forget, cell and output gate, for inputs and own outputs joined."""
        both = jnp.concatenate([self.kernel[...], self.recurrent[...]])
        matrices = both.reshape(-1, 4, self.units).transpose(1, 2, 0)
        masks = self.dropout(jnp.ones((4, len(both), rows)))
        return matrices, jnp.reshape(self.bias[...], (4, self.units, 1)), masks


class Abreast:
    """LSTM layers that read inputs of their own, as one layer whose matrices are those of all along a diagonal.

    What layers so small cost is their operations, not their products: an epoch of the network of 2016 takes 0.6 of the
    time of one layer after the other.
    """

    def __init__(self, layers: Sequence[Lstm]) -> None:
        self.layers = layers
        self.units = sum(layer.units for layer in layers)

    def gates(self, rows: int) -> tuple[Float[Array, "4 H J"], Float[Array, "4 H 1"], Float[Array, "4 J B"]]:
        """As of one layer: the inputs of all layers in their order, then their outputs."""
        each = [(layer.units, *layer.gates(rows)) for layer in self.layers]
        diagonal = jax.vmap(jax.scipy.linalg.block_diag)
        inputs, outputs = [m[..., :-n] for n, m, _, _ in each], [m[..., -n:] for n, m, _, _ in each]
        masks = [mask[:, :-n] for n, _, _, mask in each] + [mask[:, -n:] for n, _, _, mask in each]
        matrices = jnp.concatenate([diagonal(*inputs), diagonal(*outputs)], axis=2)
        return matrices, jnp.concatenate([bias for _, _, bias, _ in each], axis=1), jnp.concatenate(masks, axis=1)


def recur(
    layers: Sequence[Lstm | Abreast],
    x: Float[Array, "T I B"],
    present: Float[Array, "T *H B"],
    *,
    reverse: bool = False,
) -> Float[Array, "T H B"]:
    """Outputs of the last of several stacked LSTM layers at every step.

    All layers take a step together, molecules are the last axis, each gate has its own product, and a step's inner
    values are computed again for its gradient: on a CPU that is several times faster than layer after layer with all
    gates in one product. More than one step in an iteration of the loop is slower.

    Parameters
    ----------
    present : (T, B), or (T, H, B) for each unit of a single layer
        1, or 0 at steps of padding, all of them before the molecule: outputs there are 0, and states stay 0.
    reverse : bool
        From the last step to the first. Keras repeats the last output at the steps of padding then; here it is 0.
    """
    weights = [layer.gates(x.shape[-1]) for layer in layers]
    # made of an input, not constant: a scan in `jax.shard_map` wants states that vary over devices from the start
    nothing = 0 * x[0, :1]
    start = [jnp.repeat(nothing, layer.units, axis=0) for layer in layers]

    @partial(jax.checkpoint, prevent_cse=False)
    def step(states: list[tuple[Array, Array]], now: tuple[Array, Array]) -> tuple[list[tuple[Array, Array]], Array]:
        x, here = now
        after = []
        for (output, cell), (matrices, biases, masks) in zip(states, weights, strict=True):
            joined = jnp.concatenate([x, output])
            i, f, g, o = (m @ (joined * mask) + b for m, b, mask in zip(matrices, biases, masks, strict=True))
            cell = (hard_sigmoid(f) * cell + hard_sigmoid(i) * jnp.tanh(g)) * here
            x = hard_sigmoid(o) * jnp.tanh(cell)
            after.append((x, cell))
        return after, x

    return jax.lax.scan(step, [(zero, zero) for zero in start], (x, present), reverse=reverse)[1]


class Attention(nnx.Module):
    """A share of attention for each step, as in the published code.

    Parameters
    ----------
    shared : bool
        One vector and bias for all steps, as in the code; else a vector for each step, as in the paper (eq. 3).
    """

    def __init__(self, inputs: int, *, shared: bool, rngs: nnx.Rngs) -> None:
        self.vectors = nnx.Param(glorot(rngs.params(), (inputs, 1 if shared else LENGTH)))
        self.bias = nnx.Param(jnp.zeros(())) if shared else None

    def __call__(self, x: Float[Array, "T H B"], present: Float[Array, "T B"]) -> Float[Array, "T B"]:
        """Softmax over all `LENGTH` steps; padding loses its share, and the rest is brought to a sum of 1."""
        missing = LENGTH - len(x)  # steps of padding before the first one here: their outputs are 0
        bias = 0.0 if self.bias is None else self.bias[...]
        logits = (x * self.vectors[...][:, -len(x) :].T[..., None]).sum(axis=1) + bias
        top = jax.lax.stop_gradient(jnp.maximum(logits.max(axis=0), bias))
        shares = jnp.exp(logits - top)
        shares = shares / (shares.sum(axis=0) + missing * jnp.exp(bias - top))
        shares = jnp.clip(shares * present, EPSILON, 1 - EPSILON)
        return shares / (shares.sum(axis=0) + missing * EPSILON) * present


class Dense(nnx.Module):
    """A dense layer that takes the last of its inputs alone: those before them are 0, being padding."""

    def __init__(self, inputs: int, outputs: int, *, rngs: nnx.Rngs) -> None:
        self.kernel = nnx.Param(glorot(rngs.params(), (inputs, outputs)))
        self.bias = nnx.Param(jnp.zeros((outputs,)))

    def __call__(self, x: Float[Array, "I B"]) -> Float[Array, "O B"]:
        return jnp.einsum("io,ib->ob", self.kernel[...][-len(x) :], x) + jnp.reshape(self.bias[...], (-1, 1))


class DeepMiRGene(nnx.Module):
    """Symbols of candidate precursors to two logits; the network of 2017.

    Parameters
    ----------
    alphabet : int
        Symbols beside padding, which is 0.
    convolutions : sequence of int
        Channels of convolutions before the LSTM layers.
    units : sequence of int
        Units of the LSTM layers.
    bidirectional : bool
        Whether as many units more read from the 3' end.
    attention : str, optional
        ``shared``: one vector for all steps; ``position``: one for each; None: no attention.
    """

    def __init__(
        self,
        *,
        alphabet: int = 16,
        convolutions: Sequence[int] = (),
        units: Sequence[int] = (20, 10),
        bidirectional: bool = False,
        attention: Literal["shared", "position"] | None = "shared",
        precision: str = "float32",
        rngs: nnx.Rngs,
    ) -> None:
        self.alphabet, self.bidirectional = alphabet, bidirectional
        width, ways = alphabet, 2 if bidirectional else 1
        self.convolutions: Any = nnx.List([])
        self.layers: Any = nnx.List([])
        for channels in convolutions:
            kind = Precision.named("float32")
            self.convolutions.append(Convolution(width, channels, precision=kind, rngs=rngs))
            width = channels
        for size in units:
            self.layers.append(nnx.List([Lstm(width, size, 0.1, rngs=rngs) for _ in range(ways)]))
            width = ways * size
        self.attention = None if attention is None else Attention(width, shared=attention == "shared", rngs=rngs)
        self.last = attention is None and bool(units)
        sizes = (width if self.last else LENGTH * width, 400, 100, 2)
        self.dense = nnx.List([Dense(a, b, rngs=rngs) for a, b in itertools.pairwise(sizes)])
        self.dropout = nnx.Dropout(0.1, rngs=rngs)

    def __call__(self, symbols: UInt8[Array, "B T"]) -> Float[Array, "B 2"]:
        x, present = _one_hot(symbols, self.alphabet)
        for convolution in self.convolutions:
            rows = nnx.relu(convolution(x.transpose(2, 0, 1)))
            x = rows.transpose(1, 2, 0) * present[:, None]
        if self.bidirectional:
            for forward, backward in self.layers:
                ways = recur([forward], x, present), recur([backward], x, present, reverse=True)
                x = jnp.concatenate(ways, axis=1)
        elif self.layers:
            x = recur([layer for (layer,) in self.layers], x, present)
        if self.attention is not None:
            x = x * self.attention(x, present)[:, None]
        x = x[-1] if self.last else x.reshape(-1, x.shape[-1])
        x = jax.nn.sigmoid(self.dense[0](self.dropout(x)))
        x = jax.nn.sigmoid(self.dense[1](self.dropout(x)))
        return self.dense[2](x).T


class Stream(nnx.Module):
    """Letters, embedded in as many learned numbers as there are, and an LSTM layer that reads them."""

    def __init__(self, alphabet: int, *, rngs: nnx.Rngs) -> None:
        start = jax.random.uniform(rngs.params(), (alphabet, alphabet), minval=-0.05, maxval=0.05)
        self.embedding = nnx.Param(start)
        self.layer = Lstm(alphabet, 10, 0.0, rngs=rngs)

    def __call__(self, letters: UInt8[Array, "B T"]) -> tuple[Float[Array, "T E B"], Float[Array, "T H B"]]:
        """Inputs of the layer, and for each of its units where they are no padding."""
        x, present = _one_hot(letters, len(self.embedding[...]))
        return jnp.einsum("ae,tab->teb", self.embedding[...], x), jnp.repeat(present[:, None], self.layer.units, axis=1)


class DeepMiRGene2016(nnx.Module):
    """Streams of candidate precursors to two logits; the network of 2016.

    The published outputs are two sigmoids, trained as such and not as shares of 1; the logits are what they are of.

    Parameters
    ----------
    sequence, structure : bool
        Whether it reads the bases, and the two arms of the structure.
    """

    def __init__(
        self, *, sequence: bool = True, structure: bool = True, precision: str = "float32", rngs: nnx.Rngs
    ) -> None:
        alphabets = [4] * sequence + [3, 3] * structure
        self.streams = nnx.List([Stream(alphabet, rngs=rngs) for alphabet in alphabets])
        self.sequence = Dense(10, 2, rngs=rngs) if sequence else None
        self.structure = Dense(20, 2, rngs=rngs) if structure else None
        self.join = Dense(4, 2, rngs=rngs) if sequence and structure else None
        self.dropout = nnx.Dropout(0.2, rngs=rngs)

    def __call__(self, *streams: UInt8[Array, "B T"]) -> Float[Array, "B 2"]:
        both = zip(*(stream(letters) for stream, letters in zip(self.streams, streams, strict=True)), strict=True)
        x, present = (jnp.concatenate(each, axis=1) for each in both)
        # the last output of each layer counts
        last = recur([Abreast([stream.layer for stream in self.streams])], x, present)[-1]
        ends = jnp.split(self.dropout(last), len(self.streams))
        logits = []
        if self.sequence is not None:
            logits.append(self.sequence(ends[0]))
        if self.structure is not None:
            logits.append(self.structure(jnp.concatenate(ends[-2:])))
        if self.join is not None:
            logits = [self.join(jax.nn.sigmoid(jnp.concatenate(logits)))]
        return logits[0].T


def _one_hot(letters: UInt8[Array, "B T"], alphabet: int) -> tuple[Float[Array, "T A B"], Float[Array, "T B"]]:
    """Letters from 1 on, and where they are no padding: steps first and molecules last."""
    letters = letters.T
    known = letters[:, None] == jnp.arange(1, alphabet + 1, dtype=letters.dtype)[:, None]
    return known.astype(jnp.float32), (letters > 0).astype(jnp.float32)


def _width(molecules: Molecules) -> int:
    return min(molecules.codes.shape[1], LENGTH)


def _symbols(molecules: Molecules) -> tuple[np.ndarray]:
    """Base and mark of each position."""
    codes, lengths, partners, _ = molecules
    return (symbols(codes, lengths, partners, _width(molecules)),)


def _bases(molecules: Molecules) -> tuple[np.ndarray]:
    return (bases_right(molecules.codes, molecules.lengths, _width(molecules)),)


def _marks(molecules: Molecules) -> tuple[np.ndarray]:
    (found,) = _symbols(molecules)
    return (np.where(found > 0, (found - 1) % 4 + 1, 0).astype(np.uint8),)


def _arms(molecules: Molecules) -> tuple[np.ndarray, np.ndarray]:
    return flipped_arms(molecules.lengths, molecules.partners, _width(molecules))


def _streams(molecules: Molecules) -> tuple[np.ndarray, ...]:
    """The bases, the forward arm, and the backward arm flipped."""
    return *_bases(molecules), *_arms(molecules)


def _streams_unflipped(molecules: Molecules) -> tuple[np.ndarray, ...]:
    bases, forward, backward = _streams(molecules)
    # both are aligned right: the backward arm, as it stands in the molecule, is where it is flipped
    return (
        bases,
        forward,
        backward.astype(bool) * structure_right(molecules.lengths, molecules.partners, _width(molecules)),
    )


def _share(logits: Float[Array, "B 2"]) -> Float[Array, "B"]:
    """The precursor's share of both sigmoids, p1 / (p0 + p1), which have no sum of 1."""
    log = jax.nn.log_sigmoid(logits)
    return jax.nn.sigmoid(log[:, 1] - log[:, 0])


def _row(
    network: Callable[..., nnx.Module], name: str, summary: str, encode: Encode, inputs: int = 1, **options: Any
) -> ModelSpec:
    old = network is DeepMiRGene2016
    return ModelSpec(
        name=name,
        build=partial(network, **options),
        score=_share if old else second_share,
        summary=summary,
        reference="Park et al. 2016, arXiv:1605.00017" if old else "Park et al. 2017, NIPS 30:2891-2900",
        needs=frozenset() if encode is _bases else frozenset({"fold"}),
        encode=encode,
        shapes=((100,),) * inputs,
        mini_batch=256,
    )


_new, _old = partial(_row, DeepMiRGene), partial(_row, DeepMiRGene2016)
_convolved: dict[str, Any] = {"convolutions": (20, 10), "attention": None}
ROWS = (
    _new("deepmirgene", "two LSTM layers and attention over bases and their place in the structure", _symbols),
    _new("deepmirgene-position", "attention with a vector for each position", _symbols, attention="position"),
    _new("deepmirgene-sequence", "the bases alone", _bases, alphabet=4),
    _new("deepmirgene-structure", "the structure alone", _marks, alphabet=4),
    _new("deepmirgene-lstm", "the last output of two LSTM layers, without attention", _symbols, attention=None),
    _new("deepmirgene-lstm1", "one LSTM layer and attention", _symbols, units=(20,)),
    _new("deepmirgene-bilstm", "two LSTM layers in both directions and attention", _symbols, bidirectional=True),
    _new("deepmirgene-cnn", "two convolutions", _symbols, units=(), **_convolved),
    _new("deepmirgene-cnn-lstm", "two convolutions and two LSTM layers", _symbols, **_convolved),
    _old("deepmirgene2016", "LSTM layers over the bases and over both arms, one of them flipped", _streams, 3),
    _old("deepmirgene2016-noflip", "the same without the flip", _streams_unflipped, 3),
    _old("deepmirgene2016-sequence", "an LSTM layer over the bases", _bases, structure=False),
    _old("deepmirgene2016-structure", "LSTM layers over both arms, one of them flipped", _arms, 2, sequence=False),
)
MODELS = {row.name: row for row in ROWS}
