"""Where a store lies: a folder of this machine, an object store, or memory."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from mirscan.errors import IncompleteError, InputError
from mirscan.files.folders import claim, empty_folder, remove_folder
from mirscan.files.kinds import STORE
from mirscan.paths import owner_name

_REMOTE = ("gs://", "s3://", "memory://")


_RETRIES = {"max_retries": 7, "initial_delay": "500ms", "max_delay": "8s"}


DAMAGED = ("DATA_LOSS", "FAILED_PRECONDITION", "INVALID_ARGUMENT", "OUT_OF_RANGE")


_SILENT = ("ABORTED", "UNAVAILABLE", "DEADLINE_EXCEEDED")


def empty_store(url: str | os.PathLike[str]) -> None:
    """Take everything out of a local store that a store consists of; nothing happens where there is none.

    Raises
    ------
    InputError
        If the folder is no store, or not local.
    """
    empty_folder(_removable(url), STORE)


def remove_store(url: str | os.PathLike[str]) -> None:
    """As `empty_store`, and the folder goes too if nothing else lies there."""
    remove_folder(_removable(url), STORE)


def _removable(url: str | os.PathLike[str]) -> Path:
    """The folder of a local store."""
    if not is_local(os.fspath(url)):
        raise InputError(f"{url}: --fresh deletes local stores only; delete it yourself or use another --store")
    return local_folder(os.fspath(url))


def claim_store(folder: Path, main: Path | None = None) -> None:
    """Make a folder a store, or go on with it; ``main`` is the output that a new one is made for.

    Raises
    ------
    InputError
        If the folder is neither absent, nor empty, nor a store.
    """
    claim(folder, STORE, owner_name(folder, main) if main is not None else "")


def is_local(url: str) -> bool:
    """Whether a store is a folder of this machine, and not one of an object store or of memory."""
    return not url.startswith(_REMOTE)


def local_folder(url: str) -> Path:
    if not url:
        raise InputError("--store: empty; give a folder, or leave the option out")
    if not url.isprintable() or any("\ud800" <= letter <= "\udfff" for letter in url):
        raise InputError(f"store {url!r}: its name is not printable UTF-8; choose another folder")
    if "://" in url and not url.startswith("file://"):
        raise InputError(f"--store {url}: give a folder, or a URL that starts with {', '.join(_REMOTE)}")
    return Path(url.removeprefix("file://")).absolute()


@cache
def context() -> Any:
    """One context for all stores, so that a ``memory://`` store outlives the object that made it.

    A server that does not answer is given up after half a minute; TensorStore's own patience is a quarter of an hour.
    """
    import tensorstore as ts

    return ts.Context({f"{kind}_request_retries": _RETRIES for kind in ("s3", "gcs")})


def open_documents(url: str) -> Any:
    import tensorstore as ts

    return ts.KvStore.open(place(url), context=context()).result()


def place(url: str) -> str | dict[str, str]:
    """Where TensorStore finds a URL. Other servers that speak S3 than Amazon's are named as for Amazon's own tools."""
    if is_local(url):
        return {"driver": "file", "path": f"{os.path.realpath(local_folder(url))}/"}
    server = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    if url.startswith("s3://") and server:
        if not server.startswith(("http://", "https://")):
            raise InputError(f"AWS_ENDPOINT_URL {server}: no address of a server; begin with http:// or https://")
        bucket, _, path = url.removeprefix("s3://").rstrip("/").partition("/")
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION") or "us-east-1"
        path = f"{path}/" if path else ""
        return {"driver": "s3", "bucket": bucket, "path": path, "endpoint": server.rstrip("/"), "aws_region": region}
    return url.rstrip("/") + "/"


@contextlib.contextmanager
def explained(url: str) -> Iterator[None]:
    """Turn TensorStore's errors (ValueError with a status in the text) into those of the house."""
    try:
        yield
    except (ValueError, OSError) as error:
        text = str(error).splitlines()[0]
        if "RESOURCE_EXHAUSTED" in text or "No space left" in text:
            raise IncompleteError(f"disk full at {url}; free space and run the same command again") from error
        if "zarr" in text and text.startswith(DAMAGED):
            raise InputError(f"{url}: its score array does not fit its plan; use --fresh or another --store") from error
        if text.startswith(("PERMISSION_DENIED", "NOT_FOUND", "UNAUTHENTICATED", "UNKNOWN", *DAMAGED)):
            raise InputError(f"store {url} cannot be read or written: {text}") from error
        if text.startswith(_SILENT):
            raise IncompleteError(f"store {url} does not answer ({text}); run the same command again") from error
        raise
