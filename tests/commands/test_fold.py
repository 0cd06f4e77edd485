"""`mirscan fold`: energies over each base and lists of hairpins, against plain loops, whole or in any pieces."""

from __future__ import annotations

import gzip
import logging
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np
import pybigtools
import pyBigWig
import pytest
import RNA
from hypothesis import given, settings
from hypothesis import strategies as st

from mirscan import cli
from mirscan.commands import fold
from mirscan.commands.fold import UNKNOWN, fold_genome, strand_energies, tile_hairpins
from mirscan.errors import InputError, UsageError
from mirscan.kernels.bases import encode, reverse_complement
from mirscan.kernels.hairpins import scan_hairpins
from mirscan.kernels.tracks import lay_over
from mirscan.structure.hairpins import contig_hairpins
from mirscan.structure.turner import turner_tables

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def sequence(length: int, seed: int, arm: int = 30) -> str:
    """Random bases with a perfect hairpin every thousand."""
    text = "".join(np.random.default_rng(seed).choice(list("ACGT"), length))
    for at in range(300, length - 100, 1000):
        text = text[:at] + text[at : at + arm] + "TTCAAGA" + text[at : at + arm][::-1].translate(COMPLEMENT) + text[at:]
    return text[:length]


CONTIGS = {
    "one": sequence(2500, 1),
    "empty": "",
    "two": "N" * 130 + sequence(700, 2) + "NNRN" + sequence(900, 3) + "N" * 40,
    "tiny": "ACGTA",
    "three": sequence(400, 4),
}


def codes_of(text: str) -> np.ndarray:
    return encode(np.frombuffer(text.encode(), dtype=np.uint8))


def write_genome(folder: Path, contigs: dict[str, str] | None = None, name: str = "g.fa") -> Path:
    lines = [f">{name}\n{text}\n" for name, text in (CONTIGS if contigs is None else contigs).items()]
    (folder / name).write_text("".join(lines))
    return folder / name


@pytest.fixture
def genome(tmp_path: Path) -> Path:
    return write_genome(tmp_path)


def slow_energies(codes: np.ndarray, span: int) -> np.ndarray:
    """Both strands, kcal/mol; NaN where ambiguous: every base's best stem-loop, base by base."""
    lowest = np.zeros((2, len(codes)))
    for strand, bases in enumerate((codes, reverse_complement(codes))):
        for i in range(len(codes)):
            scan = scan_hairpins(bases, turner_tables(), span, i, i + 1)
            for k in range(i, i + int(scan.lengths[0])):
                at = len(codes) - 1 - k if strand else k
                lowest[strand, at] = min(lowest[strand, at], int(scan.opened[0]) / 100)
    lowest[:, codes >= 4] = np.nan
    return lowest


def read_track(path: Path) -> dict[str, np.ndarray]:
    """Values base by base, as pyBigWig and pybigtools agree on them; NaN where absent."""
    found = {}
    with pyBigWig.open(str(path)) as track:
        other = pybigtools.open(str(path))
        for name, length in track.chroms().items():
            found[name] = np.full(length, np.nan, dtype=np.float32)
            items = list(track.intervals(name) or ()) if length else []  # pyBigWig knows no interval of no bases
            for start, end, value in items:
                found[name][start:end] = value
            assert [tuple(item) for item in other.records(name)] == items
    return found


def read_rows(path: Path) -> list[list[str]]:
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.name.endswith(".gz") else data).decode()
    return [line.split("\t") for line in text.splitlines() if not line.startswith("#")]


@pytest.mark.parametrize("span", [40, 75])
def test_a_track_has_the_lowest_stem_loop_over_each_base(tmp_path: Path, genome: Path, span: int) -> None:
    files = fold_genome(genome, tmp_path / "x.bw", span=span, per_strand=True, threads=1)
    assert [path.name for path in files] == ["x.bw", "x.plus.bw", "x.minus.bw"]
    best, plus, minus = map(read_track, files)
    assert list(best) == list(CONTIGS)
    for name, text in CONTIGS.items():
        expected = slow_energies(codes_of(text), span).astype(np.float32)
        np.testing.assert_array_equal(plus[name], expected[0])
        np.testing.assert_array_equal(minus[name], expected[1])
        np.testing.assert_array_equal(best[name], expected.min(axis=0))
    assert min(np.nanmin(values) for values in best.values() if len(values)) < -30


def test_a_hairpin_is_drawn_from_end_to_end_at_its_own_energy() -> None:
    arm, loop = "GGACTCGATCCGTAGCATCGGACC", "TTCAAGAG"
    hairpin = arm + loop + arm[::-1].translate(COMPLEMENT)
    codes = codes_of("A" * 150 + hairpin + "A" * 150)
    plus = strand_energies(codes, 0, len(codes))[0]
    energy = round(100 * RNA.fold("A" + hairpin + "A")[1])
    assert plus.min() == energy
    assert np.flatnonzero(plus == energy).tolist() == list(range(150, 150 + len(hairpin)))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=400), st.integers(40, 200), st.data())
def test_pieces_equal_the_whole_and_the_other_strand_is_the_mirror(
    bases: list[int], span: int, data: st.DataObject
) -> None:
    codes = np.array(bases, dtype=np.uint8)
    first = data.draw(st.integers(0, len(codes) - 1))
    last = data.draw(st.integers(first + 1, len(codes)))
    whole = strand_energies(codes, 0, len(codes), span)
    np.testing.assert_array_equal(strand_energies(codes, first, last, span), whole[:, first:last])
    mirror = strand_energies(reverse_complement(codes), 0, len(codes), span)
    np.testing.assert_array_equal(mirror[::-1, ::-1], whole)
    np.testing.assert_array_equal(whole == UNKNOWN, np.broadcast_to(codes >= 4, whole.shape))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(-400, 0), st.integers(0, 9)), min_size=1, max_size=40))
def test_laying_over(rows: list[tuple[int, int]]) -> None:
    energies, lengths = np.array(rows, dtype=np.int16).T
    expected = [min([0, *(e for i, (e, n) in enumerate(rows) if i <= k < i + n)]) for k in range(len(rows))]
    assert lay_over(energies, lengths).tolist() == expected


def test_a_list_has_every_proposed_hairpin_and_its_structure(tmp_path: Path, genome: Path) -> None:
    (bed,) = fold_genome(genome, tmp_path / "x.bed", threads=1)
    (gff3,) = fold_genome(genome, tmp_path / "x.gff3", threads=1)
    assert bed.read_text().startswith("#contig\tstart\tend\tname\tscore\tstrand\tenergy\tstructure\n")
    found, expected = read_rows(bed), []
    for name, text in ((name, text) for name, text in CONTIGS.items() if text):
        hairpins = contig_hairpins(codes_of(text))
        rows = zip(hairpins.starts, hairpins.ends, hairpins.minus, hairpins.energies, strict=True)
        expected += [[name, str(s), str(e), "+-"[int(m)], f"{energy:.2f}"] for s, e, m, energy in sorted(rows)]
    assert [[*row[:3], row[5], row[6]] for row in found] == expected
    assert len(found) > 10
    assert {row[5] for row in found} == {"+", "-"}
    assert [row[3] for row in found] == [f"hairpin_{number}" for number in range(1, len(found) + 1)]
    for contig, start, end, _, shade, strand, energy, structure in found:
        before, after = int(start) - 1, int(end) + 1  # the neighbours dangle on the outermost pair
        text = CONTIGS[contig][max(before, 0) : after]
        dots = "." * (before >= 0) + (
            structure if strand == "+" else structure[::-1].translate(str.maketrans("()", ")("))
        )
        dots += "." * (len(text) - len(dots))
        if strand == "-":
            text, dots = text[::-1].translate(COMPLEMENT), dots[::-1].translate(str.maketrans("()", ")("))
        if "N" not in text and "R" not in text:
            assert round(RNA.eval_structure_simple(text, dots), 2) == float(energy)
        assert int(shade) == min(1000, round(-10 * float(energy)))
    for row, other in zip(found, read_rows(gff3), strict=True):
        contig, start, end, name, _, strand, energy, structure = row
        attributes = f"ID={name};Name={name};structure={structure}"
        assert other == [contig, "mirscan", "stem_loop", str(int(start) + 1), end, energy, strand, ".", attributes]
    assert gff3.read_text().startswith("##gff-version 3\n##sequence-region one 1 2500\n")


def test_lists_of_both_strands_are_mirror_images() -> None:
    codes = codes_of(CONTIGS["one"])
    mirrored = [
        (len(codes) - end, len(codes) - start, 1 - strand, energy, structure)
        for start, end, strand, energy, structure in tile_hairpins(reverse_complement(codes), 0, len(codes))
    ]
    assert sorted(mirrored) == tile_hairpins(codes, 0, len(codes))


@pytest.mark.parametrize("name", ["x.bw", "x.bedgraph", "x.bed.gz", "x.gff3"])
def test_the_bytes_depend_on_neither_tile_nor_threads_nor_packing(tmp_path: Path, genome: Path, name: str) -> None:
    packed = tmp_path / "packed"
    packed.write_bytes(gzip.compress(genome.read_bytes().lower()))
    written = set()
    for source, tile, threads in ((genome, 1 << 17, 1), (genome, 61, 2), (genome, 499, 5), (packed, 1000, 2)):
        (path,) = fold_genome(source, tmp_path / name, span=60, tile=tile, threads=threads)
        written.add(path.read_bytes())
    assert len(written) == 1
    assert len(read_rows(path) if path.suffix != ".bw" else written.pop()) > 10


def test_equal_neighbours_are_one_item_and_unknown_bases_are_none(tmp_path: Path, genome: Path) -> None:
    (path,) = fold_genome(genome, tmp_path / "x.bedgraph", span=60, tile=70, threads=2)
    rows = [(contig, int(start), int(end), float(value)) for contig, start, end, value in read_rows(path)]
    for before, after in pairwise(rows):
        assert before[0] != after[0] or before[2] < after[1] or before[3] != after[3]
    covered = {name: sum(end - start for contig, start, end, _ in rows if contig == name) for name in CONTIGS}
    assert covered == {name: sum(text.count(base) for base in "ACGT") for name, text in CONTIGS.items()}
    assert max(row[3] for row in rows) <= 0


def test_regions_are_cut_from_the_whole(tmp_path: Path, genome: Path) -> None:
    whole = read_track(fold_genome(genome, tmp_path / "x.bw", threads=1)[0])
    chosen = {"regions": ("one:701-1,500", "one:1,400-1,900", "three"), "tile": 300}
    part = read_track(fold_genome(genome, tmp_path / "y.bw", **chosen)[0])
    inside = np.arange(2500)
    inside = (inside >= 700) & (inside < 1900)
    np.testing.assert_array_equal(part["one"], np.where(inside, whole["one"], np.nan))
    np.testing.assert_array_equal(part["three"], whole["three"])
    assert np.isnan(part["two"]).all()

    every = read_rows(fold_genome(genome, tmp_path / "x.bed", threads=1)[0])
    some = read_rows(fold_genome(genome, tmp_path / "y.bed", **chosen)[0])
    wanted = [
        row for row in every if row[0] == "three" or (row[0] == "one" and int(row[1]) >= 700 and int(row[2]) <= 1900)
    ]
    assert [row[:3] + row[4:] for row in some] == [row[:3] + row[4:] for row in wanted]
    assert 0 < len(some) < len(every)

    rest = read_rows(fold_genome(genome, tmp_path / "z.bed", exclude=["t*"], min_contig=500)[0])
    assert rest == [row for row in every if row[0] == "one"]


def test_no_hairpin_is_an_empty_list(tmp_path: Path) -> None:
    source = write_genome(tmp_path, {"c": "A" * 500})
    assert read_rows(fold_genome(source, tmp_path / "x.bed")[0]) == []
    assert read_rows(fold_genome(source, tmp_path / "x.bedgraph")[0]) == [["c", "0", "500", "0.0"]]


Main = Callable[..., tuple[int, list[str]]]


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Main:
    """The program in this process: its exit code and the lines of standard error."""

    def run(*arguments: object) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["mirscan", "fold", *map(str, arguments)])
        monkeypatch.setattr(logging.root, "handlers", [])
        capsys.readouterr()
        with pytest.raises(SystemExit) as end:
            cli.main()
        out, err = capsys.readouterr()
        assert out == ""
        return end.value.code or 0, err.splitlines()  # type: ignore[return-value]

    return run


def test_the_command(tmp_path: Path, genome: Path, main: Main) -> None:
    code, lines = main(genome, "-o", tmp_path / "x.bw", "--per-strand", "--span", 60, "-t", 2, "--regions", "one")
    assert code == 0
    assert [line for line in lines if "wrote" in line] == [
        f"mirscan: wrote {tmp_path / name}" for name in ("x.bw", "x.plus.bw", "x.minus.bw")
    ]
    expected = fold_genome(genome, tmp_path / "y.bw", span=60, regions=["one"])
    assert (tmp_path / "x.bw").read_bytes() == expected[0].read_bytes()


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "x.wig"), 2, "x.wig: the name must end in one of .bw"),
        (("-o", "x.bed", "--per-strand"), 2, "leave out --per-strand"),
        (("-o", "x.gff3.gz", "--per-strand"), 2, "leave out --per-strand"),
        (("-o", "x.bw", "--span", "39"), 2, "--span 39: choose 40 to 200"),
        (("-o", "x.bw", "--span", "201"), 2, "--span 201: choose 40 to 200"),
        (("-o", "x.bw", "--threads", "0"), 2, "--threads 0"),
        (("-o", "x.bw", "--min-contig", "-1"), 2, "--min-contig -1"),
        (("-o", "absent/x.bw"), 3, "the folder absent does not exist"),
        (("-o", "g.fa/x.bw"), 3, "the folder g.fa does not exist"),
        (("-o", "."), 2, "the name must end in"),
        (("-o", "g.bed"), 3, "g.bed (--output) is also g.bed (the genome)"),
        (("-o", "x.bw", "--regions", "four"), 3, "the genome has no contig 'four'"),
        (("-o", "x.bw", "--regions", "two:1-130"), 3, "no base is left to fold"),
        (("-o", "x.bed", "--exclude", "*"), 3, "no base is left to fold"),
        (("-o", "x.gff3", "--min-contig", "9999"), 3, "no base is left to fold"),
    ],
)
def test_options_that_cannot_work(
    tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...], code: int, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_genome(tmp_path, name="g.bed")
    found, lines = main("g.bed", *options)
    assert found == code
    assert message in lines[-1]
    assert all(line.startswith("mirscan: ") for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == ["g.bed"]


GOOD = b">c\n" + CONTIGS["one"].encode() + b"\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty file"),
        (GOOD + GOOD, "contig 'c' is already at"),
        (GOOD + b">d\nACGT*ACGT\n", "'*' in the sequence of 'd'"),
        (b"@r\nACGT\n+\nIIII\n", "looks like FASTQ"),
        (gzip.compress(GOOD)[:-20], "truncated gzip"),
        (b">c\n" + b"N" * 500 + b"\n", "no base is left to fold"),
        (None, "no such file"),
    ],
)
@pytest.mark.parametrize("output", ["x.bw", "x.bed"])
def test_bad_input_leaves_nothing(
    tmp_path: Path, main: Main, monkeypatch: pytest.MonkeyPatch, data: bytes | None, message: str, output: str
) -> None:
    (tmp_path / "out").mkdir()
    if data is not None:
        (tmp_path / "g.fa").write_bytes(data)
    code, lines = main(tmp_path / "g.fa", "-o", tmp_path / "out" / output)
    assert code == 3
    assert message in lines[-1]
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize("output", ["x.bw", "x.bedgraph.gz", "x.bed", "x.gff3.gz"])
def test_a_failure_half_way_leaves_the_older_file(
    tmp_path: Path, genome: Path, main: Main, monkeypatch: pytest.MonkeyPatch, output: str
) -> None:
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / output
    path.write_text("an older file")
    computed = []

    def refuse(*arguments: object) -> np.ndarray:
        computed.append(arguments)
        if len(computed) == 3:
            raise OSError(28, "No space left on device", str(path))
        return original(*arguments)

    which = "strand_energies" if ".b" in output and not output.endswith(".bed") else "tile_hairpins"
    original = getattr(fold, which)
    monkeypatch.setattr(fold, which, refuse)
    code, lines = main(genome, "-o", path, "-t", 2)
    assert code == 4
    assert "disk full at" in lines[-1]
    assert path.read_text() == "an older file"
    assert [path.name for path in path.parent.iterdir()] == [output]


def test_a_folder_that_cannot_be_written(tmp_path: Path, genome: Path, main: Main) -> None:
    code, lines = main(genome, "-o", "/proc/x.bw")
    assert code == 3
    assert "/proc/x.bw" in lines[-1]


def test_a_contig_name_that_no_track_holds(tmp_path: Path, genome: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise ValueError("lengths end at 2^32 - 1; use bedGraph")

    monkeypatch.setattr(fold, "BigWigWriter", refuse)
    with pytest.raises(InputError, match=r"x\.bw: lengths end at"):
        fold_genome(genome, tmp_path / "x.bw")
    with pytest.raises(UsageError, match=r"\.gff3\.gz"):
        fold_genome(genome, tmp_path / "x.txt")


@pytest.mark.real
def test_known_precursors_lie_in_the_wells(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "genomes/kshv_137969bp.fa.gz"
    (path,) = fold_genome(source, tmp_path / "x.bw", threads=1)
    (values,) = read_track(path).values()
    loci = [
        line.split("\t") for line in source.with_name("kshv_137969bp.gff3").read_text().splitlines() if line[0] != "#"
    ]
    wells = [np.median(values[int(row[3]) - 1 : int(row[4])]) for row in loci]
    assert np.mean(values > np.median(wells)) > 0.95
