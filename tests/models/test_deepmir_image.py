"""DeepMir's networks on hairpin images: parameters, layers against plain NumPy, and what a score may depend on."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import module_of

from mirscan.models.deepmir_image import MODELS, Convolution2D, ResidualModule, encode, neighbour_pool
from mirscan.models.layers import Precision, max_pool
from mirscan.types import Molecules

PARAMETERS = {
    "vgg-1m": {32: 850_130, 64: 1_678_130, 128: 3_334_130, 256: 6_646_130},
    "vgg-2m": {32: 311_066, 64: 541_562, 128: 1_002_554, 256: 1_924_538},
    "vgg-3m": {32: 516_554, 64: 571_946, 128: 682_730, 256: 904_298},
    "vgg-3m-3x3": {32: 221_642, 64: 277_034, 128: 387_818, 256: 609_386},
    "vgg-4m": {32: 273_626, 64: 287_546, 128: 315_386, 256: 371_066},
    "inception-1m": {8: 164_722, 12: 246_810, 16: 329_314, 20: 412_234},
    "inception-2m": {8: 166_626, 12: 251_058, 16: 336_834, 20: 423_954},
    "inception-3m": {8: 168_530, 12: 255_306, 16: 344_354, 20: 435_674},
    "inception-4m": {8: 170_434, 12: 259_554, 16: 351_874, 20: 447_394},
    "resnet-1m": {20: 7_922, 24: 11_234, 28: 15_122, 32: 19_586},
    "resnet-2m": {20: 15_242, 24: 21_746, 28: 29_402, 32: 38_210},
    "resnet-3m": {20: 22_562, 24: 32_258, 28: 43_682, 32: 56_834},
    "resnet-4m": {20: 29_882, 24: 42_770, 28: 57_962, 32: 75_458},
}
"""Of kind and width, computed from the published layers."""
STATISTICS = {20: 80, 24: 96, 28: 112, 32: 128}
"""Of batch norm, a module of a ResNet."""

FLOAT32, BFLOAT16 = Precision.named("float32"), Precision.named("bfloat16")
SMALL = ("deepmir-vgg-1m-32fu", "deepmir-inception-1m-8ck", "deepmir-resnet-1m-20ck")
slow = partial(pytest.param, marks=pytest.mark.slow)


def name_of(kind: str, width: int) -> str:
    family, modules, *form = kind.split("-")
    return "-".join(["deepmir", family, modules, f"{width}{'fu' if family == 'vgg' else 'ck'}", *form])


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def images_of(generator, rows=3):
    return jnp.asarray(generator.integers(0, 256, (rows, 25, 100, 3)), jnp.uint8)


def shaken(build, generator):
    """A module in eval mode with every parameter and statistic random, so that no term can hide behind 0 or 1."""

    def draw(path, shape):
        values = generator.standard_normal(shape) * (1.4 / np.sqrt(np.prod(shape[:-1])) if len(shape) > 1 else 0.3)
        return np.abs(values) + 0.5 if "var" in path else values

    return module_of(build, draw)


def small(name, generator, **options):
    return shaken(partial(MODELS[name].build, **options), generator)


def small_layer(inputs, outputs, width, same, rectified, precision):
    options = {"same": same, "rectified": rectified, "precision": precision}
    return shaken(partial(Convolution2D, inputs, outputs, width, **options), np.random.default_rng(3))


def relu(x):
    return np.maximum(x, 0)


def convolution(layer, x, same=True):
    kernel = np.asarray(layer.kernel[...], np.float64)
    width = len(kernel)
    if same:
        before = (width - 1) // 2
        x = np.pad(x, ((0, 0), (before, width - 1 - before), (before, width - 1 - before), (0, 0)))
    high, wide = x.shape[1] - width + 1, x.shape[2] - width + 1
    out = np.zeros((len(x), high, wide, kernel.shape[-1]))
    for row in range(width):
        for column in range(width):
            out += x[:, row : row + high, column : column + wide] @ kernel[row, column]
    return out + np.asarray(layer.bias[...])


def pooled(x):
    high, wide = x.shape[1] // 2, x.shape[2] // 2
    corners = [x[:, row : 2 * high : 2, column : 2 * wide : 2] for row in range(2) for column in range(2)]
    return np.max(corners, axis=0)


def pooled_in_place(x):
    edge = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=-np.inf)
    return np.max(
        [edge[:, row : row + x.shape[1], column : column + x.shape[2]] for row in (0, 1) for column in (0, 1)], 0
    )


def batch_norm(norm, x):
    scaled = (x - np.asarray(norm.mean[...])) / np.sqrt(np.asarray(norm.var[...]) + 1e-3)
    return scaled * np.asarray(norm.scale[...]) + np.asarray(norm.bias[...])


def dense(layer, x):
    return x @ np.asarray(layer.kernel[...], np.float64) + np.asarray(layer.bias[...])


def test_the_rows_are_the_published_grid():
    expected = {name_of(kind, width) for kind, counts in PARAMETERS.items() for width in counts}
    assert set(MODELS) == expected
    assert len(MODELS) == 48 + 4
    assert all(name == spec.name for name, spec in MODELS.items())


@pytest.mark.parametrize("kind", PARAMETERS)
def test_parameter_counts(kind):
    for width, count in PARAMETERS[kind].items():
        model = nnx.eval_shape(lambda: MODELS[name_of(kind, width)].build(rngs=nnx.Rngs(0)))  # noqa: B023
        sizes = [leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.Param))]
        assert sum(sizes) == count
        statistics = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat)))
        assert statistics == (int(kind[7]) * STATISTICS[width] if kind.startswith("resnet") else 0)


@pytest.mark.parametrize("kind", PARAMETERS)
def test_images_in_two_logits_out(kind):
    spec = MODELS[name_of(kind, min(PARAMETERS[kind]))]
    model = nnx.eval_shape(lambda: spec.build(rngs=nnx.Rngs(0)))
    model.eval()
    images = jax.ShapeDtypeStruct((2, *spec.shapes[0]), jnp.uint8)
    logits = nnx.eval_shape(lambda model, images: model(images), model, images)
    assert (logits.shape, logits.dtype) == ((2, 2), jnp.float32)


@pytest.mark.parametrize(
    ("shape", "outputs", "width", "same", "rectified"),
    [
        ((25, 30, 3), 8, 5, False, True),
        ((25, 20, 3), 8, 3, True, True),
        ((7, 9, 6), 5, 5, True, True),
        ((2, 7, 4), 6, 3, True, False),
        ((7, 9, 6), 5, 2, True, True),
        ((7, 9, 6), 5, 1, True, True),
    ],
)
def test_convolution_and_its_gradient(generator, shape, outputs, width, same, rectified):
    x = jnp.asarray(generator.standard_normal((3, *shape)), jnp.float32)
    graph, state = nnx.split(small_layer(shape[-1], outputs, width, same, rectified, FLOAT32))
    narrow = nnx.graphdef(small_layer(shape[-1], outputs, width, same, rectified, BFLOAT16))
    expected = convolution(nnx.merge(graph, state), np.asarray(x), same)
    weights = jnp.asarray(generator.standard_normal(expected.shape), jnp.float32)

    def plain(state, x):
        y = jax.lax.conv_general_dilated(
            x, state["kernel"][...], (1, 1), "SAME" if same else "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
        )
        return jnp.maximum(y + state["bias"][...], 0) if rectified else y + state["bias"][...]

    def run(function):
        def total(state, x):
            y = function(state, x)
            return jnp.sum(y * weights), y

        (_, y), gradients = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))(state, x)
        return jax.tree.leaves((y, gradients))

    wanted = run(plain)
    np.testing.assert_allclose(wanted[0], relu(expected) if rectified else expected, rtol=1e-4, atol=1e-5)
    # in bfloat16 some pixels fall on the other side of the ReLU's edge
    for definition, tolerance in ((graph, 1e-6), (narrow, 0.1)):
        for found, true in zip(run(lambda state, x: nnx.merge(definition, state)(x)), wanted, strict=True):  # noqa: B023
            assert found.dtype == jnp.float32
            assert np.linalg.norm(found - true) < tolerance * np.linalg.norm(true)


def test_pools(generator):
    x = generator.standard_normal((2, 11, 49, 3)).astype(np.float32)
    np.testing.assert_array_equal(max_pool(jnp.asarray(x)), pooled(x))
    np.testing.assert_array_equal(neighbour_pool(jnp.asarray(x)), pooled_in_place(x))


def test_residual_module(generator):
    module = shaken(partial(ResidualModule, 6, precision=FLOAT32), generator)
    x = generator.standard_normal((2, 5, 8, 6)).astype(np.float32)
    y = convolution(module.convolutions[0], relu(batch_norm(module.norms[0], x)))
    y = convolution(module.convolutions[1], relu(batch_norm(module.norms[1], y)))
    np.testing.assert_allclose(module(jnp.asarray(x)), x + y, rtol=1e-5, atol=1e-5)


def test_vgg(generator):
    model, images = small("deepmir-vgg-2m-32fu", generator), images_of(generator)
    x = np.asarray(images) / 255
    for number, layer in enumerate(model.convolutions):
        x = relu(convolution(layer, x, same=number > 0))
        x = pooled(x) if number % 2 else x
    assert x.shape == (3, 5, 24, 60)
    expected = dense(model.last, relu(dense(model.dense, x.reshape(3, -1))))
    np.testing.assert_allclose(jax.jit(model)(images), expected, rtol=1e-4, atol=1e-5)


def test_inception(generator):
    model, images = small("deepmir-inception-2m-8ck", generator), images_of(generator)
    x = relu(convolution(model.first, np.asarray(images) / 255))
    for block in model.blocks:
        one, two, three = block.single, block.narrow[0], block.narrow[1]
        towers = [
            relu(convolution(block.pooled, pooled_in_place(x))),
            relu(convolution(block.wide[0], relu(convolution(two, x)))),
            relu(convolution(block.wide[1], relu(convolution(three, x)))),
            relu(convolution(one, x)),
        ]
        x = np.concatenate(towers, axis=-1)
    assert x.shape == (3, 25, 100, 32)
    np.testing.assert_allclose(jax.jit(model)(images), dense(model.last, x.reshape(3, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modules", [2, 4])
def test_resnet(generator, modules):
    model, images = small(f"deepmir-resnet-{modules}m-20ck", generator), images_of(generator)
    x = relu(convolution(model.first, np.asarray(images) / 255, same=False))
    for number, block in enumerate(model.blocks):
        y = x
        for norm, layer in zip(block.norms, block.convolutions, strict=True):
            y = convolution(layer, relu(batch_norm(norm, y)))
        x = x + y
        if modules == 4 and number == 0:
            x = relu(x)
    assert x.shape == (3, 23, 98, 20)
    np.testing.assert_allclose(jax.jit(model)(images), dense(model.last, x.mean((1, 2))), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", SMALL)
def test_an_image_does_not_see_its_batch_mates(generator, name):
    run, images = jax.jit(small(name, generator)), images_of(generator, rows=4)
    other = jnp.concatenate([images[:1], images_of(generator, rows=3)])
    assert np.array_equal(run(images)[0], run(other)[0])
    np.testing.assert_allclose(run(images)[::-1], run(images[::-1]), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", [SMALL[0], *map(slow, SMALL[1:])])
def test_every_parameter_has_a_finite_gradient(generator, name):
    graph, params, rest = nnx.split(small(name, generator), nnx.Param, ...)
    images = images_of(generator)

    def loss(params):
        return jnp.sum(nnx.merge(graph, params, rest, copy=True)(images) ** 2)

    for path, leaf in nnx.to_flat_state(jax.jit(jax.grad(loss))(params)):
        values = np.asarray(leaf[...])
        assert np.isfinite(values).all(), path
        assert values.any(), path


@pytest.mark.parametrize("name", [*map(slow, SMALL[:2]), SMALL[2]])
def test_training_changes_what_it_should(generator, name):
    """Dropout draws anew at each step, and batch statistics move."""
    model = nnx.jit(lambda: MODELS[name].build(rngs=nnx.Rngs(0)))()
    images = images_of(generator)
    before = [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(model, nnx.BatchStat))]
    run = nnx.jit(lambda model, images: model(images))
    model.train()
    first, second = run(model, images), run(model, images)
    after = jax.tree.leaves(nnx.state(model, nnx.BatchStat))
    moved = [not np.array_equal(old, new) for old, new in zip(before, after, strict=True)]
    assert moved == [True] * (4 if "resnet" in name else 0)
    assert np.array_equal(first, second) == ("resnet" in name)


def test_bfloat16_stays_near_float32(generator):
    name, images, scores = SMALL[0], images_of(generator), {}
    for precision in ("float32", "bfloat16"):
        model = small(name, np.random.default_rng(3), precision=precision)
        scores[precision] = np.asarray(MODELS[name].score(jax.jit(model)(images)))
        assert scores[precision].dtype == np.float32
    assert 0 < np.abs(scores["float32"] - scores["bfloat16"]).max() < 0.02


def hairpins(width):
    """A hairpin of 8 pairs around a loop of 5, and the same bases unpaired, in tables of a given width."""
    codes, partners = np.full((2, width), 5, np.uint8), np.full((2, width), -1, np.int16)
    codes[:, :21] = [2, 1, 0, 3, 2, 2, 1, 0, 0, 3, 0, 1, 0, 3, 2, 1, 1, 0, 3, 2, 1]
    partners[0, :8], partners[0, 13:21] = np.arange(20, 12, -1), np.arange(7, -1, -1)
    return Molecules(codes, np.full(2, 21), partners, np.array([-9.0, 0.0], np.float32))


def test_what_has_no_hairpin_scores_zero(generator):
    (images,) = encode(hairpins(100))
    assert images.dtype == np.uint8
    assert images.shape == (2, *MODELS[SMALL[2]].shapes[0])
    assert np.array_equal(encode(hairpins(40))[0], images)
    assert (images[0] != 255).any()
    assert (images[1] == 255).all()
    spec = MODELS[SMALL[2]]
    score = np.asarray(spec.score(jax.jit(small(spec.name, generator))(jnp.asarray(images))))
    assert 0.01 < score[0] < 0.99
    assert score[1] == 0
