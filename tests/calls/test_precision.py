"""Estimated precision: the line that made the data is found, its estimates hold, and the commands use it."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan import cli
from mirscan.calls.flags import LOW_COMPLEXITY, NEAR, find_flags
from mirscan.calls.precision import (
    CLADES,
    FITTED_PER_MB,
    Calibration,
    Sample,
    find_calibration,
    fit_calibration,
    known_per_megabase,
    read_calibration,
    save_calibration,
)
from mirscan.checkpoints import weights
from mirscan.errors import InputError, UsageError
from mirscan.kernels.bases import decode, encode, reverse_complement
from mirscan.types import Call

INTERCEPT, SLOPE = -6.0, 1.2


def drawn(prevalence: float, megabases: int = 12, seed: int = 0, slope: float = SLOPE) -> Sample:
    """Calls of a genome whose odds are exactly the line's."""
    generator = np.random.default_rng(seed)
    logits = generator.normal(-2.0, 2.5, 1500 * megabases)
    odds = INTERCEPT + slope * logits + math.log(prevalence)
    positive = generator.random(len(logits)) < 1 / (1 + np.exp(-odds))
    return Sample(logits, positive, generator.integers(0, megabases, len(logits)), megabases, prevalence)


@pytest.fixture(scope="module")
def fitted() -> Calibration:
    return fit_calibration([drawn(2.0, seed=1), drawn(0.5, seed=2), drawn(8.0, 5, seed=3)], draws=100)


def test_the_line_that_made_the_data_is_found(fitted: Calibration) -> None:
    spread = fitted.draws.std(axis=0)
    assert (np.abs(fitted.line - np.array([INTERCEPT, SLOPE])) < 4 * spread).all()
    assert (spread > (0.02, 0.008)).all()
    assert (spread < (0.15, 0.06)).all()


def test_estimates_hold_on_another_genome_of_another_prevalence(fitted: Calibration) -> None:
    unseen = drawn(4.0, 60, seed=9)
    estimate, low, high = fitted.precision(1 / (1 + np.exp(-unseen.logits)), unseen.prevalence)
    assert (low <= estimate).all()
    assert (estimate <= high).all()
    for least, most in ((0.003, 0.01), (0.01, 0.05), (0.05, 0.2), (0.2, 0.5), (0.5, 1.0)):
        rows = (estimate >= least) & (estimate < most) & (unseen.logits < fitted.highest)
        assert rows.sum() > 50
        noise = 3 * math.sqrt((estimate[rows] * (1 - estimate[rows])).sum())
        assert low[rows].sum() - noise < unseen.positive[rows].sum() < high[rows].sum() + noise


def test_genomes_that_differ_widen_the_interval() -> None:
    genomes = [drawn(2.0, 8, seed) for seed in (1, 2, 3)]
    shifted = dataclasses.replace(genomes[2], prevalence=20.0)  # a tenth of what its prevalence promises
    like, unlike = (fit_calibration(samples, draws=60) for samples in (genomes, [*genomes[:2], shifted]))
    spans = [np.subtract(*np.log(c.precision(0.9, 1.0)[:0:-1]))[0] for c in (like, unlike)]
    assert spans[1] > 2 * spans[0]


@settings(max_examples=60, deadline=None)
@given(
    scores=st.lists(st.floats(0, 1, width=32), min_size=2, max_size=20),
    prevalences=st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)),
)
def test_precision_rises_with_score_and_prevalence(
    fitted: Calibration, scores: list[float], prevalences: tuple[float, float]
) -> None:
    ranked = np.sort(scores)
    for column in fitted.precision(ranked, prevalences[0]):
        assert ((column >= 0) & (column <= 1)).all()
        assert (np.diff(column) >= 0).all()
    fewer, more = (np.array(fitted.precision(ranked, prevalence)) for prevalence in sorted(prevalences))
    assert (fewer <= more).all()


@settings(max_examples=60, deadline=None)
@given(wanted=st.floats(0.001, 0.999), prevalence=st.floats(0.01, 100))
def test_the_least_score_is_where_the_precision_is_reached(
    fitted: Calibration, wanted: float, prevalence: float
) -> None:
    score = fitted.least_score(wanted, prevalence)
    if score > 1:
        assert score == math.inf
        assert fitted.precision(1.0, prevalence)[0][0] < wanted
    else:
        assert fitted.precision(score, prevalence)[0][0] == pytest.approx(wanted, rel=1e-6)


def test_no_call_is_worth_more_than_the_best_that_were_seen(fitted: Calibration) -> None:
    highest = 1 / (1 + math.exp(-fitted.highest))
    np.testing.assert_allclose(fitted.precision(1.0, 1.0), fitted.precision(highest, 1.0))
    assert fitted.precision(0.9 * highest, 1.0)[0] < fitted.precision(1.0, 1.0)[0]


def test_scores_that_say_the_contrary_tell_nothing() -> None:
    calibration = fit_calibration([drawn(50.0, 5, slope=-1.0)], draws=20)
    assert calibration.line[1] == 0
    assert (calibration.draws[:, 1] >= 0).all()
    low, high = (calibration.precision(score, 2.0)[0][0] for score in (0.01, 0.99))
    assert low == high
    assert calibration.least_score(low / 2, 2.0) == 0
    assert calibration.least_score(2 * low, 2.0) == math.inf


def test_hits_far_below_the_calls_do_not_tilt_the_line(fitted: Calibration) -> None:
    sample = drawn(2.0, seed=1)
    count = len(sample.logits) - FITTED_PER_MB * sample.megabases
    deep = np.argsort(sample.logits)[: int(count)]
    missed = sample.positive.copy()
    missed[deep] = True
    samples = [dataclasses.replace(sample, positive=missed), drawn(0.5, seed=2), drawn(8.0, 5, seed=3)]
    assert fit_calibration(samples, draws=2).line == fitted.line


def test_one_hit_alone_still_gives_a_line() -> None:
    positive = np.arange(500) == 499
    calibration = fit_calibration([Sample(np.linspace(-5, 5, 500), positive, np.arange(500) // 50, 1.0, 1.0)], draws=50)
    assert np.isfinite(calibration.draws).all()
    assert 0.01 < calibration.precision(1.0, 1.0)[0][0] < 0.9


def test_what_cannot_be_fitted_or_asked(fitted: Calibration) -> None:
    sample = drawn(2.0, 1)
    with pytest.raises(ValueError, match="nothing to fit"):
        fit_calibration([dataclasses.replace(sample, positive=np.zeros_like(sample.positive))])
    with pytest.raises(ValueError, match="without known hairpins"):
        fit_calibration([dataclasses.replace(sample, prevalence=0.0)])
    for score, prevalence in ((1.5, 1.0), (0.5, 0.0), (0.5, math.nan), (math.nan, 1.0)):
        with pytest.raises(ValueError):
            fitted.precision(score, prevalence)


def test_kept_and_read_again(fitted: Calibration, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert find_calibration(tmp_path, "w") is None
    path = tmp_path / weights.CALIBRATION
    save_calibration(path, dataclasses.replace(fitted, weights="w", about={"known": 7}))
    again = find_calibration(tmp_path, "w")
    assert again is not None
    assert again.line == fitted.line
    assert again.about == {"known": 7}
    assert len(again.digest) == 64
    for one, other in zip(again.precision([0.1, 0.9], 1.0), fitted.precision([0.1, 0.9], 1.0), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-3)
    assert find_calibration(tmp_path, "others") is None
    assert "is for other weights" in caplog.text


@pytest.mark.parametrize(
    "change",
    [{"format": 9}, {"slope": -1}, {"slope": None}, {"intercept": math.nan}, {"draws": []}, {"draws": [[1, -1]]}, None],
)
def test_a_damaged_file_is_bad_input(fitted: Calibration, tmp_path: Path, change: dict[str, Any] | None) -> None:
    path = tmp_path / weights.CALIBRATION
    save_calibration(path, fitted)
    path.write_text(json.dumps(json.loads(path.read_text()) | change) if change else path.read_text()[:-20])
    with pytest.raises(InputError, match=r"calibration.json: no calibration"):
        read_calibration(path)


def test_clades() -> None:
    assert known_per_megabase() == CLADES["animal"].prevalence
    assert known_per_megabase("virus") > known_per_megabase("nematode") > known_per_megabase("vertebrate")
    assert known_per_megabase(None, 3.5) == 3.5
    for clade, prevalence in (("fungus", None), ("animal", 1.0), (None, 0.0), (None, math.inf), (None, math.nan)):
        with pytest.raises(UsageError):
            known_per_megabase(clade, prevalence)


def test_shipped_calibrations_are_for_the_shipped_weights() -> None:
    found = [name for name in weights.registry() if (weights.find(name) / weights.CALIBRATION).is_file()]
    assert "duplex" in found
    for name in found:
        calibration = read_calibration(weights.find(name) / weights.CALIBRATION)
        assert calibration.weights == weights.registry()[name]["digest"]
        assert calibration.line[1] > 0
        assert calibration.about["contigs"]


# ---------------------------------------------------------------- flags


def test_flags_by_hand() -> None:
    plain_codes = np.random.default_rng(0).integers(0, 4, 500).astype(np.uint8)
    assert find_flags(plain_codes, 200, 280, 0.0) == ()
    for place, near in ((200 - NEAR, True), (199 - NEAR, False), (279 + NEAR, True), (280 + NEAR, False), (240, True)):
        codes = plain_codes.copy()
        codes[place] = 4
        assert find_flags(codes, 200, 280, 0.0) == (("near_N",) if near else ()), place
    masked = plain_codes.copy()
    masked[150] = 5
    assert find_flags(masked, 200, 280, 0.0) == ()
    repeat = plain_codes.copy()
    repeat[200:280] = encode(np.frombuffer(b"GAGAGACT" * 10, np.uint8))
    repeat[100] = 4
    assert find_flags(repeat, 200, 280, 0.0) == ("low_complexity", "near_N")
    assert find_flags(repeat, 200, 280, 3.0) == ("repeat", "low_complexity", "near_N")


def test_a_precursor_is_not_of_low_complexity() -> None:
    lin_4 = b"ATGCTTCCGGCCTGTTCCCTGAGACCTCAAGTGTGAGTGTACTATTGATGCTTCACACCTGGGCTCTCCGGGTACCAGGACGGTTTGAGCAGAT"
    codes = encode(np.frombuffer(lin_4, np.uint8))
    assert LOW_COMPLEXITY < 5
    assert find_flags(codes, 0, len(codes), 0.0) == ()


# ---------------------------------------------------------------- the commands


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, duplex_weights: Path) -> Path:
    """Random weights of the duplex model, and a calibration for them."""
    folder = tmp_path_factory.mktemp("weights") / "duplex"
    shutil.copytree(duplex_weights, folder)
    draws = np.array([[-3.0, 1.0], [-2.0, 1.1], [-4.0, 0.9]])
    calibration = Calibration((-3.0, 1.0), draws, 5.0, weights=weights.digest(folder))
    save_calibration(folder / weights.CALIBRATION, calibration)
    weights.verify(folder)  # the calibration is not among the sums
    return folder


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    generator = np.random.default_rng(5)
    codes = generator.integers(0, 4, 4000).astype(np.uint8)
    for start in range(150, 3850, 300):
        codes[start + 38 : start + 66] = reverse_complement(codes[start : start + 28])
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text(f">c0\n{decode(codes).decode()}\n")
    return path


def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *arguments: object) -> tuple[int, str]:
    monkeypatch.setattr("sys.argv", ["mirscan", *map(str, arguments)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0), capsys.readouterr().err


def columns(path: Path) -> list[dict[str, str]]:
    names, *rows = [line.split("\t") for line in path.read_text().splitlines()]
    return [dict(zip(names, row, strict=True)) for row in rows]


def test_calls_carry_their_precision(
    genome: Path, trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    calibration = read_calibration(trained / weights.CALIBRATION)
    scan = ("genome", genome, "--model", "duplex", "--weights", trained, "-o", tmp_path / "x.bw")
    bed, gff3 = tmp_path / "x.bed", tmp_path / "x.gff3"
    caplog.set_level("INFO", "mirscan")
    assert run(capsys, monkeypatch, *scan, "--bed", bed, "--gff3", gff3, "--min-score", 0.01)[0] == 0
    assert "estimated for 1 known hairpins per Mb, as in animals" in caplog.text
    every = columns(bed)
    assert len(every) > 5
    features = [line.split("\t")[8] for line in gff3.read_text().splitlines() if line[0] != "#"]
    for row, feature in zip(every, features, strict=True):
        expected = [f"{value[0]:.3g}" for value in calibration.precision(float(row["raw_score"]), 1.0)]
        assert [row["precision"], row["precision_low"], row["precision_high"]] == expected
        assert "precision={};precision_low={};precision_high={}".format(*expected) in feature
        assert row["flags"] in (".", "low_complexity")
    record = json.loads((tmp_path / "x.run.json").read_text())
    assert record["calibration_digest"] == calibration.digest
    assert record["prevalence"] == 1.0
    plan = (tmp_path / "x.bw.store" / "plan.json").read_text()
    assert "calibration" not in plan

    # the calls of a threshold, in another clade, from the same store
    wanted = sorted(float(row["precision"]) for row in every)[len(every) // 2]
    some = tmp_path / "some.bed"
    assert run(capsys, monkeypatch, *scan, "--bed", some, "--min-precision", wanted, "--prevalence", 1)[0] == 0
    assert "animals" not in caplog.text.rsplit("estimated for", 1)[1]
    chosen = columns(some)
    assert 0 < len(chosen) < len(every)
    assert all(float(row["precision"]) >= wanted for row in chosen)
    assert len(chosen) >= sum(float(row["precision"]) > wanted for row in every)
    assert run(capsys, monkeypatch, *scan, "--bed", some, "--min-precision", wanted, "--clade", "virus")[0] == 0
    assert len(columns(some)) > len(chosen)
    assert run(capsys, monkeypatch, *scan, "--bed", some, "--min-precision", 0.999)[0] == 0
    assert columns(some) == []
    assert "no call: at most a precision of 0.88" in caplog.text

    # the store's weights are not the shipped ones: it is exported without precision, and says so
    export = ("export", tmp_path / "x.bw.store", "-o", tmp_path / "again.bedgraph", "--bed", some)
    assert run(capsys, monkeypatch, *export)[0] == 0
    assert "precision" not in some.read_text()
    assert "is for other weights" in caplog.text
    assert run(capsys, monkeypatch, *export, "--min-precision", 0.1)[0] == 2
    monkeypatch.setattr(weights, "find", lambda model: trained)
    assert run(capsys, monkeypatch, *export, "--min-precision", wanted, "--prevalence", 1)[0] == 0
    again = columns(some)
    assert [row["precision"] for row in again] == [row["precision"] for row in chosen]
    assert "flags" not in again[0]  # they need the genome


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--min-precision", "0"), "--min-precision 0: must be above 0 and below 1"),
        (("--min-precision", "1"), "--min-precision 1: must be above 0 and below 1"),
        (("--min-precision", "nan"), "--min-precision nan"),
        (("--min-precision", "0.5", "--min-score", "0.5"), "give one of them"),
        (("--prevalence", "0"), "--prevalence 0: known hairpins per megabase must be above 0"),
        (("--prevalence", "-2"), "--prevalence -2"),
        (("--clade", "fungus"), "--clade fungus: choose animal, nematode"),
        (("--clade", "human", "--prevalence", "2"), "give one of them"),
        (("--model", "mire2e-tiny", "--weights", "TINY", "--min-precision", "0.5"), "have no calibration"),
    ],
)
def test_options_that_cannot_work(
    genome: Path, trained: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture, options: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    given = [tiny_weights if option == "TINY" else option for option in options]
    scan = ("genome", genome, "--model", "duplex", "--weights", trained, "-o", tmp_path / "x.bw")
    assert run(capsys, monkeypatch, *scan, *given)[0] == 2
    assert message in caplog.messages[-1]
    assert not list(tmp_path.iterdir())


def test_a_damaged_calibration_ends_the_run_before_it_begins(
    genome: Path, tiny_weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    folder = tmp_path / "w"
    folder.symlink_to(tiny_weights)
    damaged = tiny_weights / weights.CALIBRATION
    damaged.write_text("{")
    try:
        scan = ("genome", genome, "--model", "mire2e-tiny", "--weights", folder, "-o", tmp_path / "x.bw")
        assert run(capsys, monkeypatch, *scan)[0] == 3
    finally:
        damaged.unlink()
    assert "calibration.json: no calibration" in caplog.messages[-1]
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_calls_of_which_some_have_a_precision(tmp_path: Path) -> None:
    from mirscan.formats import bed, gff3

    calls = [
        Call("c", 0, 50, "+", 0.5, "a", precision=(0.31, 0.2, 0.4567), flags=("low_complexity", "near_N")),
        Call("c", 60, 90, "-", 0.4, "b"),
    ]
    bed.write_calls(tmp_path / "x.bed", calls)
    first, second = columns(tmp_path / "x.bed")
    assert [first[name] for name in ("precision", "precision_low", "precision_high")] == ["0.31", "0.2", "0.457"]
    assert first["flags"] == "low_complexity,near_N"
    assert second["precision"] == second["flags"] == "."
    gff3.write_calls(tmp_path / "x.gff3", calls)
    first_row, second_row = (tmp_path / "x.gff3").read_text().splitlines()[1:]
    assert first_row.endswith("precision=0.31;precision_low=0.2;precision_high=0.457;flags=low_complexity,near_N")
    assert second_row.endswith("windows=1")
    bed.write_calls(tmp_path / "y.bed", calls[1:])
    assert columns(tmp_path / "y.bed")[0].keys() == first.keys() - {
        "precision", "precision_low", "precision_high", "flags",
    }  # fmt: skip
