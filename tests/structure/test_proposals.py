"""Proposals: known hairpins come through, nothing is proposed twice, and pieces make the whole."""

import gzip
import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan.kernels.bases import encode
from mirscan.structure.proposals import CEILING, composition_threshold, propose
from mirscan.structure.turner import turner_tables

# hsa-let-7a-1 (MI0000060), hsa-mir-21 (MI0000077), dme-bantam (MI0000387)
PRECURSORS = (
    "UGGGAUGAGGUAGUAGGUUGUAUAGUUUUAGGGUCACACCCACCACUGGGAGAUAACUAUACAAUCUACUGUCUUUCCUA",
    "UGUCGGGUAGCUUAUCAGACUGAUGUUGACUGUUGAAUCUCAUGGCAACACCAGUCGAUGGGCUGUCUGACA",
    "AUUUGACUACGAAACCGGUUUUCGAUUUGGUUUGACUGUUUUUCAUACAAGUGAGAUCAUUUUGAAAGCUGAUUUUGUCAA",
)
TABLES = turner_tables()
SHARED = Path(__file__).resolve().parents[3] / "shared"


def everything(fractions, lengths):
    return np.zeros(len(lengths))


def is_covered(found, start, end):
    overlap = np.minimum(found.ends, end) - np.maximum(found.starts, start)
    return ((2 * overlap >= end - start) & (found.ends - found.starts <= 3 * (end - start))).any()


def genome(length, seed, *hairpins):
    codes = np.random.default_rng(seed).integers(0, 4, length).astype(np.uint8)
    places = []
    for number, text in enumerate(hairpins):
        start = (number + 1) * length // (len(hairpins) + 1)
        codes[start : start + len(text)] = ["ACGU".index(letter) for letter in text]
        places.append((start, start + len(text)))
    return codes, places


def test_known_precursors_are_proposed_among_few_others():
    codes, places = genome(20_000, 0, *PRECURSORS)
    found = propose(codes, TABLES)
    assert len(found.starts) < 20_000 / 30
    assert all(is_covered(found, start, end) for start, end in places)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 200), st.lists(st.integers(1, 599), max_size=4))
def test_pieces_together_propose_what_the_whole_does(seed, span, cuts):
    codes = np.random.default_rng(seed).integers(0, 4, 600).astype(np.uint8)
    codes[100:110] = 4
    whole = propose(codes, TABLES, span=span, threshold=everything, ceiling=-1)
    bounds = sorted({0, 600, *cuts})
    pieces = [
        propose(codes, TABLES, first, last, span, everything, ceiling=-1) for first, last in itertools.pairwise(bounds)
    ]
    for name in ("starts", "ends", "energies"):
        np.testing.assert_array_equal(np.concatenate([getattr(p, name) for p in pieces]), getattr(whole, name))


def test_centres_are_apart_and_energies_real():
    codes, _ = genome(5_000, 1)
    found = propose(codes, TABLES, threshold=everything)
    centres = found.starts + found.ends
    assert (np.diff(centres) > 12).all()
    assert (found.energies * 100 + 15 * (found.ends - found.starts) <= CEILING + 1e-3).all()
    assert found.energies.dtype == np.float32


def test_the_threshold_sees_composition_and_decides():
    rich, poor = np.array([[0.1, 0.4, 0.4, 0.1]]), np.array([[0.3, 0.2, 0.2, 0.3]])
    length = np.array([80])
    assert composition_threshold(rich, length)[0] < composition_threshold(poor, length)[0] < -5
    assert composition_threshold(poor, length)[0] > composition_threshold(poor, length + 30)[0]
    codes, _ = genome(5_000, 2)
    calls = []

    def strict(fractions, lengths):
        calls.append((fractions, lengths))
        return np.where(fractions.sum(axis=1) > 0.999, -20.0, 0.0)

    found = propose(codes, TABLES, threshold=strict)
    assert (found.energies <= -20).all()
    assert len(found.starts) < len(calls[0][1])
    with pytest.raises(ValueError, match="span 3"):
        propose(codes, TABLES, span=3)


@pytest.mark.real
def test_mirgenedb_precursors_survive():
    path = SHARED / "data/mirgenedb/precursors.fa.gz"
    if not path.exists():
        pytest.skip(f"{path} is absent")
    with gzip.open(path, "rb") as stream:
        records = [record.partition(b"\n")[2].replace(b"\n", b"") for record in stream.read().split(b">")[1:]]
    sample = [encode(np.frombuffer(record, dtype=np.uint8)) for record in records[::10]]
    kept = [is_covered(propose(codes, TABLES), 0, len(codes)) for codes in sample]
    assert len(sample) > 1600
    assert np.mean(kept) >= 0.99
