"""Genome files in every form, sound and broken (scanner/mirscan/genome/__init__.py and the readers below it)."""

import dataclasses
import gzip
import io
import itertools
import os
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mirscan.errors import InputError
from mirscan.genome import Genome, fasta, open_genome
from mirscan.genome.contigs import take_census
from mirscan.kernels.bases import ABSENT, CODE, encode
from mirscan.types import Contig

SHARED = Path(__file__).resolve().parents[3] / "shared"
Records = list[tuple[str, str]]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "cache"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


def random_letters(length: int, seed: int = 0, alphabet: bytes = b"ACGTacgtN") -> str:
    drawn = np.random.default_rng(seed).choice(np.frombuffer(alphabet, dtype=np.uint8), length)
    return str(drawn.tobytes().decode())


def wrapped(records: Records, width: int = 60, end: str = "\n", final: bool = True) -> bytes:
    lines = []
    for name, sequence in records:
        lines += [f">{name}"] + [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return (end.join(lines) + (end if final else "")).encode()


def bgzip(data: bytes, end: bool = True, size: int = 200) -> bytes:
    out = b""
    pieces = [data[i : i + size] for i in range(0, len(data), size)] + ([b""] if end else [])
    for piece in pieces:
        packer = zlib.compressobj(wbits=-15)
        body = packer.compress(piece) + packer.flush()
        header = struct.pack("<4BI2BH2BHH", 31, 139, 8, 4, 0, 0, 255, 6, 66, 67, 2, len(body) + 25)
        out += header + body + struct.pack("<II", zlib.crc32(piece), len(piece))
    return out


def twobit(records: Records, order: str = "<", version: int = 0) -> bytes:
    def runs(flags: np.ndarray) -> bytes:
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flags.astype(int), [0]])))
        starts, ends = edges[::2], edges[1::2]
        return struct.pack(f"{order}{1 + 2 * len(starts)}I", len(starts), *starts, *(ends - starts))

    offset_kind = "Q" if version else "I"
    bodies = []
    for _, sequence in records:
        letters = np.frombuffer(sequence.encode(), dtype=np.uint8)
        upper = letters & 0xDF
        values = np.array([{84: 0, 85: 0, 67: 1, 65: 2, 71: 3}.get(int(u), 0) for u in upper] + [0] * 3, dtype=np.uint8)
        quads = values[: -(-len(letters) // 4) * 4].reshape(-1, 4)
        packed = (quads << np.array([6, 4, 2, 0], dtype=np.uint8)).sum(axis=1).astype(np.uint8).tobytes()
        head = struct.pack(f"{order}I", len(letters)) + runs(upper == ord("N")) + runs(letters >= 97)
        bodies.append(head + struct.pack(f"{order}I", 0) + packed)
    offset = 16 + sum(1 + len(name.encode()) + struct.calcsize(f"={offset_kind}") for name, _ in records)
    out = struct.pack(f"{order}4I", 0x1A412743, version, len(records), 0)
    for (name, _), body in zip(records, bodies, strict=True):
        out += bytes([len(name.encode())]) + name.encode() + struct.pack(f"{order}{offset_kind}", offset)
        offset += len(body)
    return out + b"".join(bodies)


def opened(tmp_path: Path, data: bytes, name: str = "genome.fa", **options: str) -> Genome:
    path = tmp_path / name
    path.write_bytes(data)
    return open_genome(path, spool=tmp_path / "spool", **options)  # type: ignore[arg-type]


def content(genome: Genome) -> list[tuple[str, list[int]]]:
    return [(c.name, genome.codes(i, 0, c.length).tolist()) for i, c in enumerate(genome.contigs)]


def expected_content(records: Records) -> list[tuple[str, list[int]]]:
    return [(name.split()[0], [int(CODE[ord(letter)]) for letter in sequence]) for name, sequence in records]


def piped(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


GENOME: Records = [
    ("chr1 a description", random_letters(731)),
    ("empty", ""),
    ("chr2\ttabbed", random_letters(240, 1)),
    ("µ|é", random_letters(1, 2)),
    ("chr4", random_letters(120, 3)),
]

FORMS: dict[str, Callable[[Records], bytes]] = {
    "plain": wrapped,
    "width 1": lambda r: wrapped(r, 1),
    "one line": lambda r: wrapped(r, 1 << 30),
    "CRLF": lambda r: wrapped(r, 50, "\r\n"),
    "no final newline": lambda r: wrapped(r, 60, final=False),
    "lower case": lambda r: wrapped([(n, s.lower()) for n, s in r]),
    "U": lambda r: wrapped([(n, s.replace("T", "U").replace("t", "u")) for n, s in r]),
    "byte order mark": lambda r: b"\xef\xbb\xbf" + wrapped(r),
    "leading blank lines": lambda r: b"\n\r\n" + wrapped(r),
    "blank lines": lambda r: wrapped(r).replace(b"\n", b"\n\n"),
    "trailing blanks": lambda r: wrapped(r).replace(b"\n", b" \t\n"),
    "ragged": lambda r: b"".join(wrapped([record], 10 + i % 3) for i, record in enumerate(r)).replace(b"A", b"A\n"),
    "mixed line ends": lambda r: wrapped(r, 13).replace(b"\n", b"\r\n", 9),
    "gzip": lambda r: gzip.compress(wrapped(r)),
    "gzip members": lambda r: b"".join(gzip.compress(wrapped([record])) for record in r),
    "gzip, padded": lambda r: gzip.compress(wrapped(r)) + bytes(700),
    "bgzip": lambda r: bgzip(wrapped(r)),
    "2bit": twobit,
    "2bit, other order": lambda r: twobit(r, ">"),
    "2bit, version 1": lambda r: twobit(r, version=1),
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_of_a_genome_is_the_same_genome(tmp_path: Path, form: str) -> None:
    records = [(name.split()[0], sequence) for name, sequence in GENOME] if form.startswith("2bit") else GENOME
    with opened(tmp_path / ".", wrapped(GENOME), "reference") as reference:
        digest = reference.digest
    with opened(tmp_path, FORMS[form](records)) as genome:
        assert content(genome) == expected_content(GENOME)
        assert genome.digest == digest
        assert [c.length for c in genome.contigs] == [731, 0, 240, 1, 120]
        assert [c.ambiguous for c in genome.contigs] == [s.count("N") for _, s in GENOME]
        if form != "lower case":
            assert [c.masked for c in genome.contigs] == [sum(map(str.islower, s)) for _, s in GENOME]


@pytest.mark.parametrize("form", ["plain", "CRLF", "U", "ragged", "bgzip", "2bit"])
def test_a_soft_mask_is_digested_only_where_it_counts(tmp_path: Path, form: str) -> None:
    records = [("a", "ACgtNnACGT" * 9)]
    write = FORMS[form]
    with opened(tmp_path, write(records), soft_mask="skip") as genome:
        codes = [0, 1, ABSENT, ABSENT, 4, ABSENT, 0, 1, 2, 3] * 9
        assert genome.codes(0, 0, 90).tolist() == codes
        assert (genome.contigs[0].masked, genome.contigs[0].ambiguous) == (27, 18)
        skipped = genome.digest
    with opened(tmp_path, wrapped(records), soft_mask="skip") as genome:
        assert genome.digest == skipped
    with opened(tmp_path, wrapped([("a", records[0][1].upper())]), soft_mask="skip") as upper:
        assert upper.digest != skipped


@pytest.mark.parametrize(
    "other",
    [
        [("a", "ACGT"), ("b", "GGCC")],
        [("b", "GGCC"), ("a", "ACGTA")],
        [("a", "ACGTA"), ("c", "GGCC")],
        [("a", "ACGTG"), ("b", "GCC")],
        [("a", "ACGTC"), ("b", "GGCC")],
    ],
)
def test_the_digest_tells_genomes_apart(tmp_path: Path, other: Records) -> None:
    with opened(tmp_path, wrapped([("a", "ACGTA"), ("b", "GGCC")])) as one, opened(tmp_path, wrapped(other)) as two:
        assert one.digest != two.digest


def test_all_codes_of_the_alphabet_are_read(tmp_path: Path) -> None:
    text = "ACGTURYSWKMBDHVNacgturyswkmbdhvn"
    with opened(tmp_path, f">a\n{text}\n".encode()) as genome:
        assert genome.codes(0, 0, 32).tolist() == encode(np.frombuffer(text.encode(), dtype=np.uint8)).tolist()
        assert genome.contigs == (Contig("a", 32, ambiguous=22, masked=16),)


def test_a_plain_file_is_read_in_place_and_others_are_unpacked(tmp_path: Path, cache: Path) -> None:
    with opened(tmp_path, wrapped(GENOME)):
        assert not (tmp_path / "spool").exists()
        assert len(list((cache / "mirscan").iterdir())) == 1
    lines: list[str] = []
    (tmp_path / "ragged.fa").write_bytes(FORMS["ragged"](GENOME))
    before = [path.name for path in tmp_path.iterdir()]
    with open_genome(tmp_path / "ragged.fa", spool=tmp_path / "deep" / "spool", log=lines.append):
        assert not (tmp_path / "deep").exists()
        assert [path.name for path in tmp_path.iterdir()] == before  # the unpacked bases have no name
    assert len(lines) == 1
    assert "chr1" in lines[0]


def test_standard_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for data in (wrapped(GENOME), gzip.compress(wrapped(GENOME)), bgzip(wrapped(GENOME))):
        piped(monkeypatch, data)
        with open_genome("-", spool=tmp_path / "spool") as genome:
            assert genome.path == "-"
            assert content(genome) == expected_content(GENOME)
    piped(monkeypatch, b">a\nAC!T\n")
    with pytest.raises(InputError, match=r"^<stdin>:2: '!'"):
        open_genome("-", spool=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
    piped(monkeypatch, twobit([("a", "ACGT")]))
    with pytest.raises(InputError, match="2bit"):
        open_genome("-", spool=tmp_path / "spool")
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="closed"):
        open_genome("-", spool=tmp_path / "spool")


def test_a_named_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_bytes(wrapped(GENOME)))
    writer.start()
    with open_genome(pipe, spool=tmp_path / "spool") as genome:
        assert content(genome) == expected_content(GENOME)
    writer.join()


BAD: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "empty file"),
    "empty gzip": (gzip.compress(b""), "no record has a base"),
    "header only": (b">a\n>b\n", "no record has a base"),
    "only blank lines": (b"\n\n", "no record has a base"),
    "header without newline": (b">a", "no record has a base"),
    "no header": (b"\nACGT\n>a\nACGT\n", ":2: no header"),
    "comment": (b";note\n>a\nACGT\n", ":1: no header"),
    "indented header": (b" >a\nACGT\n", ":1: no header"),
    "FASTQ": (b"@r\nACGT\n+\nIIII\n", ":1: this looks like FASTQ"),
    "binary": (b"\x7fELF\0\0\1", ":1: binary"),
    "UTF-16": (">a\nACGT\n".encode("utf-16"), ":1: binary"),
    "NUL": (b">a\nACGT\nAC\0GT\n", ":3: NUL"),
    "mark in a line": (b">a\nACGT>b\nACGT\n", ":2: '>' inside"),
    "indented mark": (b">a\nACGT\n >b\nACGT\n", ":3: '>' inside"),
    "no code": (b">a x\nACGT\n>b y\nACGT\nACXT\n", r":5: 'X' in the sequence of 'b' \(column 3\)"),
    "stop": (b">a\nACG*\n", r":2: '\*' in the sequence of 'a' \(column 4\)"),
    "gap": (b">a\nAC--GT\n", r":2: '-' in the sequence of 'a' \(column 3\)"),
    "digit": (b">a\nAC1T\n", ":2: '1'"),
    "late comment": (b">a\nACGT\n;x\n", ":3: ';'"),
    "not ASCII": (">a\nACéT\n".encode(), ":2: byte 0xc3"),
    "old Macintosh": (b">a\rACGT\r>b\rACGT\r", ":1: a carriage return"),
    "carriage return": (b">a\nAC\rGT\n", ":2: a carriage return"),
    "two carriage returns": (b">a\nACGT\r\r\nACGT\r\r\n", ":2: a carriage return"),
    "blank inside": (b">a\nAC GT\n", r":2: blank inside a sequence line of 'a' \(column 3\)"),
    "blank first": (b">a\nACGT\n ACGT\n", ":3: blank inside"),
    "duplicate": (b">a\nACGT\n>b\nA\n>a z\nACGT\n", r":5: contig 'a' is already at .*:1"),
    "no name": (b">\nACGT\n", ":1: header without a name"),
    "blank name": (b">b\nACGT\n> foo\nACGT\n", ":3: header without a name"),
    "control character": (b">a\x1b[31m\nACGT\n", ":1: control character"),
    "NUL in name": (b">a\0b\nACGT\n", ":1: control character"),
    "direction mark": (">a\u202eb\nACGT\n".encode(), ":1: control character"),
    "name in Latin-1": (b">caf\xe9\nACGT\n", ":1: contig name .* is not UTF-8"),
    "long name": (b">" + b"n" * 256 + b"\nACGT\n", ":1: contig name of 256 bytes"),
    "endless header": (b">" + b" x" * (1 << 20), ":1: header longer"),
    "truncated gzip": (gzip.compress(wrapped(GENOME))[:-5], "truncated gzip"),
    "half a gzip": (gzip.compress(wrapped(GENOME))[:300], "truncated gzip"),
    "bad sum": (gzip.compress(wrapped(GENOME))[:-8] + bytes(8), "damaged gzip"),
    "flipped gzip": (gzip.compress(wrapped(GENOME))[:200] + b"\xff\xff\xff" + gzip.compress(b"")[203:], "gzip"),
    "garbage after gzip": (gzip.compress(wrapped(GENOME)) + b"garbage", "trailing garbage"),
    "bgzip cut at a block": (bgzip(wrapped(GENOME), end=False), "end-of-file block is missing"),
    "gzip of binary": (gzip.compress(twobit([("a", "ACGT")])), "binary"),
    "bzip2": (b"BZh91AY", "bzip2"),
    "xz": (b"\xfd7zXZ\0\0", "xz"),
    "zip": (b"PK\3\4....", "zip"),
    "2bit cut in the index": (twobit([("a", "ACGT" * 9)])[:20], "damaged or truncated 2bit"),
    "2bit cut in the bases": (twobit([("a", "ACGT" * 9)])[:-2], "damaged or truncated 2bit"),
    "2bit of the future": (twobit([("a", "ACGT")])[:4] + b"\7" + twobit([("a", "ACGT")])[5:], "version 7"),
    "2bit twice": (twobit([("a", "ACGT"), ("a", "ACGT")]), "sequence 2: contig 'a' is already at"),
    "2bit without bases": (twobit([("a", "")]), "no record has a base"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_told_in_one_line(tmp_path: Path, case: str) -> None:
    data, message = BAD[case]
    with pytest.raises(InputError, match=message) as caught:
        opened(tmp_path, data, "bad.fa")
    text = str(caught.value)
    assert "\n" not in text
    assert text.isprintable()
    assert text.startswith(str(tmp_path / "bad.fa"))
    assert not (tmp_path / "spool").exists()


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "absent.fa", "no such file"), (tmp_path, "is a folder"), ("a\0b", "cannot be")):
        with pytest.raises(InputError, match=message):
            open_genome(path, spool=tmp_path / "spool")
    assert not (tmp_path / "spool").exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(b">a\nACGT\n")
    path.chmod(0)
    with pytest.raises(InputError, match="Permission denied"):
        open_genome(path, spool=tmp_path / "spool")


@pytest.mark.parametrize(
    "lie",
    [
        b"",
        b"chr1\t731\t9999999\t60\t61\n",
        b"chr1\t99999999999999\t20\t60\t61\n",
        b"chrX\t-5\tx\n",
        b"chr1\t731\t3\t60\t61\n",
    ],
)
def test_an_index_beside_the_file_is_never_read(tmp_path: Path, lie: bytes) -> None:
    (tmp_path / "genome.fa.fai").write_bytes(lie)
    with opened(tmp_path, wrapped(GENOME)) as genome:
        assert content(genome) == expected_content(GENOME)
    assert (tmp_path / "genome.fa.fai").read_bytes() == lie


@pytest.mark.filterwarnings("error")
def test_a_file_from_the_future_raises_no_alarm(tmp_path: Path) -> None:
    path = tmp_path / "genome.fa"
    path.write_bytes(wrapped(GENOME))
    os.utime(path, (time.time() + 10**7,) * 2)
    with open_genome(path, spool=tmp_path / "spool") as genome:
        assert content(genome) == expected_content(GENOME)


def test_a_lying_index_in_the_cache_is_replaced(tmp_path: Path, cache: Path) -> None:
    with opened(tmp_path, wrapped(GENOME)):
        (index,) = (cache / "mirscan").iterdir()
    index.write_text("0\t731\t0\t60\t61\n")
    with open_genome(tmp_path / "genome.fa", spool=tmp_path / "spool") as genome:
        assert content(genome) == expected_content(GENOME)


def test_a_cache_that_cannot_be_written_means_unpacking(tmp_path: Path, cache: Path) -> None:
    cache.write_text("a file where the folder should be")
    with opened(tmp_path, wrapped(GENOME)) as genome:
        assert content(genome) == expected_content(GENOME)
    assert cache.read_text() == "a file where the folder should be"


def test_a_user_without_a_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def homeless() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    with opened(tmp_path, wrapped(GENOME)) as genome:
        assert content(genome) == expected_content(GENOME)


def test_a_read_only_folder(tmp_path: Path) -> None:
    folder = tmp_path / "read-only"
    folder.mkdir()
    (folder / "genome.fa").write_bytes(wrapped(GENOME))
    folder.chmod(0o555)
    try:
        with open_genome(folder / "genome.fa", spool=tmp_path / "spool") as genome:
            assert content(genome) == expected_content(GENOME)
        assert [entry.name for entry in folder.iterdir()] == ["genome.fa"]
    finally:
        folder.chmod(0o755)


def test_text_under_the_name_of_a_compressed_file(tmp_path: Path) -> None:
    with opened(tmp_path, wrapped(GENOME), "genome.fa.gz") as genome:
        assert content(genome) == expected_content(GENOME)


def test_a_file_that_changes_while_in_use(tmp_path: Path) -> None:
    with opened(tmp_path, wrapped(GENOME)) as genome:
        (tmp_path / "genome.fa").write_bytes(wrapped(GENOME)[:100])
        with pytest.raises(InputError, match="changed"):
            genome.codes(0, 0, 10)


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage._replace(free=10))
    with pytest.raises(OSError, match="at least 1,092 bytes, 10 are free") as caught:
        opened(tmp_path, FORMS["ragged"](GENOME))
    assert caught.value.errno == 28
    assert not (tmp_path / "spool").exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full")
def test_a_disk_that_fills_up_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda dir: open("/dev/full", "wb"))  # noqa: SIM115
    with pytest.raises(OSError, match="filled up") as caught:
        opened(tmp_path, gzip.compress(wrapped([("a", random_letters(9000))])))
    assert caught.value.errno == 28
    assert not (tmp_path / "spool").exists()


@pytest.mark.parametrize("form", ["plain", "ragged", "gzip", "2bit"])
def test_a_contig_of_many_blocks(tmp_path: Path, form: str) -> None:
    pieces = [random_letters(90_000, 0), "N" * 200_000, random_letters(90_000, 1).lower(), "t" * 300_000, "nN" * 99]
    records = [("a", "".join(pieces)), ("b", "ACGT")]
    with opened(tmp_path, FORMS[form](records)) as genome:
        assert genome.contigs[0].masked == sum(map(str.islower, records[0][1]))
        for number, (_, sequence) in enumerate(records):
            codes = encode(np.frombuffer(sequence.encode(), dtype=np.uint8))
            assert np.array_equal(genome.codes(number, 0, len(sequence)), codes)


@pytest.mark.parametrize("form", ["plain", "CRLF", "gzip"])
def test_random_access(tmp_path: Path, form: str) -> None:
    with opened(tmp_path, FORMS[form](GENOME)) as genome:
        whole = expected_content(GENOME)[0][1]
        for start in (0, 1, 49, 50, 59, 60, 61, 120, 700, 730, 731):
            for end in (start, start + 1, start + 10, start + 60, start + 61, 731):
                if start <= end <= 731:
                    codes = genome.codes(0, start, end)
                    assert codes.tolist() == whole[start:end], (start, end)
                    assert codes.dtype == np.uint8
                    assert codes.flags.writeable
        for start, end in ((-1, 5), (5, 4), (0, 732)):
            with pytest.raises(ValueError, match=r"is not within 'chr1' of 731"):
                genome.codes(0, start, end)


@pytest.mark.parametrize("form", ["plain", "gzip"])
def test_many_threads_at_once(tmp_path: Path, form: str) -> None:
    sequence = random_letters(50_000)
    codes = np.array(expected_content([("a", sequence)])[0][1], dtype=np.uint8)
    with opened(tmp_path, FORMS[form]([("a", sequence)])) as genome, ThreadPoolExecutor(8) as pool:
        starts = np.random.default_rng(0).integers(0, 49_000, 400).tolist()
        for start, found in zip(starts, pool.map(lambda s: genome.codes(0, s, s + 1000), starts), strict=True):
            assert np.array_equal(found, codes[start : start + 1000])


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.one_of(
        st.binary(max_size=80),
        st.binary(max_size=40).map(lambda tail: b">a\nACGT" + tail),
        st.text(alphabet=">ab \t\r\nACGTNx\0", max_size=60).map(str.encode),
        st.binary(max_size=60).map(lambda tail: b"\x1f\x8b\x08\0" + tail),
        st.binary(max_size=80).map(lambda tail: struct.pack("<I", 0x1A412743) + tail),
        st.tuples(
            st.sampled_from([twobit(GENOME[2:]), bgzip(wrapped(GENOME))]), st.integers(0, 999), st.integers(0, 255)
        ).map(lambda t: t[0][: t[1] % len(t[0])] + bytes([t[2]]) + t[0][t[1] % len(t[0]) + 1 :]),
    )
)
def test_random_bytes_end_in_a_genome_or_in_an_input_error(tmp_path: Path, data: bytes) -> None:
    caught = None
    try:
        with opened(tmp_path, data) as genome:
            assert len(content(genome)) == len(genome.contigs) > 0
            assert all(0 <= c.ambiguous <= c.length for c in genome.contigs)
    except InputError as error:
        caught = str(error)
    assert caught is None or caught.startswith(str(tmp_path))
    assert caught is None or "\n" not in caught


NAMES = st.text(alphabet="abcXYZ019_.|:;=/%µ", min_size=1, max_size=12)
SEQUENCES = st.text(alphabet="ACGTacgtNn", max_size=200)
GENOMES = st.dictionaries(NAMES, SEQUENCES, min_size=1, max_size=6).map(lambda d: list(d.items()))


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    records=GENOMES.filter(lambda r: any(s for _, s in r)),
    form=st.sampled_from(sorted(FORMS)),
    width=st.integers(1, 80),
)
def test_any_genome_in_any_form(tmp_path: Path, records: Records, form: str, width: int) -> None:
    with opened(tmp_path, wrapped(records, width)) as one, opened(tmp_path, FORMS[form](records), "other") as two:
        assert content(one) == content(two) == expected_content(records)
        assert one.digest == two.digest


@settings(deadline=None, max_examples=60)
@given(GENOMES, st.sampled_from(["plain", "CRLF", "ragged", "trailing blanks", "no final newline"]), st.integers(1, 50))
def test_block_borders_do_not_matter(records: Records, form: str, size: int) -> None:
    data = FORMS[form](records)
    blocks = [data[i : i + size] for i in range(0, len(data), size)]
    cut, whole = fasta.FastaReader(blocks, "x"), fasta.FastaReader([data], "x")

    def merged(reader: fasta.FastaReader) -> dict[tuple[bytes, str], bytes]:
        out: dict[tuple[bytes, str], bytes] = {}
        for name, where, letters in reader:
            out[name, where] = out.get((name, where), b"") + letters.tobytes()
        return out

    assert merged(cut) == merged(whole)
    assert cut.layouts == whole.layouts


@settings(deadline=None, max_examples=30)
@given(st.binary(min_size=1, max_size=3000), st.integers(1, 400))
def test_inflate_gives_back_what_was_packed(data: bytes, size: int) -> None:
    for packed in (gzip.compress(data), bgzip(data), gzip.compress(data) + gzip.compress(data)):
        blocks = [packed[i : i + size] for i in range(0, len(packed), size)]
        assert b"".join(fasta.inflate(blocks, "x")) == gzip.decompress(packed)


def test_inflate_stays_small_however_much_comes_out() -> None:
    bomb = gzip.compress(bytes(20 << 20))
    sizes = [len(text) for text in fasta.inflate([bomb], "x")]
    assert max(sizes) <= fasta.BLOCK
    assert sum(sizes) == 20 << 20


def test_twenty_thousand_contigs(tmp_path: Path) -> None:
    data = b"".join(b">scaffold_%d\n%s\n" % (i, b"ACGTTGCA" * (i % 20)) for i in range(20_000))
    opened(tmp_path, b">a\nACGT\n", "warm").close()
    begin = time.perf_counter()
    with opened(tmp_path, data) as genome:
        assert time.perf_counter() - begin < 5
        assert len(genome.contigs) == 20_000
        assert genome.codes(19_999, 150, 152).tolist() == [1, 0]
        assert dataclasses.astuple(genome.contigs[-1]) == ("scaffold_19999", 152, 0, 0)


MEMORY = """
import resource, sys
from pathlib import Path
from mirscan.genome.contigs import take_census
from mirscan.genome import open_genome
spool = Path(sys.argv[1])
open_genome(sys.argv[2], spool=spool).close()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sys.argv[3:]:
    with open_genome(path, spool=spool) as genome:
        genome.codes(0, 10_000_000, 10_001_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in other units elsewhere")
def test_memory_does_not_grow_with_the_genome(tmp_path: Path) -> None:
    data = wrapped([("a", random_letters(20_000_000))], 80)
    (tmp_path / "small.fa").write_bytes(b">a\nACGT\n")
    (tmp_path / "big.fa").write_bytes(data)
    (tmp_path / "big.fa.gz").write_bytes(gzip.compress(data, 1))
    names = [str(tmp_path / name) for name in ("spool", "small.fa", "big.fa", "big.fa.gz")]
    result = subprocess.run([sys.executable, "-c", MEMORY, *names], capture_output=True, text=True, check=True)
    assert int(result.stdout) < 15_000  # KiB; the genome is 20,000


@pytest.mark.slow
def test_a_contig_beyond_two_to_the_thirty_one() -> None:
    line = b"ACGTNacgtn" * 100 + b"\n"
    block = line * 1000
    reader = fasta.FastaReader(itertools.chain([b">a\n"], itertools.repeat(block, 2200), [b">b\nAC\n"]), "x")
    census = take_census(reader, "x", "scan")
    assert census.contigs[0] == Contig("a", 2_200_000_000, ambiguous=440_000_000, masked=1_100_000_000)
    assert reader.layouts[1] == fasta.Layout(3 + 2_202_200_000 + 3, 2, 3, True)


@pytest.mark.real
@pytest.mark.parametrize(
    ("name", "length"),
    [
        ("cel_ce10_chrI_II_III_M", 44_149_262),
        ("hsa_GRCh38_chr1_1-10Mb", 10_000_000),
        ("hsa_GRCh38_chr2_1-2.3Mb", 2_333_275),
        ("hsa_GRCh38_chr9_1-1Mb", 1_000_000),
        ("hsa_hg16_ENCODE_ENm001", 1_877_426),
        ("hsa_hg16_ENCODE_ENm002", 1_000_000),
        ("mmu_mm6_ENCODE_ENm001", 1_736_124),
        ("mmu_mm6_ENCODE_ENm002", 1_013_613),
        ("dme_dm3_chr4", 1_351_857),
        ("dme_r6_1pct", 1_375_477),
        ("ath_TAIR10_1pct", 1_196_674),
        ("ebv_NC_007605.1", 171_823),
        ("hcmv_NC_006273.2", 235_646),
        ("kshv_137969bp", 137_969),
    ],
)
def test_real_genomes(tmp_path: Path, name: str, length: int) -> None:
    packed = SHARED / "data" / "genomes" / f"{name}.fa.gz"
    if not packed.exists():
        pytest.skip("no ../shared/data here")
    with open_genome(packed, spool=tmp_path / "spool") as genome:
        assert sum(contig.length for contig in genome.contigs) == length
        with opened(tmp_path, gzip.decompress(packed.read_bytes())) as plain:
            assert plain.digest == genome.digest
            middle = genome.contigs[0].length // 2
            assert np.array_equal(plain.codes(0, middle, middle + 999), genome.codes(0, middle, middle + 999))
