"""Learning from a table: what is refused, what is learned, and that a killed run goes on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mirscan.checkpoints.weights import describe, restore
from mirscan.commands.score import score_molecules
from mirscan.errors import InputError, UsageError
from mirscan.models import MODELS, find_model, load_model
from mirscan.structure.molecules import molecules_of
from mirscan.training import from_table
from mirscan.training.from_table import examples, learn, read_labelled, train_file
from mirscan.training.loop import _order
from mirscan.training.losses import LONG, SHORT, logits_of
from mirscan.training.published import PUBLISHED, published

HEADER = "name\tsequence\tlabel\n"


def table(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no column 'name'"),
        ("name\tsequence\n", "no column 'label'"),
        (HEADER, "0 sequences"),
        (HEADER + "a\tACGU\t1\n", "not of both labels"),
        (HEADER + "a\tACGU\tyes\n", ":2: label 'yes'"),
        (HEADER + "a\tACGU\t1\nb\t\t0\n", ":3: a sequence of 0 bases"),
        (HEADER + "a\tACEU\t1\n", ":2: 'ACEU' holds a letter"),
        (HEADER + "a\n", ":2: label ''"),
    ],
)
def test_a_table_that_cannot_be_learned_from_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_labelled(table(tmp_path / "t.tsv", text))


def test_a_table_is_read_whatever_the_case_and_the_order_of_columns(tmp_path: Path) -> None:
    found = read_labelled(table(tmp_path / "t.tsv", "label\tnote\tname\tsequence\n1\tx\ta\tacgt\n0\ty\tb\tGGNU\n"))
    assert found.names == ["a", "b"]
    assert found.texts == ["ACGU", "GGNU"]
    assert found.positive.tolist() == [True, False]


def test_the_longest_beginning_of_a_name_tells_the_recipe() -> None:
    assert published("deepmir-seq") is PUBLISHED["deepmir-seq"]
    assert published("deepmir-vgg-3m-256fu") is PUBLISHED["deepmir"]
    assert published("deepmirgene2016-noflip") is PUBLISHED["deepmirgene2016"]
    with pytest.raises(UsageError, match="does not learn from a table"):
        published("duplex")


def test_both_classes_count_the_same_where_it_is_asked_for() -> None:
    positive = np.arange(10) < 2
    training = published("mirtron-conv3")
    weight = examples((), positive, replace(training, balanced=True))["weight"]
    assert weight[positive].sum() == pytest.approx(weight[~positive].sum())
    assert weight.mean() == pytest.approx(1)
    assert (examples((), positive, training)["weight"] == 1).all()


@pytest.mark.parametrize("name", ["deepmirgene2016", pytest.param("deepmirgene", marks=pytest.mark.slow)])
def test_long_molecules_are_computed_apart_and_nothing_else_changes(name: str) -> None:
    generator = np.random.default_rng(0)
    lengths = generator.integers(60, SHORT, 70)
    lengths[[3, 40]] = 130, 200
    spec, training = MODELS[name], published(name)
    training = replace(training, recipe=replace(training.recipe, batch=2 * LONG))
    molecules = molecules_of(["".join(generator.choice(list("ACGU"), size)) for size in lengths])
    data = examples(spec.encode(molecules), np.arange(70) % 2 == 0, training)
    assert np.flatnonzero(data["long"]).tolist() == [3, 40]
    order = _order(data, training.recipe, 0, 70)
    assert len(set(order.tolist())) == len(order) == 2 * training.recipe.batch
    assert sorted(order[[31, 63]].tolist()) == [3, 40]
    module = spec.build(rngs=nnx.Rngs(0))
    module.eval()
    batch = {key: jnp.asarray(column[order[:32]]) for key, column in data.items()}
    whole = {key: column for key, column in batch.items() if key != "long"}
    logits = jax.jit(lambda batch: logits_of(module, batch))
    np.testing.assert_allclose(logits(batch), logits(whole), atol=1e-5)
    data["long"][:] = True
    with pytest.raises(ValueError, match="at most one in"):
        _order(data, training.recipe, 0, 70)


def test_long_molecules_are_not_set_apart_where_there_are_many() -> None:
    spec, training = MODELS["deepmirgene"], published("deepmirgene")
    molecules = molecules_of(["ACGU" * (20 if row % 3 else 40) for row in range(600)])
    assert "long" not in examples(spec.encode(molecules), np.arange(600) % 2 == 0, training)


def purines(tmp_path: Path, count: int = 120) -> Path:
    """Sequences of two kinds that differ in their last bases."""
    tmp_path.mkdir(exist_ok=True)
    generator = np.random.default_rng(0)
    lines = []
    for number in range(count):
        text = "".join(generator.choice(list("ACGT"), 50)) + ("CAG" if number % 2 else "TTC")
        lines.append(f"s{number}\t{text}\t{number % 2}\n")
    return table(tmp_path / "t.tsv", HEADER + "".join(lines))


def test_a_model_learns_a_table_and_its_weights_are_loaded(tmp_path: Path) -> None:
    path = purines(tmp_path)
    folder = train_file("mirtron-conv3", path, tmp_path / "run", epochs=60, seed=1, log=lambda line: None)
    labelled = read_labelled(path)
    spec = find_model("mirtron-conv3")
    scores = score_molecules(spec, load_model(spec.name, folder), molecules_of(labelled.texts))
    assert ((scores > 0.5) == labelled.positive).mean() > 0.95


def test_a_folder_goes_on_with_its_own_table_and_seed_alone(tmp_path: Path) -> None:
    path, other = purines(tmp_path), purines(tmp_path / "other", 118)

    def train(table: Path, **changes: int) -> Path:
        options = {"epochs": 1, "seed": 1} | changes
        return train_file("mirtron-conv3", table, tmp_path / "run", log=lambda line: None, **options)

    first = describe(train(path))
    with pytest.raises(UsageError, match="was begun on other examples; choose another folder"):
        train(other, epochs=2)
    with pytest.raises(UsageError, match=r"was begun by another recipe \(seed\); choose another folder"):
        train(path, epochs=2, seed=2)
    assert describe(tmp_path / "run" / "weights") == first  # what was there is left alone
    assert describe(train(path, epochs=2)) == first | {"epochs": 2}
    whole = train_file("mirtron-conv3", path, tmp_path / "whole", epochs=2, seed=1, log=lambda line: None)
    for a, b in zip(*(jax.tree.leaves(restore(folder)) for folder in (whole, tmp_path / "run/weights")), strict=True):
        np.testing.assert_array_equal(a, b)


def test_what_a_training_cannot_begin_with_is_refused(tmp_path: Path, weights_of: Callable[[str], Path]) -> None:
    path, other = purines(tmp_path), weights_of("mirtron-conv4")
    with pytest.raises(InputError, match="conv4: not weights of mirtron-conv3"):
        train_file("mirtron-conv3", path, tmp_path / "run", start=other, log=lambda line: None)
    with pytest.raises(UsageError, match="--threads 0: must be at least 1"):
        train_file("mirtron-conv3", path, tmp_path / "run", threads=0, log=lambda line: None)
    assert not (tmp_path / "run").exists()


def test_the_best_weights_are_taken_where_the_recipe_sets_examples_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of three epochs whose first has the best figure the weights are those of a training of one epoch."""
    labelled, spec = read_labelled(purines(tmp_path, 60)), MODELS["mirtron-conv3"]
    inputs = spec.encode(molecules_of(labelled.texts))

    def trained(name: str, figures: list[float]) -> list[np.ndarray]:
        told = iter(figures)
        monkeypatch.setattr(from_table, "average_precision", lambda truth, scores: next(told))
        training = published(spec.name)
        training = replace(training, validation=0.2, recipe=replace(training.recipe, epochs=len(figures)))
        return jax.tree.leaves(learn(spec, inputs, labelled.positive, training, tmp_path / name, log=print))

    one, best_first, best_last = (
        trained("one", [0.5]),
        trained("first", [0.9, 0.5, 0.1]),
        trained("last", [0.1, 0.5, 0.9]),
    )
    assert all(np.array_equal(a, b) for a, b in zip(one, best_first, strict=True))
    assert not all(np.array_equal(a, b) for a, b in zip(one, best_last, strict=True))
