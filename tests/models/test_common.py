"""One list of checks for every model of molecules: counts of all rows, all else for one row a family, the rest slow."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mirscan.checkpoints import weights
from mirscan.commands.score import score_molecules
from mirscan.devices import Scorer
from mirscan.kernels.bases import ABSENT
from mirscan.models import MODELS, load_model, plain
from mirscan.structure.molecules import fold_sequences, molecules_of
from mirscan.training.from_table import examples
from mirscan.training.published import published
from mirscan.types import Molecules

PARAMETERS = {
    "mire2e": 6_813_725,
    "deepmirgene2016": 1_828,
    "deepmirgene": 1_644_913,
    "deepmir-seq": 1_125_890,
    "mirdnn-animal": 321_315,
    "mirdnn-plant": 396_195,
    "cnn-lstm": 1_931_858,
    "cnn-lstm-pooled": 1_931_858,
    "mirtron-conv3": 67_586,
    "mirtron-conv4": 68_098,
    "mirtron-conv5": 68_610,
    "mirtron-conv6": 69_122,
    "mirtron-concat": 68_354,
}
"""Trainable parameters as published or counted from the published code."""
VGG = {
    "1m": (850_130, 1_678_130, 3_334_130, 6_646_130),
    "2m": (311_066, 541_562, 1_002_554, 1_924_538),
    "3m": (516_554, 571_946, 682_730, 904_298),
    "3m-3x3": (221_642, 277_034, 387_818, 609_386),
    "4m": (273_626, 287_546, 315_386, 371_066),
}
INCEPTION = {
    "1m": (164_722, 246_810, 329_314, 412_234),
    "2m": (166_626, 251_058, 336_834, 423_954),
    "3m": (168_530, 255_306, 344_354, 435_674),
    "4m": (170_434, 259_554, 351_874, 447_394),
}
RESNET = {
    "1m": (7_922, 11_234, 15_122, 19_586),
    "2m": (15_242, 21_746, 29_402, 38_210),
    "3m": (22_562, 32_258, 43_682, 56_834),
    "4m": (29_882, 42_770, 57_962, 75_458),
}
"""The hairpin-image networks by modules and width; a VGG of three modules is 5 x 5 unless its name says so."""
for kind, table, widths in (
    ("vgg", VGG, ("32fu", "64fu", "128fu", "256fu")),
    ("inception", INCEPTION, ("8ck", "12ck", "16ck", "20ck")),
    ("resnet", RESNET, ("20ck", "24ck", "28ck", "32ck")),
):
    for modules, counts in table.items():
        number, *kernel = modules.split("-")
        PARAMETERS |= {
            "-".join(["deepmir", kind, number, width, *kernel]): count
            for width, count in zip(widths, counts, strict=True)
        }
OF_MOLECULES = [name for name, spec in MODELS.items() if spec.encode is not None]
ONE_OF_A_FAMILY = ("deepmirgene", "deepmirgene2016", "deepmir-vgg-4m-32fu", "deepmir-seq", "mirdnn-animal", "cnn-lstm",
                   "mirtron-conv3")  # fmt: skip
FAST_AND_SLOW = [
    name if name in ONE_OF_A_FAMILY else pytest.param(name, marks=pytest.mark.slow) for name in OF_MOLECULES
]


def texts(count: int = 6, seed: int = 0, shortest: int = 45, longest: int = 99) -> list[str]:
    """Hairpins: random arms, their reverse complement, and a loop between."""
    generator = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        arm = generator.integers(0, 4, generator.integers((shortest - 5) // 2, (longest - 5) // 2))
        found.append("".join("ACGU"[b] for b in [*arm, 0, 0, 2, 0, 0, *(3 - arm[::-1])]))
    return found


def molecules(name: str, *, seed: int = 0, **sizes: int) -> Molecules:
    chosen = texts(seed=seed, **sizes)
    folded = "fold" in MODELS[name].needs
    return molecules_of(chosen, fold_sequences(chosen, "hairpins") if folded else None)


def wider(some: Molecules, by: int) -> Molecules:
    space = [(0, 0), (0, by)]
    return some._replace(
        codes=np.pad(some.codes, space, constant_values=ABSENT),
        partners=np.pad(some.partners, space, constant_values=-1),
    )


def parameters(name: str) -> int:
    state = nnx.eval_shape(lambda: nnx.state(MODELS[name].build(rngs=nnx.Rngs(0)), nnx.Param))
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(state))


@pytest.mark.parametrize("name", sorted(PARAMETERS))
def test_parameters_are_as_published(name: str) -> None:
    assert parameters(name) == PARAMETERS[name]


def test_every_row_has_a_name_of_its_own_and_says_what_it_is() -> None:
    for name, spec in MODELS.items():
        assert spec.name == name
        assert spec.summary
        assert spec.reference
    for name in OF_MOLECULES:
        published(name)


@pytest.mark.parametrize("name", FAST_AND_SLOW)
def test_inputs_of_windows_have_the_shapes_of_the_row(name: str) -> None:
    spec = MODELS[name]
    inputs = spec.encode(wider(molecules(name, longest=90), 100 - molecules(name, longest=90).codes.shape[1]))
    assert tuple(column.shape[1:] for column in inputs) == spec.inputs
    assert {len(column) for column in inputs} == {6}


@pytest.mark.parametrize("name", FAST_AND_SLOW)
def test_a_score_is_the_molecules_own(name: str, weights_of: Callable[[str], Path]) -> None:
    """Neither company, nor the width of the table, nor the order changes it; it is a float32 in [0, 1]."""
    spec, model, some = MODELS[name], load_model(name, weights_of(name)), molecules(name)
    spec = replace(spec, mini_batch=2)
    scores = score_molecules(spec, model, some)
    assert scores.dtype == np.float32
    assert ((scores >= 0) & (scores <= 1)).all()
    assert len(np.unique(scores)) > 3
    order = np.array([3, 1, 5])
    np.testing.assert_array_equal(score_molecules(spec, model, some.take(order)), scores[order])
    np.testing.assert_array_equal(score_molecules(spec, model, wider(some, 57)), scores)
    np.testing.assert_array_equal(score_molecules(spec, model, some.take(slice(2, 3))), scores[2:3])


@pytest.mark.parametrize("name", FAST_AND_SLOW)
def test_one_compilation_a_shape(name: str, weights_of: Callable[[str], Path]) -> None:
    spec = replace(MODELS[name], mini_batch=2)
    scorer = Scorer(spec, *load_model(name, weights_of(name)), rows=4, devices=jax.local_devices()[:1])
    full = wider(molecules(name, longest=90), 100 - molecules(name, longest=90).codes.shape[1])
    for count in (1, 3, 6):
        scorer.score(*(column[:count] for column in spec.encode(full)))
    assert scorer._run._cache_size() == 1


@pytest.mark.slow  # compiles for a minute; the tests of each family look at its gradients
@pytest.mark.parametrize("name", OF_MOLECULES)
def test_gradients_are_finite_and_reach_what_learns(name: str) -> None:
    spec = MODELS[name]
    module = spec.build(rngs=nnx.Rngs(1))
    batch = examples(spec.encode(molecules(name)), np.arange(6) % 2 == 0, published(name))
    graph, params, rest = nnx.split(module, nnx.Param, ...)
    loss = published(name).loss

    def objective(params: Any) -> jax.Array:
        return loss(nnx.merge(graph, params, rest, copy=True), {k: jnp.asarray(v) for k, v in batch.items()})

    gradient = jax.tree.leaves(jax.grad(objective)(params))
    assert all(np.isfinite(leaf).all() for leaf in gradient)
    assert sum(bool(np.abs(leaf).sum() > 0) for leaf in gradient) > len(gradient) / 2


@pytest.mark.parametrize("name", FAST_AND_SLOW)
def test_weights_make_the_round_trip(name: str, weights_of: Callable[[str], Path], tmp_path: Path) -> None:
    graph, state = load_model(name, weights_of(name))
    weights.save(tmp_path / "w", plain(state), {"model": name})
    some = molecules(name)
    spec = replace(MODELS[name], mini_batch=2)
    loaded = score_molecules(spec, load_model(name, tmp_path / "w"), some)
    np.testing.assert_array_equal(loaded, score_molecules(spec, (graph, state), some))
