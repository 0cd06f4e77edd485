"""deepMiRGene against plain NumPy, and what a score of it does not depend on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import module_of

from mirscan.kernels.stems import pair_table
from mirscan.models.deepmirgene import LENGTH, MODELS, Abreast, Attention, Lstm, recur
from mirscan.types import Molecules

PARAMETERS = {
    "deepmirgene": 1_644_913,  # published
    "deepmirgene-position": 1_644_913 - 11 + 4_000,
    "deepmirgene-sequence": 1_644_913 - 12 * 80,
    "deepmirgene-structure": 1_644_913 - 12 * 80,
    "deepmirgene-lstm": 2_960 + 1_240 + 4_400 + 40_100 + 202,
    "deepmirgene-lstm1": 2_960 + 21 + 3_200_400 + 40_100 + 202,
    "deepmirgene-bilstm": 2 * 2_960 + 2 * 2_040 + 21 + 3_200_400 + 40_100 + 202,
    "deepmirgene-cnn": 980 + 610 + 1_600_400 + 40_100 + 202,
    "deepmirgene-cnn-lstm": 980 + 610 + 2_480 + 1_240 + 4_400 + 40_100 + 202,
    "deepmirgene2016": 1_828,  # as the paper describes it
    "deepmirgene2016-noflip": 1_828,
    "deepmirgene2016-sequence": 16 + 600 + 22,
    "deepmirgene2016-structure": 2 * (9 + 560) + 42,
}

FAST = ("deepmirgene", "deepmirgene2016")
slow = partial(pytest.param, marks=pytest.mark.slow)


@pytest.fixture
def generator():
    return np.random.default_rng(11)


def molecules(generator, rows=5, longest=100, width=None):
    """Random hairpins with bulges, some bases ambiguous; the first one is as long as ``longest``."""
    structures = []
    for row in range(rows):
        left, right = (
            "".join("." * int(generator.integers(0, 3)) + "(" for _ in range(generator.integers(8, 16)))
            for _ in range(2)
        )
        pairs = min(left.count("("), right.count("("))
        arms = [arm[: [i for i, c in enumerate(arm) if c == "("][pairs - 1] + 1] for arm in (left, right)]
        structure = arms[0] + "." * int(generator.integers(3, 9)) + arms[1][::-1].replace("(", ")")
        structure = structure + "." * int(generator.integers(0, 4))
        assert len(structure) <= longest
        structures.append(structure + "." * (longest - len(structure)) if row == 0 else structure)
    width = width or longest
    lengths = np.array([len(structure) for structure in structures])
    codes = np.where(generator.random((rows, longest)) < 0.03, 4, generator.integers(0, 4, (rows, longest)))
    codes = np.pad(codes, ((0, 0), (0, width - longest)))
    codes[np.arange(width) >= lengths[:, None]] = 5
    return Molecules(codes.astype(np.uint8), lengths, pair_table(structures, width), np.zeros(rows, np.float32))


def shaken(build, generator, spread=0.4):
    """A module in eval mode with every parameter random, so that no term can hide behind 0 or 1."""
    return module_of(build, lambda _, shape: spread * generator.standard_normal(shape))


def value(parameter):
    return np.asarray(parameter[...], dtype=np.float64)


def hard(x):
    return np.clip(0.2 * x + 0.5, 0, 1)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def lstm(layer, x, present, masks=None):
    """Keras's layer, one molecule and step at a time: x (T, I), present (T,) -> (T, H)."""
    kernel, recurrent, bias = (value(p) for p in (layer.kernel, layer.recurrent, layer.bias))
    units, inputs = layer.units, len(kernel)
    masks = np.ones((4, inputs + units)) if masks is None else masks
    h, c, out = np.zeros(units), np.zeros(units), []
    for step, here in zip(x, present, strict=True):
        if here:
            i, f, g, o = (
                (step * masks[n, :inputs]) @ kernel[:, part] + (h * masks[n, inputs:]) @ recurrent[:, part] + bias[part]
                for n, part in enumerate(slice(n * units, (n + 1) * units) for n in range(4))
            )
            c = hard(f) * c + hard(i) * np.tanh(g)
            h = hard(o) * np.tanh(c)
        out.append(h)
    return np.array(out)


def attention(layer, h, present):
    """The published weights of all steps: h (LENGTH, H), present (LENGTH,) -> (LENGTH,)."""
    vectors = np.broadcast_to(value(layer.vectors).T, h.shape)
    logits = (h * vectors).sum(1) + (0 if layer.bias is None else value(layer.bias))
    shares = np.exp(logits - logits.max())
    shares = np.clip(shares / shares.sum() * present, 1e-7, 1 - 1e-7)
    return shares / shares.sum() * present


def dense(layer, x):
    return x @ value(layer.kernel) + value(layer.bias)


def one_hot(letters, alphabet):
    return np.eye(alphabet + 1)[letters][..., 1:]


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name):
    model = nnx.eval_shape(lambda: MODELS[name].build(rngs=nnx.Rngs(0)))
    shapes = jax.tree.leaves(nnx.state(model, nnx.Param))
    assert sum(int(np.prod(leaf.shape)) for leaf in shapes) == PARAMETERS[name]


@pytest.mark.parametrize("reverse", [False, True])
def test_stacked_layers_step_as_one_after_the_other(generator, reverse):
    layers = [shaken(partial(Lstm, size, units, 0.1), generator, 1.5) for size, units in ((5, 4), (4, 3))]
    x = 2 * generator.standard_normal((9, 5, 6)).astype(np.float32)
    present = (np.arange(9)[:, None] >= np.array([0, 1, 3, 7, 8, 9])).astype(np.float32)
    found = jax.jit(lambda x, present: recur(layers, x, present, reverse=reverse))(x, present)
    way = slice(None, None, -1 if reverse else 1)
    for row in range(6):
        h = x[way, :, row]
        for layer in layers:
            h = lstm(layer, h, present[way, row])
        expected = h[way] * present[:, row, None]
        np.testing.assert_allclose(found[..., row], expected, rtol=1e-5, atol=1e-6)


def test_layers_abreast_are_each_as_alone(generator):
    """With padding, and dropout, of their own."""
    x = [generator.standard_normal((9, inputs, 6)).astype(np.float32) for inputs in (5, 2)]
    present = [
        (np.arange(9)[:, None] >= np.array(starts)).astype(np.float32) for starts in ([0, 1, 3, 7, 8, 9], [4] * 6)
    ]
    layers = [Lstm(inputs, units, 0.1, rngs=nnx.Rngs(inputs)) for inputs, units in ((5, 4), (2, 3))]

    @jax.jit
    def run(x, present):
        masks = [nnx.clone(layer).gates(6)[2] for layer in layers]
        here = [jnp.repeat(each[:, None], layer.units, axis=1) for each, layer in zip(present, layers, strict=True)]
        both = recur([Abreast([*map(nnx.clone, layers)])], *(jnp.concatenate(each, axis=1) for each in (x, here)))
        return masks, jnp.split(both, [4], axis=1)

    masks, found = run(x, present)
    assert any((np.asarray(mask) == 0).any() for mask in masks)
    for number, layer in enumerate(layers):
        for row in range(6):
            seen = present[number][:, row]
            expected = lstm(layer, x[number][..., row], seen, np.asarray(masks[number])[..., row]) * seen[:, None]
            np.testing.assert_allclose(found[number][..., row], expected, rtol=1e-5, atol=1e-6)


def test_dropout_is_one_mask_for_each_gate_and_molecule(generator):
    x = generator.standard_normal((9, 5, 30)).astype(np.float32)

    @jax.jit
    def run(x):
        layer = Lstm(5, 4, 0.1, rngs=nnx.Rngs(0))
        layer.train()
        return layer, nnx.clone(layer).gates(30)[2], recur([layer], x, jnp.ones((9, 30)))

    layer, masks, found = run(x)
    masks = np.asarray(masks)
    assert masks.shape == (4, 9, 30)
    assert set(np.unique(masks)) == {0, np.float32(1 / 0.9)}
    assert 0.05 < (masks == 0).mean() < 0.15
    assert len(np.unique(masks.transpose(0, 2, 1).reshape(120, 9), axis=0)) > 20
    for row in range(30):
        expected = lstm(layer, x[..., row], np.ones(9), masks[..., row])
        np.testing.assert_allclose(found[..., row], expected, rtol=1e-5, atol=1e-6)


def test_a_layer_starts_as_in_keras():
    layer = jax.jit(lambda: Lstm(16, 20, 0.1, rngs=nnx.Rngs(0)))()
    recurrent = value(layer.recurrent)
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(20), atol=1e-5)
    assert np.array_equal(layer.bias[...].reshape(4, 20), np.repeat([[0], [1], [0], [0]], 20, axis=1))
    limit = np.sqrt(6 / (16 + 80))
    assert 0.9 * limit < np.abs(value(layer.kernel)).max() <= limit


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("steps", [60, LENGTH])
def test_attention(generator, shared, steps):
    layer = shaken(partial(Attention, 10, shared=shared), generator)
    if layer.bias is not None:
        layer.bias[...] = jnp.float32(1.5)
    present = np.zeros((LENGTH, 4))
    for row, length in enumerate((60, 59, 20, 1)):
        present[LENGTH - length :, row] = 1
    # the steeper half of the molecules has shares below Keras's smallest one, which are raised to it
    h = generator.standard_normal((LENGTH, 10, 4)) * present[:, None] * np.array([1, 30, 30, 1])
    found = jax.jit(layer)(jnp.asarray(h[-steps:], jnp.float32), jnp.asarray(present[-steps:], jnp.float32))
    expected = np.stack([attention(layer, h[..., row], present[:, row]) for row in range(4)], axis=1)
    assert (expected[present > 0] < 1.01e-7).any()
    np.testing.assert_allclose(found, expected[-steps:], rtol=2e-4, atol=1e-9)


def test_the_network_of_2017(generator):
    spec = MODELS["deepmirgene"]
    model = shaken(spec.build, generator)
    (symbols,) = spec.encode(molecules(generator, 3, width=LENGTH))
    assert symbols.shape == (3, LENGTH)
    expected = []
    for row in symbols:
        present = row > 0
        x = one_hot(row, 16)
        for (layer,) in model.layers:
            x = lstm(layer, x, present)
        x = (x * attention(model.attention, x, present)[:, None]).reshape(-1)
        x = sigmoid(dense(model.dense[1], sigmoid(dense(model.dense[0], x))))
        expected.append(dense(model.dense[2], x))
    np.testing.assert_allclose(jax.jit(model)(symbols), expected, rtol=1e-4, atol=1e-4)


def test_the_network_of_2016(generator):
    spec = MODELS["deepmirgene2016"]
    model = shaken(spec.build, generator)
    streams = spec.encode(molecules(generator, 3))
    ends = []
    for stream, letters in zip(model.streams, streams, strict=True):
        table = value(stream.embedding)
        ends.append([lstm(stream.layer, one_hot(row, len(table)) @ table, row > 0)[-1] for row in letters])
    sequence, forward, backward = (np.array(end) for end in ends)
    halves = dense(model.sequence, sequence), dense(model.structure, np.concatenate([forward, backward], axis=1))
    expected = dense(model.join, sigmoid(np.concatenate(halves, axis=1)))
    logits = jax.jit(model)(*streams)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-5)
    one, two = sigmoid(expected).T
    np.testing.assert_allclose(spec.score(logits), two / (one + two), rtol=1e-4)
    assert np.isfinite(spec.score(jnp.full((1, 2), -500.0))).all()


def test_structure_is_split_and_flipped():
    structure = "((.((....))).)."
    given = Molecules(
        np.tile(np.arange(15, dtype=np.uint8) % 4, (1, 1)),
        np.array([15]),
        pair_table([structure]),
        np.zeros(1, np.float32),
    )
    letters = {0: "", 1: "(", 2: ".", 3: ")"}

    def read(row):
        return "".join(letters[letter] for letter in row)

    streams = {name: MODELS[name].encode(given) for name in ("deepmirgene2016", "deepmirgene2016-noflip")}
    for bases, forward, _ in streams.values():
        assert np.array_equal(bases[0], np.arange(15) % 4 + 1)
        assert read(forward[0]) == structure[:7]
    assert read(streams["deepmirgene2016"][2][0]) == structure[7:][::-1]
    assert read(streams["deepmirgene2016-noflip"][2][0]) == structure[7:]
    assert all(stream[2][0, -1] != 0 for stream in streams.values())
    model = shaken(MODELS["deepmirgene2016"].build, np.random.default_rng(3), 1.0)
    run = jax.jit(model)
    scores = [run(*inputs) for inputs in streams.values()]
    assert np.abs(np.asarray(scores[0] - scores[1])).max() > 1e-3
    assert all(
        np.array_equal(a, b)
        for a, b in zip(MODELS["deepmirgene2016-structure"].encode(given), streams["deepmirgene2016"][1:], strict=True)
    )


def test_alphabets_of_sequence_and_structure_alone(generator):
    given = molecules(generator)
    (symbols,), (bases,), (marks,) = (
        MODELS[name].encode(given) for name in ("deepmirgene", "deepmirgene-sequence", "deepmirgene-structure")
    )
    assert np.array_equal(symbols > 0, np.arange(100) >= 100 - given.lengths[:, None])
    assert np.array_equal(np.where(bases > 0, 4 * (bases.astype(int) - 1) + marks, 0), symbols)
    assert set(np.unique(bases)) == set(np.unique(marks)) == set(range(5))
    unfolded = given._replace(partners=np.full_like(given.partners, -1))
    assert np.array_equal(MODELS["deepmirgene-sequence"].encode(unfolded)[0], bases)


@partial(jax.jit, static_argnums=(0, 1))
def scores_of(graph, score, state, inputs):
    return score(nnx.merge(graph, state)(*inputs))


@pytest.mark.parametrize("name", [name if name in FAST else slow(name) for name in MODELS])
def test_a_score_depends_on_neither_padding_nor_batch_mates(generator, name):
    spec = MODELS[name]
    model = shaken(spec.build, generator, 0.1 if name == "deepmirgene2016" else 0.2)
    given = molecules(generator)
    graph, state = nnx.split(model)

    def run(inputs):
        return np.asarray(scores_of(graph, spec.score, state, inputs))

    inputs = spec.encode(given)
    assert tuple(array.shape[1:] for array in inputs) == spec.shapes
    assert all(array.dtype == np.uint8 for array in inputs)
    scores = run(inputs)
    assert scores.dtype == np.float32
    assert ((scores > 0) & (scores < 1)).all()
    assert len(np.unique(scores)) == len(scores)

    wide = Molecules(
        np.pad(given.codes, ((0, 0), (0, 400)), constant_values=5),
        given.lengths,
        np.pad(given.partners, ((0, 0), (0, 400)), constant_values=-1),
        given.energies,
    )
    padded = spec.encode(wide)
    assert {array.shape[1] for array in padded} == {LENGTH}
    np.testing.assert_allclose(run(padded), scores, rtol=0, atol=1e-6)

    others = spec.encode(molecules(generator))
    mixed = run(tuple(np.concatenate([a[:1], b[1:]]) for a, b in zip(inputs, others, strict=True)))
    assert mixed[0] == scores[0]
    assert (mixed[1:] != scores[1:]).all()


@pytest.mark.parametrize(
    "name", ["deepmirgene2016", *map(slow, ("deepmirgene-position", "deepmirgene-bilstm", "deepmirgene-cnn-lstm"))]
)
def test_every_parameter_has_a_gradient(generator, name):
    spec = MODELS[name]
    model = shaken(spec.build, generator)
    inputs = tuple(array[:, -60:] for array in spec.encode(molecules(generator, 8)))
    graph, params = nnx.split(model)

    @jax.jit
    def gradient(params, inputs):
        return jax.grad(lambda params: jnp.sum(nnx.merge(graph, params)(*inputs) ** 2))(params)

    gradients = nnx.to_flat_state(gradient(params, inputs))
    assert all(np.isfinite(leaf[...]).all() for _, leaf in gradients)
    # a bias of all of the attention's logits shifts them alike, those of padding too, so its gradient is zero
    dead = [path for path, leaf in gradients if not np.asarray(leaf[...]).any() and path != ("attention", "bias")]
    assert not dead
