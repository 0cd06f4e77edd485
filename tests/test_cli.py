"""The command line: exit codes, one clear line for whatever a user can cause, and nothing half-written."""

from __future__ import annotations

import contextlib
import errno
import gzip
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from program import GOOD, LENGTH, PROGRAM, Double, Place, assert_one_line, fasta, sequence

import mirscan
from mirscan import cli
from mirscan.checkpoints import weights
from mirscan.formats import bed
from mirscan.formats.bigwig import BigWigWriter
from mirscan.genome.spool import Spool
from mirscan.models import MODELS
from mirscan.scanning import prepare, run
from mirscan.scanning import results as finish
from mirscan.scanning.options import FIELDS, Options, flag_of
from mirscan.store import ScoreStore

BAD = {
    "duplicate names": (GOOD + fasta("ACGT"), "contig 'chr1' is already at"),
    "empty": (b"", "empty file"),
    "header only": (b">chr1\n", "no record has a base"),
    "FASTQ": (b"@r1\nACGT\n+\nIIII\n", "looks like FASTQ"),
    "binary": (bytes(range(256)), ":1: binary data"),
    "NUL bytes": (GOOD[:500] + b"\0" + GOOD[500:], ": NUL byte in the sequence of 'chr1'"),
    "no header": (b"ACGT\n" * 100, ":1: no header"),
    "mark inside": (GOOD[:200] + b">" + GOOD[200:], "g.fa:5: '>' inside a sequence line of 'chr1'"),
    "no IUPAC letter": (GOOD[:200] + b"J" + GOOD[200:], "g.fa:5: 'J' in the sequence of 'chr1'"),
    "stop sign": (GOOD[:200] + b"*" + GOOD[200:], "g.fa:5: '*' in the sequence of 'chr1'"),
    "gap": (GOOD[:200] + b"-" + GOOD[200:], "g.fa:5: '-' in the sequence of 'chr1'"),
    "truncated gzip": (gzip.compress(GOOD)[:-20], "truncated gzip"),
    "damaged gzip": (gzip.compress(GOOD)[:-6] + bytes(6), "damaged gzip"),
    "bad line in gzip": (gzip.compress(GOOD + b"!"), "'!' in the sequence"),
    "all N": (fasta("N" * LENGTH), "no window could be scored"),
    "no full window": (b"".join(fasta("ACGT" * 24, f"c{n}") for n in range(9)), "no window of 100 bases is left"),
    "no window without N": (fasta((sequence(60) + "N") * 9), "no window could be scored"),
}


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gzip"])
@pytest.mark.parametrize("case", BAD)
def test_bad_input(place: Place, double: None, case: str, packed: bool) -> None:
    data, message = BAD[case]
    source = place.write(gzip.compress(data) if packed else data)
    if packed and data[:2] == b"\x1f\x8b":
        message = "binary data"
    if packed and case == "empty":
        message = "no record has a base"
    calls = ("--bed", place.outputs / "x.bed", "--gff3", place.outputs / "x.gff3", "--per-strand")
    code, out, lines = place.genome(source, *calls)
    assert code == 3
    assert out == ""
    assert_one_line(lines, message)
    assert place.written() == []
    assert os.listdir(place.inputs) == ["g.fa"]


def test_bad_input_leaves_older_outputs_alone(place: Place, double: None) -> None:
    code, _, _ = place.genome(place.write(GOOD))
    assert code == 0
    before = {name: (place.outputs / name).read_bytes() for name in ("x.bw", "x.run.json")}
    assert place.genome(place.write(GOOD + b"!"))[0] == 3
    assert {name: (place.outputs / name).read_bytes() for name in before} == before


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("--regions", "chr7"), 3, "the genome has no contig 'chr7'; it has chr1"),
        (("--regions", "chr1:2,000-4,000"), 3, "past the end of 'chr1'"),
        (("--regions", "chr1:10-20"), 3, "no window of 100 bases is left to scan"),
        (("--regions-file", "absent.bed"), 3, "absent.bed: cannot be read"),
        (("--exclude", "chr*"), 3, "no window of 100 bases is left to scan"),
        (("--min-contig", "5000"), 3, "no window of 100 bases is left to scan"),
        (("--soft-mask", "sometimes"), 2, "--soft-mask sometimes: choose scan, skip"),
        (("--step", "0"), 2, "--step 0"),
        (("--step", "101"), 2, "window 100, step 101"),
        (("--batch", "0"), 2, "--batch 0"),
        (("--part-windows", "-5"), 2, "--part-windows -5"),
        (("--calls-per-mb", "-1"), 2, "--calls-per-mb -1"),
        (("--devices", "99"), 2, "--devices 99: this machine has 2"),
        (("--weights", "absent"), 3, "absent: no such checkpoint folder"),
        (("--weights", "."), 3, "not a checkpoint of mirscan"),
        (("--model", "nonesuch"), 3, "unknown model 'nonesuch'; `mirscan models` shows all"),
        (("--output", "x.wig"), 2, "the name must end in one of .bw"),
        (("--output", "-"), 2, "the name must end in one of .bw"),
        (("--output", "absent/x.bw"), 3, "the folder absent does not exist"),
        (("--output", "/proc/x.bw"), 3, "/proc/x.bw"),
        (("--store", "ftp://x"), 3, "--store ftp://x: give a folder, or a URL"),
        (("--bed", "x.bed", "--gff3", "x.bed"), 3, "x.bed (--gff3) is also x.bed (--bed)"),
    ],
)
def test_options_that_cannot_work(
    place: Place, double: None, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(place.outputs)
    found, _, lines = place.genome(place.write(gzip.compress(GOOD)), *options)
    assert found == code
    assert_one_line(lines, message)
    assert place.written() == []


def test_outputs_that_would_destroy_something(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place.write(GOOD, "g.bw")
    code, _, lines = place.genome(source, output="../in/g.bw")
    assert code == 3
    assert_one_line(lines, "(the genome); give every file a name of its own")
    (place.outputs / "folder.bw").mkdir()
    code, _, lines = place.genome(source, output="folder.bw")
    assert code == 3
    assert_one_line(lines, "is a folder")
    code, _, lines = place.genome(source, "--store", source)
    assert code == 3
    assert_one_line(lines, "(the store) is also ")
    (place.outputs / "own").mkdir()
    (place.outputs / "own" / "thesis.txt").write_text("x")
    code, _, lines = place.genome(source, "--store", place.outputs / "own", "--fresh")
    assert code == 3
    assert_one_line(lines, "own is no score store of mirscan: it holds thesis.txt")
    access = os.access  # root may write everywhere, so the mode of a folder would prove nothing
    monkeypatch.setattr(os, "access", lambda path, mode: path != place.outputs and access(path, mode))
    code, _, lines = place.genome(source)
    assert code == 3
    assert_one_line(lines, "is not writable")
    assert place.written() == ["folder.bw", "own", "own/thesis.txt"]
    assert Path(source).read_bytes() == GOOD


def test_any_flipped_bit_of_a_checkpoint(place: Place, double: None) -> None:
    source, whole = place.write(GOOD), place.weights
    place.weights = place.folder / "weights"
    shutil.copytree(whole, place.weights)
    random = np.random.default_rng(0)
    files = [path for path in place.weights.rglob("*") if path.is_file() and path.stat().st_size]
    sums = place.weights / "SHA256SUMS"
    for path in files + [sums] * 20:
        data = bytearray(path.read_bytes())
        data[random.integers(len(data))] ^= 1 << random.integers(8)
        before = path.read_bytes()
        path.write_bytes(data)
        code, _, lines = place.genome(source)
        path.write_bytes(before)
        assert code == 3, path
        assert_one_line(lines, "install the checkpoint again")
        assert place.written() == []
    assert place.genome(source)[0] == 0


def test_weights_that_nobody_ships(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.weights, "registry", dict)
    code, _, lines = place.main("genome", place.write(GOOD), "-o", place.outputs / "x.bw", "--model", "mire2e-tiny")
    assert code == 3
    assert_one_line(lines, "no weights are shipped for model 'mire2e-tiny'")
    code, _, lines = place.genome(place.write(GOOD), "--model", "mire2e")
    assert code == 3
    assert_one_line(lines, "not weights of mire2e")
    code, out, lines = place.main("models", "--all")
    assert code == 0
    assert "mire2e-tiny\n" in out
    assert "no weights shipped" in out
    assert lines == []


def test_models_begin_with_the_default_and_those_with_weights(place: Place) -> None:
    out = place.main("models")[1].splitlines()
    names = [line for line in out if not line.startswith(" ")]
    assert names[0] == "duplex (default)"
    assert names[-1].endswith("have no weights yet: mirscan models --all")
    assert set(names[1:-1]) == weights.registry().keys() - {"duplex"}
    more = [line for line in place.main("models", "--all")[1].splitlines() if not line.startswith(" ")]
    assert more[: len(names) - 1] == names[:-1]
    assert len(more) == len(MODELS)


def test_old_names_of_options_work_and_are_warned_of(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source, "--calls-fasta", place.outputs / "x.fa")[0] == 0
    for old, new, value in (
        ("--fasta", "--calls-fasta", place.outputs / "y.fa"),
        ("--hairpins", "--recurrence", "numba"),
    ):
        code, _, lines = place.genome(source, old, value)
        assert code == 0
        assert any(line.startswith(f"mirscan: {old} is now {new} (") for line in lines)
    assert (place.outputs / "y.fa").read_bytes() == (place.outputs / "x.fa").read_bytes()
    for name in ("--fasta", "--hairpins", "--folder"):
        assert f"{name} " not in place.main("genome", "--help")[1]


def test_the_old_form_of_score(place: Place) -> None:
    source = place.write(f">a\n{sequence(80)}\n".encode(), "c.fa")
    outputs = [place.outputs / name for name in ("a.tsv", "b.tsv")]
    assert place.main("score", source, "-o", outputs[0])[0] == 0
    code, _, lines = place.main("score", "duplex", source, "-o", outputs[1])
    assert code == 0
    assert "the old form: use mirscan score FASTA --model MODEL" in lines[0]
    assert outputs[0].read_bytes() == outputs[1].read_bytes()
    code, _, lines = place.main("score", "duplex", source, "--model", "mire2e", "-o", outputs[1])
    assert code == 2
    assert_one_line(lines, "give one FASTA, and one model by --model")


def test_messages_are_as_loud_as_wanted(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source, "-q")[2] == []
    assert len(place.genome(source)[2]) > 3
    assert place.genome(source, "--quiet", "--step", "0")[2] == ["mirscan: --step 0: must be at least 1"]
    assert place.main("--version") == (0, f"mirscan {mirscan.__version__}\n", [])
    assert place.main("genome", "-h")[1] == place.main("genome", "--help")[1]


DECIMAL = ("--calls-per-mb", "--min-score")
WHOLE = ("--step", "--batch", "--min-contig", "--threads", "--part-windows")


@pytest.mark.parametrize("option", [*DECIMAL, *WHOLE])
def test_a_number_out_of_range_is_refused_by_every_command_that_takes_it(place: Place, option: str) -> None:
    source = place.write(GOOD)
    for value in ("-1", "nan") if option in DECIMAL else ("-1",):
        code, _, lines = place.genome(source, option, value)
        assert code == 2
        assert_one_line(lines, f"{option} {float(value) if option in DECIMAL else value}: must ")


def test_options_are_told_in_groups(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    panels = {flag_of(name).panel for name in FIELDS}
    assert panels == {"Input", "Output", "Calls", "What is scanned", "Devices and speed", "Store and resume"}
    monkeypatch.setattr(cli.app, "rich_markup_mode", "rich")
    text = place.main("genome", "--help")[1]
    assert all(panel in text for panel in panels)


def test_every_option_is_taken_by_a_scan() -> None:
    genome = next(command for command in cli.app.registered_commands if command.callback.__name__ == "genome")
    assert FIELDS.keys() <= genome.callback.__annotations__.keys()


FORMS: dict[str, Callable[[str], bytes]] = {
    "CRLF": lambda text: fasta(text).replace(b"\n", b"\r\n"),
    "lower case": lambda text: fasta(text.lower()),
    "U": lambda text: fasta(text.replace("T", "U")),
    "no final newline": lambda text: fasta(text)[:-1],
    "one line": lambda text: fasta(text, width=len(text)),
    "ragged lines": lambda text: fasta(text[:1000])[:-1] + b"\n\n" + fasta(text[1000:], width=37).split(b"\n", 1)[1],
    "gzip": lambda text: gzip.compress(fasta(text)),
    "another IUPAC letter": lambda text: fasta(text.replace("N", "R")),
    "byte order mark": lambda text: b"\xef\xbb\xbf" + fasta(text),
}


def test_every_form_of_a_genome_scores_alike(place: Place, double: None) -> None:
    text = sequence(1500) + "N" + sequence(1499, seed=1)
    assert place.genome(place.write(fasta(text)))[0] == 0
    expected = (place.outputs / "x.bw").read_bytes()
    for name, form in FORMS.items():
        code, _, lines = place.genome(place.write(form(text), f"{name}.data"), output=f"{name}.bw")
        assert code == 0, lines
        assert (place.outputs / f"{name}.bw").read_bytes() == expected, name


def test_an_index_that_lies_is_not_believed(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source)[0] == 0
    place.write(b"chr1\t99999\t7\t50\t51\n", "g.fa.fai")
    assert place.genome(source, output="y.bw")[0] == 0
    assert (place.outputs / "x.bw").read_bytes() == (place.outputs / "y.bw").read_bytes()


def test_contigs_without_windows_are_counted_and_skipped(place: Place, double: None) -> None:
    data = GOOD + fasta("ACGT" * 24, "short") + fasta("N" * 500, "unknown") + b">empty\n"
    code, _, lines = place.genome(place.write(data))
    assert code == 0
    assert "mirscan: short 96 0 0 shorter than a window of 100" in [" ".join(line.split()) for line in lines]
    assert any("167 windows on each strand of 2 contigs; 2 skipped" in line for line in lines)
    record = json.loads((place.outputs / "x.run.json").read_text())
    assert (record["windows"], record["scored"], record["not_scored"]) == (167, 292, 42)
    pyBigWig = pytest.importorskip("pyBigWig")
    with pyBigWig.open(str(place.outputs / "x.bw")) as track:
        assert track.chroms() == {"chr1": 3000, "short": 96, "unknown": 500, "empty": 0}
        assert len(track.intervals("chr1")) == 146
        assert track.intervals("unknown") is None


FULL = {"track": (BigWigWriter, "add_intervals"), "calls": (bed, "write_calls"), "unpacked genome": (Spool, "write")}


@pytest.mark.parametrize("which", FULL)
def test_a_full_disk_is_resumable(place: Place, double: None, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    def write(*arguments: object, **options: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "x")

    source = place.write(gzip.compress(GOOD))
    calls = ("--bed", place.outputs / "x.bed", "--gff3", place.outputs / "x.gff3")
    assert place.genome(source, *calls)[0] == 0
    expected = {name: (place.outputs / name).read_bytes() for name in ("x.bw", "x.bed", "x.gff3")}
    shutil.rmtree(place.outputs)
    place.outputs.mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(*FULL[which], write)
        code, _, lines = place.genome(source, *calls)
    assert code == 4
    assert_one_line(lines, "disk full at")
    assert not [name for name in place.written() if name.endswith(".part")]
    for name, data in expected.items():  # whole or not there
        assert not (place.outputs / name).exists() or (place.outputs / name).read_bytes() == data
    assert place.genome(source, *calls)[0] == 0
    assert {name: (place.outputs / name).read_bytes() for name in expected} == expected


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
        pytest.skip("no file system can be mounted here")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("free", [0, 16 << 10, 40 << 10, 100 << 10, 300 << 10])
def test_a_disk_that_is_really_full(place: Place, double: None, small_disk: Path, free: int) -> None:
    source = place.write(gzip.compress(fasta(sequence(200_000))))
    assert place.genome(source, "--part-windows", 1000)[0] == 0
    expected = (place.outputs / "x.bw").read_bytes()
    place.outputs = small_disk
    block = os.statvfs(small_disk)
    (small_disk / "ballast").write_bytes(bytes(block.f_bavail * block.f_frsize - free))
    code, _, lines = place.genome(source, "--part-windows", 1000)
    assert code == 4
    assert_one_line(lines, "disk full")
    assert not [name for name in place.written() if name.endswith((".bw", ".part", ".tmp"))]
    (small_disk / "ballast").unlink()
    assert place.genome(source, "--part-windows", 1000)[0] == 0
    assert (small_disk / "x.bw").read_bytes() == expected


def test_a_model_that_gives_nan(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(Double):
        def submit(self, codes: np.ndarray) -> np.ndarray:
            return np.where(np.arange(len(codes)) == 7, np.nan, super().submit(codes))

    monkeypatch.setattr(run, "Scorer", Broken)
    code, _, lines = place.genome(place.write(GOOD))
    assert code == 1
    assert_one_line(lines, "the model gave nan for the window chr1:61-160 (-); nothing was published")
    assert [name for name in place.written() if "/" not in name] == ["x.bw.store"]


def interrupt(monkeypatch: pytest.MonkeyPatch, target: Any, name: str, number: int, at: int) -> None:
    """Send this process a signal at a certain call of a function."""
    real, calls = getattr(target, name), [0]

    def wrapped(*arguments: Any, **options: Any) -> Any:
        calls[0] += 1
        result = real(*arguments, **options)
        if calls[0] == at:
            os.kill(os.getpid(), number)
        return result

    monkeypatch.setattr(target, name, wrapped)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
@pytest.mark.parametrize(
    ("moment", "at"),
    [("reading", 1), ("scanning", 1), ("scanning", 2), ("writing a part", 1), ("exporting", 1), ("calling", 1)],
)
def test_signals(
    place: Place, double: None, monkeypatch: pytest.MonkeyPatch, moment: str, at: int, number: int, code: int
) -> None:
    before = signal.getsignal(number)
    source = place.write(gzip.compress(GOOD))
    options = ("--part-windows", 100, "--bed", place.outputs / "x.bed")
    target, name = {
        "reading": (Spool, "write"),
        "scanning": (Double, "submit"),
        "writing a part": (ScoreStore, "write"),
        "exporting": (BigWigWriter, "add_intervals"),
        "calling": (finish, "call"),
    }[moment]
    with monkeypatch.context() as patch:
        interrupt(patch, target, name, number, at)
        found, out, lines = place.genome(source, *options)
    assert found == code
    assert out == ""
    assert lines[-1] == "mirscan: stopping; the same command resumes"
    assert signal.getsignal(number) == before
    whole = ["x.bw"] if moment == "calling" else []
    assert [name for name in place.written() if "/" not in name and name != "x.bw.store"] == whole
    assert not [name for name in place.written() if name.endswith((".part", ".tmp"))]
    if moment == "scanning":
        kept = [*(place.outputs / "x.bw.store").glob("partial/*"), *(place.outputs / "x.bw.store").glob("parts/*.json")]
        assert len(kept) in (1, at)  # the batches of the part that was begun, and parts that batches completed
    assert place.genome(source, *options)[0] == 0
    assert place.genome(source, output="y.bw")[0] == 0
    assert (place.outputs / "x.bw").read_bytes() == (place.outputs / "y.bw").read_bytes()


def test_the_same_command_resumes_and_another_is_refused(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source)[0] == 0
    first = (place.outputs / "x.bw").read_bytes()
    code, _, lines = place.genome(source)
    assert code == 0
    assert (place.outputs / "x.bw").read_bytes() == first
    assert json.loads((place.outputs / "x.run.json").read_text())["windows_per_second"] == 0
    for options, field in (
        (("--step", 10), "grid: Grid(window=100, step=20) there, Grid(window=100, step=10) now"),
        (("--regions", "chr1:1-500"), "selection: {'regions': [], "),
        (("--ambiguous", "zero"), "ambiguous: 'skip' there, 'zero' now"),
        (("--part-windows", 50), "part windows: 8192 there, 50 now"),
    ):
        code, _, lines = place.genome(source, *options)
        assert code == 3
        assert_one_line(lines, f"holds another run ({field}")
        assert (place.outputs / "x.bw").read_bytes() == first
    place.write(fasta(sequence(seed=9)))
    code, _, lines = place.genome(source)
    assert code == 3
    assert_one_line(lines, "holds another run (genome digest")
    assert place.genome(source, "--fresh")[0] == 0
    assert (place.outputs / "x.bw").read_bytes() != first
    assert place.genome(source, "--rm-store")[0] == 0
    assert place.written() == ["x.bw", "x.run.json"]


def test_export_and_info(place: Place, double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    store = place.outputs / "s"
    code, out, lines = place.genome(place.write(GOOD), "--store", store, "--per-strand", "--part-windows", 50)
    assert (code, out) == (0, "")
    code, out, lines = place.main("info", store)
    assert (code, lines) == (0, [])
    assert "windows          146\n" in out
    assert "parts missing    0\n" in out
    output = place.outputs / "again.bw"
    code, out, lines = place.main("export", store, "-o", output, "--per-strand", "--bed", "-")
    assert code == 0
    assert len(out.splitlines()) == 2  # a header, and 20 calls per megabase
    for strand in ("", ".plus", ".minus"):
        again = (place.outputs / f"again{strand}.bw").read_bytes()
        assert again == (place.outputs / f"x{strand}.bw").read_bytes()
    before = place.written()

    (store / "parts" / "1.json").unlink()
    code, out, lines = place.main("info", store)
    assert code == 0
    assert "parts missing    1 (1)\n" in out
    code, _, lines = place.main("export", store, "-o", place.outputs / "none.bw")
    assert code == 4
    assert_one_line(lines, "1 of 3 parts are missing or damaged (1)")
    for command in (("info", place.inputs), ("export", place.inputs, "-o", place.outputs / "none.bw")):
        code, _, lines = place.main(*command)
        assert code == 3
        assert_one_line(lines, "is no score store")
    for wrong, expected in (("none.txt", 2), ("-", 2), ("absent/none.bw", 3)):
        output = wrong if wrong == "-" else place.outputs / wrong
        assert place.main("export", store, "-o", output)[0] == expected
    assert place.written() == [name for name in before if name != "s/parts/1.json"]


# ---------------------------------------------------------------- shards of a scan


@pytest.mark.parametrize("shards", [1, 2, 7])
def test_shards_in_any_order_give_the_same_bytes(place: Place, double: None, shards: int) -> None:
    source, store = place.write(GOOD + fasta(sequence(2000, 1), "chr2")), place.outputs / "s"
    kinds = {"--bed": "x.bed", "--gff3": "x.gff3", "--calls-fasta": "x.fa"}
    asked = [word for option, name in kinds.items() for word in (option, place.outputs / name)]
    assert place.genome(source, "--part-windows", 30, "--per-strand", *asked)[0] == 0
    model = ("--model", "mire2e-tiny", "--weights", place.weights, "--store", store, "--part-windows", 30)
    code, out, _ = place.main("plan", source, *model)
    assert (code, out) == (0, f"{store}\t9 parts\n")
    for number in np.random.default_rng(shards).permutation(shards):
        code, _, lines = place.main("genome", source, *model, "--shard", f"{number}/{shards}")
        assert code == 0
        assert lines[-1].endswith(f"shard {number}/{shards} done, {len(range(9)[number::shards])} of 9 parts")
    merged = [word for option, name in kinds.items() for word in (option, place.outputs / f"m{name}")]
    merge = ("merge", store, "-o", place.outputs / "mx.bw", "--per-strand", "--genome", source, *merged)
    assert place.main(*merge)[0] == 0
    for name in (*kinds.values(), "x.bw", "x.plus.bw", "x.minus.bw"):
        assert (place.outputs / f"m{name}").read_bytes() == (place.outputs / name).read_bytes(), name


def test_a_missing_shard_is_named_and_an_interrupted_one_goes_on(
    place: Place, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, store = place.write(GOOD), place.outputs / "s"
    model = ("--model", "mire2e-tiny", "--weights", place.weights, "--store", store, "--part-windows", 30)
    assert place.main("genome", source, *model, "--shard", "0/2")[0] == 0
    code, _, lines = place.main("merge", store, "-o", place.outputs / "x.bw")
    assert code == 4
    assert_one_line(lines, "2 of 5 parts are missing or damaged (1, 3)")
    assert not (place.outputs / "x.bw").exists()

    write = ScoreStore.write

    def killed(store: ScoreStore, part: int, *rest: Any) -> None:
        if part == 3:
            raise KeyboardInterrupt
        write(store, part, *rest)

    with monkeypatch.context() as broken:
        broken.setattr(ScoreStore, "write", killed)
        with pytest.raises(KeyboardInterrupt):
            run.scan_shard(source, options_of(place, store), 1, 2)
    assert ScoreStore.open(store).missing() == [3]
    assert place.main("genome", source, *model, "--shard", "1/2")[0] == 0
    assert place.main("merge", store, "-o", place.outputs / "x.bw")[0] == 0
    assert place.genome(source, "--part-windows", 30, output="y.bw")[0] == 0
    assert (place.outputs / "x.bw").read_bytes() == (place.outputs / "y.bw").read_bytes()


def options_of(place: Place, store: Path) -> Options:
    return Options(model="mire2e-tiny", weights=place.weights, store=str(store), part_windows=30)


def test_workers_on_the_same_parts_write_the_same(place: Place, double: None) -> None:
    source, store = place.write(GOOD), place.outputs / "s"
    with ThreadPoolExecutor(4) as workers:
        for done in workers.map(lambda n: run.scan_shard(source, options_of(place, store), n % 2, 2), range(8)):
            assert done["parts"] == 5
    assert place.main("merge", store, "-o", place.outputs / "x.bw")[0] == 0
    assert place.genome(source, "--part-windows", 30, output="y.bw")[0] == 0
    assert (place.outputs / "x.bw").read_bytes() == (place.outputs / "y.bw").read_bytes()


@pytest.mark.parametrize("shard", ["", "1", "2/2", "-1/2", "0/0", "a/b", "1/2/3"])
def test_no_shard(place: Place, double: None, shard: str) -> None:
    model = ("--model", "mire2e-tiny", "--weights", place.weights)
    code, _, lines = place.main("genome", place.write(GOOD), *model, "--store", place.outputs / "s", f"--shard={shard}")
    assert code == 2
    assert_one_line(lines, "--shard")
    assert place.written() == []


def test_a_shard_writes_the_store_alone(place: Place, double: None) -> None:
    source, store = place.write(GOOD), place.outputs / "s"
    model = ("--model", "mire2e-tiny", "--weights", place.weights, "--shard", "0/2")
    for wrong in (
        ("--store", store, "-o", place.outputs / "x.bw"),
        ("--store", store, "--bed", place.outputs / "x.bed"),
        ("--store", store, "--fresh"),
        (),
    ):
        code, _, lines = place.main("genome", source, *model, *wrong)
        assert code == 2
        assert_one_line(lines, "--shard")
    assert place.main("genome", source)[0] == 2  # neither a track nor a shard
    assert place.written() == []
    assert place.main("genome", source, *model, "--store", store)[0] == 0
    code, _, lines = place.main("genome", source, *model, "--store", store, "--step", 10)
    assert code == 3
    assert_one_line(lines, "holds another run (grid")
    other = place.write(fasta(sequence(seed=9)), "other.fa")
    code, _, lines = place.main("genome", other, *model, "--store", store)
    assert code == 3
    assert_one_line(lines, "holds another run (genome digest")


def test_merging_takes_the_scanned_genome_alone(place: Place, double: None) -> None:
    source, store = place.write(GOOD), place.outputs / "s"
    assert place.genome(source, "--store", store)[0] == 0
    other = place.write(fasta(sequence(seed=9)), "other.fa")
    merge = ("merge", store, "-o", place.outputs / "m.bw")
    code, _, lines = place.main(*merge, "--bed", place.outputs / "m.bed", "--genome", other)
    assert code == 3
    assert_one_line(lines, "not the genome of")
    code, _, lines = place.main(*merge, "--calls-fasta", place.outputs / "m.fa")
    assert code == 2
    assert_one_line(lines, "--genome")
    assert not (place.outputs / "m.bw").exists()


# ---------------------------------------------------------------- the program in a process of its own


def program(*arguments: object, **options: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(PROGRAM), *map(str, arguments)], capture_output=True, text=True, timeout=300, **options)


def command(source: Path | str, output: Path, weights: Path, *options: object) -> list[str]:
    model = ("--model", "mire2e-tiny", "--weights", weights)
    return [str(x) for x in (PROGRAM, "genome", source, "-o", output, *model, *options)]


@pytest.fixture(scope="module")
def scanned(tmp_path_factory: pytest.TempPathFactory, tiny_weights: Path) -> Path:
    """A folder with a genome, g.fa, and its undisturbed scan on one device, g.bw."""
    folder = tmp_path_factory.mktemp("scanned")
    text = sequence(15_000, seed=2)
    (folder / "g.fa").write_bytes(fasta(text[:10_000] + "N" + text[10_000:]))
    line = command(folder / "g.fa", folder / "g.bw", tiny_weights, "--threads", 1)
    done = subprocess.run(line, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert all(line.startswith("mirscan: ") for line in done.stderr.splitlines())
    return folder


@pytest.mark.parametrize(
    ("options", "count"),
    [
        pytest.param(("--threads", 4, "--batch", 256, "--part-windows", 500), 4, marks=pytest.mark.slow),
        pytest.param(("--threads", 2, "--batch", 1, "--part-windows", 100), 2, marks=pytest.mark.slow),
        pytest.param(("--threads", 4, "--devices", 3, "--batch", 16), 3, marks=pytest.mark.slow),
    ],
)
def test_bytes_do_not_depend_on_devices(
    scanned: Path, tmp_path: Path, tiny_weights: Path, options: tuple[object, ...], count: int
) -> None:
    line = command("-", tmp_path / "x.bw", tiny_weights, *options)
    with open(scanned / "g.fa", "rb") as source:  # and not on how the genome comes
        done = subprocess.run(line, stdin=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.bw").read_bytes() == (scanned / "g.bw").read_bytes()
    assert len(json.loads((tmp_path / "x.run.json").read_text())["devices"]) == count


@pytest.mark.slow
def test_two_programs_on_one_store(scanned: Path, tmp_path: Path, tiny_weights: Path) -> None:
    """The one is interrupted and resumed while the other goes on; both end with the same bytes."""
    options = ("--threads", 1, "--part-windows", 150, "--store", tmp_path / "store")
    lines = [command(scanned / "g.fa", tmp_path / f"{n}.bw", tiny_weights, *options) for n in (1, 2)]
    first, second = (subprocess.Popen(line, stderr=subprocess.PIPE, text=True) for line in lines)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("store/parts/*.json")) and time.monotonic() < deadline:
        time.sleep(0.01)
    first.send_signal(signal.SIGTERM)
    error = first.communicate()[1]
    assert first.returncode in (143, 0), error  # 0: it was just done
    done = subprocess.run(lines[0], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    error = second.communicate()[1]
    assert second.returncode == 0, error
    for n in (1, 2):
        assert (tmp_path / f"{n}.bw").read_bytes() == (scanned / "g.bw").read_bytes()


def test_a_pipe_that_stalls_can_be_interrupted(tmp_path: Path, tiny_weights: Path) -> None:
    line = command("-", tmp_path / "x.bw", tiny_weights, "--threads", 1)
    with subprocess.Popen(line, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(">chr1\n" + sequence(50_000))
        process.stdin.flush()
        assert process.stderr.readline() == "mirscan: reading -\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143
        assert process.stderr.read() == "mirscan: stopping; the same command resumes\n"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kills", "bases"), [(3, 20_000), pytest.param(20, 150_000, marks=pytest.mark.slow)])
def test_killed_and_resumed(tiny_weights: Path, kills: int, bases: int) -> None:
    script = Path(__file__).resolve().parents[1] / "benchmarks" / "speed" / "kill_resume.py"
    line = [sys.executable, script, "--weights", tiny_weights, "--kills", kills, "--bases", bases]
    done = subprocess.run(list(map(str, line)), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    result = json.loads(done.stdout)
    assert result["kills"] == kills
    assert result["identical"]


def test_standard_streams_that_are_closed(scanned: Path, tmp_path: Path, tiny_weights: Path) -> None:
    shell = 'exec "$0" "$@"'
    line = command("-", tmp_path / "x.bw", tiny_weights)
    done = subprocess.run(["sh", "-c", shell + " <&-", *line], capture_output=True, text=True)
    assert done.returncode == 3
    assert_one_line(done.stderr.splitlines(), "standard input is closed")
    info = [str(PROGRAM), "info", str(scanned / "g.bw.store")]
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(info, stdout=write, stderr=subprocess.PIPE, text=True)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
    done = subprocess.run(["sh", "-c", shell + " >&- 2>&-", *info], capture_output=True, text=True)
    assert done.returncode in (0, 1)
    assert (done.stdout, done.stderr) == ("", "")


def test_help_and_colour() -> None:
    done = program("--help")
    assert done.returncode == 0
    assert "genome" in done.stdout
    pty = pytest.importorskip("pty")
    for variables, coloured in (({"NO_COLOR": "1"}, False), ({}, True)):
        main, other = pty.openpty()
        clean = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        process = subprocess.Popen(
            [str(PROGRAM), "genome", "--help"], stdout=other, stderr=other, env=clean | variables | {"TERM": "xterm"}
        )
        os.close(other)
        shown = b""
        with contextlib.suppress(OSError):
            while block := os.read(main, 4096):
                shown += block
        os.close(main)
        assert process.wait() == 0
        assert b"--per-strand" in re.sub(rb"\x1b\[[0-9;]*m", b"", shown)
        assert bool(re.search(rb"\x1b\[(?:1;)?3[0-9]", shown)) == coloured
