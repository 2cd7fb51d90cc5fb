"""The ledger of a run, and the lock that goes with it."""

import dataclasses
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import zarr
from support.fakes import write_fake_cube

import specxr
from specxr.cubes import lock
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord, Header
from specxr.runs.run import Run


@pytest.fixture
def path(tmp_path):
    """A cube of 12 stars with a run of three blocks that are waiting."""
    path = str(write_fake_cube(tmp_path / "cube.zarr", 12))
    Run(path, "lasp").begin(header(), NO_LABELS)
    return path


NO_LABELS = xr.Dataset({"teff": ("star", np.zeros(0))})


def header(**changes):
    known = Header("token", "Mean", "abc", {"scale": 1.0, "window": [1.0, 2.0]}, "def", 12, 5, "0.1.0")
    return dataclasses.replace(known, **changes)


# Records


def test_a_record_comes_back_as_it_was(path):
    record = BlockRecord(
        1, 5, 10, ledger.DONE, 2, "fingerprint", 1e9, 1e9 + 2.5, 0.5, 1.5, 0.25, 10, 20, 30, "host:1",
        {"converged": 4, "singular": 1}, "Traceback …\n  'é\"",
    )  # fmt: skip
    run = Run(path, "lasp")
    run.write_record(record)
    found = Run.at(path, "lasp").read_ledger()
    assert found.header == header()
    assert found.blocks == [BlockRecord(0, 0, 5), record, BlockRecord(2, 10, 12)]
    assert found.blocks[1].seconds == 2.5
    assert [block.n_stars for block in found.blocks] == [5, 5, 2]
    assert run.read_record(1) == record
    assert run.read_record(2) is None


def test_each_record_is_a_file_of_its_own(path):
    """So that it appears whole or not at all, and workers need not wait for each other."""
    for block in (2, 0):
        Run(path, "lasp").write_record(BlockRecord(block, 0, 5, ledger.DONE))
    assert sorted(os.listdir(f"{path}/labels/lasp/ledger/blocks/c")) == ["0", "2"]


def test_a_write_that_is_cut_short_leaves_the_record_before(path, monkeypatch):
    run = Run(path, "lasp")
    run.write_record(BlockRecord(0, 0, 5, ledger.DONE))

    async def cut(self, key, value, **kwargs):
        self.root.joinpath(key).with_suffix(".partial").write_bytes(value.to_bytes()[:20])
        raise OSError("power cut")

    monkeypatch.setattr("zarr.storage.LocalStore._set", cut)
    with pytest.raises(OSError, match="power cut"):
        run.write_record(BlockRecord(0, 0, 5, ledger.QUARANTINED))
    assert Run.at(path, "lasp").read_ledger().blocks[0].state == ledger.DONE


def test_zarr_and_xarray_see_nothing_strange(path):
    assert list(zarr.open_group(path, mode="r")["labels/lasp"].group_keys()) == ["ledger"]
    assert list(zarr.open_group(path, mode="r")["labels/lasp/ledger"].array_keys()) == ["blocks"]
    with lock.hold(path, "run-lasp"):
        specxr.open_cube(path)


def test_a_ledger_grows(path):
    run = Run(path, "lasp")
    run.write_record(BlockRecord(0, 0, 5, ledger.DONE))
    run.grow(header(n_stars=21))
    found = Run.at(path, "lasp").read_ledger()
    assert found.header.n_stars == 21
    assert [block.state for block in found.blocks] == ["done", *["waiting"] * 4]
    assert found.blocks[-1].star_stop == 21


def test_a_newer_ledger_is_refused(path):
    Run.at(path, "lasp").ledger.attrs["ledger_version"] = 99
    with pytest.raises(
        ValueError, match="version 99; version 1 or an older one is required .* Install a newer specxr"
    ):
        Run.at(path, "lasp").read_ledger()


def test_labels_without_a_ledger_are_named(path):
    with pytest.raises(FileNotFoundError, match="no ledger of a run 'slam'"):
        Run.at(path, "slam").read_ledger()


def test_the_fingerprint_is_of_estimator_grid_and_stars():
    obsid = np.arange(5)
    known = ledger.block_fingerprint("a", "b", obsid)
    assert known == ledger.block_fingerprint("a", "b", obsid.astype("i4"))
    others = [("c", "b", obsid), ("a", "c", obsid), ("a", "b", obsid[::-1]), ("a", "b", obsid[:4])]
    assert len({known, *(ledger.block_fingerprint(*other) for other in others)}) == 5


def test_blocks_cover_the_stars():
    assert ledger.blocks_of(12, 5) == [(0, 5), (5, 10), (10, 12)]
    assert ledger.blocks_of(10, 5) == [(0, 5), (5, 10)]


# Lock


def holder(path, name="run-lasp"):
    return json.loads(Path(path, "locks", name, "zarr.json").read_text())["attributes"]


def put_holder(path, name="run-lasp", **attributes):
    """A lock of somebody else."""
    content = {"token": "theirs", "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    content |= {"beat": time.time(), **attributes}
    file = Path(path, "locks", name, "zarr.json")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": content}))


def test_a_lock_is_held_by_one_and_given_back(path):
    with lock.hold(path, "run-lasp"):
        with pytest.raises(
            BlockingIOError, match=rf"is being written \(run-lasp\) by process {os.getpid()} on"
        ):
            with lock.hold(path, "run-lasp"):
                pass
        with pytest.raises(BlockingIOError, match="one writer at a time is required. Wait until"):
            lock.check_free(path, "run-lasp")
        with lock.hold(path, "run-slam"):  # another run of the same cube
            pass
    lock.check_free(path, "run-lasp")
    with lock.hold(path, "run-lasp"):
        pass


def test_a_lock_is_given_back_by_an_error(path):
    with pytest.raises(KeyboardInterrupt), lock.hold(path, "run-lasp"):
        raise KeyboardInterrupt
    lock.check_free(path, "run-lasp")


def dead_pid():
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def test_the_lock_of_a_dead_process_is_taken_over(path):
    put_holder(path, pid=dead_pid())
    lock.check_free(path, "run-lasp")
    with lock.hold(path, "run-lasp"):
        assert holder(path)["pid"] == os.getpid()


@pytest.mark.parametrize(("silent", "free"), [(590, False), (610, True)])
def test_the_lock_of_another_host_is_taken_over_when_it_falls_silent(path, silent, free):
    put_holder(path, host="node7", pid=1, beat=time.time() - silent)
    if free:
        with lock.hold(path, "run-lasp"):
            assert holder(path)["token"] != "theirs"
    else:
        with pytest.raises(BlockingIOError, match="process 1 on node7"), lock.hold(path, "run-lasp"):
            pass


def test_a_holder_shows_that_it_lives(path, monkeypatch):
    with lock.hold(path, "run-lasp") as held:
        first = holder(path)["beat"]
        held.beat()
        assert holder(path)["beat"] == first  # not due yet
        monkeypatch.setattr(lock, "BEAT_SECONDS", 0.0)
        held.beat()
        assert holder(path)["beat"] > first


def test_a_holder_that_was_taken_for_dead_stops(path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.0)
    with lock.hold(path, "run-lasp") as held:
        put_holder(path, host="node7", pid=1)
        with pytest.raises(BlockingIOError, match="process 1 on node7"):
            held.beat()
    assert holder(path)["token"] == "theirs"  # which is not ours to remove


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), OSError(30, "Read-only file system")]
)
def test_a_store_that_cannot_be_written_is_named(path, monkeypatch, error):
    async def refuse(self, key, value, **kwargs):
        raise error

    monkeypatch.setattr("zarr.storage.LocalStore._set", refuse)
    with pytest.raises(
        OSError, match=r"cannot write in .*cube.zarr.*permission to write is required. Make it"
    ):
        with lock.hold(path, "run-lasp"):
            pass
