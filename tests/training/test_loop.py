"""The training loop on a toy problem, and the pieces of the cascade's training."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mirscan.errors import InputError, UsageError
from mirscan.kernels.duplex import BEYOND, LOOP, NOTHING, PAIRED, UNPAIRED
from mirscan.models import load_model
from mirscan.training.loop import Recipe, fit, keras_adam, runner
from mirscan.training.losses import altered, guided_error
from mirscan.training.mire2e import (
    STAGES,
    assemble,
    draw_stems,
    pairs,
    partners,
    structure_figures,
    structures,
    train_stage,
)
from mirscan.training.mire2e_windows import Sources

RECIPE = Recipe(batch=32, epochs=3, learning_rate=0.05, warmup=2, dropout=False)


class Toy(nnx.Module):
    """A line with a batch norm, so that statistics are trained and kept too."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.norm = nnx.BatchNorm(3, rngs=rngs)
        self.line = nnx.Linear(3, 1, rngs=rngs)

    def __call__(self, x: Any) -> Any:
        return self.line(self.norm(x))[:, 0]


def loss(module: Any, batch: dict[str, Any]) -> Any:
    return jnp.mean((module(batch["x"]) - batch["target"]) ** 2)


def toy_data() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    x = generator.standard_normal((640, 3)).astype(np.float32)
    return {"x": x, "target": (x @ np.array([1.0, -2.0, 0.5]) + 3).astype(np.float32), "positive": x[:, 0] > 1}


def run(
    folder: Path,
    data: dict[str, np.ndarray],
    recipe: Recipe,
    stop_after: int | None = None,
    better: str | None = "fit",
) -> dict[str, Any]:
    """Train the toy; ``stop_after`` epochs it is interrupted as a kill would."""

    def evaluate(predict: Any, epoch: int) -> dict[str, float]:
        if epoch == stop_after:
            raise KeyboardInterrupt
        return {"fit": -float(np.mean((predict({"x": data["x"]}) - data["target"]) ** 2))}

    module = Toy(nnx.Rngs(0))
    often = 60 if stop_after is None else 0  # so that it is interrupted in the middle of an epoch
    return fit(
        module, loss, data, recipe, folder, evaluate=evaluate, better=better, log=lambda line: None, save_seconds=often
    )


def leaves(tree: Any) -> list[np.ndarray]:
    return [leaf for key in sorted(tree) for leaf in leaves(tree[key])] if isinstance(tree, dict) else [tree]


def test_it_learns_and_logs(tmp_path: Path) -> None:
    run(tmp_path / "run", toy_data(), replace(RECIPE, epochs=12))
    entries = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    assert [entry["epoch"] for entry in entries] == list(range(1, 13))
    assert entries[-1]["fit"] > -0.05
    assert entries[0]["loss"] > 10 * entries[-1]["loss"]


def test_a_killed_run_resumes_to_the_same_weights(tmp_path: Path) -> None:
    data = toy_data()
    whole = run(tmp_path / "whole", data, RECIPE)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", data, RECIPE, stop_after=1)
    resumed = run(tmp_path / "cut", data, RECIPE)
    for a, b in zip(leaves(whole), leaves(resumed), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("better", ["fit", None])
def test_without_a_schedule_epochs_are_added(tmp_path: Path, better: str | None) -> None:
    steady, data = replace(RECIPE, warmup=None), toy_data()
    whole = run(tmp_path / "whole", data, replace(steady, epochs=4), better=better)
    run(tmp_path / "run", data, replace(steady, epochs=2), better=better)
    longer = run(tmp_path / "run", data, replace(steady, epochs=4), better=better)
    for a, b in zip(leaves(whole), leaves(longer), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(UsageError, match=r"another recipe \(warmup\)"):  # a schedule would have run out
        run(tmp_path / "run", data, replace(RECIPE, epochs=4), better=better)
    with pytest.raises(UsageError, match="has 4 epochs already, and 3 are asked for"):
        run(tmp_path / "run", data, replace(steady, epochs=3), better=better)


def test_a_training_begun_otherwise_is_refused(tmp_path: Path) -> None:
    run(tmp_path / "run", toy_data(), RECIPE)
    with pytest.raises(UsageError, match=r"another recipe \(learning_rate, seed\); choose"):
        run(tmp_path / "run", toy_data(), replace(RECIPE, learning_rate=0.1, seed=1))
    with pytest.raises(UsageError, match=r"another recipe \(epochs\)"):  # where there is a schedule
        run(tmp_path / "run", toy_data(), replace(RECIPE, epochs=4))


def test_adam_of_keras_steps_as_written_out() -> None:
    import jax.numpy as jnp

    generator, optimiser = np.random.default_rng(0), keras_adam()
    state = optimiser.init({"a": jnp.zeros(3)})
    mean, square = np.zeros(3), np.zeros(3)
    for step in range(1, 6):
        gradient = generator.standard_normal(3) * [1, 1e-4, 1e-8]  # epsilon decides about the last
        found, state = optimiser.update({"a": jnp.asarray(gradient, jnp.float32)}, state)
        mean, square = 0.9 * mean + 0.1 * gradient, 0.999 * square + 0.001 * gradient**2
        wanted = np.sqrt(1 - 0.999**step) / (1 - 0.9**step) * mean / (np.sqrt(square) + 1e-7)
        np.testing.assert_allclose(found["a"], wanted, rtol=1e-4)


def test_balanced_batches_hold_the_share(tmp_path: Path) -> None:
    seen = []

    def spy(module: Any, batch: dict[str, Any]) -> Any:
        import jax

        jax.debug.callback(lambda positive: seen.append(int(positive.sum())), batch["positive"])
        return loss(module, batch)

    data = toy_data()
    module = Toy(nnx.Rngs(0))
    recipe = replace(RECIPE, epochs=1, positive_share=0.25, epoch_size=320)
    fit(module, spy, data, recipe, tmp_path / "r", log=lambda line: None)
    assert seen == [8] * 10


def test_altered_hairpins_keep_their_structure() -> None:
    generator = np.random.default_rng(0)
    state = generator.choice([NOTHING, BEYOND, PAIRED, UNPAIRED, LOOP], size=(64, 40)).astype(np.uint8)
    sides = generator.integers(0, 4, (64, 40, 2)).astype(np.uint8)
    sides[(generator.random(sides.shape) < 0.2) & (state != PAIRED)[..., None]] = 5
    before = np.concatenate([sides, state[..., None]], axis=-1)
    after = np.asarray(altered(jnp.asarray(before), jnp.uint32(7), 0.5, 0.5))
    paired = state == PAIRED
    turned = (after[..., :2] == before[..., 1::-1]).all(axis=-1)
    same = (after[..., :2] == before[..., :2]).all(axis=-1)
    assert (turned | same)[paired].all()
    assert 0.4 < (turned & ~same)[paired].sum() / (before[..., 0] != before[..., 1])[paired].sum() < 0.6
    np.testing.assert_array_equal(after[..., 2], state)
    np.testing.assert_array_equal(after[..., :2] == 5, before[..., :2] == 5)  # a gap stays a gap
    free = (before[..., :2] < 4) & ~paired[..., None]
    assert 0.3 < (after[..., :2] != before[..., :2])[free].mean() < 0.45  # half are drawn, a quarter of those alike
    np.testing.assert_array_equal(altered(jnp.asarray(before), jnp.uint32(7), 0.0, 0.0), before)
    assert (np.asarray(altered(jnp.asarray(before), jnp.uint32(8), 0.5, 0.5)) != after).any()


def test_runner_pads_and_keeps_order() -> None:
    module = Toy(nnx.Rngs(0))
    module.eval()
    x = toy_data()["x"][:77]
    np.testing.assert_allclose(runner(module, rows=16)({"x": x}), module(jnp.asarray(x)), rtol=1e-6)


def test_structures_and_pairs() -> None:
    signs, energy = structures([("((..))", -1.2), ("......", 0.0)])
    assert signs.tolist() == [[1, 1, 0, 0, -1, -1], [0] * 6]
    np.testing.assert_allclose(energy, [0.2, 0.0])
    assert pairs(signs[0]) == {(0, 5), (1, 4)}
    assert pairs(np.array([1, -1, -1, 1])) == {(0, 1)}
    figures = structure_figures(np.array([[1, 0.2, 0, 0, -0.6, -0.9]]), signs[:1])
    assert figures["pair_f1"] == pytest.approx(0.0)  # one pair is spelled, (0, 4), and it is wrong
    assert figures["position_accuracy"] == pytest.approx(5 / 6)
    assert structure_figures(signs, signs)["pair_f1"] == 1


def test_stems_pair_and_are_read_back() -> None:
    stems = draw_stems(300, seed=3)
    codes, partner = stems["codes"], stems["partner"]
    np.testing.assert_array_equal(partners(stems["target"]), partner)
    row, base = np.nonzero(partner != np.arange(100))
    np.testing.assert_array_equal(partner[row, partner[row, base]], base)
    np.testing.assert_array_equal(codes[row, base], 3 - codes[row, partner[row, base]])
    assert (np.abs(base - partner[row, base]) > 3).all()
    sizes = np.abs(stems["target"]).sum(axis=1) / 2
    assert sizes.min() >= 5
    assert sizes.max() <= 40


def test_the_guide_rewards_attention_to_partners() -> None:
    stems = {name: jnp.asarray(array) for name, array in draw_stems(4).items()}

    class Told(nnx.Module):
        def __init__(self, sharp: float) -> None:
            self.sharp = sharp

        def attend(self, codes: jax.Array) -> tuple[jax.Array, jax.Array]:
            logits = self.sharp * jax.nn.one_hot(stems["partner"], 100)
            return stems["target"], jnp.stack([logits, logits])

    blind, sure = guided_error(Told(0.0), stems, 1.0), guided_error(Told(50.0), stems, 1.0)
    assert blind == pytest.approx(np.log(100), rel=1e-5)
    assert sure == pytest.approx(0.0, abs=1e-5)


def test_stages_need_the_ones_before(tmp_path: Path) -> None:
    sources = Sources(tmp_path / "none.fa", ())
    with pytest.raises(InputError, match="structure"):
        train_stage("mire2e-tiny", "energy", sources, tmp_path, log=print)


@pytest.mark.slow
def test_the_whole_cascade_trains_and_ships(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mirscan.training.mire2e.STEMS", replace(RECIPE, epochs=1, dropout=False))
    generator = np.random.default_rng(0)
    count = 600
    stems = draw_stems(count)
    codes = stems["codes"]
    common = {
        "codes": codes,
        "label": (generator.random(count) < 0.3).astype(np.uint8),
        "part": (generator.random(count) < 0.2).astype(np.uint8),
        "source": np.zeros(count, np.int32),
    }
    signs = stems["target"].astype(np.int8)
    np.savez(tmp_path / "folded.npz", **common, structure=signs, energy=generator.random(count).astype(np.float32))
    np.savez(tmp_path / "classes.npz", **common)
    sources = Sources(tmp_path / "none.fa", ())
    for stage in STAGES:
        recipe = replace(RECIPE, epochs=1, learning_rate=1e-3, positive_share=0.25 if stage == "classifier" else None)
        train_stage("mire2e-tiny", stage, sources, tmp_path, recipe=recipe, log=lambda line: None)
    folder = assemble("mire2e-tiny", tmp_path, {"data": "noise"})
    graph, state = load_model("mire2e-tiny", folder)
    assert np.isfinite(np.asarray(nnx.merge(graph, state)(jnp.asarray(codes[:4])))).all()

    # begun from those weights at a rate of nearly zero, a stage stays where it was
    (tmp_path / "again").mkdir()
    np.savez(tmp_path / "again" / "folded.npz", **dict(np.load(tmp_path / "folded.npz")))
    still = replace(RECIPE, epochs=1, learning_rate=1e-9)
    tree = train_stage("mire2e-tiny", "structure", sources, tmp_path / "again", recipe=still, start=folder, log=print)
    np.testing.assert_allclose(
        tree["front"]["convolution"]["kernel"], state["structure"]["front"]["convolution"]["kernel"][...], atol=1e-3
    )
