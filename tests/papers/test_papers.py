"""The published benchmarks' readers against the papers' counts, and splits that keep relatives apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from mirscan.genome import open_genome
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.models import MODELS, plain

FOLDER = Path(__file__).resolve().parents[2] / "benchmarks" / "papers"


@pytest.fixture(scope="module")
def papers() -> Iterator[SimpleNamespace]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(FOLDER))
        yield SimpleNamespace(**{name: import_module(name) for name in ("data", "families", "releases", "rerun")})


def rna(generator: np.random.Generator, length: int) -> str:
    return "".join(generator.choice(list("ACGU"), length))


def labelled(papers: SimpleNamespace, rows: list[tuple[str, bool, str]], **more: Any) -> Any:
    """Rows of sequence, label and family."""
    sequences, positive, families = zip(*rows, strict=True)
    names = tuple(f"row{number}" for number in range(len(rows)))
    return papers.data.Labelled(names, sequences, np.array(positive), families, ("",) * len(rows), **more)


def test_family_folds_keep_relatives_together(papers: SimpleNamespace) -> None:
    generator = np.random.default_rng(0)
    rows, truth = [], []
    for number in range(40):  # relatives: by a common word of 16, a chain of such words, or a name alone
        cores = [rna(generator, 16) for _ in range(3)]
        chain = [cores[0] + cores[1], cores[1] + cores[2], cores[2]]
        for member in range(3):
            named = number % 3 == 0
            core = rna(generator, 30) if named else chain[member]
            text = rna(generator, 20) + core + rna(generator, 20)
            rows.append((text, number % 4 == 0, f"mir-{number}" if named and number % 4 == 0 else ""))
            truth.append(number if not named or number % 4 == 0 else 1000 + len(truth))
    contested = rna(generator, 80)
    rows += [rows[5], (contested, True, ""), (contested, False, ""), (rna(generator, 80), False, "mir-1")]
    kept, folds = papers.families.family_folds(labelled(papers, rows), count=4, seed=1)
    np.testing.assert_array_equal(kept, np.arange(120))  # neither the copy, both labels nor a precursor as negative
    for number in set(truth):
        assert len(set(folds[np.array(truth) == number])) == 1
    positive = np.array([real for _, real, _ in rows])[kept]
    for real in (True, False):
        sizes = np.bincount(folds[positive == real], minlength=4)
        assert sizes.max() - sizes.min() <= 3
    again = papers.families.family_folds(labelled(papers, rows), count=4, seed=1)[1]
    np.testing.assert_array_equal(folds, again)
    assert (folds != papers.families.family_folds(labelled(papers, rows), count=4, seed=2)[1]).any()
    with pytest.raises(ValueError, match="2 families cannot be spread over 3 folds"):
        papers.families.family_folds(labelled(papers, rows[:6]), count=3)


def test_a_cleaned_test_has_no_relatives_in_training(papers: SimpleNamespace) -> None:
    generator = np.random.default_rng(1)
    word, flank = rna(generator, 40), [rna(generator, 30) for _ in range(20)]
    train = labelled(papers, [(word + flank[0], True, "let-7"), (flank[1], False, "")])
    contested = flank[2]
    rows = [
        (flank[3] + word[10:26], True, ""),  # a common word of 16
        (flank[4] + word[10:25], True, ""),  # of 15: kept, unless chance lengthens it
        (flank[5], True, "let-7"),  # a relative by name
        (flank[1], True, ""),  # verbatim, under the other label
        (flank[6], True, ""), (flank[6], True, ""),  # a copy
        (contested, True, ""), (contested, False, ""),
        (flank[7], False, "mir-9"),  # a precursor as negative
        (flank[3] + flank[8], True, ""),  # a relative of a relative: kept
        (word[:20] + "N" + flank[9], False, ""),
        (word[:9] + "N" + word[10:20], False, ""),  # no whole word of 16: kept
    ]  # fmt: skip
    rows[1] = (flank[4] + "ACGU"[("ACGU".index(word[9]) + 1) % 4] + word[10:25], True, "")
    cleaned = papers.families.cleaned_test(train, labelled(papers, rows))
    assert cleaned.names == ("row1", "row4", "row9", "row11")


def test_images_and_names_stand_in_for_sequences(papers: SimpleNamespace) -> None:
    drawn = np.zeros((3, 25, 100, 3), dtype=np.uint8)
    drawn[1, 12, 0] = 7
    rows = [("", True, ""), ("", True, ""), ("", False, "")]
    some = labelled(papers, rows, images=drawn)
    np.testing.assert_array_equal(papers.families.copies(some), [False, False, True])
    np.testing.assert_array_equal(papers.families.both_labels(some), [True, False, True])
    named = labelled(papers, rows[1:])  # row0 and row1, without images
    np.testing.assert_array_equal(papers.families.related(some, named), [True, True, False])


def test_canonical_precursors_are_no_doubtful_negatives_of_the_mirtron_task(papers: SimpleNamespace) -> None:
    rows = [("ACGU" * 20, False, "mir-1"), ("GGCA" * 20, True, "")]
    assert papers.families.doubtful(labelled(papers, rows)).tolist() == [True, False]
    assert papers.families.doubtful(labelled(papers, rows, task="mirtron")).tolist() == [False, False]


def test_stratified_folds_have_the_sizes_of_the_paper(papers: SimpleNamespace) -> None:
    some = labelled(papers, [("ACGU", number % 1124 < 417, "") for number in range(1124)])
    folds = papers.data.stratified_folds(some)
    counts = [some.take(folds == fold).counts() for fold in range(5)]
    # paper 003, Table 4: 83 + 142 in the first fold, 84 + 141 in the third
    assert counts == [(83, 142), (83, 142), (84, 141), (84, 141), (83, 141)]
    assert (folds != papers.data.stratified_folds(some, seed=1)).any()


@pytest.mark.real
def test_published_counts(papers: SimpleNamespace, shared_data: Path) -> None:
    data, families = papers.data, papers.families
    whole = {name: data.deepmirgene(shared_data, name) for name in data.DEEPMIRGENE}
    assert [some.counts() for some in whole.values()] == [(863, 7422), (1677, 8266), (690, 8246)]
    for name, tests, contested, common in (("human", (86, 742), 33, 10), ("whole", (167, 826), 23, 57)):
        train, test = (data.deepmirgene(shared_data, name, part) for part in ("train", "test"))
        assert test.counts() == tests
        assert sorted(train.sequences + test.sequences) == sorted(whole[name].sequences)
        assert families.both_labels(whole[name]).sum() == 2 * contested
        real, known = test.take(test.positive), train.take(train.positive)
        assert families.sharing(real.sequences, known.sequences, 20).sum() == common
        folds = data.deepmirgene_folds(shared_data, name)
        assert len(folds) == len(train)
        assert np.ptp(np.bincount(folds)) <= 1
    learned = set(whole["whole"].take(whole["whole"].positive).sequences)
    assert sum(sequence in learned for sequence in whole["new"].take(~whole["new"].positive).sequences) == 36
    assert data.deepmirgene_examples(shared_data).counts() == (22, 26)

    everything, train, test = (data.mirtrons(shared_data, part) for part in ("all", "train", "test"))
    assert [some.counts() for some in (everything, train, test)] == [(417, 707), (216, 507), (201, 200)]
    assert families.copies(everything).sum() == 23
    assert len(set(everything.take(families.both_labels(everything)).sequences)) == 2
    assert len(set(train.sequences) & set(test.sequences)) == 6

    assert len(data.mirdnn_examples(shared_data)) == 16
    for _, sequence, structure, energy in data.mirdnn_examples(shared_data):
        assert len(sequence) == len(structure)
        assert energy < 0
    assert sorted(map(len, data.mire2e_examples(shared_data).values())) == [459, 600]


@pytest.mark.real
def test_published_images(papers: SimpleNamespace, shared_data: Path) -> None:
    data, families = papers.data, papers.families
    train, test = (data.deepmir(shared_data, f"modhsa_{part}") for part in ("train", "test"))
    assert (train.counts(), test.counts()) == ((1281, 1281), (549, 549))
    assert test.images.shape == (1098, 25, 100, 3)
    known = {image.tobytes() for image in train.images}
    assert sum(image.tobytes() in known for image in test.images) == 21
    assert families.related(test, train).sum() >= 21
    rows = {title: len(data.deepmir(shared_data, name)) for title, name in data.TABLE_2.items()}
    assert rows == {
        "NegHsa": 67829, "Zou": 6280, "Pseudo": 8492, "NotBestFold": 1881, "Shuffled": 1423, "Chen": 3052,
        "hsa": 1881, "mmu": 1193, "mmu*": 379, "miRBase": 28596, "MirGeneDB": 1434,
        "hsa+": 523, "mmu+": 395, "gga+": 229, "dre+": 287,
    }  # fmt: skip
    assert data.deepmir(shared_data, "nonhsa_modmirbase").counts() == (23142, 23414)
    with pytest.raises(ValueError, match="no DeepMir set 'absent'"):
        data.deepmir(shared_data, "absent")


def test_averages_of_batch_norm_are_taken_anew(papers: SimpleNamespace) -> None:
    name, random, rerun = "deepmir-resnet-1m-20ck", np.random.default_rng(0), papers.rerun
    module = MODELS[name].build(rngs=nnx.Rngs(1))
    tree = plain(nnx.state(module, (nnx.Param, nnx.BatchStat)))
    images = random.integers(0, 255, (20, 25, 100, 3), dtype=np.uint8)
    training = rerun.recipe_of(name, seed=0)
    training = replace(training, recipe=replace(training.recipe, batch=10))
    found = rerun.renewed(name, tree, rerun.Examples((images,), random.random(20) < 0.5), training)
    for layer in ("first", "last"):
        assert all(np.array_equal(tree[layer][part], found[layer][part]) for part in ("kernel", "bias"))
    seen = np.asarray(module.first(jnp.asarray(images, jnp.float32) / 255))
    norm = found["blocks"]["0"]["norms"]["0"]
    np.testing.assert_allclose(norm["mean"], seen.mean((0, 1, 2)), rtol=1e-4, atol=1e-5)
    order = np.random.default_rng(0).permutation(20).reshape(2, 10)
    spreads = [seen[rows].var((0, 1, 2)) for rows in order]
    np.testing.assert_allclose(norm["var"], np.mean(spreads, axis=0), rtol=1e-3)
    assert np.abs(norm["mean"] - tree["blocks"]["0"]["norms"]["0"]["mean"]).max() > 0.01


@pytest.mark.real
def test_human_releases(papers: SimpleNamespace, shared_data: Path, tmp_path: Path) -> None:
    releases = papers.releases
    learned, found = releases.positives(shared_data)
    assert (learned.counts(), found.counts()) == ((1830, 0), (59, 0))
    assert not set(learned.names) & set(found.names)
    drawn = releases.negatives(shared_data, "test", hairpins=200, flats=300)
    assert drawn.origins == ("hairpin",) * 200 + ("flat",) * 300
    assert {len(sequence) for sequence in drawn.sequences[200:]} == {100}
    assert max(len(sequence) for sequence in drawn.sequences[:200]) <= 120
    assert set("".join(drawn.sequences)) == set("ACGU")
    with open_genome(shared_data / "genomes" / f"{releases.GENOMES['test'][0]}.fa.gz", spool=tmp_path) as genome:
        for name, sequence in list(zip(drawn.names, drawn.sequences, strict=True))[::50]:
            contig, place = name.removesuffix(name[-3:]).split(":")
            start, end = map(int, place.split("-"))
            index = [contig == each.name for each in genome.contigs].index(True)
            codes = np.array(genome.codes(index, start, end))
            codes = reverse_complement(codes) if name.endswith("(-)") else codes
            assert decode(codes).decode().replace("T", "U") == sequence
