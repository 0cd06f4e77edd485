"""The recurrence by diagonals gives the kernel's values, whatever the bases and however they are cut."""

import logging
import sys

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan import cli
from mirscan.commands.fold import fold_genome
from mirscan.kernels.bases import decode
from mirscan.kernels.hairpins import INF, KEY, MAX_SPAN, scan_hairpins
from mirscan.scanning.options import Options
from mirscan.scanning.run import scan_genome
from mirscan.store import ScoreStore
from mirscan.structure import engines
from mirscan.structure.engines import NUMBA, Engine, choose_engine, device_engine, seconds_per_base
from mirscan.structure.hairpins import contig_hairpins
from mirscan.structure.recurrence_jax import DeviceScan
from mirscan.structure.turner import turner_tables

TABLES = turner_tables()
ONE = tuple(jax.local_devices()[:1])
SMALL = DeviceScan(ONE, chunk=256)


def random_codes(length, seed, weights=(1, 1, 1, 1)):
    weights = np.array(weights) / sum(weights)
    return np.random.default_rng(seed).choice(len(weights), length, p=weights).astype(np.uint8)


def check_equal(scan, codes, *arguments, **options):
    expected = scan_hairpins(codes, TABLES, *arguments, **options)
    found = scan(codes, TABLES, *arguments, **options)
    for name in expected._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=name)
        assert getattr(found, name).dtype == getattr(expected, name).dtype
    return found


@pytest.mark.parametrize("span", [31, 120, *(pytest.param(span, marks=pytest.mark.slow) for span in (5, MAX_SPAN))])
@pytest.mark.parametrize("weights", [(1, 1, 1, 1), (1, 3, 3, 1, 0.2, 0.1)], ids=["ACGU", "GC-rich, with N"])
def test_equals_the_kernel(span, weights):
    found = check_equal(SMALL, random_codes(1000, span, weights), span)
    assert span < 31 or found.opened.min() < -500


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.one_of(st.integers(1, 60), st.integers(300, 700)),
    st.sampled_from([31, 120]),
    st.integers(0, 30),
    st.data(),
)
def test_any_piece_equals_the_kernels(seed, length, span, compactness, data):
    codes = random_codes(length, seed, (3, 2, 3, 3, 0.2, 0.1))
    first = data.draw(st.integers(0, len(codes)))
    last = data.draw(st.integers(first, len(codes)))
    check_equal(SMALL, codes, span, first, last, compactness=compactness)


def test_every_kind_of_loop_in_stable_hairpins():
    stem = "GGGCGCAGGC"
    turned = stem[::-1].translate(str.maketrans("ACGU", "UGCA"))
    for loop in ("AAA", "CAACG", "GUUAC", "GAAA", "CUACGG", "ACAGUACU", "ACAGUGUU", "AAAAAAAAAAAAAAA"):
        texts = [
            stem[:5] + "A" * a + stem[5:] + loop + turned[:5] + "C" * b + turned[5:]
            for a in range(10)
            for b in range(10)
        ]
        codes = np.array(["ACGU".index(x) for x in ("A" * 30).join(texts)], dtype=np.uint8)
        check_equal(SMALL, codes, 120)


def test_a_perfect_stem_of_the_longest_span_stays_in_range():
    for unit in ("G", "GC", "AU"):
        arm = (unit * 98)[:98]
        text = arm + "AAAA" + arm[::-1].translate(str.maketrans("ACGU", "UGCA"))
        codes = np.array(["ACGU".index(x) for x in text], dtype=np.uint8)
        assert check_equal(SMALL, codes, MAX_SPAN).windows[0] < -5000


def test_no_value_depends_on_the_chunk_or_on_the_device():
    devices = tuple(jax.local_devices())
    assert len(devices) == 2
    codes = random_codes(900, 11)
    codes[380:420:7] = 4
    check_equal(SMALL, codes, 31)
    check_equal(DeviceScan(devices, chunk=200), codes, 31)


def test_nothing_is_found_in_nothing():
    check_equal(SMALL, np.empty(0, dtype=np.uint8), 31)
    found = check_equal(SMALL, np.full(300, 4, dtype=np.uint8), 31)
    assert not found.windows.any()
    assert (found.centres == INF * KEY).all()


@pytest.mark.parametrize(("span", "first", "last"), [(4, 0, 9), (MAX_SPAN + 1, 0, 9), (50, 5, 4), (50, 0, 11)])
def test_ranges_are_checked(span, first, last):
    with pytest.raises(ValueError, match=str(span if span != 50 else last)):
        SMALL(np.zeros(10, dtype=np.uint8), TABLES, span, first, last)


def test_a_short_piece_stays_on_the_host():
    class NoDevice:
        pass

    codes = random_codes(500, 4)
    check_equal(DeviceScan((NoDevice(),), chunk=256, short=501), codes, 31)
    with pytest.raises(Exception, match="NoDevice"):
        DeviceScan((NoDevice(),), chunk=256, short=500)(codes, TABLES, 31)


def test_the_hairpins_of_a_genome_are_the_same():
    codes = random_codes(6000, 5, (3, 2, 2, 3, 0.02))
    expected = contig_hairpins(codes)
    found = contig_hairpins(codes, engine=Engine(SMALL, 1500))
    assert expected.size > 50
    for name in expected._fields:
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))


@pytest.fixture
def counted(monkeypatch):
    """Every device engine is a small one that notes the rows it is asked for."""
    asked = []

    def scan(codes, tables, span, first, last, *rest):
        asked.append(last - first)
        return SMALL(codes, tables, span, first, last, *rest)

    monkeypatch.setattr(engines, "device_engine", lambda limit=None: Engine(scan, 1500))
    return asked


CONTIGS = random_codes(4000, 6, (3, 2, 2, 3, 0.02)), random_codes(500, 7)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "g.fa"
    path.write_text("".join(f">c{number}\n{decode(codes).decode()}\n" for number, codes in enumerate(CONTIGS)))
    return path


@pytest.mark.parametrize("suffix", [".bedgraph", ".gff3"])
def test_mirscan_fold_writes_the_same_bytes(genome, tmp_path, counted, suffix):
    (expected,) = fold_genome(genome, tmp_path / f"x{suffix}", threads=1)
    assert not counted
    (found,) = fold_genome(genome, tmp_path / f"y{suffix}", threads=2, engine="jax")
    assert len(counted) == 2 * 4  # both strands of three tiles and one
    assert max(counted) < 2000
    assert found.read_bytes() == expected.read_bytes()


def test_the_command_names_the_engine(genome, tmp_path, counted, monkeypatch, capsys):
    def end(*arguments):
        monkeypatch.setattr(sys, "argv", ["mirscan", *map(str, arguments)])
        monkeypatch.setattr(logging.root, "handlers", [])
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code or 0

    assert end("fold", genome, "-o", tmp_path / "x.bed", "--recurrence", "jax") == 0
    assert len(counted) == 2 * 4
    for command in ("fold", "genome"):
        assert end(command, genome, "-o", tmp_path / "y.bw", "--recurrence", "cuda") == 2
        assert "--recurrence cuda: choose numba, jax" in capsys.readouterr().err


def test_a_scan_finds_the_same_hairpins(genome, tmp_path, counted, duplex_weights):
    output = tmp_path / "x.bedgraph"
    scan_genome(genome, Options(output=output, weights=duplex_weights, hairpins="jax"))
    assert len(counted) == 2 * 4
    table = ScoreStore.open(f"{output}.store").read_hairpins(0)
    expected = [contig_hairpins(codes) for codes in CONTIGS]
    assert len(table) > 30
    for name, column in (("start", "starts"), ("end", "ends"), ("minus", "minus"), ("energy", "energies")):
        np.testing.assert_array_equal(table[name], np.concatenate([getattr(found, column) for found in expected]))


def test_cores_compute_what_accelerators_would_not_do_faster(monkeypatch):
    assert choose_engine() is NUMBA
    assert choose_engine(bases=10**9) is NUMBA  # the devices here are cores
    assert choose_engine("numba", bases=10**9) is NUMBA
    assert choose_engine("jax") == device_engine()
    with pytest.raises(ValueError, match="cuda"):
        choose_engine("cuda")
    asked = []
    monkeypatch.setattr(engines, "_devices_are_faster", lambda threads, limit: asked.append(threads) or threads < 8)
    assert choose_engine(bases=10**9, threads=2) == device_engine()
    assert choose_engine(bases=10**9, threads=8) is NUMBA
    assert choose_engine(bases=10**6, threads=2) is NUMBA
    assert asked == [2, 8]


def test_devices_are_chosen_by_the_clock(monkeypatch):
    from mirscan import devices

    monkeypatch.setattr(devices, "backend", lambda: "gpu")
    seconds = {"devices": 3e-9, "cores": 8e-9}
    monkeypatch.setattr(engines, "seconds_per_base", lambda engine: seconds["cores" if engine is NUMBA else "devices"])
    assert device_engine().piece < 1 << 20
    assert engines._devices_are_faster.__wrapped__(5, None)  # two devices against five cores: 1.5 against 1.6
    assert not engines._devices_are_faster.__wrapped__(6, None)


def test_an_engine_is_timed_after_it_has_run_once():
    calls = []
    assert 0 < seconds_per_base(Engine(lambda codes, tables: calls.append(len(codes)), 100)) < 1
    assert calls == [100, 100, 100]
