"""ScoreStore: the resumable scores of one run, with the plan that fixes them.

::

    .mirscan-store     says that the folder is ours, and which output it was made for (`mirscan.files`)
    plan.json          what decides a score, written before the first window is scanned
    scores/            zarr v3 array, float32 (windows, 2), NaN = not scored, one write-chunk a part
    parts/<id>.json    the mark of a part, written after its chunk: the only truth about what is done
    known              names of the known precursors that hairpins were compared with, a line each
    hairpins/<id>      hairpin models: table of the hairpins whose centre a part holds, compressed
    partial/<id>       finished batches of a part that was interrupted, gone once the part is written

Everything goes through TensorStore, whose writes are atomic on a local folder (temporary file, fsync, rename) and on
object stores alike. Whether a chunk exists is never asked: chunks that are all NaN are not written, and a chunk may
outlive the crash that kept its mark from being written. A mark carries the SHA-256 of the scores, so a chunk that
rotted, was cut short or deleted counts as missing and is scanned again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np

from mirscan.errors import IncompleteError, InputError
from mirscan.store.places import (
    DAMAGED,
    claim_store,
    context,
    empty_store,
    explained,
    is_local,
    local_folder,
    open_documents,
)
from mirscan.types import STRANDS, Plan


class ScoreStore:
    """Scores of one run, part by part. Made by `create_or_open` or `open`; safe to share between threads.

    Attributes
    ----------
    url : str
        Local folder, or ``gs://``, ``s3://``, ``memory://`` URL.
    plan : Plan
        What decides the scores, as recorded by whoever created the store.
    """

    def __init__(self, url: str, plan: Plan, digest: str, documents: Any, array: Any) -> None:
        self.url = url
        self.plan = plan
        self._digest = digest
        self._documents = documents
        self._array = array

    @classmethod
    def create_or_open(
        cls,
        url: str | os.PathLike[str],
        plan: Plan,
        fresh: bool = False,
        open_fields: Sequence[str] = (),
        main: Path | None = None,
    ) -> ScoreStore:
        """Create the store of ``plan``, or resume the one that is there.

        Any number of processes may do this at once: one of them writes the plan, all compare theirs with it.

        Parameters
        ----------
        url : str or path
            Local folder (made where absent), or ``gs://``, ``s3://``, ``memory://`` URL.
        plan : Plan
            What this run would compute.
        fresh : bool
            Empty the store that is there first (see `empty_store`).
        open_fields : sequence of str
            Fields of the plan that nobody asked for: those of the store hold.
        main : Path, optional
            The output that a new store is made for.

        Raises
        ------
        InputError
            If the store belongs to another plan (naming the field that differs) or cannot be written, or the folder
            is neither absent, nor empty, nor a store.
        IncompleteError
            If the disk is full.
        """
        url, mine = os.fspath(url), plan.to_json()
        if fresh:
            empty_store(url)
        if is_local(url):
            claim_store(local_folder(url), main)
        with explained(url):
            documents = open_documents(url)
            there = documents.read("plan.json").result()
            if there.state == "missing":
                # Conditional on absence: of several creators, one wins and the others read what it wrote.
                documents.write("plan.json", mine.encode(), if_equal=there.stamp.generation).result()
                there = documents.read("plan.json").result()
            store = cls._of_document(url, documents, there.value, create=True)
        # A plan that went through JSON: tuples in `selection` have become lists, as in the stored one.
        asked = dataclasses.replace(Plan.from_json(mine), **{name: getattr(store.plan, name) for name in open_fields})
        difference = store.plan.difference(asked)
        if difference is not None:
            raise InputError(f"{url} holds another run ({difference}); use --fresh or another --store")
        return store

    @classmethod
    def open(cls, url: str | os.PathLike[str]) -> ScoreStore:
        """Open a store that is there, to read it.

        Raises
        ------
        InputError
            If ``url`` is no store, or one that this version cannot read.
        """
        url = os.fspath(url)
        with explained(url):
            documents = open_documents(url)
            there = documents.read("plan.json").result()
            if there.state == "missing":
                raise InputError(f"{url} is no score store (it holds no plan.json); give the folder of a scan")
            return cls._of_document(url, documents, there.value, create=False)

    @classmethod
    def holds_plan(cls, url: str | os.PathLike[str]) -> bool:
        """Whether there is a store, finished or not."""
        with explained(os.fspath(url)):
            return bool(open_documents(os.fspath(url)).read("plan.json").result().state != "missing")

    @classmethod
    def _of_document(cls, url: str, documents: Any, document: bytes, create: bool) -> ScoreStore:
        try:
            plan = Plan.from_json(document.decode())
        except (UnicodeDecodeError, InputError) as error:
            raise InputError(f"{url}: {error}") from error
        return cls(url, plan, hashlib.sha256(document).hexdigest(), documents, _open_array(documents, plan, create))

    def write(self, part: int, scores: np.ndarray, seconds: float = 0.0, hairpins: np.ndarray | None = None) -> None:
        """Write one finished part: first its chunk and its hairpins, then its mark.

        Parameters
        ----------
        part : int
            Number of the part.
        scores : ndarray of float32 (windows of the part, 2)
            Strands in the order of `mirscan.types.STRANDS`; NaN = not scored.
        seconds : float
            Time that the part took, for the record.
        hairpins : structured array, optional
            The scored hairpins of the part, as `read_hairpins` gives them back.

        Raises
        ------
        ValueError
            If the shape is not that of the part, or a score is infinite.
        IncompleteError
            If the disk is full.
        """
        start, stop = self.plan.bounds(self._valid(part))
        scores = _canonical(scores)
        if scores.shape != (stop - start, len(STRANDS)):
            raise ValueError(f"part {part}: scores of shape {scores.shape}, expected {(stop - start, len(STRANDS))}")
        if np.isinf(scores).any():
            raise ValueError(
                f"part {part}: infinite score at window {start + int(np.argwhere(np.isinf(scores))[0, 0])}"
            )
        mark = {
            "part": part,
            "plan": self._digest,
            "sha256": hashlib.sha256(scores.tobytes()).hexdigest(),
            "scores": int(np.isfinite(scores).sum()),
            "seconds": round(seconds, 3),
        }
        table = b"" if hairpins is None else _packed(hairpins)
        if table:
            mark["hairpins"] = hashlib.sha256(table).hexdigest()
        with explained(self.url):
            self._array[start:stop].write(scores).result()
            if table:
                self._documents.write(_hairpins(part), table).result()
            self._documents.write(_mark(part), json.dumps(mark).encode()).result()
            self._documents.write(_partial(part), None).result()

    def read(self, part: int) -> np.ndarray:
        """Scores of one finished part, float32 (windows of the part, 2), checked against its mark.

        Raises
        ------
        IncompleteError
            If the part is not done, or its bytes are damaged.
        """
        ((_, scores),) = self._checked([self._valid(part)], self._marks([part]))
        if scores is None:
            raise self._incomplete([part])
        return scores

    def read_hairpins(self, part: int) -> np.ndarray:
        """The hairpins of one finished part, as they were given to `write`.

        Raises
        ------
        IncompleteError
            If the part is not done, holds no table, or its bytes are damaged.
        """
        table = self._table(part, self._marks([self._valid(part)]).get(part, {}))
        if table is None:
            raise self._incomplete([part])
        return np.load(io.BytesIO(zlib.decompress(table)), allow_pickle=False)

    def write_known(self, names: Iterable[str]) -> None:
        """Keep the names of the known precursors, which the tables of hairpins count."""
        with explained(self.url):
            self._documents.write("known", "\n".join(names).encode()).result()

    def read_known(self) -> list[str]:
        """The names given to `write_known`; none where nothing was known.

        Raises
        ------
        IncompleteError
            If they are gone.
        """
        if not self.plan.known_digest:
            return []
        with explained(self.url):
            names = cast(bytes, self._documents.read("known").result().value).decode().split("\n")
        if names == [""]:
            raise IncompleteError(f"{self.url}: the names of the known precursors are gone; run the same scan again")
        return names

    def iter_scores(self) -> Iterator[tuple[int, np.ndarray]]:
        """Yield ``(part, scores)`` in order, each checked against its mark; two parts are held at a time.

        Raises
        ------
        IncompleteError
            If a part is not done, or its bytes are damaged.
        """
        marks = self._marks()
        if len(marks) < self.plan.parts:
            raise self._incomplete([part for part in range(self.plan.parts) if part not in marks])
        for part, scores in self._checked(range(self.plan.parts), marks):
            if scores is None:
                raise self._incomplete([part])
            yield part, scores

    def missing(self, parts: Iterable[int] | None = None, *, verify: bool = True) -> list[int]:
        """Numbers of the parts that are still to be scanned.

        Parameters
        ----------
        parts : iterable of int, optional
            Look at these only.
        verify : bool
            Read every marked part and count it as missing when its bytes are not those that were written; False
            looks at the marks only.
        """
        parts = range(self.plan.parts) if parts is None else list(parts)
        marks = self._marks(parts if len(parts) < self.plan.parts else None)
        if not verify:
            return [part for part in parts if part not in marks]
        return [part for part, scores in self._checked(parts, marks) if scores is None]

    def finish(self) -> None:
        """Make sure that every part is there and whole.

        Raises
        ------
        IncompleteError
            If parts are missing, naming the first of them.
        """
        missing = self.missing()
        if missing:
            raise self._incomplete(missing)

    def drop_partials(self) -> None:
        """Remove what interrupted parts left behind, once all are there; for who scans into the store."""
        with explained(self.url):
            for key in self._keys("partial/"):
                if re.fullmatch(r"partial/\d+", key):
                    self._documents.write(key, None).result()

    def forget(self) -> None:
        """Give back the memory of a ``memory://`` store, which holds nothing afterwards."""
        import tensorstore as ts

        if self.url.startswith("memory://"):
            self._documents.delete_range(ts.KvStore.KeyRange()).result()

    def save_partial(self, part: int, done_batches: int, scores: np.ndarray) -> None:
        """Keep the finished batches of an interrupted part; a later call for the part replaces them.

        Parameters
        ----------
        part : int
            Number of the part.
        done_batches : int
            How many batches are finished, in the order that the plan fixes (steps of ``plan.compiled_rows``).
        scores : ndarray of float32 (rows, 2)
            Their scores; any number of rows up to those of the part.
        """
        start, stop = self.plan.bounds(self._valid(part))
        scores = _canonical(scores)
        if scores.ndim != 2 or scores.shape[1] != len(STRANDS) or len(scores) > stop - start:
            raise ValueError(
                f"part {part}: partial scores of shape {scores.shape}, expected at most {stop - start} rows"
            )
        head = {"plan": self._digest, "part": part, "done_batches": done_batches}
        body = json.dumps(head).encode() + b"\n" + scores.tobytes()
        with explained(self.url):
            self._documents.write(_partial(part), hashlib.sha256(body).digest() + body).result()

    def load_partial(self, part: int) -> tuple[int, np.ndarray] | None:
        """What `save_partial` kept, as ``(done_batches, scores)``; None when there is nothing, or nothing whole."""
        with explained(self.url):
            value = cast(bytes, self._documents.read(_partial(self._valid(part))).result().value)
        checksum, body = value[:32], value[32:]
        if hashlib.sha256(body).digest() != checksum:
            return None
        head, _, data = body.partition(b"\n")
        document = json.loads(head)
        if document["plan"] != self._digest or document["part"] != part:
            return None
        return document["done_batches"], np.frombuffer(data, dtype="<f4").reshape(-1, len(STRANDS)).copy()

    def summary(self, verify: bool = True) -> dict[str, Any]:
        """What the store holds: plan, parts done and missing, scores counted over both strands of the parts done."""
        missing = self.missing(verify=verify)
        done = [mark for part, mark in self._marks().items() if part not in set(missing)]
        windows = sum(np.diff(self.plan.bounds(mark["part"])).item() for mark in done)
        scored = sum(mark["scores"] for mark in done)
        plan = self.plan
        return {
            "store": self.url,
            "genome": plan.genome,
            "genome_digest": plan.genome_digest,
            "model": plan.model,
            "weights_digest": plan.weights_digest,
            "window": plan.grid.window,
            "step": plan.grid.step,
            "backend": plan.backend,
            "precision": plan.precision,
            "contigs": len(plan.contigs),
            "windows": plan.windows,
            "parts": plan.parts,
            "parts_done": len(done),
            "parts_missing": missing,
            "scored": scored,
            "not_scored": windows * len(STRANDS) - scored,
            "seconds": round(sum(mark["seconds"] for mark in done), 3),
        }

    def _valid(self, part: int) -> int:
        if not 0 <= part < self.plan.parts:
            raise ValueError(f"part {part}: the plan has parts 0 to {self.plan.parts - 1}")
        return part

    def _keys(self, prefix: str) -> list[str]:
        import tensorstore as ts

        stop = prefix[:-1] + chr(ord(prefix[-1]) + 1)
        return [key.decode() for key in self._documents.list(ts.KvStore.KeyRange(prefix, stop)).result()]

    def _marks(self, parts: Iterable[int] | None = None) -> dict[int, dict[str, Any]]:
        """Marks of this plan by part, all or some; one that cannot be read, or is another plan's, is none."""
        with explained(self.url):
            keys = self._keys("parts/") if parts is None else map(_mark, parts)
            reads = [self._documents.read(key) for key in keys if key.endswith(".json")]
            values = [read.result().value for read in reads]
        marks = {}
        for value in values:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                mark = json.loads(value)
                if mark["plan"] == self._digest and isinstance(mark["sha256"], str):
                    marks[int(mark["part"])] = {"seconds": 0.0, "scores": 0} | mark
        return {part: marks[part] for part in sorted(marks) if 0 <= part < self.plan.parts}

    def _checked(
        self, parts: Iterable[int], marks: dict[int, dict[str, Any]]
    ) -> Iterator[tuple[int, np.ndarray | None]]:
        """Yield ``(part, scores)``, None where the part is not done; the next part is read meanwhile."""
        ahead: tuple[int, Any] | None = None
        for part in [*parts, None]:
            current, ahead = ahead, None
            if part is not None:
                start, stop = self.plan.bounds(part)
                ahead = (part, self._array[start:stop].read() if part in marks else None)
            if current is not None:
                yield current[0], self._verified(*current, marks)

    def _verified(self, part: int, reading: Any, marks: dict[int, dict[str, Any]]) -> np.ndarray | None:
        if reading is None:
            return None
        with explained(self.url):
            try:
                scores = np.ascontiguousarray(reading.result())
            except ValueError as error:
                if str(error).startswith(DAMAGED):
                    return None
                raise
        whole = hashlib.sha256(scores.tobytes()).hexdigest() == marks[part]["sha256"]
        if whole and "hairpins" in marks[part]:
            whole = self._table(part, marks[part]) is not None
        return scores if whole else None

    def _table(self, part: int, mark: dict[str, Any]) -> bytes | None:
        """A part's packed hairpins; None where there are none or they are not those of its mark."""
        with explained(self.url):
            value = cast(bytes, self._documents.read(_hairpins(part)).result().value)
        return value if value and hashlib.sha256(value).hexdigest() == mark.get("hairpins") else None

    def _incomplete(self, missing: list[int]) -> IncompleteError:
        few = ", ".join(map(str, missing[:5])) + (", …" if len(missing) > 5 else "")
        return IncompleteError(
            f"{self.url}: {len(missing)} of {self.plan.parts} parts are missing or damaged ({few}); "
            "run the same scan, or the shards that lack them, again"
        )


def _open_array(documents: Any, plan: Plan, create: bool) -> Any:
    import tensorstore as ts

    place = documents.spec().to_json()
    spec = {
        "driver": "zarr3",
        "kvstore": place | {"path": place.get("path", "") + "scores/"},
        "metadata": {
            "shape": [plan.windows, len(STRANDS)],
            "data_type": "float32",
            "fill_value": "NaN",
            "chunk_grid": {
                "name": "regular",
                "configuration": {"chunk_shape": [plan.part_windows, len(STRANDS)]},
            },
            "codecs": [
                {"name": "bytes", "configuration": {"endian": "little"}},
                {"name": "zstd", "configuration": {"level": 1}},
                {"name": "crc32c"},
            ],
            "dimension_names": ["window", "strand"],
        },
    }
    return ts.open(spec, open=True, create=create, context=context()).result()


def _canonical(scores: np.ndarray) -> np.ndarray:
    """Little-endian float32 with one bit pattern of NaN, so that equal scores have equal bytes."""
    scores = np.ascontiguousarray(scores, dtype="<f4")
    return np.where(np.isnan(scores), np.float32(np.nan), scores)


def _mark(part: int) -> str:
    return f"parts/{part}.json"


def _hairpins(part: int) -> str:
    return f"hairpins/{part}"


def _packed(table: np.ndarray) -> bytes:
    body = io.BytesIO()
    np.save(body, table, allow_pickle=False)
    return zlib.compress(body.getvalue(), 1)


def _partial(part: int) -> str:
    return f"partial/{part}"
