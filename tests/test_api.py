"""The Python interface (mirscan.api): what a notebook gets, and what it is told when something is wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import fasta, sequence

import mirscan
from mirscan.commands.demo import _feature, _lines, example_genome
from mirscan.genome import open_genome
from mirscan.kernels.bases import reverse_complement

ROOT = Path(__file__).resolve().parents[1]
LET_7 = "UGGGAUGAGGUAGUAGGUUGUAUAGUUUUAGGGUCACACCCACCACUGGGAGAUAACUAUACAAUCUACUGUCUUUCCUA"
SPACER = "ACACCAACCC" * 6


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the first 40,000 bases of the demo as ``genome.fa``, and what is planted there."""
    genome, planted = example_genome()
    text = genome["demo1"][:40_000]
    (tmp_path / "genome.fa").write_text(f">demo1\n{_lines(text)}")
    inside = [hairpin for hairpin in planted if hairpin.contig == "demo1" and hairpin.end < 40_000]
    (tmp_path / "truth.gff3").write_text("##gff-version 3\n" + "".join(map(_feature, inside)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_examples_of_the_page_run(home: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", (ROOT / "docs" / "python.md").read_text(), re.MULTILINE | re.DOTALL)
    assert len(blocks) >= 7
    scope: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), scope)
    assert scope["best"].strand == "+"
    assert (home / "calls.bed").is_file()
    assert "absent.fa" in str(scope.get("error", "absent.fa"))


def test_calls_are_those_of_the_command(home: Path, place: Any) -> None:
    calls = mirscan.scan("genome.fa", calls_per_mb=200)
    assert place.main("genome", "genome.fa", "-o", "x.bw", "--bed", "x.bed", "--gff3", "x.gff3",
                      "--calls-fasta", "x.fa", "--calls-per-mb", "200")[0] == 0  # fmt: skip
    for suffix in ("bed", "gff3", "fa"):
        calls.write(f"api.{suffix}")
        assert Path(f"api.{suffix}").read_bytes() == Path(f"x.{suffix}").read_bytes()
    assert len(calls) == len(Path("x.bed").read_text().splitlines()) - 1
    assert calls.to_pandas()["score"].tolist() == [call.score for call in calls]
    assert list(calls[1:3]) == [calls[1], calls[2]]
    figures = mirscan.evaluate(calls, "truth.gff3")
    code, out, _ = place.main("evaluate", "x.bed", "truth.gff3", "--megabases", str(calls.megabases))
    assert code == 0
    assert str(figures) == out.rstrip("\n")
    assert figures["all"].found >= 1
    resumed = mirscan.scan(Path("genome.fa"), calls_per_mb=200, store=Path("x.bw.store"))
    assert list(resumed) == list(calls)
    assert mirscan.evaluate("x.bw.store", "truth.gff3")["all"].known == figures["all"].known


def test_a_sequence_is_scanned_as_a_file_of_it(home: Path) -> None:
    text = SPACER + LET_7 + SPACER
    Path("g.fa").write_text(f">sequence\n{text}\n")
    assert list(mirscan.scan(text, calls_per_mb=9000)) == list(mirscan.scan("g.fa", calls_per_mb=9000))


def test_scores_of_sequences_are_those_of_a_file(home: Path) -> None:
    texts = [LET_7, LET_7.lower().replace("u", "t"), "ACGU" * 20]
    Path("c.fa").write_text("".join(f">{number}\n{text}\n" for number, text in enumerate(texts)))
    scores = mirscan.score(texts)
    assert scores.dtype == np.float32
    np.testing.assert_array_equal(scores, mirscan.score("c.fa"))
    np.testing.assert_array_equal(scores[:1], mirscan.score(LET_7))
    assert scores[0] == scores[1]
    assert mirscan.score([]).shape == (0,)


def test_hairpins_are_those_of_the_list(home: Path, place: Any) -> None:
    text = SPACER + LET_7 + SPACER
    Path("g.fa").write_text(f">sequence\n{text}\n")
    assert place.main("fold", "g.fa", "-o", "x.bed")[0] == 0
    rows = [line.split("\t") for line in Path("x.bed").read_text().splitlines()[1:]]
    found = mirscan.hairpins(text)
    assert [(h.start, h.end, h.strand, f"{h.energy:.2f}", h.structure) for h in found] == [
        (int(row[1]), int(row[2]), row[5], row[6], row[7]) for row in rows
    ]


def test_windows_are_one_hot_rows_of_both_strands(tmp_path: Path) -> None:
    text = sequence(1000)
    text = text[:300] + "N" + text[301:]
    (tmp_path / "g.fa").write_bytes(fasta(text) + fasta(sequence(99), "short"))
    with open_genome(tmp_path / "g.fa") as opened:
        codes = opened.codes(0, 0, 1000)
        batches = list(mirscan.windows(opened, batch=7))
    assert {len(batch.bases) for batch in batches[:-1]} <= set(range(1, 8))
    start, minus, bases = (np.concatenate([getattr(b, name) for b in batches]) for name in ("start", "minus", "bases"))
    clean = [s for s in range(0, 901, 20) if not s <= 300 < s + 100]
    assert start.tolist() == [s for s in clean for _ in range(2)]
    assert minus.tolist() == [False, True] * len(clean)
    for row, first, other in zip(bases, start, minus, strict=True):
        window = codes[first : first + 100]
        np.testing.assert_array_equal(row, np.eye(4, dtype=np.float32)[reverse_complement(window) if other else window])
    plus = [b.bases for b in mirscan.windows(tmp_path / "g.fa", strands="+", one_hot=False, regions="chr1:1-400")]
    assert sum(map(len, plus)) == sum(s + 100 <= 400 for s in clean)
    assert plus[0].dtype == np.uint8


def test_a_model_is_a_function(weights_of: Any) -> None:
    model = mirscan.load_model("mire2e-tiny", weights_of("mire2e-tiny"))
    codes = np.random.default_rng(0).integers(0, 4, (3, 100), dtype=np.uint8)
    scores = model(codes)
    assert scores.shape == (3,)
    np.testing.assert_allclose(model(codes[:1]), scores[:1], rtol=1e-5)
    for wrong in ((), (codes, codes), (codes[:, :50],)):
        with pytest.raises(mirscan.UsageError, match=r"takes \(rows, 100\), not"):
            model(*wrong)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mirscan.scan("absent.fa"), "absent.fa: no such file"),
        (lambda: mirscan.scan(7), "genome: give a path or a sequence, not int"),
        (lambda: mirscan.scan("A" * 300 + "!"), "sequence: 'AAAAAAAAAAAAAAAAAAAA' holds a letter"),
        (lambda: mirscan.scan("genome.fa", min_score=2), "--min-score 2: must be at most 1"),
        (lambda: mirscan.scan("ACGT" * 10), "no window of 100 bases"),
        (lambda: mirscan.scan("genome.fa", model="dupelx"), "unknown model 'dupelx'.*duplex"),
        (lambda: mirscan.scan("genome.fa", weights="absent"), "absent: no such checkpoint folder"),
        (lambda: mirscan.scan("genome.fa", store="."), r"\. is no score store of mirscan: it holds genome\.fa"),
        (lambda: mirscan.scan("."), "."),
        (lambda: mirscan.score("absent.fa"), "absent.fa: cannot be read"),
        (lambda: mirscan.score([7]), "sequence 0: give text, not int"),
        (lambda: mirscan.score(["ACGU", ""]), "sequence 1: 0 bases"),
        (lambda: mirscan.score(["ACE"]), "sequence 0: 'ACE' holds a letter"),
        (lambda: mirscan.score([LET_7], model="mire2e", weights="genome.fa"), "genome.fa"),
        (lambda: mirscan.score([LET_7], fold_with="x"), "choose viennarna or hairpins"),
        (lambda: mirscan.hairpins("AC GU"), "holds a letter"),
        (lambda: mirscan.hairpins("ACGU", span=500), "span 500"),
        (lambda: mirscan.evaluate("absent.bed", "truth.gff3"), "absent.bed"),
        (lambda: mirscan.evaluate("genome.fa", "absent.gff3"), "absent.gff3"),
        (lambda: mirscan.load_model("nonesuch"), "unknown model"),
        (lambda: next(mirscan.windows("absent.fa")), "absent.fa"),
        (lambda: next(mirscan.windows("genome.fa", step=0)), "step 0"),
        (lambda: mirscan.scan("genome.fa", regions="demo9"), "demo9"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(home: Path, call: Any, words: str) -> None:
    with pytest.raises((mirscan.InputError, mirscan.UsageError), match=words) as raised:
        call()
    assert "\n" not in str(raised.value)


def test_options_take_text_for_paths_and_one_region() -> None:
    options = mirscan.Options(output="x.bw", bed="x.bed", regions="chr1", store=Path("s"))  # type: ignore[arg-type]
    assert options.output == Path("x.bw")
    assert options.regions == ("chr1",)
    assert options.store == "s"


def test_the_interface_is_complete_and_is_loaded_late() -> None:
    assert set(mirscan.__all__) <= set(dir(mirscan))
    for name in mirscan.__all__:
        assert getattr(mirscan, name).__doc__
    program = (
        "import sys, mirscan; dir(mirscan); print(len([m for m in sys.modules if m.split('.')[0] in {'jax','numpy'}]))"
    )
    assert subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True).stdout == "0\n"
    with pytest.raises(AttributeError, match="no attribute 'nonesuch'"):
        _ = mirscan.nonesuch
