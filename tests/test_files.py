"""What is written, replaced and removed (mirscan.files): whole files, folders of ours, nothing of the user's."""

from __future__ import annotations

import ast
import errno
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plans import make_plan
from program import GOOD, Place, assert_one_line

from mirscan.checkpoints import weights
from mirscan.errors import InputError
from mirscan.files import temporary
from mirscan.files.atomic import AtomicFile, append_line, write_file
from mirscan.files.folders import claim, empty_folder, remove_folder
from mirscan.files.kinds import DEMO, STORE, TRAINING, WEIGHTS, Kind
from mirscan.files.temporary import host, scratch, sweep, temporary_name
from mirscan.store import ScoreStore
from mirscan.store.places import remove_store
from mirscan.types import Plan

ROOT = Path(__file__).resolve().parents[1]
GONE = (1 << 22) + 1
"""No process of Linux has this number."""


@pytest.fixture
def plan() -> Plan:
    return make_plan()


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, links not followed."""
    return {
        path.relative_to(folder).as_posix(): os.fsencode(os.readlink(path)) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_symlink() or path.is_file()
    }


# ---------------------------------------------------------------------- one place that writes
WRITERS = ("scanner/mirscan/files/", "scanner/mirscan/store/__init__.py")
FORBIDDEN = {
    "os": "remove unlink rmdir removedirs rename renames replace truncate open link symlink mkfifo",
    "shutil": "rmtree move copy copy2 copyfile copytree chown make_archive unpack_archive",
    "tempfile": "TemporaryFile NamedTemporaryFile SpooledTemporaryFile TemporaryDirectory mkstemp mkdtemp",
    "np": "save savez savez_compressed savetxt memmap",
}
METHODS = {"unlink", "rmdir", "rename", "write_text", "write_bytes", "touch", "symlink_to", "hardlink_to", "tofile"}


def writes(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Line and name of every call that removes, renames, or opens for writing."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module in FORBIDDEN:
            banned = set(FORBIDDEN[node.module].split())
            yield from ((node.lineno, alias.name) for alias in node.names if alias.name in banned)
        if not isinstance(node, ast.Call):
            continue
        strings = [x.value for x in [*node.args, *(k.value for k in node.keywords)] if isinstance(x, ast.Constant)]
        modes = [text for text in strings if isinstance(text, str) and re.fullmatch(r"[rwaxbt+]{1,3}", text)]
        if isinstance(node.func, ast.Name) and node.func.id == "open":
            mode = (
                node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
            )
            if mode is not None and not (isinstance(mode, ast.Constant) and re.fullmatch("r[bt]?", str(mode.value))):
                yield node.lineno, "open"
        if not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        if name in FORBIDDEN.get({"numpy": "np"}.get(owner, owner), "").split() or name in METHODS:
            yield node.lineno, f"{owner}.{name}"
        elif name == "replace" and len(node.args) == 1 and not node.keywords:  # of a path: a text's takes two
            yield node.lineno, f"{owner}.replace"
        elif name in ("open", "fdopen") and any(set(mode) & set("wax+") for mode in modes):
            yield node.lineno, f"{owner}.{name}"
        elif name == "save" and "checkpointer" in owner.lower():
            yield node.lineno, f"{owner}.save"


@pytest.mark.parametrize("folder", ["scanner", "kernels", "checkpoints"])
def test_nothing_is_written_or_removed_elsewhere(folder: str) -> None:
    found = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not path.relative_to(ROOT).as_posix().startswith(WRITERS)
        for line, name in writes(ast.parse(path.read_text()))
    ]
    assert found == []


@pytest.mark.parametrize(
    "line",
    [
        "os.remove(x)", "shutil.rmtree(x)", "open(x, 'w')", "open(x, mode)", "path.open('ab')", "gzip.open(x, 'wt')",
        "path.write_text('')", "path.unlink()", "a.replace(b)", "np.save(x, y)", "checkpointer.save(x, y)",
        "from os import replace", "os.fdopen(1, 'wb')", "tempfile.mkstemp()", "open(x, mode='x')",
    ],
)  # fmt: skip
def test_a_call_that_writes_would_be_seen(line: str) -> None:
    assert list(writes(ast.parse(line)))


@pytest.mark.parametrize("line", ["open(x)", "open(x, 'rb')", "text.replace('a', 'b')", "gzip.open(x, 'rt')"])
def test_a_call_that_reads_is_none(line: str) -> None:
    assert not list(writes(ast.parse(line)))


# ---------------------------------------------------------------------- whose a folder is
KINDS = {kind.what: kind for kind in (STORE, WEIGHTS, TRAINING, DEMO)}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_a_folder_is_made_where_nothing_is_or_in_an_empty_one(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    for name in ("absent", "deep/er", "empty", "link"):
        for _ in range(2):  # and over one of ours
            claim(tmp_path / name, kind)
        assert (tmp_path / name).is_dir()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_what_is_not_ours_is_refused(kind: Kind, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("plan.json", ".hidden", "SHA256SUMS", "state"):
        (tmp_path / f"with {name}").mkdir()
        (tmp_path / f"with {name}" / name).write_text("{}")
    before = contents(tmp_path)
    for path, words in [
        ("file", "is a file"),
        ("file/x", "Not a directory"),
        ("dangling", "link to nothing"),
        ("with plan.json", r"it holds plan\.json"),
        ("with .hidden", r"it holds \.hidden"),
        ("with SHA256SUMS", "it holds SHA256SUMS"),
        ("with state", "it holds state"),
        ("n" * 300, "name too long"),
    ]:
        for act in (claim, remove_folder if (tmp_path / path).parent == tmp_path and len(path) < 255 else claim):
            with pytest.raises(InputError, match=words):
                act(tmp_path / path, kind)
    assert contents(tmp_path) == before


def test_links_within_a_folder_of_ours_are_refused(tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "0.json").write_text("dear")
    for name in ("parts", "scores", "known"):
        folder = tmp_path / f"store with {name}"
        claim(folder, STORE)
        (folder / name).symlink_to(tmp_path / "users")
        with pytest.raises(InputError, match=f"{name} is a link"):
            claim(folder, STORE)
        with pytest.raises(InputError, match=f"{name} is a link"):
            remove_folder(folder, STORE)
    assert contents(tmp_path / "users") == {"0.json": b"dear"}


def test_a_store_without_a_mark_is_told_by_its_plan(tmp_path: Path, plan: Plan) -> None:
    ScoreStore.create_or_open(tmp_path / "s", plan)
    (tmp_path / "s" / ".mirscan-store").unlink()
    assert STORE.is_ours(tmp_path / "s")
    remove_store(tmp_path / "s")
    assert not (tmp_path / "s").exists()


def test_removing_takes_our_names_at_every_depth_and_leaves_all_others(tmp_path: Path, plan: Plan, caplog: Any) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    for part in range(plan.parts):
        start, stop = plan.bounds(part)
        store.write(part, np.full((stop - start, 2), 0.5, dtype=np.float32), hairpins=np.zeros(3, dtype="f4"))
    store.save_partial(0, 1, np.zeros((1, 2), dtype=np.float32))
    store.write_known(["a"])
    for name in ("notes.txt", "parts/notes.txt", "scores/c/0/mine", "scores/c/mine/0", "hairpins/x", "tree/d/1"):
        (tmp_path / "s" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "s" / name).write_text(name)
    (tmp_path / "s" / "scores" / "empty folder of the user's").mkdir()
    with caplog.at_level("INFO", "mirscan"):
        remove_store(tmp_path / "s")
    names = ["hairpins/x", "notes.txt", "parts/notes.txt", "scores/c/0/mine", "scores/c/mine/0", "tree/d/1"]
    assert contents(tmp_path / "s") == {name: name.encode() for name in names}
    assert (tmp_path / "s" / "scores" / "empty folder of the user's").is_dir()
    assert caplog.messages == [
        f"{tmp_path / 's'} stays: it holds hairpins, notes.txt, parts and 2 more, which mirscan did not write"
    ]
    with pytest.raises(InputError, match="no score store"):  # it is the user's now
        remove_store(tmp_path / "s")


def test_an_emptied_store_stays_ours(tmp_path: Path, plan: Plan) -> None:
    ScoreStore.create_or_open(tmp_path / "s", plan)
    (tmp_path / "s" / "notes.txt").write_text("keep")
    (tmp_path / "link").symlink_to(tmp_path / "s")
    for url in (tmp_path / "s", tmp_path / "link", f"file://{tmp_path}/s"):
        ScoreStore.create_or_open(url, plan, fresh=True)
    assert sorted(contents(tmp_path / "s")) == [".mirscan-store", "notes.txt", "plan.json", "scores/zarr.json"]
    empty_folder(tmp_path / "absent", STORE)
    assert not (tmp_path / "absent").exists()


def test_everything_that_the_libraries_write_has_a_name_of_ours(tmp_path: Path, plan: Plan) -> None:
    """A new version of TensorStore or Orbax with other names shows here, and not as folders that are never removed."""
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    store.write(0, np.zeros((plan.bounds(0)[1], 2), dtype=np.float32), hairpins=np.zeros(3, dtype="f4"))
    store.save_partial(1, 1, np.zeros((1, 2), dtype=np.float32))
    for name in contents(tmp_path / "s").keys() - {STORE.mark}:
        assert STORE.files.fullmatch(name), name
    weights.save(
        tmp_path / "w", {"a": {"b": np.arange(9)}}, {"model": "m"}, beside={"precursors.npz": {"x": np.ones(2)}}
    )
    for name in contents(tmp_path / "w"):
        assert WEIGHTS.files.fullmatch(name), name


# ---------------------------------------------------------------------- weights, replaced in place
def saved(folder: Path, value: float) -> None:
    weights.save(folder, {"x": np.full(3, value, np.float32)}, {"model": "m"})


def test_what_lies_beside_weights_stays_where_it_is(tmp_path: Path) -> None:
    saved(tmp_path / "w", 1.0)
    own = {name: name.encode() for name in ("README.md", "notes.txt", "tree/notes.txt", "tree-notes/x", ".DS_Store")}
    for name in own:
        (tmp_path / "w" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "w" / name).write_text(name)
    assert weights.restore(tmp_path / "w")["x"][0] == 1.0
    saved(tmp_path / "w", 2.0)
    assert weights.restore(tmp_path / "w")["x"][0] == 2.0
    assert contents(tmp_path / "w").items() >= own.items()
    assert [path.name for path in tmp_path.iterdir()] == ["w"]


def test_a_list_of_somebodys_files_is_no_mark(tmp_path: Path) -> None:
    (tmp_path / "w").mkdir()
    (tmp_path / "w" / "data.csv").write_text("dear")
    (tmp_path / "w" / "SHA256SUMS").write_text(f"{'0' * 64}  data.csv\n")
    before = contents(tmp_path / "w")
    with pytest.raises(InputError, match="no folder of weights"):
        saved(tmp_path / "w", 1.0)
    assert contents(tmp_path / "w") == before


def test_a_list_that_leads_elsewhere_removes_nothing_there(tmp_path: Path) -> None:
    saved(tmp_path / "w", 1.0)
    (tmp_path / "dear").write_text("x")
    (tmp_path / "w" / "mine.npz").write_text("y")
    with open(tmp_path / "w" / "SHA256SUMS", "a") as sums:
        sums.write("".join(f"{'0' * 64}  {name}\n" for name in ("../dear", str(tmp_path / "dear"), "mine.npz")))
    saved(tmp_path / "w", 2.0)
    assert (tmp_path / "dear").read_text() == "x"
    assert (tmp_path / "w" / "mine.npz").read_text() == "y"


@pytest.mark.parametrize("step", range(12))
def test_a_replacement_that_stops_at_any_step_leaves_the_old_weights_or_the_new(
    step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path / "w", 1.0)
    (tmp_path / "w" / "notes.txt").write_text("keep")
    steps = {"left": step}

    def counted(call: Any) -> Any:
        def run(*arguments: Any, **options: Any) -> Any:
            if "w" in map(str, Path(arguments[0]).relative_to(tmp_path).parts):
                steps["left"] -= 1
                if steps["left"] < 0:
                    raise SystemExit
            return call(*arguments, **options)

        return run

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", counted(os.replace))
        patch.setattr(Path, "unlink", counted(Path.unlink))
        patch.setattr(Path, "rmdir", counted(Path.rmdir))
        try:
            saved(tmp_path / "w", 2.0)
        except SystemExit:
            assert steps["left"] < 0
    monkeypatch.setattr(temporary, "_is_gone", lambda process: True)
    assert weights.restore(tmp_path / "w")["x"][0] in (1.0, 2.0)
    saved(tmp_path / "w", 3.0)
    assert weights.restore(tmp_path / "w")["x"][0] == 3.0
    assert {name for name in contents(tmp_path / "w") if not WEIGHTS.files.fullmatch(name)} == {"notes.txt"}


def test_weights_that_are_saved_while_the_process_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, pathlib, numpy as np\nfrom mirscan.checkpoints import weights\n"
        "for n in range(10**6):\n"
        "    weights.save(pathlib.Path(sys.argv[1]), {'x': np.full(4000, n, np.float32)}, {'model': 'm'})\n"
        "    print(n, flush=True)\n"
    )
    folder = tmp_path / "w"
    generator = np.random.default_rng(0)
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", program, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()  # one is whole
        time.sleep(float(generator.uniform(0, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        found = weights.restore(folder)["x"]
        assert len(found) == 4000
        assert np.ptp(found) == 0
    saved(folder, 7.0)
    assert [name for name in contents(folder) if not WEIGHTS.files.fullmatch(name)] == []


# ---------------------------------------------------------------------- temporary names
def left_by(path: Path, process: int, where: str | None = None) -> Path:
    name = temporary_name(path.name).replace(f".{os.getpid()}.", f".{process}.")
    left = path.with_name(name if where is None else name.replace(host(), where))
    left.write_text("part")
    return left


def test_only_what_a_dead_process_of_this_host_left_is_swept(tmp_path: Path) -> None:
    target = tmp_path / "x.bw"
    gone = left_by(target, GONE)
    alive = left_by(target, os.getppid())
    elsewhere = left_by(target, GONE, "elsewhere")
    other = left_by(tmp_path / "y.bw", GONE)
    users = tmp_path / ".x.bw.part"
    users.write_text("mine")
    sweep(tmp_path, [target.name])
    assert not gone.exists()
    assert all(path.exists() for path in (alive, elsewhere, other, users))


def test_a_temporary_name_fits_beside_the_longest_name(tmp_path: Path) -> None:
    for name in ("x" * 252 + ".bw", "é" * 126 + ".bw", "微" * 84 + ".b"):
        with AtomicFile(tmp_path / name) as file:
            file.write(b"whole")
        assert (tmp_path / name).read_bytes() == b"whole"
        left = left_by(tmp_path / name, GONE)
        sweep(tmp_path, [name])
        assert not left.exists()
    with pytest.raises(OSError, match="too long") as raised:
        AtomicFile(tmp_path / ("x" * 300))
    assert raised.value.errno == errno.ENAMETOOLONG


def test_a_folder_of_ours_is_swept_of_every_temporary_name(tmp_path: Path) -> None:
    claim(tmp_path / "run", TRAINING)
    gone, alive = (left_by(tmp_path / "run" / "viennarna.npz", process) for process in (GONE, os.getppid()))
    claim(tmp_path / "run", TRAINING)
    assert not gone.exists()
    assert alive.exists()


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "link"])
def test_standard_output_by_name_goes_on_where_it_is(name: str, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/dev/stdout")
    program = (
        "import sys\nfrom mirscan.files.atomic import write_file\nfrom pathlib import Path\n"
        "print('head', flush=True)\nwrite_file(Path(sys.argv[1]), b'body\\n')\nprint('tail', flush=True)\n"
    )
    (tmp_path / "all").write_text("keep\n")
    with open(tmp_path / "all", "a") as output:
        subprocess.run([sys.executable, "-c", program, name], cwd=tmp_path, stdout=output, check=True)
    assert (tmp_path / "all").read_text() == "keep\nhead\nbody\ntail\n"


def test_a_line_is_added_to_a_new_file(tmp_path: Path) -> None:
    append_line(tmp_path / "log", "one")
    os.link(tmp_path / "log", tmp_path / "snapshot")
    append_line(tmp_path / "log", "two")
    assert (tmp_path / "log").read_text() == "one\ntwo\n"
    assert (tmp_path / "snapshot").read_text() == "one\n"


def test_weights_that_do_not_fit_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import orbax.checkpoint as ocp

    saved(tmp_path / "w", 1.0)

    def full(*arguments: object) -> None:
        raise ValueError("RESOURCE_EXHAUSTED: Failed to write: No space left on device")

    monkeypatch.setattr(ocp.StandardCheckpointer, "save", full)
    with pytest.raises(OSError, match="No space left") as raised:
        saved(tmp_path / "w", 2.0)
    assert raised.value.errno == errno.ENOSPC
    assert weights.restore(tmp_path / "w")["x"][0] == 1.0
    assert [name for name in contents(tmp_path / "w") if not WEIGHTS.files.fullmatch(name)] == []


def test_a_name_that_a_replacement_needs_is_not_the_users(tmp_path: Path) -> None:
    (tmp_path / "w" / ".next.mirscan").mkdir(parents=True)
    (tmp_path / "w" / ".next.mirscan" / "dear").write_text("x")
    with pytest.raises(InputError, match="needs this name for a moment"):
        saved(tmp_path / "w", 1.0)
    assert (tmp_path / "w" / ".next.mirscan" / "dear").read_text() == "x"


def test_scratch_leaves_nothing_and_sweeps_what_was_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    dead = tmp_path / temporary_name("scratch").replace(f".{os.getpid()}.", f".{GONE}.")
    dead.mkdir()
    (dead / "turner.par").write_text("left")
    with scratch() as folder:
        write_file(folder / "1.fa", b">a\nA\n")
        assert folder.parent == tmp_path
    assert list(tmp_path.iterdir()) == []


def test_a_killed_run_of_the_same_command_is_swept(place: Place, double: None) -> None:
    source = place.write(GOOD)
    left = [left_by(place.outputs / name, GONE) for name in ("x.bw", "x.run.json", "calls.bed")]
    others = left_by(place.outputs / "z.bw", GONE)
    code, _, _ = place.genome(source, "--bed", place.outputs / "calls.bed")
    assert code == 0
    assert not any(path.exists() for path in left)
    assert others.exists()


# ---------------------------------------------------------------------- the record of a run
def test_a_record_of_another_run_is_not_replaced(place: Place, double: None) -> None:
    source = place.write(GOOD)
    assert place.genome(source, output="a.bw")[0] == 0
    record = (place.outputs / "a.run.json").read_bytes()
    code, _, lines = place.genome(source, output="a.bedgraph")
    assert code == 3
    assert_one_line(lines, "a.run.json (the record) is the record of a.bw; give -o another name, or remove both")
    assert (place.outputs / "a.run.json").read_bytes() == record
    assert place.genome(source, output="a.bw")[0] == 0  # its own it is
    (place.outputs / "b.run.json").write_text(json.dumps({"species": "mine"}))
    code, _, lines = place.genome(source, output="b.bw")
    assert code == 3
    assert_one_line(lines, "b.run.json (the record) exists and is no record of mirscan")
