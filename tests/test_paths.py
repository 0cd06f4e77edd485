"""One look at all paths (scanner/mirscan/paths.py): no command line makes a user lose a file."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from program import GOOD, Place, assert_one_line, fasta, sequence
from test_files import contents

from mirscan import cli
from mirscan.checkpoints import weights
from mirscan.cluster.driver import scan_batch
from mirscan.cluster.runs import checked, runs_of
from mirscan.errors import InputError, UsageError
from mirscan.files.kinds import STORE, WEIGHTS
from mirscan.paths import Paths
from mirscan.scanning.options import Options
from mirscan.training import from_table

TABLE = "name\tsequence\tlabel\n" + "".join(f"s{n}\t{'ACGU' * 15}\t{n % 2}\n" for n in range(40))


@contextlib.contextmanager
def untouched(folder: Path, *but: str) -> Iterator[None]:
    """Every file that was in a folder has the same bytes afterwards, but those named."""
    before = contents(folder)
    yield
    after = contents(folder)
    for name, data in before.items():
        assert name in but or after.get(name) == data, name


def refused(place: Place, words: str, *arguments: object) -> None:
    """The command ends with 3, one line, and nothing changed."""
    with untouched(place.folder):
        before = contents(place.folder).keys()
        code, out, lines = place.main(*arguments)
        assert code == 3, lines
        assert out == ""
        assert_one_line(lines, words)
        assert len(lines) == 1  # before anything is read
        assert contents(place.folder).keys() == before


def tiny(place: Place) -> list[object]:
    return ["--model", "mire2e-tiny", "--weights", place.weights]


# ---------------------------------------------------------------------- a folder that is not ours
def test_a_store_is_not_made_among_other_files(place: Place, double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(GOOD)
    monkeypatch.chdir(place.inputs)
    scan = ["genome", "g.fa", "-o", "scores.bw", *tiny(place)]
    for more in (["--rm-store"], ["--fresh"], []):
        refused(place, "the store: . is no score store of mirscan: it holds g.fa", *scan, "--store", ".", *more)
        refused(place, "is no score store of mirscan", *scan, "--store", "../in", *more)
    (place.inputs / "results").mkdir()
    (place.inputs / "results" / "notes.txt").write_text("keep")
    scan = ["genome", "g.fa", "-o", "results/scores.bw", *tiny(place), "--store", "results"]
    refused(place, "results is no score store of mirscan: it holds notes.txt", *scan, "--rm-store")
    refused(place, "results is no score store of mirscan: it holds notes.txt", *scan, "--fresh")


def test_what_lies_in_a_store_outlives_it(place: Place, double: None) -> None:
    source, store = place.write(GOOD), place.outputs / "results"
    store.mkdir()  # outputs in the folder of the store: not wise, not forbidden, and safe
    arguments = [source, "--store", store]
    assert place.genome(*arguments, output="results/scores.bw")[0] == 0
    (store / "notes.txt").write_text("keep")
    (store / "parts" / "notes.txt").write_text("keep")
    with untouched(store, "results/scores.bw", *(name for name in contents(store) if "notes" not in name)):
        assert place.genome(*arguments, "--fresh", output="results/scores.bw")[0] == 0
    expected = (store / "scores.bw").read_bytes()
    code, _, lines = place.genome(*arguments, "--rm-store", output="results/scores.bw")
    assert code == 0
    assert sorted(contents(store)) == ["notes.txt", "parts/notes.txt", "scores.bw", "scores.run.json"]
    assert (store / "scores.bw").read_bytes() == expected
    assert [line for line in lines if "stays: it holds notes.txt, parts, scores.bw and 1 more" in line]
    assert place.genome(source, "--rm-store")[0] == 0
    assert not (place.outputs / "x.bw.store").exists()


def test_names_beside_an_output_may_be_the_users(place: Place, double: None) -> None:
    source = place.write(gzip.compress(GOOD))
    names = ["x.bw.store.deleting", "x.bw.spool", "x.bw.store.part", ".x.bw.store.replaced", "x.bw.learning"]
    for name in names:
        (place.outputs / name).mkdir()
        (place.outputs / name / "dear.txt").write_text(name)
    with untouched(place.folder):
        assert place.genome(source, "--fresh")[0] == 0
        assert place.genome(source, "--fresh", "--rm-store")[0] == 0


def test_a_store_of_an_older_version_is_resumed_and_removed(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source)[0] == 0
    (place.outputs / "x.bw.store" / ".mirscan-store").unlink()
    assert place.genome(source)[0] == 0
    (place.outputs / "x.bw.store" / ".mirscan-store").unlink()
    assert place.genome(source, "--rm-store")[0] == 0
    assert not (place.outputs / "x.bw.store").exists()


# ---------------------------------------------------------------------- an output that is something else
def test_an_output_is_no_other_path_of_its_command(place: Place, double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(GOOD)
    place.write(b">known\nACGUACGU\n", "known.fa")
    place.write(b"chr1\t0\t900\n", "regions.bed")
    place.write(b"chr1\t1\n", "alias.tsv")
    monkeypatch.chdir(place.inputs)
    os.link("g.fa", "hard.bed")
    os.symlink("g.fa", "soft.bed")
    reads = ["--regions-file", "regions.bed", "--contig-alias", "alias.tsv", *tiny(place)]
    scan = ["genome", "g.fa", "-o", "x.bw", *reads]
    for option in ("--bed", "--gff3", "--calls-fasta"):
        for path, also in [
            ("g.fa", "g.fa (the genome)"),
            ("./../in/g.fa", "g.fa (the genome)"),
            ("hard.bed", "g.fa (the genome)"),
            ("soft.bed", "g.fa (the genome)"),
            ("regions.bed", "regions.bed (--regions-file)"),
            ("alias.tsv", "alias.tsv (--contig-alias)"),
            ("x.bw", "x.bw (--output)"),
            ("x.minus.bw", "x.minus.bw (--per-strand)"),
            ("x.run.json", "x.run.json (the record)"),
            ("x.bw.store", "x.bw.store (the store)"),
        ]:
            words = f"({option}) is also {also}; give every file a name of its own"
            if path.startswith("x.") and path != "x.bw":  # what is named first is taken first
                words = "; give every file a name of its own"
            refused(place, words, *scan, "--per-strand", option, path)
    refused(place, f"about.json (--bed) lies in {place.weights} (the weights)", *scan, "--bed",
            place.weights / "about.json")  # fmt: skip
    refused(place, "known.fa (--bed) is also known.fa (--known)", "genome", "g.fa", "-o", "x.bw", "--known", "known.fa",
            "--bed", "known.fa")  # fmt: skip
    refused(place, "x.bw (--output) is also x.bw (the store)", *scan, "--store", "x.bw")
    refused(place, "which is to be a file", *scan, "--store", "x.bw/store")
    refused(place, "under a name that is used there", *scan, "--store", place.weights / "tree")
    with open("g.fa", "rb") as source:
        saved = os.dup(0)
        os.dup2(source.fileno(), 0)
        try:
            refused(place, "/dev/stdin (the genome)", "genome", "-", "-o", "x.bw", *tiny(place), "--bed", "g.fa")
        finally:
            os.dup2(saved, 0)
            os.close(saved)


def test_a_table_of_scores_does_not_replace_its_input(place: Place) -> None:
    source = place.write(GOOD)
    refused(place, "is also", "score", source, "--model", "mire2e-tiny", "-o", source, "--weights", place.weights)
    refused(
        place, "the folder", "score", source, "--model", "mire2e-tiny", "-o", "absent/x.tsv", "--weights", place.weights
    )


def test_every_command_refuses_to_write_over_what_it_reads(place: Place, double: None) -> None:
    source, out = place.write(GOOD), place.outputs
    assert place.genome(source)[0] == 0
    store = out / "x.bw.store"
    truth = Path(place.write(b"##gff-version 3\nchr1\t.\tpre_miRNA\t100\t180\t.\t+\t.\tID=a\n", "t.gff3"))
    calls = Path(place.write(b"chr1\t99\t180\ta\t0\t+\t0.5\n", "calls.bed"))
    table = Path(place.write(TABLE.encode(), "t.tsv"))
    refused(place, "is also", "export", store, "-o", out / "y.bw", "--genome", source, "--bed", source)
    refused(place, "under a name that is used there", "merge", store, "-o", out / "y.bw", "--bed", store / "plan.json")
    refused(place, "is also", "fold", truth, "-o", truth)
    refused(place, "is also", "evaluate", calls, truth, "--megabases", "1", "--curve", truth)
    refused(place, "is also", "evaluate", calls, truth, "--megabases", "1", "--curve", calls)
    refused(place, "under a name", "evaluate", store, truth, "--curve", store / "parts" / "0.json")
    refused(place, "is also", "train", "deepmir-seq", "--data", table, "-o", table)
    refused(place, "is also", "adapt", source, "-o", source)
    refused(place, "is also", "adapt", source, "-o", place.weights, "--weights", place.weights)
    refused(place, "is also", "plan", source, "--store", source)
    refused(place, "is a folder", "bench", "--json", out)
    refused(place, "does not exist", "bench", "--json", out / "absent" / "x.json")
    refused(place, "is no demo folder", "demo", "--out", place.inputs)
    refused(place, "is also", "demo", "--out", place.weights, *tiny(place))


def test_two_rows_of_a_manifest_share_nothing_that_is_written(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.inputs)
    place.write(GOOD, "a.fa")
    place.write(fasta(sequence(seed=1)), "b.fa")
    options = Options(model="mire2e-tiny", weights=place.weights)

    def batch(header: str, *rows: str, asked: Options = options) -> None:
        place.write("\n".join([header, *rows, ""]).encode(), "runs.tsv")
        manifest = Path("runs.tsv")
        with untouched(place.folder):
            scan_batch(runs_of(None, manifest, asked), manifest=manifest)

    for words, header, *rows in [
        ("b.fa (--bed of a.fa) is also b.fa (the genome of b.fa)", "genome\toutput\tbed",
         "a.fa\ta.bw\tb.fa", "b.fa\tb.bw\t"),
        ("runs.tsv (--bed of a.fa) is also runs.tsv (--manifest)", "genome\toutput\tbed",
         "a.fa\ta.bw\truns.tsv", "b.fa\tb.bw\t"),
        ("a.run.json (the record of b.fa) is also a.run.json (the record of a.fa)", "genome\toutput",
         "a.fa\ta.bw", "b.fa\ta.bedgraph"),
        ("is also a.bw.store (the store of a.fa)", "genome\toutput\tstore", "a.fa\ta.bw\t", "b.fa\tb.bw\ta.bw.store"),
        ("lies in a.bw.store (the store of a.fa)", "genome\toutput\tstore",
         "a.fa\ta.bw\t", "b.fa\tb.bw\ta.bw.store/parts"),
        ("is no score store", "genome\toutput\tstore", "a.fa\ta.bw\t.", "b.fa\tb.bw\t"),
    ]:  # fmt: skip
        with pytest.raises(InputError) as raised:
            batch(f"{header}", *rows)
        assert words in str(raised.value)
    with pytest.raises(InputError, match=r"a\.plus\.bw \(--per-strand of a\.fa\) is also"):
        batch("genome\toutput", "a.fa\ta.plus.bw", "a.fa\ta.bw", asked=Options(**vars(options) | {"per_strand": True}))


def test_a_strand_of_one_run_is_not_the_track_of_another(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source, output="a.plus.bw")[0] == 0
    refused(place, "a.plus.bw (--per-strand) belongs to another run", "genome", source, "-o", place.outputs / "a.bw",
            "--per-strand", *tiny(place))  # fmt: skip


def test_a_store_that_was_made_for_another_output_is_not_taken(place: Place, double: None) -> None:
    source = place.write(GOOD)
    store = place.outputs / "a.bw.store"
    assert place.genome(source, "--store", store, output="b.bw")[0] == 0
    refused(place, "a.bw.store (the store) keeps the scores of b.bw", "genome", source, "-o", place.outputs / "a.bw",
            "--fresh", *tiny(place))  # fmt: skip
    assert place.genome(source, "--store", store, output="a.bw")[0] == 0  # who names it may have it
    shutil.move(place.outputs, place.folder / "moved")
    place.outputs = place.folder / "moved"
    assert place.genome(source, "--store", place.outputs / "a.bw.store", output="b.bw")[0] == 0


# ---------------------------------------------------------------------- training and adapting
def test_a_training_replaces_no_folder_of_the_users(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.inputs)
    place.write(TABLE.encode(), "t.tsv")
    (place.inputs / "weights").mkdir()
    (place.inputs / "weights" / "thesis.txt").write_text("dear")
    train = ["train", "deepmir-seq", "--data", "t.tsv", "--epochs", "1"]
    refused(place, "--output: . is no training folder of mirscan: it holds t.tsv, weights", *train, "-o", ".")
    refused(place, "it holds thesis.txt", *train, "-o", "weights")
    (place.inputs / "new").mkdir()
    monkeypatch.setattr(from_table, "learn", lambda *arguments, **options: {"x": np.ones(3)})
    assert place.main(*train, "-o", "new")[0] == 0
    (place.inputs / "new" / "notes.txt").write_text("mine")
    (place.inputs / "new" / "weights" / "notes.txt").write_text("mine")
    with untouched(place.folder, *(f"in/new/weights/{name}" for name in weights.listed(Path("new/weights"))),
                   "in/new/weights/SHA256SUMS"):  # fmt: skip
        assert place.main(*train, "-o", "new")[0] == 0
    shutil.rmtree("new/weights")
    Path("new/weights").mkdir()
    Path("new/weights/dear.txt").write_text("mine")
    refused(place, "its weights: new/weights is no folder of weights", *train, "-o", "new")


def test_adapted_weights_replace_no_folder_of_the_users(place: Place) -> None:
    source = place.write(GOOD)
    (place.outputs / "x.bw.adapted").mkdir()
    (place.outputs / "x.bw.adapted" / "dear.txt").write_text("mine")
    refused(place, "--adapt: ", "genome", source, "-o", place.outputs / "x.bw", "--adapt")
    refused(place, "--output: ", "adapt", source, "-o", place.outputs)


def test_a_refused_training_changes_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Path(place.write(TABLE.encode(), "t.tsv"))
    other = Path(place.write(TABLE.replace("ACGU", "ACGG").encode(), "u.tsv"))
    asked = []

    def fit(*arguments: object, **options: object) -> dict[str, object]:
        asked.append(arguments)
        if len(asked) > 1:
            raise UsageError("begun on other examples")
        return {"x": np.ones(3)}

    monkeypatch.setattr(from_table, "learn", fit)
    train = ["train", "deepmirgene", "--fold-with", "hairpins", "--epochs", "1"]
    assert place.main(*train, "--data", table, "-o", place.outputs / "run")[0] == 0
    with untouched(place.folder):
        assert place.main(*train, "--data", other, "-o", place.outputs / "run")[0] == 2
    (place.outputs / "run" / "training").mkdir(exist_ok=True)
    (place.outputs / "run" / "training" / "notes.txt").write_text("mine")
    refused(place, "its training: ", *train, "--data", table, "-o", place.outputs / "run")


# ---------------------------------------------------------------------- what somebody tried
def test_commands_that_read_a_store_remove_nothing(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source)[0] == 0
    store = place.outputs / "x.bw.store"
    truth = place.write(b"##gff-version 3\nchr1\t.\tpre_miRNA\t100\t180\t.\t+\t.\tID=a\n", "t.gff3")
    (place.folder / "docs").mkdir()
    for name in ("0", "thesis.tex"):
        (place.folder / "docs" / name).write_text("dear")
    (store / "partial").rmdir()
    (store / "partial").symlink_to(place.folder / "docs")
    with untouched(place.folder):
        for command in (["export", store, "-o", place.outputs / "y.bw"], ["evaluate", store, truth]):
            assert place.main(*command)[0] == 0
    refused(place, "partial is a link", "genome", source, "-o", place.outputs / "x.bw", *tiny(place))
    (store / "partial").unlink()
    refused(place, "a score store, under a name that is used there", "train", "deepmir-seq", "--data", truth, "-o",
            store / "partial")  # fmt: skip


def test_a_batch_takes_links_as_they_are(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    source = place.write(GOOD)
    (place.folder / "other" / "dir").mkdir(parents=True)
    (place.folder / "link").symlink_to(place.folder / "other" / "dir")
    monkeypatch.chdir(place.folder)
    run = checked(source, Options("link/../x.bw", model="mire2e-tiny", weights=place.weights))  # type: ignore[arg-type]
    assert os.path.realpath(run.url) == str(place.folder / "other" / "x.bw.store")
    _, asked = run.for_worker()
    assert asked.store == run.url
    with pytest.raises(InputError, match="URL that starts with"):
        checked(source, Options("x.bw", store="foo://x", model="mire2e-tiny", weights=place.weights))  # type: ignore[arg-type]


def test_a_demo_replaces_no_genome_of_that_name(place: Place, double: None, monkeypatch: pytest.MonkeyPatch) -> None:
    place.write(GOOD, "demo.fa")
    monkeypatch.chdir(place.inputs)
    assert place.main("genome", "demo.fa", "-o", "demo.bw", *tiny(place))[0] == 0
    refused(place, "--out: . is no demo folder of mirscan", "demo", "--out", ".", *tiny(place))
    refused(place, "unknown model", "demo", "--out", "new", "--model", "nosuch")
    refused(place, "no such checkpoint folder", "demo", "--out", "new", "--weights", "nosuch")


def test_names_that_are_read_or_kept_beside(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source)[0] == 0
    store, other = place.outputs / "x.bw.store", place.folder / "w"
    shutil.copytree(place.weights, other)
    (other / "calibration.json").write_text("{}")
    export = ["export", store, "-o", place.outputs / "y.bw", "--weights", other, "--bed"]
    url = ["export", f"file://{store}", *export[2:]]
    for name in (other / "calibration.json", other / "about.json", store / ".mirscan-store", store / "plan.json"):
        refused(place, "under a name that is used there", *export, name)
        refused(place, "under a name that is used there", *url, name)
    truth = place.write(b"##gff-version 3\nchr1\t.\tpre_miRNA\t100\t180\t.\t+\t.\tID=a\n", "t.gff3")
    refused(place, "under a name", "evaluate", f"file://{store}", truth, "--curve", store / "plan.json")


def test_a_link_to_itself_is_one_line(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place.inputs)
    place.write(GOOD)
    truth = place.write(b"##gff-version 3\nchr1\t.\tpre_miRNA\t100\t180\t.\t+\t.\tID=a\n", "t.gff3")
    os.symlink("loop", "loop")
    for command in (
        ["info", "loop"],
        ["evaluate", "loop", truth, "--megabases", "1"],
        ["export", "loop", "-o", "x.bw"],
        ["genome", "loop", "-o", "x.bw", *tiny(place)],
        ["genome", "g.fa", "-o", "x.bw", *tiny(place), "--store", "loop"],
        ["score", "loop", "-o", "x.tsv", *tiny(place)],
        ["train", "deepmir-seq", "--data", "loop", "-o", "run"],
        ["adapt", "g.fa", "-o", "loop"],
        ["demo", "--out", "loop"],
    ):
        refused(place, "loop", *command)


def test_an_empty_name_is_no_store(place: Place) -> None:
    source = place.write(GOOD)
    for command in (["plan", source], ["genome", source, "--shard", "0/2"], ["genome", source, "-o", "x.bw"]):
        code, _, lines = place.main(*command, *tiny(place), "--store", "")
        assert code == 2
        assert_one_line(lines, "--store: empty")
    code, _, lines = place.main("info", "")
    assert code == 3
    assert_one_line(lines, "--store: empty")


def test_names_that_are_no_utf8_are_refused(place: Place, double: None) -> None:
    source = place.write(GOOD)
    odd = os.fsdecode(bytes(place.outputs) + b"/a\xff")
    refused(place, "UTF-8", "genome", source, "-o", f"{odd}.bw", *tiny(place))
    refused(place, "UTF-8", "plan", source, "--store", odd, *tiny(place))
    refused(place, "UTF-8", "adapt", source, "-o", odd)
    refused(place, "UTF-8", "info", odd)


# ---------------------------------------------------------------------- noticed in time
def test_what_cannot_be_written_is_noticed_before_the_first_window(
    place: Place, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place.outputs)
    source = place.write(GOOD)
    os.symlink("nowhere", "dangling.bed")
    os.symlink("loop.bed", "loop.bed")
    os.symlink("nowhere", "dangling.store")
    Path("folder.bed").mkdir()
    Path("file").write_text("")
    scan = ["genome", source, "-o", "x.bw", *tiny(place)]
    for words, *more in [
        ("dangling.bed is a link to nothing", "--bed", "dangling.bed"),
        ("loop.bed", "--bed", "loop.bed"),
        ("dangling.store is a link to nothing", "--store", "dangling.store"),
        ("folder.bed is a folder", "--bed", "folder.bed"),
        ("the folder absent does not exist", "--bed", "absent/x.bed"),
        ("the folder file does not exist", "--bed", "file/x.bed"),
        ("name too long", "--bed", "x" * 252 + ".bed"),
        ("name too long", "--store", "x" * 256),
        ("Not a directory", "--store", "file/store"),
    ]:
        refused(place, words, *scan, *more)
    refused(place, "name too long", "genome", source, "-o", "x" * 250 + ".bw", *tiny(place))  # its store's
    monkeypatch.setattr("mirscan.formats.bigwig._LONGEST", 1000)
    code, _, lines = place.main(*scan, "--per-strand")
    assert code == 3
    assert_one_line(lines, "x.bw: chr1: 3000 bases, but bigWig coordinates end at 2^32 - 1; use bedGraph")
    assert not os.path.exists("x.bw.store")
    assert place.main("genome", source, "-o", "x.bedgraph", *tiny(place))[0] == 0
    code, _, lines = place.main("export", "x.bedgraph.store", "-o", "y.bw")
    assert code == 3
    assert_one_line(lines, "y.bw: chr1: 3000 bases")


def test_streams_stay_possible(place: Place, double: None) -> None:
    source = place.write(GOOD)
    for name in ("-", "/dev/stdout"):
        assert place.genome(source, "--bed", name)[0] == 0
    assert place.genome(source, "--bed", "/dev/null", "--gff3", "/dev/null")[0] == 0
    os.mkfifo(place.outputs / "pipe")
    reader = os.open(place.outputs / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    assert place.genome(source, "--gff3", place.outputs / "pipe")[0] == 0
    assert os.read(reader, 1 << 16).startswith(b"##gff-version 3")
    os.close(reader)
    os.mkfifo(place.outputs / "pipe.bw")
    refused(place, "a bigWig cannot be written to a pipe", "genome", source, "-o", place.outputs / "pipe.bw",
            *tiny(place))  # fmt: skip


def test_a_removed_store_must_be_local(place: Place) -> None:
    code, _, lines = place.genome(place.write(GOOD), "--store", "s3://bucket/x", "--rm-store")
    assert code == 2
    assert_one_line(lines, "--rm-store: only a local store can be removed")


def test_a_new_option_with_a_path_shows_here() -> None:
    """It must be told to `Paths`, and then be listed here."""
    common = {"weights", "regions_file", "contig_alias", "known", "store"}
    results = {"output", "bed", "gff3", "fasta"}
    told = {
        "genome": {*common, *results},
        "plan": common,
        "batch": {"source", "manifest", *common, *results},
        "adapt": {"output", "weights"},
        "fold": {"output", "regions_file"},
        "demo": {"out", "weights"},
        "_results": {"store", "genome", "weights", *results},
        "info": {"store"},  # only reads
        "evaluate": {"calls", "truth", "curve"},
        "score": {"second", "output", "weights"},
        "train": {"output", "data", "precursors", "genome", "pseudo", "start"},
        "bench": {"json_file"},
    }
    for command in cli.app.registered_commands:
        assert command.callback is not None
        hints = command.callback.__annotations__
        named = {name.removesuffix("_old") for name, hint in hints.items() if "Path" in str(hint)}
        named |= hints.keys() & {"store", "calls"}
        assert named == told.get(command.callback.__name__, set()), command.callback.__name__


def test_two_names_of_one_thing_are_one(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    os.link(tmp_path / "a", tmp_path / "b")
    Paths().reads("one", tmp_path / "a").reads("other", tmp_path / "b").look()
    with pytest.raises(InputError, match=r"b \(out\) is also .*a \(in\)"):
        Paths().reads("in", tmp_path / "a").writes("out", tmp_path / "b").look()
    with pytest.raises(InputError, match="is also"):
        Paths().makes("x", tmp_path / "s", STORE).makes("y", tmp_path / "t" / ".." / "s", STORE).look()
    Paths().makes("x", "s3://bucket/s", STORE).makes("y", "memory://s", STORE).reads_folder("z", None, WEIGHTS).look()
    assert sorted(contents(tmp_path)) == ["a", "b"]
    record = tmp_path / "a.run.json"
    record.write_text(json.dumps({"outputs": ["elsewhere/a.bw"]}))
    Paths().writes_beside("the record", record, Path("a.bw")).look()
