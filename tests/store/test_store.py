"""The score store: what is done is known for certain, whatever happened to the folder."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from plans import make_plan

from mirscan.errors import IncompleteError, InputError
from mirscan.store import ScoreStore
from mirscan.store.places import explained, remove_store
from mirscan.types import Plan


def scores_of(plan: Plan, part: int) -> np.ndarray:
    start, stop = plan.bounds(part)
    scores = np.random.default_rng(part).random((stop - start, 2), dtype=np.float32)
    scores[::5, 1] = np.nan
    scores[1, 0] = 0.0
    return scores


def fill(store: ScoreStore, parts: range | list[int] | None = None) -> None:
    for part in range(store.plan.parts) if parts is None else parts:
        store.write(part, scores_of(store.plan, part), seconds=1.5)


def test_round_trip(tmp_path: Path) -> None:
    plan = make_plan()
    assert plan.parts == 5
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    assert store.missing() == [0, 1, 2, 3, 4]
    fill(store)
    again = ScoreStore.open(tmp_path / "s")
    assert again.plan.difference(plan) == "selection: {'regions': []} there, {'regions': ()} now"  # JSON has no tuples
    assert dataclasses.replace(again.plan, selection=plan.selection) == plan
    assert again.missing() == again.missing(verify=False) == []
    again.finish()
    for part, scores in again.iter_scores():
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(scores, scores_of(plan, part))
        np.testing.assert_array_equal(again.read(part), scores)
    # A tuple in `selection` does not make the same command a stranger.
    assert ScoreStore.create_or_open(tmp_path / "s", plan).missing() == []


def test_zarr_python_reads_the_same(tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    plan = make_plan()
    fill(ScoreStore.create_or_open(tmp_path / "s", plan))
    expected = np.concatenate([scores_of(plan, part) for part in range(plan.parts)])
    np.testing.assert_array_equal(zarr.open_array(tmp_path / "s" / "scores", mode="r")[:], expected)


def test_a_part_without_any_score_is_done(tmp_path: Path) -> None:
    """TensorStore writes no chunk that equals the fill value; the mark alone says that the part was scanned."""
    plan = make_plan()
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    fill(store)
    store.write(1, np.full((16, 2), np.nan, dtype=np.float32))
    assert not (tmp_path / "s/scores/c/1/0").exists()
    assert store.missing() == []
    assert np.isnan(store.read(1)).all()


def test_nan_patterns_are_one(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    odd = np.full((16, 2), 0xFFC00001, dtype=np.uint32).view(np.float32)
    store.write(0, odd)
    assert store.missing() == [1, 2, 3, 4]


def test_zero_is_a_score(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    store.write(0, np.zeros((16, 2), dtype=np.float32))
    np.testing.assert_array_equal(store.read(0), 0)
    assert store.summary()["scored"] == 32


@pytest.mark.parametrize("shape", [(15, 2), (16, 1), (16,), (2, 16)])
def test_wrong_shapes_are_refused(tmp_path: Path, shape: tuple[int, ...]) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    with pytest.raises(ValueError, match="expected"):
        store.write(0, np.zeros(shape, dtype=np.float32))
    assert store.missing() == [0, 1, 2, 3, 4]


def test_infinity_and_foreign_parts_are_refused(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    scores = np.zeros((16, 2), dtype=np.float32)
    scores[3, 1] = -np.inf
    with pytest.raises(ValueError, match="window 19"):
        store.write(1, scores)
    for part in (-1, 5):
        with pytest.raises(ValueError, match="parts 0 to 4"):
            store.read(part)


def damage_bit_flip(store: Path) -> None:
    chunk = store / "scores/c/2/0"
    data = bytearray(chunk.read_bytes())
    data[len(data) // 2] ^= 4
    chunk.write_bytes(data)


def damage_truncated(store: Path) -> None:
    chunk = store / "scores/c/2/0"
    chunk.write_bytes(chunk.read_bytes()[:-9])


def damage_emptied(store: Path) -> None:
    (store / "scores/c/2/0").write_bytes(b"")


def damage_zero_bytes(store: Path) -> None:
    chunk = store / "scores/c/2/0"
    chunk.write_bytes(bytes(len(chunk.read_bytes())))


def damage_deleted_chunk(store: Path) -> None:
    (store / "scores/c/2/0").unlink()


def damage_other_chunk(store: Path) -> None:
    (store / "scores/c/2/0").write_bytes((store / "scores/c/1/0").read_bytes())


def damage_deleted_mark(store: Path) -> None:
    (store / "parts/2.json").unlink()


def damage_torn_mark(store: Path) -> None:
    mark = store / "parts/2.json"
    mark.write_bytes(mark.read_bytes()[:20])


def damage_mark_of_another_plan(store: Path) -> None:
    mark = store / "parts/2.json"
    text = mark.read_text()
    digest = text.split('"plan": "')[1][:64]
    mark.write_text(text.replace(digest, "0" * 64))


@pytest.mark.parametrize(
    "damage",
    [value for name, value in sorted(globals().items()) if name.startswith("damage_")],
    ids=lambda f: f.__name__,
)
def test_damage_is_found_and_mended(tmp_path: Path, damage: object) -> None:
    plan = make_plan()
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    fill(store)
    damage(tmp_path / "s")  # type: ignore[operator]
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    assert store.missing() == [2]
    assert store.summary()["parts_missing"] == [2]
    for use in (store.finish, lambda: store.read(2), lambda: list(store.iter_scores())):
        with pytest.raises(IncompleteError, match=r"1 of 5 parts .*\(2\)"):
            use()
    fill(store, [2])
    assert store.missing() == []
    np.testing.assert_array_equal(store.read(2), scores_of(plan, 2))


def test_a_chunk_without_its_mark_is_scanned_again(tmp_path: Path) -> None:
    """What a kill between the two writes of a part leaves behind."""
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    store._array[0:16].write(scores_of(store.plan, 0)).result()
    assert (tmp_path / "s/scores/c/0/0").is_file()
    assert store.missing() == store.missing(verify=False) == [0, 1, 2, 3, 4]


def test_finish_names_the_first_missing(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan(part_windows=4))
    fill(store, [1])
    with pytest.raises(IncompleteError, match=r"17 of 18 parts are missing or damaged \(0, 2, 3, 4, 5, …\)"):
        store.finish()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"model": "n"}, "model: 'm' there, 'n' now"),
        ({"genome_digest": "e"}, "genome digest"),
        ({"part_windows": 8}, "part windows"),
        ({"precision": "bfloat16"}, "precision"),
        ({"selection": {"regions": ["c0"]}}, "selection"),
    ],
)
def test_another_plan_is_refused(tmp_path: Path, changes: dict[str, object], field: str) -> None:
    fill(ScoreStore.create_or_open(tmp_path / "s", make_plan()))
    with pytest.raises(InputError, match=field) as error:
        ScoreStore.create_or_open(tmp_path / "s", make_plan(**changes))  # type: ignore[arg-type]
    assert "--fresh" in str(error.value)
    assert ScoreStore.open(tmp_path / "s").missing() == []


def test_the_path_of_the_genome_may_change(tmp_path: Path) -> None:
    fill(ScoreStore.create_or_open(tmp_path / "s", make_plan()))
    assert ScoreStore.create_or_open(tmp_path / "s", make_plan(genome="elsewhere/g.fa.gz")).missing() == []


def test_racing_creators(tmp_path: Path) -> None:
    plans = [make_plan(genome=f"{i}.fa") for i in range(8)]
    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(lambda plan: ScoreStore.create_or_open(tmp_path / "s", plan), plans))
    assert len({store.plan.genome for store in stores}) == 1
    fill(stores[0])
    assert all(store.missing() == [] for store in stores)


def test_racing_creators_with_different_plans(tmp_path: Path) -> None:
    def create(model: str) -> str:
        try:
            return ScoreStore.create_or_open(tmp_path / "s", make_plan(model=model)).plan.model
        except InputError:
            return ""

    with ThreadPoolExecutor(6) as pool:
        won = set(pool.map(create, "abcdef"))
    assert len(won) == 2
    assert ScoreStore.open(tmp_path / "s").plan.model in won


def test_two_writers_of_a_part(tmp_path: Path) -> None:
    plan = make_plan()
    stores = [ScoreStore.create_or_open(tmp_path / "s", plan) for _ in range(2)]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, stores))
    assert stores[0].missing() == stores[1].missing() == []
    # Writers that disagree (a broken machine) leave either one whole part or a missing one, never a mixture.
    stores[0]._array[0:16].write(np.zeros((16, 2), dtype=np.float32)).result()
    assert stores[1].missing() == [0]


def test_partial_round_trip(tmp_path: Path) -> None:
    plan = make_plan()
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    assert store.load_partial(1) is None
    store.save_partial(1, 2, scores_of(plan, 1)[:8])
    batches, scores = ScoreStore.open(tmp_path / "s").load_partial(1) or (0, np.empty(0))
    assert batches == 2
    np.testing.assert_array_equal(scores, scores_of(plan, 1)[:8])
    assert scores.flags.writeable
    assert store.missing() == [0, 1, 2, 3, 4]
    store.write(1, scores_of(plan, 1))
    assert store.load_partial(1) is None
    assert list((tmp_path / "s/partial").iterdir()) == []


def test_a_damaged_partial_is_none(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    store.save_partial(1, 2, scores_of(store.plan, 1)[:8])
    path = tmp_path / "s/partial/1"
    whole = path.read_bytes()
    for data in (whole[:-1], whole[:-5] + b"x" + whole[-4:], whole[:10], b""):
        path.write_bytes(data)
        assert store.load_partial(1) is None
    path.write_bytes(whole)
    (tmp_path / "s/partial/2").write_bytes(whole)
    assert store.load_partial(1) is not None
    assert store.load_partial(2) is None
    with pytest.raises(ValueError, match="at most 16 rows"):
        store.save_partial(1, 9, np.zeros((17, 2), dtype=np.float32))


def test_finish_drops_partials(tmp_path: Path) -> None:
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan())
    fill(store)
    store.save_partial(1, 2, scores_of(store.plan, 1)[:8])
    (tmp_path / "s/partial/notes.txt").write_text("mine")
    store.finish()
    assert store.load_partial(1) is not None  # commands that only read remove nothing
    store.drop_partials()
    assert [path.name for path in (tmp_path / "s/partial").iterdir()] == ["notes.txt"]


def test_fresh_starts_over(tmp_path: Path) -> None:
    fill(ScoreStore.create_or_open(tmp_path / "s", make_plan()))
    store = ScoreStore.create_or_open(tmp_path / "s", make_plan(model="n"), fresh=True)
    assert store.missing() == [0, 1, 2, 3, 4]
    assert [path.name for path in tmp_path.iterdir()] == ["s"]
    ScoreStore.create_or_open(tmp_path / "new", make_plan(), fresh=True)


def test_fresh_mends_a_plan_that_cannot_be_read(tmp_path: Path) -> None:
    fill(ScoreStore.create_or_open(tmp_path / "s", make_plan()))
    for damage in (b"{", b"\xff\xfe", b"{}", b'{"format_version": 99}'):
        (tmp_path / "s/plan.json").write_bytes(damage)
        for use in (ScoreStore.open, lambda url: ScoreStore.create_or_open(url, make_plan())):
            with pytest.raises(InputError, match="plan"):
                use(tmp_path / "s")
    ScoreStore.create_or_open(tmp_path / "s", make_plan(), fresh=True)


def test_fresh_deletes_no_other_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.txt").write_text("dear")
    for name in ("home", "home/thesis.txt"):
        with pytest.raises(InputError, match="no score store"):
            ScoreStore.create_or_open(tmp_path / name, make_plan(), fresh=True)
    for name in ("plan.json", "genome.codes"):
        (home / name).write_text("{}")
    with pytest.raises(InputError, match="no score store"):
        remove_store(home)
    assert (home / "thesis.txt").read_text() == "dear"
    with pytest.raises(InputError, match="local"):
        remove_store("gs://bucket/s")


def test_what_is_no_store(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputError, match="no score store"):
            ScoreStore.open(path)
    assert not (tmp_path / "absent").exists()
    with pytest.raises(InputError, match="URL"):
        ScoreStore.create_or_open("http://host/s", make_plan())


def test_a_foreign_array_is_refused(tmp_path: Path) -> None:
    store = tmp_path / "s"
    fill(ScoreStore.create_or_open(store, make_plan()))
    metadata = store / "scores/zarr.json"
    text = metadata.read_text()
    for damage in (text.replace("16", "8", 1), text[:-30], ""):
        metadata.write_text(damage)
        for use in (ScoreStore.open, lambda url: ScoreStore.create_or_open(url, make_plan())):
            with pytest.raises(InputError, match="array"):
                use(store)
    metadata.unlink()
    with pytest.raises(InputError, match="array"):
        ScoreStore.open(store)
    assert ScoreStore.create_or_open(store, make_plan()).missing() == []


def test_an_unwritable_place_is_bad_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="file"):
        ScoreStore.create_or_open(tmp_path / "file/s", make_plan())
    with pytest.raises(InputError, match="file"):
        ScoreStore.create_or_open(tmp_path / "file", make_plan())
    if os.getuid():
        (tmp_path / "closed").mkdir(mode=0o555)
        with pytest.raises(InputError, match="closed"):
            ScoreStore.create_or_open(tmp_path / "closed/s", make_plan())


def test_a_full_disk_is_named() -> None:
    with pytest.raises(IncompleteError, match="disk full at here; free space"), explained("here"):
        raise ValueError("RESOURCE_EXHAUSTED: Failed writing: No space left on device [os_error_code='28']")
    with pytest.raises(ValueError, match="else"), explained("here"):
        raise ValueError("INTERNAL: something else")


def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """A small file system, where this process may mount one; the scan resumes once there is room."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128k", "tmpfs", str(place)]
    if sys.platform != "linux" or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        plan = make_plan(lengths=(2_000_000,), part_windows=8192)
        store = ScoreStore.create_or_open(place / "s", plan)
        store.write(0, scores_of(plan, 0))
        with pytest.raises(IncompleteError, match="disk full"):
            fill(store)
        assert store.missing()[0] > 0
        subprocess.run([*mount[:4], "remount,size=4m", *mount[5:]], check=True)
        fill(store, store.missing())
        store.finish()
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_summary(tmp_path: Path) -> None:
    plan = make_plan()
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    fill(store, [0, 4])
    expected = [scores_of(plan, part) for part in (0, 4)]
    summary = store.summary()
    assert summary["parts"] == 5
    assert summary["parts_done"] == 2
    assert summary["parts_missing"] == [1, 2, 3]
    assert summary["scored"] == sum(int(np.isfinite(scores).sum()) for scores in expected)
    assert summary["not_scored"] == sum(int(np.isnan(scores).sum()) for scores in expected)
    assert summary["seconds"] == 3.0
    assert (summary["model"], summary["window"], summary["step"]) == ("m", 100, 20)


def test_memory_store() -> None:
    fill(ScoreStore.create_or_open("memory://a-store", make_plan()))
    store = ScoreStore.open("memory://a-store/")
    store.finish()
    with pytest.raises(InputError, match="model"):
        ScoreStore.create_or_open("memory://a-store", make_plan(model="n"))


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(0, 700), min_size=1, max_size=6),
    part_windows=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_any_order_of_writes(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], part_windows: int, seed: int
) -> None:
    plan = make_plan(tuple(lengths), part_windows)
    store = ScoreStore.create_or_open(tmp_path_factory.mktemp("h") / "s", plan)
    rng = np.random.default_rng(seed)
    todo = set(range(plan.parts))
    scores = rng.choice(np.array([0, 1, 0.5, np.nan], dtype=np.float32), (plan.windows, 2))
    for part in rng.permutation(plan.parts).tolist():
        assert store.missing(verify=False) == sorted(todo)
        store.write(part, scores[slice(*plan.bounds(part))])
        todo.remove(part)
    store.finish()
    read = [part_scores for _, part_scores in store.iter_scores()]
    np.testing.assert_array_equal(np.concatenate([np.empty((0, 2), np.float32), *read]), scores)


def test_hairpins_come_back_and_their_damage_is_noticed(tmp_path: Path) -> None:
    plan = make_plan()
    store = ScoreStore.create_or_open(tmp_path / "s", plan)
    table = np.array(
        [(5, 80, 0, 0.25), (40, 99, 1, 0.5)], dtype=[("start", "i8"), ("end", "i8"), ("strand", "u1"), ("score", "f4")]
    )
    store.write(0, scores_of(plan, 0), hairpins=table)
    store.write(1, scores_of(plan, 1), hairpins=table[:0])
    assert np.array_equal(store.read_hairpins(0), table)
    assert len(store.read_hairpins(1)) == 0
    assert 0 not in store.missing()
    path = tmp_path / "s" / "hairpins" / "0"
    broken = bytearray(path.read_bytes())
    broken[-1] ^= 1
    path.write_bytes(broken)
    assert 0 in store.missing()
    assert 1 not in store.missing()
    with pytest.raises(IncompleteError):
        store.read_hairpins(0)
