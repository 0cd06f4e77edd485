"""Adapting the last layers to a genome: what is learned from what, when it is dropped, and the command around it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from typer.testing import CliRunner

from mirscan.checkpoints import weights
from mirscan.cli import app
from mirscan.errors import InputError, UsageError
from mirscan.genome import open_genome
from mirscan.genome.halves import BLOCK, SAMPLE, draw_blocks, fold_of
from mirscan.models import MODELS, filled, load_model
from mirscan.models.duplex import MEMBERS
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.training import adapt as adapting
from mirscan.training.adapt import ADAPTED, FOLDS, PRECURSORS, adapt_file, is_adapted, refit

WIDE = 128


@pytest.fixture(scope="module")
def source(duplex_weights: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights of duplex that come with findings in precursors; those are unlike the findings in a background."""
    folder = tmp_path_factory.mktemp("adapt") / "duplex"
    findings = np.random.default_rng(1).exponential(2.0, (400, MEMBERS, WIDE)).astype(np.float16)
    weights.save(
        folder, weights.restore(duplex_weights), {"model": "duplex"}, beside={PRECURSORS: {"findings": findings}}
    )
    return folder


@pytest.fixture(autouse=True)
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "DRAWS", 4_096)
    monkeypatch.setattr(adapting, "LEAST", 15_000)


def genome(path: Path, lengths: tuple[int, ...] = (10_000, 14_000)) -> Path:
    generator = np.random.default_rng(0)
    texts = ["".join(generator.choice(list("ACGT"), length)) for length in lengths]
    path.write_text("".join(f">c{number}\n{text}\n" for number, text in enumerate(texts, start=1)))
    return path


def tree_of(duplex_weights: Path) -> dict[str, Any]:
    return weights.restore(duplex_weights)


def drawn(generator: np.random.Generator, rows: int, shift: float) -> np.ndarray:
    """Findings of which the second half of the units is shifted."""
    found = generator.exponential(1.0, (rows, MEMBERS, WIDE))
    found[..., WIDE // 2 :] += shift
    return found.astype(np.float16)


def leaves(tree: Any) -> list[np.ndarray]:
    return (
        [leaf for key in sorted(tree) for leaf in leaves(tree[key])] if isinstance(tree, dict) else [np.asarray(tree)]
    )


def test_layers_learn_to_tell_precursors_from_the_background(duplex_weights: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    known, background = drawn(generator, 400, 1.0), drawn(generator, 4000, 0.0)
    folds = np.arange(4000) % FOLDS
    found = refit(tree_of(duplex_weights), known, background, folds, [0.5, 0.5])
    assert found.used
    assert found.after > found.before + 0.2


def test_a_fold_learns_nothing_from_itself(duplex_weights: Path, tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    known, background = drawn(generator, 400, 1.0), drawn(generator, 2000, 0.0)
    folds = np.arange(2000) % FOLDS
    tree = tree_of(duplex_weights)
    first = refit(tree, known, background, folds, [0.5, 0.5])
    changed = np.where((folds == 0)[:, None, None], np.float16(0.5), background)
    second = refit(tree, known, changed, folds, [0.5, 0.5])
    for one, other in zip(leaves(first.judgements[0]), leaves(second.judgements[0]), strict=True):
        np.testing.assert_array_equal(one, other)
    pairs = zip(leaves(first.judgements[1]), leaves(second.judgements[1]), strict=True)
    assert any((one != other).any() for one, other in pairs)


def test_what_is_no_better_is_dropped(duplex_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    known, background = drawn(generator, 400, 1.0), drawn(generator, 2000, 0.0)
    tree = tree_of(duplex_weights)
    monkeypatch.setattr(adapting, "learn", lambda shipped, *rest: shipped)
    found = refit(tree, known, background, np.arange(2000) % FOLDS, [0.5, 0.5])
    assert not found.used
    assert found.before == found.after
    for member in ("0", "1"):
        for layer in ("0", "1"):
            kernel = found.judgements[0]["members"][member][layer]["kernel"]
            np.testing.assert_array_equal(kernel, tree["members"][member]["dense"][str(int(layer) + 1)]["kernel"])


def test_every_hairpin_is_judged_by_the_layers_of_its_fold(duplex_weights: Path) -> None:
    tree = tree_of(duplex_weights)
    shipped = {m: {"0": each["dense"]["1"], "1": each["dense"]["2"]} for m, each in tree["members"].items()}
    other = {m: layers | {"1": {k: -v for k, v in layers["1"].items()}} for m, layers in shipped.items()}
    judgements = {"0": {"members": shipped}, "1": {"members": other}}
    generator = np.random.default_rng(0)
    duplexes = jnp.asarray(generator.integers(0, 4, (10, 80, 3)), dtype=jnp.uint8)
    scalars = jnp.asarray(generator.standard_normal((10, 17)), dtype=jnp.float32)
    weight = {"duplex": tree, ADAPTED: {"findings": tree, "judgements": judgements}}
    plain, adapted = (nnx.merge(*filled(lambda rngs, n=n: MODELS[n].build(rngs=rngs), weight[n])) for n in weight)
    expected = np.asarray(plain(duplexes, scalars))
    folds = np.arange(10, dtype=np.uint8) % FOLDS
    found = adapted(duplexes, scalars, jnp.asarray(folds))
    np.testing.assert_allclose(found, np.where(folds == 0, expected, -expected), atol=1e-5)


def test_blocks_and_folds_agree() -> None:
    lengths = [3 * BLOCK + 17, 5_000, BLOCK]
    blocks = draw_blocks(lengths, seed=3)
    assert sum(end - start for _, start, end in blocks) == sum(lengths)
    for contig, start, end in blocks:
        centres = np.array([start, end - 1])
        folds = fold_of(contig, centres, centres, FOLDS)
        assert folds[0] == folds[1] == (contig + start // BLOCK) % FOLDS
    assert draw_blocks([10 * SAMPLE], 0) == draw_blocks([10 * SAMPLE], 0)
    assert draw_blocks([10 * SAMPLE], 0) != draw_blocks([10 * SAMPLE], 1)
    taken = sum(end - start for _, start, end in draw_blocks([10 * SAMPLE], 0))
    assert SAMPLE <= taken < SAMPLE + BLOCK


def hairpins(output: Path) -> np.ndarray:
    store = ScoreStore.open(f"{output}.store")
    return np.concatenate([store.read_hairpins(part) for part in range(store.plan.parts)])


@pytest.mark.slow  # `test_the_command` scans with adapted layers too
def test_a_genome_is_scanned_with_layers_of_its_own(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fasta = genome(tmp_path / "g.fa")
    record = scan_genome(fasta, Options(tmp_path / "a.bw", weights=source, adapt=True))
    assert record["model"] == ADAPTED
    assert weights.describe(tmp_path / "a.bw.adapted")["source_digest"] == weights.digest(source)

    # the whole FASTA is looked at, whatever is scanned of it: a part scores as it does in the whole
    scan_genome(fasta, Options(tmp_path / "r.bw", weights=source, adapt=True, regions=("c2",), part_windows=300))
    whole, part = hairpins(tmp_path / "a.bw"), hairpins(tmp_path / "r.bw")
    assert np.array_equal(whole[whole["contig"] == 1], part)

    # a second run takes what the first has learned
    monkeypatch.setattr(adapting, "refit", None)
    scan_genome(fasta, Options(tmp_path / "a.bw", weights=source, adapt=True))


@pytest.mark.slow
def test_learning_repeats_itself_and_is_recognised(source: Path, tmp_path: Path) -> None:
    first = adapt_file(genome(tmp_path / "g.fa"), tmp_path / "w", source=source, threads=1)
    tree = weights.restore(tmp_path / "w")
    again = adapt_file(genome(tmp_path / "g.fa"), tmp_path / "w", source=source, threads=2)
    assert (first.before, first.after) == (again.before, again.after)
    for one, other in zip(leaves(tree), leaves(weights.restore(tmp_path / "w")), strict=True):
        np.testing.assert_array_equal(one, other)
    for name, lengths, same in (("g.fa", (10_000, 14_000), True), ("h.fa", (11_000, 14_000), False)):
        with open_genome(genome(tmp_path / name, lengths), spool=tmp_path / "spool") as opened:
            assert is_adapted(tmp_path / "w", opened, source) == same
            assert not is_adapted(tmp_path / "absent", opened, source)
    load_model(ADAPTED, tmp_path / "w")


def test_what_cannot_be_adapted_is_refused(
    source: Path, duplex_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fasta = genome(tmp_path / "g.fa")
    with pytest.raises(UsageError, match="only 'duplex' can be adapted"):
        scan_genome(fasta, Options(tmp_path / "a.bw", model="mire2e", adapt=True))
    with pytest.raises(UsageError, match="--adapt: neither"):
        scan_genome(fasta, Options(tmp_path / "a.bw", weights=source, adapt=True, min_precision=0.5))
    with pytest.raises(InputError, match="cannot be adapted"):
        scan_genome(fasta, Options(tmp_path / "a.bw", weights=duplex_weights, adapt=True))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep me")
    with pytest.raises(InputError, match=r"no folder of weights of mirscan: it holds notes\.txt"):
        adapt_file(fasta, tmp_path / "mine", source=source)
    assert (tmp_path / "mine" / "notes.txt").read_text() == "keep me"
    with pytest.raises(InputError, match="is also"):
        adapt_file(fasta, source, source=source)
    shutil.copytree(source, tmp_path / "others")
    with pytest.raises(InputError, match="holds no adapted weights but others"):
        adapt_file(fasta, tmp_path / "others", source=source)
    monkeypatch.setattr(adapting, "LEAST", 1_000_000)
    with pytest.raises(InputError, match="24,000 unambiguous bases; adapting needs at least 1,000,000"):
        adapt_file(fasta, tmp_path / "w", source=source)
    assert not list(tmp_path.glob("*.bw"))
    assert not (tmp_path / "w").exists()


def test_the_command(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapting, "learn", lambda shipped, *rest: shipped)  # learning is tested above
    fasta, runner = genome(tmp_path / "g.fa"), CliRunner()
    done = runner.invoke(app, ["adapt", str(fasta), "-o", str(tmp_path / "w"), "--weights", str(source)])
    assert done.exit_code == 0, done.output
    arguments = ["--model", ADAPTED, "--weights", str(tmp_path / "w")]
    assert runner.invoke(app, ["genome", str(fasta), "-o", str(tmp_path / "s.bw"), *arguments]).exit_code == 0
