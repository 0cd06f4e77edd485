"""A store on a server that speaks S3 (moto, in this process): shards, races, what is missing, and what goes wrong."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mirscan.cluster.driver import scan_batch
from mirscan.errors import IncompleteError, InputError
from mirscan.scanning import run
from mirscan.scanning.options import Options
from mirscan.scanning.results import merge
from mirscan.store import ScoreStore, places

boto3 = pytest.importorskip("boto3")
moto_server = pytest.importorskip("moto.server")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with one bucket, named as users name it to mirscan."""
    thread = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    thread.start()
    host, port = thread.get_host_and_port()
    address = f"http://{host}:{port}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", "a-key")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret")
        patch.setenv("AWS_ENDPOINT_URL", address)
        boto3.client("s3", region_name="us-east-1").create_bucket(Bucket="a-bucket")
        yield address
    thread.stop()


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("object-store") / "g.fa"
    bases = np.random.default_rng(0).choice(list("ACGT"), 1500)
    path.write_text(f">one\n{''.join(bases[:1000])}\n>two\n{''.join(bases[1000:])}\n")
    return path


def options_of(url: str, weights: Path, **more: Path) -> Options:
    return Options(model="mire2e-tiny", weights=weights, store=url, part_windows=10, **more)


def test_shards_on_a_server_give_the_bytes_of_one_run(
    server: str, genome: Path, tiny_weights: Path, tmp_path: Path
) -> None:
    alone = options_of(str(tmp_path / "s"), tiny_weights, output=tmp_path / "x.bw", bed=tmp_path / "x.bed")
    run.scan_genome(genome, alone)
    url = "s3://a-bucket/in/a/folder"
    options = options_of(url, tiny_weights)
    assert run.scan_shard(genome, options, 2, 3)["parts"] == 7
    with pytest.raises(IncompleteError, match="parts are missing"):
        merge(url, Options(output=tmp_path / "y.bw"))
    assert not (tmp_path / "y.bw").exists()
    with ThreadPoolExecutor(4) as workers:  # two workers on each of the other shards
        assert len(list(workers.map(lambda n: run.scan_shard(genome, options, n % 2, 3), range(4)))) == 4
    merge(url, Options(output=tmp_path / "y.bw", bed=tmp_path / "y.bed"), genome)
    for name in ("bw", "bed"):
        assert (tmp_path / f"y.{name}").read_bytes() == (tmp_path / f"x.{name}").read_bytes()


def test_two_plans_on_a_server_do_not_mix(server: str, genome: Path, tiny_weights: Path) -> None:
    url = "s3://a-bucket/another"
    run.scan_shard(genome, options_of(url, tiny_weights), 0, 2)
    with pytest.raises(InputError, match="holds another run"):
        run.scan_shard(genome, replace(options_of(url, tiny_weights), step=10), 0, 2)
    assert len(ScoreStore.open(url).missing()) == 3


def test_a_bucket_that_is_not_there(server: str, genome: Path, tiny_weights: Path) -> None:
    with pytest.raises(InputError, match="s3://no-bucket/x"):
        run.scan_shard(genome, options_of("s3://no-bucket/x", tiny_weights), 0, 1)
    with pytest.raises(InputError, match="s3://a-bucket/nothing"):
        ScoreStore.open("s3://a-bucket/nothing")


def test_a_server_that_does_not_answer(
    genome: Path, tiny_weights: Path, server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for address, error, message in (
        ("ftp://x", InputError, "begin with http"),
        ("http://127.0.0.1:1", IncompleteError, "does not answer"),
    ):
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", address)
        monkeypatch.setattr(places, "_RETRIES", {"max_retries": 1, "initial_delay": "1ms", "max_delay": "1ms"})
        places.context.cache_clear()
        with pytest.raises(error, match=message):
            run.scan_shard(genome, options_of("s3://a-bucket/silent", tiny_weights), 0, 1)
    places.context.cache_clear()


@pytest.mark.slow
def test_a_batch_on_a_server(server: str, genome: Path, tiny_weights: Path, tmp_path: Path) -> None:
    pytest.importorskip("ray")
    alone = options_of(str(tmp_path / "s"), tiny_weights, output=tmp_path / "x.bw")
    run.scan_genome(genome, alone)
    shared = options_of("s3://a-bucket/batch", tiny_weights, output=tmp_path / "y.bw")
    scan_batch([(str(genome), shared)], workers=1)
    assert (tmp_path / "y.bw").read_bytes() == (tmp_path / "x.bw").read_bytes()
