"""Labels of hairpins, embedded precursors, weights, what is held out, and a small training from end to end."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from flax import nnx

from mirscan.kernels.bases import encode, reverse_complement
from mirscan.known.precursors import Locus, Precursor, known_kmers
from mirscan.models import MODELS, set_weights, untrained_model
from mirscan.models.duplex import MEMBERS
from mirscan.structure.hairpins import contig_hairpins
from mirscan.training.background import Background
from mirscan.training.duplex_labels import (
    ANTISENSE,
    BACKGROUND,
    BALANCE,
    CROWDING,
    PRECURSOR,
    UNCLEAR,
    embed_precursors,
    held_out,
    label_hairpins,
    precursor_weights,
)
from mirscan.training.duplex_rounds import Rounds, mine, score_hairpins

STEM = "UGGAGGCCUUCGAUGGUAGACUAG"


def codes_of(text: str) -> np.ndarray:
    return encode(np.frombuffer(text.encode(), np.uint8))


def fold_back(stem: str, loop: str = "AUUCAGA") -> np.ndarray:
    codes = codes_of(stem)
    return np.concatenate([codes, codes_of(loop), reverse_complement(codes)])


def random_codes(seed: int, length: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)


def unpaired_codes(seed: int, length: int) -> np.ndarray:
    """A and C alone: nothing in it pairs."""
    return np.random.default_rng(seed).integers(0, 2, length).astype(np.uint8)


def precursor(name: str, codes: np.ndarray, organism: str = "") -> Precursor:
    return Precursor(name, organism, codes)


def test_labels_follow_strand_cover_and_words() -> None:
    codes, hairpin = random_codes(0, 6000), fold_back(STEM)
    for start in (1000, 3000):
        codes[start : start + len(hairpin)] = hairpin
    found = contig_hairpins(codes)
    loci = [Locus("c", 1000, 1000 + len(hairpin), "+", "one")]
    labelled = label_hairpins(codes, found, loci, known_kmers([precursor("x-mir-1", hairpin)]))
    overlap = np.minimum(found.ends, loci[0].end) - np.maximum(found.starts, loci[0].start)
    cover = 2 * overlap >= len(hairpin)
    assert (labelled.label[cover & ~found.minus] == PRECURSOR).all()
    assert (labelled.label[cover & found.minus] == ANTISENSE).all()
    assert (labelled.label == PRECURSOR).sum() == 1
    assert (labelled.source[labelled.label == PRECURSOR] == 0).all()
    homologue = np.abs(found.starts - 3000) < 3
    assert homologue.any()
    assert (labelled.label[homologue] == UNCLEAR).all()
    far = (found.starts > 3200) | (found.ends < 900)
    assert (labelled.label[far] == BACKGROUND).all()
    assert far.sum() > 20


def test_what_covers_less_than_half_of_a_locus_is_no_negative() -> None:
    codes, hairpin = unpaired_codes(1, 3000), fold_back(STEM)
    codes[1000 : 1000 + len(hairpin)] = hairpin
    found = contig_hairpins(codes)
    row = int(np.flatnonzero((np.abs(found.starts - 1000) < 3) & ~found.minus)[0])
    wide = Locus("c", int(found.starts[row]), int(found.starts[row]) + 2 * len(hairpin) + 20, "+", "wide")
    assert label_hairpins(codes, found, [wide], np.empty(0, np.uint64)).label[row] == UNCLEAR


def test_embedded_precursors_are_found_where_they_were_put() -> None:
    hairpins = [fold_back(STEM), fold_back(STEM[::-1], "GUUUUAACU"), codes_of("A" * 60)]
    precursors = [precursor(f"x-mir-{n}", codes) for n, codes in enumerate(hairpins)]
    background = Background([("c", unpaired_codes(2, 60_000))], [], np.array([2**63], np.uint64), 100)
    found = embed_precursors(precursors, background, np.random.default_rng(0))
    positives = found.take(found.label == PRECURSOR)
    assert positives.source.tolist() == [0, 1]
    lengths = positives.hairpins.ends - positives.hairpins.starts
    assert (np.abs(lengths - [len(h) for h in hairpins[:2]]) <= 10).all()
    assert not positives.hairpins.minus.any()
    antisense = found.take(found.label == ANTISENSE)
    assert antisense.hairpins.minus.all()
    assert len(set(antisense.source.tolist())) == len(antisense.source)
    assert set(found.label.tolist()) <= {PRECURSOR, ANTISENSE}


def test_support_and_family_size_decide_weights() -> None:
    one, other, virus = random_codes(3, 70), random_codes(4, 70), random_codes(5, 70)
    variants = [other.copy() for _ in range(4)]
    precursors = [
        precursor("x-mir-1", one),
        *(precursor(f"x-mir-7{c}", v) for c, v in zip("abcd", variants, strict=True)),
    ]
    precursors.append(precursor("ebv-mir-BART1", virus, "Epstein Barr virus"))
    weights = precursor_weights(precursors, [precursor("Xxx-Mir-1", one[5:60])], doubtful=0.2)
    assert weights.mean() == pytest.approx(1)
    np.testing.assert_allclose(weights[1:5] / weights[0], 0.2 / 4**CROWDING, rtol=1e-6)
    vertebrates = 1 + 4 * 0.2 / 4**CROWDING
    assert weights[5] / weights[0] == pytest.approx(vertebrates**BALANCE)


def test_a_small_lineage_counts_more_and_less_than_a_large_one() -> None:
    codes = [random_codes(number, 70) for number in range(12)]
    names = ["cel-mir-1", "cbr-mir-2", *(f"hsa-mir-{number}" for number in range(3, 13))]
    precursors = [precursor(name, each) for name, each in zip(names, codes, strict=True)]
    weights = precursor_weights(precursors, precursors, doubtful=0.1)
    worms, people = weights[:2].sum(), weights[2:].sum()
    assert weights[0] == pytest.approx(weights[1])
    assert weights[0] > weights[2]
    assert people / worms == pytest.approx(5 ** (1 - BALANCE))


def test_only_the_locus_itself_is_held_out() -> None:
    codes = random_codes(6, 80)
    precursors = [
        precursor("cel-mir-1", codes),
        precursor("Cel-Mir-1_pre", codes[10:60]),
        precursor("cbr-mir-1", codes),
        precursor("cel-mir-2", random_codes(7, 80)),
    ]
    assert held_out(precursors, [Locus("I", 0, 80, "+", "cel-mir-1")], "cel").tolist() == [True, True, False, False]


@pytest.mark.parametrize("name", ["duplex", "duplex-attention"])
def test_a_score_depends_on_the_hairpin_alone(name: str) -> None:
    found = contig_hairpins(random_codes(8, 12_000))
    module = nnx.merge(*untrained_model(name))
    scores = score_hairpins(module, found, rows=64)
    assert scores.shape == (found.size,)
    assert np.ptp(scores) > 0
    rows = np.arange(found.size)[::-7]
    np.testing.assert_allclose(score_hairpins(module, found.take(rows), rows=64), scores[rows], atol=1e-5)


def test_the_shipped_model_is_the_mean_of_its_networks() -> None:
    found = contig_hairpins(random_codes(8, 6_000))
    module = nnx.merge(*untrained_model("duplex"))
    members = [score_hairpins(member, found, rows=64) for member in module.members]
    assert len(members) == MEMBERS
    assert not np.allclose(members[0], members[1])
    np.testing.assert_allclose(score_hairpins(module, found, rows=64), np.mean(members, axis=0), atol=1e-5)


@pytest.mark.slow
def test_rounds_learn_to_tell_planted_hairpins(tmp_path: Path) -> None:
    generator = np.random.default_rng(9)
    background = contig_hairpins(random_codes(10, 150_000))
    precursors = []
    for number in range(60):
        stem = generator.integers(0, 4, 26).astype(np.uint8)
        codes = np.concatenate([stem, codes_of("AUUCAGA"), reverse_complement(stem)])
        precursors.append(precursor(f"x-mir-{number}", codes))
    lender = Background([("c", random_codes(11, 60_000))], [], np.array([2**63], np.uint64), 100)
    embedded = embed_precursors(precursors, lender, generator)
    positives = embedded.hairpins.take(embedded.label == PRECURSOR)
    antisense = embedded.hairpins.take(embedded.label == ANTISENSE)
    lines: list[str] = []
    rounds = Rounds(epochs=(1, 1), random=800, searched=1500, hard=100, batch=32, epoch_size=960)
    tree = mine(
        MODELS["duplex"], positives, np.ones(positives.size, np.float32), background, antisense, rounds, tmp_path,
        lines.append,
    )  # fmt: skip
    module = MODELS["duplex"].build(rngs=nnx.Rngs(5))
    set_weights(module, tree)
    planted, others = score_hairpins(module, positives), score_hairpins(module, background)
    assert np.median(planted) > np.percentile(others, 97)
    assert sum("round" in line for line in lines) == 2
    begun = [int(line.split(" background")[0].split()[-1]) for line in lines if line.startswith("round")]
    assert begun[0] == 800
    assert 800 + (rounds.repeated - 1) * 100 <= begun[1] <= 800 + rounds.repeated * 100  # the hard ones, many times
