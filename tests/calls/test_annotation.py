"""Known precursors in a scan: homology beside the score, and both combined to rank calls."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from mirscan.calls.annotation import (
    CERTAIN,
    CHANCE,
    CLAIM,
    WEIGHTS,
    Weights,
    annotate,
    annotation,
    count_claims,
    evidence,
    fit_annotation,
)
from mirscan.cli import app
from mirscan.commands.evaluate import judge
from mirscan.errors import IncompleteError, InputError, UsageError
from mirscan.kernels.bases import decode, reverse_complement
from mirscan.known.homology import read_known
from mirscan.scanning.jobs import HAIRPIN
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.types import Plan

LOCI = (400, 1200, 2000, 2600)
"""Hairpins of the synthetic genome, 70 bases each; the precursors known are the second and a relative of the last."""


def letters(codes: np.ndarray) -> str:
    return decode(codes).decode()


@pytest.fixture(scope="module")
def genome() -> np.ndarray:
    """One contig with stem-loops, two of them on the other strand."""
    generator = np.random.default_rng(8)
    codes = generator.integers(0, 4, 3400).astype(np.uint8)
    for number, start in enumerate(LOCI):
        arm, loop = (generator.integers(0, 4, size).astype(np.uint8) for size in (30, 10))
        hairpin = np.concatenate([arm, loop, reverse_complement(arm)])
        hairpin[25] = (hairpin[25] + 1) % 4
        codes[start : start + 70] = hairpin if number % 2 == 0 else reverse_complement(hairpin)
    codes[3000:3004] = 4
    return codes


@pytest.fixture(scope="module")
def files(genome: np.ndarray, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The genome, and the precursors known before."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "g.fa").write_text(f">c\n{letters(genome)}\n")
    known = [reverse_complement(genome[start : start + 70]) for start in (LOCI[1], LOCI[3])]
    known[1][[5, 28, 61]] = (known[1][[5, 28, 61]] + 1) % 4
    other = np.random.default_rng(1).integers(0, 4, 80).astype(np.uint8)
    rows = zip(("xxx-mir-0", "xxx-mir-1", "xxx-mir-2"), (other, *known), strict=True)
    (folder / "known.fa").write_text("".join(f">{name} MI0 some\n{letters(codes)}\n" for name, codes in rows))
    (folder / "g.gff3").write_text(
        "".join(f"c\t.\tmiRNA_primary_transcript\t{LOCI[i] + 1}\t{LOCI[i] + 70}\t.\t-\t.\tID={i}\n" for i in (1, 3))
    )
    return folder / "g.fa", folder / "known.fa"


def scanned(fasta: Path, folder: Path, weights_folder: Path, **options: Any) -> tuple[bytes, np.ndarray]:
    """Track and hairpin table of a run."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {"output": folder / "x.bw", "model": "duplex", "weights": weights_folder} | options
    scan_genome(fasta, Options(**options))
    store = ScoreStore.open(f"{options['output']}.store")
    return options["output"].read_bytes(), np.concatenate([store.read_hairpins(p) for p in range(store.plan.parts)])


@pytest.fixture(scope="module")
def whole(
    files: tuple[Path, Path], duplex_weights: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, bytes, np.ndarray]:
    """A scan with known precursors, in one part: its folder, track and table."""
    folder = tmp_path_factory.mktemp("whole")
    calls = {"bed": folder / "x.bed", "gff3": folder / "x.gff3", "calls_per_mb": 5000.0}
    return folder, *scanned(files[0], folder, duplex_weights, known=files[1], annotate=True, **calls)


def test_known_hairpins_are_found_and_named(whole: tuple[Path, bytes, np.ndarray]) -> None:
    table = whole[2]
    for number, start in ((1, LOCI[1]), (2, LOCI[3])):
        overlap = np.minimum(table["end"], start + 70) - np.maximum(table["start"], start)
        best = table[(overlap > 50) & table["minus"]]
        assert best["homology"].max() > 40
        assert (best["known"][best["homology"] > 40] == number).all()
    assert np.median(table["homology"]) <= CHANCE
    assert ((table["known"] >= 0) == (table["homology"] > 0)).all()


def test_the_track_and_the_scores_are_those_without_known_precursors(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path
) -> None:
    track, table = scanned(files[0], tmp_path, duplex_weights, bed=tmp_path / "x.bed", gff3=tmp_path / "x.gff3")
    assert track == whole[1]
    for name in HAIRPIN.names or ():
        if name not in ("homology", "known"):
            assert table[name].tobytes() == whole[2][name].tobytes()
    assert not table["homology"].any()
    assert (table["known"] == -1).all()
    assert "homology" not in (tmp_path / "x.bed").read_text() + (tmp_path / "x.gff3").read_text()


def test_parts_and_threads_change_no_homology(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path
) -> None:
    options: dict[str, Any] = {"part_windows": 60, "batch": 1, "devices": 1, "threads": 1}
    track, table = scanned(files[0], tmp_path, duplex_weights, known=files[1], **options)
    assert track == whole[1]
    order = ("contig", "start", "end", "minus")
    assert np.sort(table, order=order).tobytes() == np.sort(whole[2], order=order).tobytes()


def test_the_reverse_complement_has_the_same_homology_with_strands_exchanged(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], genome: np.ndarray, duplex_weights: Path,
    tmp_path: Path,
) -> None:  # fmt: skip
    (tmp_path / "g.fa").write_text(f">c\n{letters(reverse_complement(genome))}\n")
    _, table = scanned(tmp_path / "g.fa", tmp_path, duplex_weights, known=files[1])
    turned = table.copy()
    turned["start"], turned["end"], turned["minus"] = 3400 - table["end"], 3400 - table["start"], ~table["minus"]
    names = ["start", "end", "minus", "homology", "known"]
    one, other = (np.sort(rows[names], order=("start", "end", "minus")) for rows in (turned, whole[2]))
    assert one.tolist() == other.tolist()


def test_calls_carry_homology_and_are_ranked_by_the_combination(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], tmp_path: Path
) -> None:
    header, *lines = (whole[0] / "x.bed").read_text().splitlines()
    columns = header.lstrip("#").split("\t")
    rows = [dict(zip(columns, line.split("\t"), strict=True)) for line in lines]
    assert columns[-3:] == ["homology", "known", "annotation"]
    named = {row["known"]: row for row in rows if float(row["homology"]) > 30}
    assert set(named) == {"xxx-mir-1", "xxx-mir-2"}
    best = sorted(rows, key=lambda row: -float(row["annotation"]))[:2]
    assert {row["known"] for row in best} == set(named)
    table = whole[2]
    claims = count_claims(table, 3)
    values = {(int(t["start"]), int(t["end"]), bool(t["minus"])): v for t, v in
              zip(table, annotate(table, claims, WEIGHTS["duplex"]), strict=True)}  # fmt: skip
    for row in rows:
        assert np.float32(row["annotation"]) == values[int(row["start"]), int(row["end"]), row["strand"] == "-"]
    gff3 = [line for line in (whole[0] / "x.gff3").read_text().splitlines() if "known=xxx-mir-1" in line]
    assert any(f"homology={named['xxx-mir-1']['homology']};" in line and "annotation=" in line for line in gff3)

    store = f"{whole[0] / 'x.bw'}.store"
    for extra, least in ((["--annotate"], float(best[1]["annotation"])), ([], 0.0)):
        bed = tmp_path / f"{len(extra)}.bed"
        asked = ["export", store, "-o", str(tmp_path / "y.bw"), "--bed", str(bed), "--min-score", str(least), *extra]
        assert CliRunner().invoke(app, asked).exit_code == 0
        exported = bed.read_text().splitlines()
        assert ("annotation" in exported[0]) == bool(extra)
        assert len(exported) == (3 if extra else 1 + len(exported[1:]))
        assert "homology" in exported[0]
    truth = files[0].with_suffix(".gff3")
    figures = {by: judge(store, truth, by=by)["all"].average_precision for by in ("score", "homology", "annotation")}
    assert figures["homology"] == figures["annotation"] == 1.0
    assert figures["score"] < 1.0


def test_another_known_set_is_another_run(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other.fa"
    other.write_text(files[1].read_text().replace("xxx-mir-2", "xxx-mir-3"))
    for known in (other, None):
        with pytest.raises(InputError, match="known digest"):
            scanned(files[0], whole[0], duplex_weights, known=known)
    packed = tmp_path / "known.fa.gz"
    packed.write_bytes(gzip.compress(files[1].read_bytes()))
    assert scanned(files[0], whole[0], duplex_weights, known=packed)[0] == whole[1]


def test_plans_written_before_there_were_known_precursors_can_be_read(whole: tuple[Path, bytes, np.ndarray]) -> None:
    plan = ScoreStore.open(f"{whole[0] / 'x.bw'}.store").plan
    assert plan.known_digest
    lines = [line for line in plan.to_json().splitlines() if "known_digest" not in line]
    old = Plan.from_json("\n".join(lines).replace(",\n}", "\n}"))
    assert old.known_digest == ""
    assert (old.difference(plan) or "").startswith("known digest")


def test_names_that_are_gone_are_missed(
    whole: tuple[Path, bytes, np.ndarray], files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path
) -> None:
    scanned(files[0], tmp_path, duplex_weights, known=files[1])
    store = ScoreStore.open(f"{tmp_path / 'x.bw'}.store")
    assert store.read_known() == ["xxx-mir-0", "xxx-mir-1", "xxx-mir-2"]
    (tmp_path / "x.bw.store" / "known").unlink()
    with pytest.raises(IncompleteError, match="known precursors are gone"):
        store.read_known()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": "mire2e", "known": True}, "homology is of hairpins"),
        ({"annotate": True}, "give them with --known"),
        ({"annotate": True, "known": True, "min_precision": 0.5}, "estimated from the score alone"),
    ],
)
def test_what_cannot_be_combined_is_refused(
    files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path, options: dict[str, Any], message: str
) -> None:
    chosen: dict[str, Any] = {"model": "duplex", "weights": duplex_weights} | options
    if "known" in chosen:
        chosen["known"] = files[1]
    with pytest.raises(UsageError, match=message):
        scan_genome(files[0], Options(output=tmp_path / "x.bw", **chosen))
    assert not list(tmp_path.iterdir())


def test_a_store_without_homology_and_a_bed_are_not_ranked_by_it(
    files: tuple[Path, Path], duplex_weights: Path, tmp_path: Path
) -> None:
    scanned(files[0], tmp_path, duplex_weights, bed=tmp_path / "x.bed")
    truth = files[0].with_suffix(".gff3")
    with pytest.raises(UsageError, match="scan with --known"):
        judge(f"{tmp_path / 'x.bw'}.store", truth, by="homology")
    with pytest.raises(UsageError, match="judged by column 7"):
        judge(str(tmp_path / "x.bed"), truth, 1.0, by="annotation")


@pytest.mark.parametrize(
    "content",
    [
        b"", b"ACGU\n", b">a\nMKVLAAGIRR\n", b">a b\n", b">\nACGUACGUACGU\n", b">a\x01b\nACGUACGUACGU\n", b"\xff\x00",
        b"\x1f\x8b\x08\x00",
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["known.fa", "known.fa.gz"])
def test_a_bad_file_of_known_precursors_is_one_line(tmp_path: Path, content: bytes, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"known\.fa") as error:
        read_known(path)
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="nowhere"):
        read_known(tmp_path / "nowhere.fa")


def table_of(rows: list[tuple[int, int, int, bool, float, int]]) -> np.ndarray:
    table = np.zeros(len(rows), dtype=HAIRPIN)
    for name, column in zip(
        ("contig", "start", "end", "minus", "homology", "known"), zip(*rows, strict=True), strict=True
    ):
        table[name] = column
    return table


@given(seed=st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_claims_are_chains_of_overlapping_hairpins(seed: int) -> None:
    generator = np.random.default_rng(seed)
    starts = generator.integers(0, 500, 60)
    rows = [
        (int(generator.integers(2)), int(s), int(s + generator.integers(20, 90)), bool(generator.integers(2)),
         float(generator.choice([CLAIM - 1, CLAIM, 60])), int(generator.integers(3)))
        for s in starts
    ]  # fmt: skip
    expected = np.zeros(4, dtype=int)
    for contig in range(2):
        for minus in (False, True):
            for known in range(3):
                covered = np.zeros(700, dtype=bool)
                seams = np.zeros(700, dtype=bool)
                for c, start, end, m, homology, k in rows:
                    if (c, m, k) == (contig, minus, known) and homology >= CLAIM:
                        covered[start:end] = True
                        seams[start + 1 : end] = True
                # a place begins where a covered base is not joined to the one before by a hairpin over both
                expected[known] += int((covered & ~seams).sum())
    assert count_claims(table_of(rows), 4).tolist() == expected.tolist()


def test_evidence_is_shared_among_copies_and_claims() -> None:
    homology = np.array([10.0, 25.0, 30.0, 80.0, 30.0, 30.0, 80.0])
    copies = np.array([0.0, 0.5, 1.0, 0.0, 2.0, 0.0, 3.0])
    claims = np.array([0, 1, 1, 1, 1, 3, 1])
    shown = evidence(homology, copies, claims)
    assert shown.tolist() == [0, 10, 15, CERTAIN - CHANCE, 0, 0, 5]
    assert count_claims(np.zeros(0, dtype=HAIRPIN), 3).tolist() == [0, 0, 0]


def test_the_fit_is_a_minimum_and_finds_what_made_the_data() -> None:
    generator = np.random.default_rng(0)
    logits, shown = generator.normal(-3, 2, 20_000), np.where(generator.random(20_000) < 0.1, 15.0, 0.0)
    truth = Weights(-2.0, 0.7, 0.4)
    positive = generator.random(20_000) < annotation(logits, shown, truth)
    found = fit_annotation(logits, shown, positive)
    assert np.abs(np.subtract(found, truth)).max() < 0.15
    heavier = fit_annotation(logits, shown, positive, positive_weight=10.0)
    assert heavier.intercept > found.intercept + 1
    apart = fit_annotation(np.array([-1.0, 1.0]), np.zeros(2), np.array([False, True]))
    assert np.isfinite(apart).all()
    with pytest.raises(ValueError, match="0 of 2"):
        fit_annotation(np.zeros(2), np.zeros(2), np.zeros(2, dtype=bool))


def test_scores_of_nothing_and_of_certainty_have_a_finite_value() -> None:
    table = np.zeros(3, dtype=HAIRPIN)
    table["score"], table["known"] = [0.0, 0.5, 1.0], -1
    values = annotate(table, np.zeros(5, dtype=np.int64), WEIGHTS["duplex"])
    assert values.dtype == np.float32
    assert np.isfinite(values).all()
    assert (np.diff(values) > 0).all()
