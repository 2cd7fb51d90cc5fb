"""What may happen to a run of days: after each fault the run is called again, and nothing is lost or done twice."""

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import dask
import numpy as np
import psutil
import pytest
import zarr
from support.fakes import HOG_ONCE, KILL, KILL_ONCE, KillWhileWriting, Mean, fake_cube, write_fake_cube

import specxr
from specxr.cubes.group import open_group
from specxr.cubes.lock import hold
from specxr.cubes.store import open_cube, open_labels, write_cube
from specxr.runs import cluster, ledger
from specxr.runs.run import Run
from specxr.vocabulary import Result

# distributed leaves sockets of workers that were killed to the garbage collector
pytestmark = pytest.mark.filterwarnings(
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)

WAIT = 600.0  # for processes to start on a machine that is busy


@pytest.fixture(autouse=True)
def _patience():
    """A machine that is busy takes its time to start a worker in place of one that was killed."""
    with dask.config.set({"specxr.wait": WAIT}):
        yield


@pytest.fixture
def path(tmp_path):
    """40 stars in 8 blocks."""
    return write_fake_cube(tmp_path / "cube.zarr")


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log"


@pytest.fixture(scope="module")
def workers():
    """Two processes, which may be killed: others take their places."""
    with cluster.local(2) as client:
        yield client


def assert_undisturbed(path, run="a"):
    """Every label is what a single pass over the cube gives, and the ledger tells of each star once."""
    expected = specxr.infer(open_cube(path), Mean()).compute(scheduler="synchronous")
    stored = open_group(path)[f"labels/{run}"]
    for name in expected.data_vars:
        assert stored[name][:].tobytes() == expected[name].values.tobytes(), name
    assert open_labels(path, run).attrs["complete"] is True
    blocks = Run.at(path, run).read_ledger().blocks
    assert {block.state for block in blocks} == {ledger.DONE}
    assert sum(sum(block.results.values()) for block in blocks) == expected.sizes["star"]
    assert [block.star_start for block in blocks[1:]] == [block.star_stop for block in blocks[:-1]]


def fitted(log):
    return sorted(int(line.split()[0]) for line in log.read_text().splitlines())


# Workers


@pytest.mark.slow
def test_workers_killed_in_mid_write_at_ten_random_instants(workers, tmp_path, log):
    path = write_fake_cube(tmp_path / "cube.zarr", 150)
    kills = tmp_path / "kills"
    kills.mkdir()
    workers.register_plugin(KillWhileWriting(str(kills), 10, seed=4))
    summary = specxr.run(path, Mean(str(log)), name="a", client=workers)
    assert len(os.listdir(kills)) == 10
    assert summary.complete
    assert_undisturbed(path)
    blocks = Run.at(path, "a").read_ledger().blocks
    # A worker that dies after the record of its block was written loses nothing but its answer.
    assert 30 <= len(fitted(log)) <= 30 + 10
    assert set(fitted(log)) == set(range(0, 150, 5))
    assert max(block.attempts for block in blocks) <= 3


def test_a_worker_that_dies_costs_its_block_one_attempt(workers, tmp_path, log):
    path = write_fake_cube(tmp_path / "cube.zarr", faults={7: KILL_ONCE})
    summary = specxr.run(path, Mean(str(log)), name="a", client=workers)
    assert summary.complete
    assert [block.attempts for block in Run.at(path, "a").read_ledger().blocks] == [1, 2, 1, 1, 1, 1, 1, 1]
    assert fitted(log) == list(range(0, 40, 5))
    assert_undisturbed(path)


def test_a_block_that_kills_its_workers_is_set_aside(workers, tmp_path, log):
    path = write_fake_cube(tmp_path / "cube.zarr", faults={38: KILL})
    summary = specxr.run(path, Mean(str(log)), name="a", client=workers)
    (block,) = summary.quarantined
    assert (block.index, block.attempts, block.state) == (7, 3, ledger.QUARANTINED)
    assert "KilledWorker" in block.error
    assert fitted(log) == list(range(0, 35, 5))  # those beside it are none the worse
    assert (open_labels(path, "a").result[35:] == Result.NOT_FITTED).all()
    zarr.open_group(path, mode="r+")["flux"][38, 0] = 100.0
    assert specxr.run(path, Mean(str(log)), name="a", client=workers).n_fitted == 5
    assert_undisturbed(path)


def test_a_worker_out_of_memory_is_ended_and_its_block_fitted_by_another(tmp_path, log):
    path = write_fake_cube(tmp_path / "cube.zarr", faults={12: HOG_ONCE})
    with cluster.local(1, memory_limit="900 MB") as client:
        summary = specxr.run(path, Mean(str(log)), name="a", client=client)
    assert summary.complete
    assert Run.at(path, "a").read_ledger().blocks[2].attempts == 2
    assert_undisturbed(path)


# The driver


DRIVER = """
import os, signal, sys
import specxr
from support.fakes import Mean

def die(summary):
    if summary.n_fitted >= 15:
        os.kill(os.getpid(), signal.SIGKILL)

if __name__ == "__main__":
    with specxr.cluster.local(1) as client:
        specxr.run(sys.argv[1], Mean(sys.argv[2]), name="a", client=client, progress=die)
"""


def test_a_driver_that_is_killed_leaves_what_is_done(client, path, log, tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    driver = subprocess.Popen(
        [sys.executable, str(script), str(path), str(log)], env=environment, stderr=subprocess.DEVNULL
    )
    assert driver.wait(timeout=WAIT) == -signal.SIGKILL
    done = [block for block in Run.at(path, "a").read_ledger().blocks if block.state == ledger.DONE]
    assert 3 <= len(done) <= 5
    assert open_labels(path, "a").attrs["complete"] is False
    worker = int(done[0].worker.split(":")[1])
    deadline = time.monotonic() + WAIT
    while psutil.pid_exists(worker):  # it ends when it finds itself alone
        assert time.monotonic() < deadline

    summary = specxr.run(
        path, Mean(str(log)), name="a", client=client
    )  # the lock of the dead is no hindrance
    assert summary.complete
    after = Run.at(path, "a").read_ledger().blocks
    assert [after[block.index] for block in done] == done
    assert_undisturbed(path)
    assert len(fitted(log)) <= 8 + 1  # the block that was under way


# The store


def fail_writes(monkeypatch, error, after=0, only=""):
    """Writes of keys with `only` in them fail, from one on."""
    write = zarr.storage.LocalStore._set
    count = iter(range(10**9))

    async def fail(self, key, value, **kwargs):
        if only in key and next(count) >= after:
            raise error
        await write(self, key, value, **kwargs)

    monkeypatch.setattr("zarr.storage.LocalStore._set", fail)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
def test_a_store_that_takes_no_more_stops_the_run_with_one_line(one_thread, path, log, monkeypatch, number):
    error = OSError(number, os.strerror(number))
    with monkeypatch.context() as patch:
        fail_writes(patch, error, after=12, only="/c/")
        found = f"{path} cannot be written: {os.strerror(number)} .* free in {path.parent}"
        with pytest.raises(
            OSError,
            match=rf"{os.strerror(number) if number == errno.EROFS else found}.*room and permission to write is "
            "required. Correct",
        ):
            specxr.run(path, Mean(str(log)), name="a", client=one_thread)
    done = [block for block in Run.at(path, "a").read_ledger().blocks if block.state == ledger.DONE]
    assert 0 < len(done) < 8
    assert specxr.run(path, Mean(str(log)), name="a", client=one_thread).n_fitted == 40 - 5 * len(done)
    assert_undisturbed(path)


def test_a_disk_too_full_for_labels_but_not_for_the_ledger(client, path, monkeypatch):
    with monkeypatch.context() as patch:
        fail_writes(patch, OSError(errno.ENOSPC, "No space left on device"), after=6, only="a/covariance/c/")
        summary = specxr.run(path, Mean(), name="a", client=client)
    assert len(summary.quarantined) == 2
    assert f"{path} cannot be written: No space left on device (" in summary.quarantined[0].reason
    assert specxr.run(path, Mean(), name="a", client=client).n_fitted == 10
    assert_undisturbed(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_store_is_refused(path):
    for folder in [path, *(p for p in path.rglob("*") if p.is_dir())]:
        folder.chmod(0o500)
    try:
        with pytest.raises(PermissionError, match="permission to write is required"):
            specxr.run(path, Mean(), name="a")
    finally:
        for folder in [path, *path.rglob("*")]:
            folder.chmod(0o700)


def truncate(chunk: Path):
    chunk.write_bytes(chunk.read_bytes()[:-20])


def flip(chunk: Path):
    content = bytearray(chunk.read_bytes())
    content[len(content) // 2] ^= 0x55
    chunk.write_bytes(bytes(content))


@pytest.mark.parametrize("damage", [truncate, flip])
def test_a_corrupt_chunk_costs_its_block_only(client, path, damage):
    chunk = path / "flux" / "c" / "3" / "0"
    sound = chunk.read_bytes()
    damage(chunk)
    summary = specxr.run(path, Mean(), name="a", client=client)
    assert [block.index for block in summary.quarantined] == [3]
    assert summary.quarantined[0].attempts == 3
    assert summary.n_done == 35
    chunk.write_bytes(sound)
    assert specxr.run(path, Mean(), name="a", client=client).n_fitted == 5
    assert_undisturbed(path)


def test_a_store_that_is_away_for_a_while(client, path, monkeypatch):
    """Each chunk of flux is refused once; object stores are asked again by obstore itself, before that."""
    read = zarr.storage.LocalStore.get
    refused = set()

    async def busy(self, key, *args, **kwargs):
        if key.startswith("flux/c/") and key not in refused:
            refused.add(key)
            raise OSError("503 Slow Down")
        return await read(self, key, *args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr("zarr.storage.LocalStore.get", busy)
        summary = specxr.run(path, Mean(), name="a", client=client)
    assert len(refused) == 8
    assert summary.complete
    assert {block.attempts for block in Run.at(path, "a").read_ledger().blocks} == {2}
    assert_undisturbed(path)


def test_a_run_in_a_bucket_that_answers_503_for_a_while(client, bucket, s3_server):
    url = f"{bucket}/cube.zarr"
    write_cube(fake_cube(20), url, star_chunk=5)

    def disturb(summary):
        if summary.n_fitted == 5:
            s3_server.fail(6)

    summary = specxr.run(url, Mean(), name="a", client=client, progress=disturb)
    assert summary.complete
    assert s3_server.failed == 6
    assert_undisturbed(url)
    with hold(url, "run-a"):
        with pytest.raises(BlockingIOError, match="is being written"):
            specxr.run(url, Mean(), name="a", client=client)
    assert specxr.run(url, Mean(), name="a", client=client).n_fitted == 0


def test_stars_are_not_mistaken(path):
    """The truth of this file: the fake estimator tells stars apart."""
    teff = specxr.infer(open_cube(path), Mean()).teff.values
    assert len(np.unique(teff)) == 40
