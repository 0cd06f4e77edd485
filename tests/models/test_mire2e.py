"""miRe2e layer by layer against plain NumPy, and what every model must keep."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from networks import module_of, outputs

from mirscan.checkpoints import weights
from mirscan.errors import InputError
from mirscan.models import MODELS, find_model, load_model, plain, untrained_model
from mirscan.models.layers import Convolution, EncoderLayer, Front, Precision, Residual, average_pool, one_hot
from mirscan.models.mire2e import MiRe2e, positional_features

PARAMETERS = {"mire2e": {"structure": 3_814_312, "energy": 156_135, "classifier": 2_843_278}}
"""Counted by instantiating the published code, less its unused layers."""


FLOAT32 = Precision.named("float32")


@pytest.fixture
def generator():
    return np.random.default_rng(7)


def codes_of(generator, rows=4, length=100):
    return generator.integers(0, 4, (rows, length)).astype(np.uint8)


def shaken(build, generator):
    """A module in eval mode with every parameter and statistic random, so that no term can hide behind 0 or 1."""

    def draw(path, shape):
        values = 0.3 * generator.standard_normal(shape)
        return np.abs(values) + 0.5 if "var" in path else values

    return module_of(build, draw)


def stage_of(name, generator, **options):
    """A stage of a small cascade."""
    small = partial(MiRe2e, width=6, channels=8, dense=9, **options)
    return shaken(lambda rngs: getattr(small(rngs=rngs), name), generator)


def batch_norm(norm, x):
    scaled = (x - norm.mean[...]) / np.sqrt(norm.var[...] + 1e-5)
    return np.asarray(scaled * norm.scale[...] + norm.bias[...])


def convolution(layer, x):
    kernel = np.asarray(layer.kernel[...]).reshape(3, x.shape[-1], -1)
    out = np.zeros((*x.shape[:2], kernel.shape[-1]))
    for tap in range(3):
        for position in range(x.shape[1]):
            if 0 <= position + tap - 1 < x.shape[1]:
                out[:, position] += x[:, position + tap - 1] @ kernel[tap]
    return out + np.asarray(layer.bias[...])


def residual(block, x):
    y = x
    for norm, layer in zip(block.norms, block.convolutions, strict=True):
        y = convolution(layer, batch_norm(norm, np.maximum(y, 0)))
    return x + y


def layer_norm(x, scale, shift):
    mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
    return (x - mean) / np.sqrt(variance + 1e-5) * np.asarray(scale) + np.asarray(shift)


def encoder_layer(layer, x):
    p = {name: np.asarray(getattr(layer, name)[...], dtype=np.float64) for name in (
        "queries", "keys", "values", "query_bias", "key_bias", "value_bias", "merge", "merge_bias",
        "widen", "widen_bias", "narrow", "narrow_bias", "scales", "shifts")}  # fmt: skip
    out = np.empty_like(x)
    for row, tokens in enumerate(x):
        mixed = np.zeros_like(tokens)
        for head in range(layer.heads):
            q = tokens @ p["queries"][:, head] + p["query_bias"][head]
            k = tokens @ p["keys"][:, head] + p["key_bias"][head]
            v = tokens @ p["values"][:, head] + p["value_bias"][head]
            logits = q @ k.T / np.sqrt(layer.size)
            attention = np.exp(logits - logits.max(1, keepdims=True))
            mixed += attention / attention.sum(1, keepdims=True) @ v @ p["merge"][head]
        y = layer_norm(tokens + mixed + p["merge_bias"], p["scales"][0], p["shifts"][0])
        z = np.maximum(y @ p["widen"] + p["widen_bias"], 0) @ p["narrow"] + p["narrow_bias"]
        out[row] = layer_norm(y + z, p["scales"][1], p["shifts"][1])
    return out


def dense(layer, x):
    return x @ np.asarray(layer.kernel[...]) + np.asarray(layer.bias[...])


def elu(x):
    return np.where(x > 0, x, np.expm1(np.minimum(x, 0)))


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameter_counts(name):
    model = nnx.eval_shape(lambda: MODELS[name].build(rngs=nnx.Rngs(0)))
    for stage, count in PARAMETERS[name].items():
        shapes = jax.tree.leaves(nnx.state(getattr(model, stage), nnx.Param))
        assert sum(int(np.prod(leaf.shape)) for leaf in shapes) == count


def test_one_hot_order_and_unknown_bases():
    found = np.asarray(one_hot(jnp.asarray([[0, 1, 2, 3, 4, 5]], dtype=jnp.uint8)))[0]
    assert np.array_equal(found, np.vstack([np.eye(4), np.zeros((2, 4))]))


def test_average_pool_drops_an_odd_last_position(generator):
    x = generator.standard_normal((2, 7, 3)).astype(np.float32)
    expected = np.stack([(x[:, 0] + x[:, 1]) / 2, (x[:, 2] + x[:, 3]) / 2, (x[:, 4] + x[:, 5]) / 2], axis=1)
    np.testing.assert_allclose(average_pool(jnp.asarray(x)), expected, rtol=1e-6)


@pytest.mark.parametrize("kind", ["convolution", "front", "residual"])
def test_convolutions(generator, kind):
    x = generator.standard_normal((3, 11, 5)).astype(np.float32)
    if kind == "convolution":
        layer = shaken(partial(Convolution, 5, 6, precision=FLOAT32), generator)
        expected = convolution(layer, x)
    elif kind == "front":
        layer = shaken(partial(Front, 5, 6, precision=FLOAT32), generator)
        expected = convolution(layer.convolution, batch_norm(layer.norm, x))
    else:
        layer = shaken(partial(Residual, 5, precision=FLOAT32), generator)
        expected = residual(layer, x)
    np.testing.assert_allclose(outputs(layer, x), expected, rtol=1e-4, atol=1e-5)


def test_front_sees_negative_input(generator):
    front = shaken(partial(Front, 5, 6, precision=FLOAT32), generator)
    x = np.zeros((2, 10, 5), dtype=np.float32)
    x[1, :, 4] = -1
    none, minus = outputs(front, x)
    assert np.abs(minus - none).max() > 1e-3


def test_encoder_layer(generator):
    layer = shaken(partial(EncoderLayer, 10, 2, 16, 0.1, precision=FLOAT32), generator)
    x = generator.standard_normal((3, 9, 10)).astype(np.float32)
    np.testing.assert_allclose(outputs(layer, x), encoder_layer(layer, x), rtol=2e-4, atol=2e-5)


def test_encoder_layer_padded_to_a_wider_input_is_the_same(generator):
    layer = shaken(partial(EncoderLayer, 10, 2, 16, 0.1, precision=FLOAT32), generator)
    x = generator.standard_normal((3, 9, 10)).astype(np.float32)
    wide = outputs(layer, np.pad(x, ((0, 0), (0, 0), (0, 6))))
    np.testing.assert_allclose(wide[..., :10], outputs(layer, x), rtol=1e-5, atol=1e-5)
    assert not wide[..., 10:].any()


def test_positional_features_are_the_papers():
    table = positional_features(100)
    p = np.arange(1, 101)
    assert table.shape == (100, 111)
    np.testing.assert_allclose(table[:, 0], p / 100, rtol=1e-6)
    np.testing.assert_allclose(table[:, 2], 1 / p, rtol=1e-6)
    np.testing.assert_allclose(table[:, 4 + 2 * 6], np.sin(7 * p), atol=1e-5)
    np.testing.assert_allclose(table[:, 5 + 2 * 6], np.sin(7 * p / 100), atol=1e-5)
    np.testing.assert_allclose(table[:, -1], np.exp(-((p / 100) ** 2)) * np.sqrt(2) * (p / 100) ** 2, rtol=1e-5)


def test_structure_stage(generator):
    module = stage_of("structure", generator, layers=2, blocks=1)
    codes = codes_of(generator)
    x = convolution(module.front.convolution, batch_norm(module.front.norm, np.eye(4)[codes]))
    for block in module.blocks:
        x = residual(block, x)
    places = np.broadcast_to(positional_features(100, 6), (len(codes), 100, 6))
    x = np.concatenate([x, places], axis=-1)
    for layer in module.layers:
        x = encoder_layer(layer, x)
    x = np.tanh(dense(module.head[2], elu(dense(module.head[1], elu(dense(module.head[0], x))))))[..., 0]
    np.testing.assert_allclose(outputs(module, codes), x, rtol=1e-3, atol=1e-4)


def test_energy_stage(generator):
    module = stage_of("energy", generator, layers=1, blocks=1)
    codes, structure = codes_of(generator), generator.uniform(-1, 1, (4, 100)).astype(np.float32)
    x = np.concatenate([np.eye(4)[codes], structure[..., None]], axis=-1)
    x = convolution(module.front.convolution, batch_norm(module.front.norm, x))
    for block in module.blocks:
        x = residual(block, x)
        half = x.shape[1] // 2
        x = x[:, : 2 * half].reshape(4, half, 2, -1).mean(2)
    x = x.transpose(0, 2, 1).reshape(4, -1)
    for layer, norm in zip(module.dense, module.norms, strict=False):
        x = batch_norm(norm, elu(dense(layer, x)))
    expected = elu(dense(module.dense[2], x))[:, 0]
    np.testing.assert_allclose(outputs(module, codes, structure), expected, rtol=1e-3, atol=1e-3)


def test_classifier_stage(generator):
    module = stage_of("classifier", generator, layers=1, blocks=2)
    codes, structure = codes_of(generator), generator.uniform(-1, 1, (4, 100)).astype(np.float32)
    energy = generator.uniform(0, 0.5, 4).astype(np.float32)
    x = np.concatenate([np.eye(4)[codes], structure[..., None]], axis=-1)
    x = convolution(module.front.convolution, batch_norm(module.front.norm, x))
    for number, block in enumerate(module.blocks, start=1):
        x = residual(block, x)
        if number % 2 == 0:
            half = x.shape[1] // 2
            x = x[:, : 2 * half].reshape(4, half, 2, -1).mean(2)
    waves = np.empty((6, 8))
    for position in range(6):
        for channel in range(0, 8, 2):
            angle = position / 10000 ** (channel / 8)
            waves[position, channel], waves[position, channel + 1] = np.sin(angle), np.cos(angle)
    x = x * np.sqrt(8) + waves
    for layer in module.layers:
        x = encoder_layer(layer, x)
    x = batch_norm(module.norms[0], np.concatenate([x.reshape(4, -1), energy[:, None]], axis=-1))
    x = batch_norm(module.norms[1], elu(dense(module.dense[0], x)))
    expected = dense(module.dense[3], elu(dense(module.dense[2], elu(dense(module.dense[1], x)))))
    found = outputs(module, codes, structure, energy)
    np.testing.assert_allclose(found, expected, rtol=2e-3, atol=2e-3)


def test_a_window_does_not_see_its_batch_mates(generator):
    model = shaken(MODELS["mire2e-tiny"].build, generator)
    codes = codes_of(generator, rows=6)
    other = codes.copy()
    other[1:] = codes_of(generator, rows=5)
    run = jax.jit(model)
    assert np.array_equal(run(jnp.asarray(codes))[0], run(jnp.asarray(other))[0])
    np.testing.assert_allclose(
        run(jnp.asarray(codes))[::-1], run(jnp.asarray(codes[::-1].copy())), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("stage", ["structure", "energy", "classifier"])
def test_every_parameter_has_a_gradient(generator, stage):
    model = nnx.merge(*untrained_model("mire2e-tiny"))
    codes = jnp.asarray(codes_of(generator, rows=8))
    structure, energy = jnp.asarray(generator.uniform(-1, 1, (8, 100)), jnp.float32), jnp.linspace(0.0, 0.5, 8)
    inputs = {"structure": (codes,), "energy": (codes, structure), "classifier": (codes, structure, energy)}[stage]
    graph, params, rest = nnx.split(getattr(model, stage), nnx.Param, ...)

    def loss(params):
        return jnp.sum(nnx.merge(graph, params, rest, copy=True)(*inputs) ** 2)

    gradients = nnx.to_flat_state(jax.jit(jax.grad(loss))(params))
    dead = [path for path, leaf in gradients if not np.asarray(leaf[...]).any() and "key_bias" not in path]
    assert not dead  # a bias of all keys shifts every logit alike, so its gradient is zero by construction


def test_bfloat16_stays_near_float32(generator):
    codes = jnp.asarray(codes_of(generator, rows=16))
    scores = {}
    for precision in ("float32", "bfloat16"):
        model = nnx.merge(*untrained_model("mire2e-tiny", precision=precision))
        score = jax.jit(lambda codes, model=model: MODELS["mire2e-tiny"].score(model(codes)))
        scores[precision] = np.asarray(score(codes))
        assert scores[precision].dtype == np.float32
    assert np.abs(scores["float32"] - scores["bfloat16"]).max() < 0.02
    assert (scores["float32"] >= 0).all()
    assert (scores["float32"] <= 1).all()


def test_checkpoint_round_trip(tmp_path, generator):
    spec = MODELS["mire2e-tiny"]
    model = shaken(spec.build, generator)
    tree = plain(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    weights.save(tmp_path / "w", tree, {"model": spec.name})
    codes = codes_of(generator)
    loaded = nnx.merge(*load_model(spec.name, tmp_path / "w"))
    np.testing.assert_array_equal(outputs(loaded, codes), outputs(model, codes))


def test_a_card_outlives_its_weights(tmp_path):
    for value in (1.0, 2.0):
        weights.save(tmp_path / "w", {"x": np.full(3, value, np.float32)}, {"model": "m"})
        if value == 1.0:
            (tmp_path / "w" / "README.md").write_text("a card")
    assert (tmp_path / "w" / "README.md").read_text() == "a card"
    assert weights.restore(tmp_path / "w")["x"][0] == 2.0


def test_half_precision_checkpoint_is_close_and_smaller(tmp_path, generator):
    model = shaken(MODELS["mire2e-tiny"].build, generator)
    tree = plain(nnx.state(model, (nnx.Param, nnx.BatchStat)))
    weights.save(tmp_path / "w", tree, {"model": "mire2e-tiny"}, half=True)
    for wanted, found in zip(jax.tree.leaves(tree), jax.tree.leaves(weights.restore(tmp_path / "w")), strict=True):
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=1e-6)


def test_any_flipped_bit_is_noticed(tmp_path):
    weights.save(tmp_path / "w", {"a": np.arange(2000, dtype=np.float32)}, {"model": "x"})
    files = [path for path in (tmp_path / "w").rglob("*") if path.is_file() and path.stat().st_size]
    for path in files:
        whole = path.read_bytes()
        broken = bytearray(whole)
        broken[len(broken) // 2] ^= 1
        path.write_bytes(broken)
        with pytest.raises(InputError, match="w"):
            weights.restore(tmp_path / "w")
        path.write_bytes(whole)
    (tmp_path / "w" / "about.json").unlink()
    with pytest.raises(InputError, match="missing"):
        weights.verify(tmp_path / "w")


def test_weights_of_another_model_are_refused(tmp_path, tiny_weights):
    with pytest.raises(InputError, match="not weights of mire2e"):
        load_model("mire2e", tiny_weights)


def test_unknown_model_names_the_known_ones():
    with pytest.raises(InputError, match="mire2e"):
        find_model("nonesuch")
    with pytest.raises(InputError, match="such as deepmirgene,"):
        find_model("deepmirgen")


def test_shipped_weights_are_whole():
    for name, row in weights.registry().items():
        assert name in MODELS
        weights.verify(weights.HERE / row["folder"])
