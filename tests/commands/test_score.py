"""Candidate precursors: what is read, what is refused, how they are folded, and the table of their scores."""

from __future__ import annotations

import gzip
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mirscan import cli
from mirscan.commands.score import score_fasta, score_molecules
from mirscan.errors import InputError, UsageError
from mirscan.kernels.bases import ABSENT
from mirscan.models import MODELS, load_model
from mirscan.structure import molecules
from mirscan.structure.molecules import LONGEST, fold_once, fold_sequences, molecules_of, read_sequences, row_folder

LET_7 = "UGGGAUGAGGUAGUAGGUUGUAUAGUUUUAGGGUCACACCCACCACUGGGAGAUAACUAUACAAUCUACUGUCUUUCCUA"  # MI0000060
WITHOUT = "A" * 60


def written(folder: Path, text: str, name: str = "s.fa") -> Path:
    path = folder / name
    path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    return path


def main(monkeypatch: pytest.MonkeyPatch, capsys: Any, *arguments: object) -> tuple[int, list[str]]:
    monkeypatch.setattr(sys, "argv", ["mirscan", *map(str, arguments)])
    monkeypatch.setattr(logging.root, "handlers", [])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return end.value.code or 0, capsys.readouterr().err.splitlines()  # type: ignore[return-value]


def table(path: Path) -> list[list[str]]:
    return [line.split("\t") for line in path.read_text().splitlines()]


@pytest.mark.parametrize("name", ["s.fa", "s.fa.gz"])
def test_dna_lower_case_and_line_breaks_are_the_same_molecule(tmp_path: Path, name: str) -> None:
    dna = LET_7.replace("U", "T").lower()
    path = written(tmp_path, f">a first\n{LET_7}\n>b\r\n{dna[:30]}\r\n{dna[30:]}\r\n>c\nACGRYK\n", name)
    found = read_sequences(path)
    assert found.names == ["a", "b", "c"]
    assert found.texts == [LET_7, LET_7, "ACGNNN"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no FASTA record found"),
        ("\n\n", "no FASTA record found"),
        ("ACGU\n", "no header"),
        (">a\n>b\nACGU\n", "'a' has no sequence"),
        (">a\nACGU\n>b\n\n", "'b' has no sequence"),
        (">\nACGU\n", "no name"),
        (">a\nACGE\n", "no nucleotide code"),
        (">a\n" + "A" * (LONGEST + 1), f"more than {LONGEST} bases"),
        (">a\n" + "ACGT\n" * 2500, "scan long sequences with `mirscan genome`"),
    ],
)
def test_what_is_no_list_of_candidates_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message.replace("`", ".")):
        read_sequences(written(tmp_path, text))


def test_a_missing_or_damaged_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        read_sequences(tmp_path / "none.fa")
    path = written(tmp_path, f">a\n{LET_7}\n" * 50, "s.fa.gz")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="truncated"):
        read_sequences(path)


def test_molecules_hold_codes_pairs_and_nothing_beyond() -> None:
    some = molecules_of(["GGGAAACCC", "ACgt", "NNRYX"], [("(((...)))", -1.5), ("....", 0.0), (".....", 0.0)])
    assert some.codes[0].tolist() == [2, 2, 2, 0, 0, 0, 1, 1, 1]
    assert some.codes[1].tolist() == [0, 1, 2, 3, *[ABSENT] * 5]
    assert some.codes[2].tolist() == [4] * 5 + [ABSENT] * 4
    assert some.partners[0].tolist() == [8, 7, 6, -1, -1, -1, 2, 1, 0]
    assert (some.partners[1:] == -1).all()
    np.testing.assert_array_equal(some.energies, np.float32([-1.5, 0, 0]))
    empty = molecules_of([])
    assert empty.codes.shape == (0, 0)


def test_folds_are_kept_and_made_again_for_other_sequences(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = fold_once([LET_7, WITHOUT], tmp_path / "folds.npz")
    monkeypatch.setattr(molecules, "fold_sequences", lambda *arguments: pytest.fail("folded again"))
    again = fold_once([LET_7, WITHOUT], tmp_path / "folds.npz")
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, other)
    with pytest.raises(pytest.fail.Exception):
        fold_once([LET_7], tmp_path / "folds.npz")


def test_windows_fold_alike_by_rows_and_one_by_one() -> None:
    generator = np.random.default_rng(0)
    codes = generator.integers(0, 4, (300, 100)).astype(np.uint8)
    spec = MODELS["deepmirgene"]
    for folder in ("hairpins", "viennarna"):
        fold = row_folder(spec, folder, 1)
        assert fold is not None
        few = codes if folder == "hairpins" else codes[:20]
        partners, energies = fold(few)
        texts = ["".join("ACGU"[base] for base in row) for row in few]
        expected = molecules_of(texts, fold_sequences(texts, folder))
        np.testing.assert_array_equal(partners, expected.partners)
        np.testing.assert_allclose(energies, expected.energies, atol=1e-5)
    assert row_folder(MODELS["mire2e"], "hairpins") is None


def test_a_window_model_scores_a_molecule_by_its_best_window(tiny_weights: Path) -> None:
    spec, model = MODELS["mire2e-tiny"], load_model("mire2e-tiny", tiny_weights)
    text = LET_7 + LET_7
    windows = [text[start : start + 100] for start in (0, 20, 40, 60)]
    whole = score_molecules(spec, model, molecules_of([text]))
    assert whole[0] == score_molecules(spec, model, molecules_of(windows)).max()


def test_a_hairpin_model_scores_a_molecule_by_its_best_hairpin(duplex_weights: Path, tmp_path: Path) -> None:
    path = written(tmp_path, f">let-7\n{LET_7}\n>open\n{WITHOUT}\n")
    assert score_fasta("duplex", path, tmp_path / "s.tsv", weights=duplex_weights) == 2
    rows = table(tmp_path / "s.tsv")
    assert rows[0] == ["name", "bases", "score"]
    assert rows[1][:2] == ["let-7", str(len(LET_7))]
    assert 0 < float(rows[1][2]) < 1
    assert rows[2] == ["open", "60", "0.0"]


def test_the_command_writes_structures_where_the_model_folds(
    weights_of: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    weights = weights_of("deepmir-vgg-4m-32fu")
    path, output = written(tmp_path, f">let-7\n{LET_7}\n"), tmp_path / "s.tsv"
    command = ("score", path, "--model", "deepmir-vgg-4m-32fu", "-o", output, "--weights", weights)
    assert main(monkeypatch, capsys, *command)[0] == 0
    rows = table(output)
    assert rows[0] == ["name", "bases", "score", "energy", "structure"]
    structure, energy = fold_sequences([LET_7])[0]
    assert rows[1][3:] == [f"{energy:.2f}", structure]


def test_the_command_refuses_in_one_line_and_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    output = tmp_path / "s.tsv"
    good = written(tmp_path, f">a\n{LET_7}\n")
    cases = [
        (("mire2e", tmp_path / "none.fa"), 3, "cannot be read"),
        (("mire2e", written(tmp_path, "", "empty.fa")), 3, "no FASTA record found"),
        (("nothing", good), 3, "unknown model"),
        (("mire2e", good, "--weights", tmp_path / "none"), 3, "no such checkpoint"),
        (("mire2e", good, "--fold-with", "mfold"), 2, "--fold-with mfold: choose"),
    ]
    for arguments, code, message in cases:
        found, lines = main(monkeypatch, capsys, "score", *arguments, "-o", output)
        assert (found, message in lines[-1]) == (code, True), lines
    assert not output.exists()


def test_without_viennarna_the_other_folder_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="--fold-with hairpins"):
        fold_sequences([LET_7])
    assert fold_sequences([LET_7], "hairpins")[0][1] < -20
