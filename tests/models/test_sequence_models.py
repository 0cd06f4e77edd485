"""Published convolutional networks over sequences, layer by layer against NumPy, and what every model must keep."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import module_of, outputs

from mirscan.models import cnn_lstm, deepmir_seq, mirdnn, mirtron_cnn
from mirscan.models.layers import Precision
from mirscan.types import Molecules

MODELS = {**cnn_lstm.MODELS, **mirtron_cnn.MODELS, **deepmir_seq.MODELS, **mirdnn.MODELS}
PARAMETERS = {
    "cnn-lstm": 1_931_858,
    "cnn-lstm-pooled": 1_931_858,
    "mirtron-conv3": 67_586,
    "mirtron-conv4": 68_098,
    "mirtron-conv5": 68_610,
    "mirtron-conv6": 69_122,
    "mirtron-concat": 68_354,
    "deepmir-seq": 1_125_890,
    "mirdnn-animal": 321_315,
    "mirdnn-plant": 396_195,
}
"""Zheng's and mirDNN's are those of published weights, the others the sum of the layers in the papers."""
LENGTHS = {"cnn-lstm": 164, "deepmir-seq": 200, "mirdnn-animal": 160, "mirdnn-plant": 320}
KINDS = ("cnn-lstm", "mirtron-conv4", "mirtron-concat", "deepmir-seq", "mirdnn-animal")
"""A row of each kind of module: the others differ from these in a number alone."""
FLOAT32 = Precision.named("float32")


@pytest.fixture
def generator():
    return np.random.default_rng(11)


def published_length(name):
    return LENGTHS.get(name, 164)


def molecules_of(generator, lengths=(3, 60, 99, 100), width=None):
    """Random molecules of given lengths with an N in each, folded into one stem where they are long enough."""
    lengths = np.asarray(lengths, dtype=np.int64)
    width = width or int(lengths.max())
    codes = np.full((len(lengths), width), 5, dtype=np.uint8)
    partners = np.full(codes.shape, -1, dtype=np.int16)
    for row, length in enumerate(lengths):
        codes[row, :length] = generator.integers(0, 4, length)
        codes[row, generator.integers(length)] = 4
        arm = np.arange(max(0, length // 2 - 3))
        partners[row, arm], partners[row, length - 1 - arm] = length - 1 - arm, arm
    return Molecules(codes, lengths, partners, -generator.uniform(0, 40, len(lengths)).astype(np.float32))


def widened(molecules, more):
    """The same molecules in wider tables."""
    pad = ((0, 0), (0, more))
    return molecules._replace(
        codes=np.pad(molecules.codes, pad, constant_values=5),
        partners=np.pad(molecules.partners, pad, constant_values=-1),
    )


def random_module(build, generator):
    """In eval mode, every parameter and statistic random, so that no term can hide behind 0 or 1."""

    def draw(path, shape):
        values = generator.standard_normal(shape)
        if "var" in path:
            return np.abs(values) + 1
        if "classes" in path and "bias" in path:  # well above the last ReLU of the mirtron rows
            return np.abs(values) + 3
        return values / np.sqrt(np.prod(shape[:-1]) if len(shape) > 1 else 9)

    return module_of(build, draw)


@functools.cache
def network(name):
    """A random module of a row, and the same compiled, for four rows in every test."""
    module = random_module(MODELS[name].build, np.random.default_rng(3))
    return module, jax.jit(module)


def started(build):
    """Parameters of a new module by their paths; compiled as a whole, which is faster than one by one."""
    with jax.default_prng_impl("rbg"):  # whose programs compile faster still
        state = jax.jit(lambda: nnx.split(build(rngs=nnx.Rngs(0)), nnx.Param, ...)[1])()
    return {path: np.asarray(leaf[...]) for path, leaf in nnx.to_flat_state(state)}


def as_numpy(parameter):
    return np.asarray(parameter[...], dtype=np.float64)


def relu(x):
    return np.maximum(x, 0)


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def dense(layer, x):
    return x @ as_numpy(layer.kernel) + as_numpy(layer.bias)


def one_hot(codes):
    return np.eye(6)[codes][..., :4]


def batch_norm(norm, x):
    scaled = (x - as_numpy(norm.mean)) / np.sqrt(as_numpy(norm.var) + 1e-5)
    return scaled * as_numpy(norm.scale) + as_numpy(norm.bias)


def same(size, kernel, stride):
    """Output length, and zeros before and behind the input, as TensorFlow documents 'same' padding."""
    over = size % stride or stride
    zeros = max(kernel - over, 0)
    return -(-size // stride), zeros // 2, zeros - zeros // 2


def convolution(x, kernel, stride):
    """'Same' convolution of (B, H, W, I) with (h, w, I, O), place by place."""
    height, above, below = same(x.shape[1], kernel.shape[0], stride)
    width, left, right = same(x.shape[2], kernel.shape[1], stride)
    edge = np.pad(x, ((0, 0), (above, below), (left, right), (0, 0)))
    out = np.empty((len(x), height, width, kernel.shape[3]))
    for i in range(height):
        for j in range(width):
            patch = edge[:, stride * i : stride * i + kernel.shape[0], stride * j : stride * j + kernel.shape[1]]
            out[:, i, j] = np.tensordot(patch, kernel, axes=3)
    return out


@pytest.mark.parametrize("name", MODELS)
def test_parameter_counts(name):
    model = nnx.eval_shape(lambda: MODELS[name].build(rngs=nnx.Rngs(0)))
    assert sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))) == PARAMETERS[name]


def test_mirtron_models_are_marked_and_folds_are_asked_for():
    assert {name for name, row in MODELS.items() if row.task == "mirtron"} == {
        name for name in MODELS if name.startswith(("mirtron", "cnn-lstm"))
    }
    assert {name for name, row in MODELS.items() if row.needs} == {"mirdnn-animal", "mirdnn-plant"}
    assert all(name == row.name for name, row in MODELS.items())


@pytest.mark.parametrize("name", MODELS)
def test_inputs_have_the_shapes_of_the_row_and_do_not_depend_on_the_width(generator, name):
    spec = MODELS[name]
    molecules = molecules_of(generator, (12, 77, 100))
    inputs = spec.encode(molecules)
    assert tuple(x.shape[1:] for x in inputs) == spec.inputs
    assert [x.dtype for x in inputs] == ([np.float32] * 2 if spec.needs else [np.uint8])
    for more in (40, 300):
        for found, wanted in zip(spec.encode(widened(molecules, more)), inputs, strict=True):
            np.testing.assert_array_equal(found, wanted)
    for found, wanted in zip(spec.encode(molecules.take(np.array([2, 0]))), inputs, strict=True):
        np.testing.assert_array_equal(found, wanted[[2, 0]])


@pytest.mark.parametrize("name", [name for name in MODELS if not MODELS[name].needs])
def test_longer_molecules_lose_their_end_and_shorter_ones_are_padded_there(generator, name):
    spec, length = MODELS[name], published_length(name)
    molecules = molecules_of(generator, (5, length, length + 30))
    (codes,) = spec.encode(molecules)
    np.testing.assert_array_equal(codes[0], np.pad(molecules.codes[0, :5], (0, length - 5), constant_values=5))
    np.testing.assert_array_equal(codes[1:], molecules.codes[1:, :length])
    changed = molecules.codes.copy()
    changed[2, length:] = 0
    np.testing.assert_array_equal(spec.encode(molecules._replace(codes=changed))[0], codes)


@pytest.mark.parametrize("name", ["mirdnn-animal", "mirdnn-plant"])
def test_mirdnn_reads_the_middle_and_energy_per_base(generator, name):
    width = published_length(name)
    molecules = molecules_of(generator, (50, width + 31))
    numbers, energies = MODELS[name].encode(molecules)
    np.testing.assert_allclose(energies, molecules.energies / molecules.lengths, rtol=1e-6)
    left = (width - 50) // 2
    letters = np.where(molecules.codes[..., None] == 4, 0.25, one_hot(molecules.codes))
    np.testing.assert_array_equal(numbers[0, left : left + 50, :4], letters[0, :50])
    assert not numbers[0, :left].any()
    assert not numbers[0, left + 50 :].any()
    np.testing.assert_array_equal(numbers[1, :, :4], letters[1, 15 : 15 + width])
    assert numbers[0, left, 4] == 1
    assert numbers[0, left + 49, 4] == -1


@pytest.mark.parametrize("name", KINDS)
def test_a_molecule_does_not_see_its_batch_mates(generator, name):
    spec = MODELS[name]
    _, run = network(name)
    inputs = spec.encode(molecules_of(generator, (3, 15, 90, 100)))
    others = spec.encode(molecules_of(generator, (100, 100, 40, 5)))
    mixed = [np.concatenate([x[:1], y[1:]]) for x, y in zip(inputs, others, strict=True)]
    logits = run(*jax.device_put(inputs))
    scores = np.asarray(spec.score(logits))
    assert logits.dtype == scores.dtype == np.float32
    assert scores.shape == (4,)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(np.unique(scores)) == 4
    np.testing.assert_array_equal(run(*jax.device_put(mixed))[0], logits[0])


@pytest.mark.parametrize("name", ["cnn-lstm", "mirtron-conv4", "deepmir-seq"])
def test_an_ambiguous_base_is_none(generator, name):
    _, run = network(name)
    codes = MODELS[name].encode(molecules_of(generator))[0]
    absent = np.where(codes == 4, np.uint8(5), codes)
    assert (codes != absent).any()
    np.testing.assert_array_equal(run(jnp.asarray(codes)), run(jnp.asarray(absent)))


def halved(layer, x):
    """What a halving convolution should give, written with loops."""
    found = relu(convolution(x, as_numpy(layer.kernel), 1 if layer.pooled else 2) + as_numpy(layer.bias))
    if not layer.pooled:
        return found
    rows = [found[:, row : row + 2].max(axis=1) for row in range(0, found.shape[1], 2)]
    columns = [np.stack(rows, axis=1)[:, :, c : c + 2].max(axis=2) for c in range(0, found.shape[2], 2)]
    return np.stack(columns, axis=2)


@pytest.mark.parametrize("pooled", [False, True])
@pytest.mark.parametrize(("size", "width", "inputs"), [(164, 4, 1), (82, 2, 3), (41, 1, 3)])
def test_halving_convolution(generator, size, width, inputs, pooled):
    layer = random_module(lambda rngs: cnn_lstm.Halving(inputs, pooled=pooled, precision=FLOAT32, rngs=rngs), generator)
    x = generator.standard_normal((2, size, width, inputs)).astype(np.float32)
    np.testing.assert_allclose(outputs(layer, x), halved(layer, x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["cnn-lstm", "cnn-lstm-pooled"])
def test_cnn_lstm(generator, name):
    module, run = network(name)
    (codes,) = MODELS["cnn-lstm"].encode(molecules_of(generator, (1, 10, 100, 164)))
    x = one_hot(codes)[..., None]
    for layer, shape in zip(module.convolutions, ((82, 2, 128), (41, 1, 128), (21, 1, 128)), strict=True):
        x = halved(layer, x)
        assert x.shape[1:] == shape
    x = x.reshape(4, 2688)
    gates = x @ as_numpy(module.lstm.dense_i.kernel) + as_numpy(module.lstm.dense_h.bias)
    into, _, cell, out = np.split(gates, 4, axis=1)
    x = sigmoid(out) * np.tanh(sigmoid(into) * np.tanh(cell))
    expected = dense(module.classes, relu(dense(module.dense, x)))
    np.testing.assert_allclose(run(jnp.asarray(codes)), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("height", [3, 4, 5, 6])
def test_filters_in_four_shifts(generator, height):
    layer = random_module(lambda rngs: mirtron_cnn.Filters(height, 7, precision=FLOAT32, rngs=rngs), generator)
    bases = generator.standard_normal((3, 19, 4)).astype(np.float32)
    everywhere = convolution(bases[..., None], as_numpy(layer.kernel)[:, :, None], 1)
    assert everywhere.shape == (3, 19, 4, 7)
    expected = relu(everywhere + as_numpy(layer.bias)).max(axis=1)
    np.testing.assert_allclose(outputs(layer, bases), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["mirtron-conv4", "mirtron-concat"])
def test_mirtron_cnn(generator, name):
    module, run = network(name)
    (codes,) = MODELS["mirtron-conv3"].encode(molecules_of(generator, (1, 4, 80, 164)))
    found = []
    for layer in module.filters:
        everywhere = convolution(one_hot(codes)[..., None], as_numpy(layer.kernel)[:, :, None], 1)
        found.append(relu(everywhere + as_numpy(layer.bias)).max(axis=1).reshape(4, -1))
    hidden = relu(dense(module.dense, np.concatenate(found, axis=1)))
    expected = relu(dense(module.classes, hidden))
    assert (expected > 0).all()
    np.testing.assert_allclose(run(jnp.asarray(codes)), expected, rtol=1e-3, atol=1e-5)


def test_mirtron_cnn_starts_as_published():
    for path, values in started(MODELS["mirtron-conv4"].build).items():
        if "bias" in path:
            assert (values == np.float32(0.1)).all()
        else:  # normal of sd 0.01, cut at two sd, which leaves an sd of 0.0088
            assert np.abs(values).max() <= 0.02
            assert values.std() == pytest.approx(0.0088, rel=0.1)


def test_clipped_logits_are_a_tie_and_teach_nothing(generator):
    spec = MODELS["mirtron-conv3"]
    module = random_module(spec.build, generator)
    module.classes.bias[...] = jnp.full(2, -1e3)
    inputs = spec.encode(molecules_of(generator))
    logits = outputs(module, *inputs)
    assert not logits.any()
    assert (np.asarray(spec.score(jnp.asarray(logits))) == 0.5).all()
    assert not any(np.asarray(leaf).any() for _, leaf in gradients_of(module, inputs))


def valid_matches(codes, kernel):
    """Best match of each filter of ``kernel`` (H, 4, F), place by place."""
    x = one_hot(codes)
    places = range(codes.shape[1] - len(kernel) + 1)
    return np.stack([np.tensordot(x[:, p : p + len(kernel)], kernel, axes=2) for p in places]).max(axis=0)


@pytest.mark.parametrize("height", [2, 7, 16])
@pytest.mark.parametrize("backend", ["cpu", "gpu"])
def test_best_matches_and_their_gradient(generator, monkeypatch, height, backend):
    codes = generator.integers(0, 6, (3, 24)).astype(np.uint8)
    codes[0, 5:] = 5
    kernel = generator.standard_normal((height, 4, 9)).astype(np.float32)
    weight = generator.standard_normal((3, 9)).astype(np.float32)

    def plainly(kernel):
        x = jnp.asarray(one_hot(codes), jnp.float32)
        return jax.lax.conv_general_dilated(x, kernel, (1,), "VALID", dimension_numbers=("NWC", "WIO", "NWC")).max(1)

    wanted = jax.grad(lambda kernel: (plainly(kernel) * weight).sum())(kernel)
    monkeypatch.setattr(jax, "default_backend", lambda: backend)  # molecule by molecule, or all at once
    run = lambda kernel: deepmir_seq.best_matches(jnp.asarray(codes), kernel, FLOAT32)  # noqa: E731
    np.testing.assert_allclose(run(jnp.asarray(kernel)), valid_matches(codes, kernel), rtol=1e-5, atol=1e-5)
    found, gradient = jax.value_and_grad(lambda kernel: (run(kernel) * weight).sum())(jnp.asarray(kernel))
    np.testing.assert_allclose(found, (valid_matches(codes, kernel) * weight).sum(), rtol=1e-4)
    np.testing.assert_allclose(gradient, wanted, rtol=1e-4, atol=1e-5)


def test_deepmir_sequence(generator):
    module, run = network("deepmir-seq")
    (codes,) = MODELS["deepmir-seq"].encode(molecules_of(generator, (1, 5, 190, 250)))
    found = np.concatenate([valid_matches(codes, as_numpy(kernel)) for kernel in module.kernels], axis=1)
    assert found.shape == (4, 2048)
    expected = dense(module.classes, relu(dense(module.dense, relu(found + as_numpy(module.bias)))))
    np.testing.assert_allclose(run(jnp.asarray(codes)), expected, rtol=1e-3, atol=1e-4)


def width_three(layer, x):
    kernel = as_numpy(layer.kernel).reshape(3, 1, x.shape[2], -1)
    return convolution(x[:, :, None], kernel, 1)[:, :, 0] + as_numpy(layer.bias)


def test_mirdnn(generator):
    module = random_module(lambda rngs: mirdnn.MirDNN(halvings=1, rngs=rngs), generator)
    numbers = generator.standard_normal((3, 20, 5)).astype(np.float32)
    energies = generator.uniform(-0.6, 0, 3).astype(np.float32)
    x = width_three(module.front, numbers)
    for block in module.stages[0]:
        y = x
        for norm, layer in zip(block.norms, block.convolutions, strict=True):
            y = width_three(layer, batch_norm(norm, relu(y)))
        x = x + y
    x = np.maximum(x[:, ::2], x[:, 1::2])
    x = batch_norm(module.tower_norm, elu(x)).reshape(3, 640)
    x = np.concatenate([x, batch_norm(module.energy_norm, energies[:, None])], axis=1)
    expected = dense(module.last, batch_norm(module.dense_norm, elu(dense(module.dense, x))))[:, 0]
    np.testing.assert_allclose(outputs(module, numbers, energies), expected, rtol=1e-3, atol=1e-3)


def gradients_of(module, inputs):
    """Path and gradient of every parameter, of a loss that every row and logit has a part in."""
    inputs = jax.device_put(inputs)
    graph, params, rest = nnx.split(module, nnx.Param, ...)

    def loss(params):
        return jnp.sum(nnx.merge(graph, params, rest, copy=True)(*inputs) ** 2)

    return [(path, leaf[...]) for path, leaf in nnx.to_flat_state(jax.jit(jax.grad(loss))(params))]


@functools.cache
def gradients(name):
    """Those of a random module, on molecules of which some fill all positions."""
    molecules = molecules_of(np.random.default_rng(3), (60, 80, 90, 100, 164, 164))
    return gradients_of(network(name)[0], MODELS[name].encode(molecules))


@pytest.mark.parametrize("name", KINDS)
def test_every_parameter_has_a_gradient(name):
    dead = []
    for path, gradient in gradients(name):
        assert np.isfinite(gradient).all()
        if not np.asarray(gradient).any():
            dead.append(path)
    # one step from an empty state: nothing is multiplied with the recurrent kernel
    assert dead == ([("lstm", "dense_h", "kernel")] if name == "cnn-lstm" else [])


@pytest.mark.parametrize(
    ("name", "second"),
    [("cnn-lstm", [False, True, True, False]), ("cnn-lstm-pooled", [True, True, True, False])],
)
def test_parts_of_cnn_lstm_that_padding_leaves_idle(name, second):
    of = dict(gradients(name))
    columns = [np.asarray(of["convolutions", n, "kernel"]).any(axis=(0, 2, 3)).tolist() for n in range(3)]
    assert columns == [[True] * 4, second, [False, True, False, False]]
    gates = np.asarray(of["lstm", "dense_i", "kernel"]).reshape(-1, 4, 100).any(axis=(0, 2))
    assert gates.tolist() == [True, False, True, True]


def test_cnn_lstm_starts_as_keras_does():
    values = started(cnn_lstm.CNNLSTM)
    limit = np.sqrt(6 / (24 * 128 + 24 * 128))
    assert np.abs(values["convolutions", 1, "kernel"]).max() == pytest.approx(limit, rel=1e-3)
    np.testing.assert_array_equal(values["lstm", "dense_h", "bias"], np.repeat([0.0, 1.0, 0.0, 0.0], 100))
    recurrent = values["lstm", "dense_h", "kernel"]
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(100), atol=1e-5)
    assert not values["convolutions", 1, "bias"].any()


def test_deepmir_starts_as_keras_does():
    values = started(deepmir_seq.DeepMirSequence)
    for number, height in enumerate(deepmir_seq.HEIGHTS):
        kernel = values["kernels", number]
        assert kernel.shape == (height, 4, 256)
        assert np.abs(kernel).max() == pytest.approx(np.sqrt(6 / (4 * height * (1 + 256))), rel=0.01)
    assert not values["bias",].any()


@pytest.mark.parametrize("name", ["cnn-lstm", "mirtron-concat", "deepmir-seq", "mirdnn-animal"])
def test_bfloat16_stays_near_float32(generator, name):
    spec = MODELS[name]
    inputs = jax.device_put(spec.encode(molecules_of(generator, (60, 80, 90, 100))))
    narrow = random_module(functools.partial(spec.build, precision="bfloat16"), np.random.default_rng(3))
    exact, rounded = network(name)[1](*inputs), jax.jit(narrow)(*inputs)
    assert rounded.dtype == jnp.float32
    assert 0 < np.abs(np.asarray(spec.score(exact)) - np.asarray(spec.score(rounded))).max() < 0.03
