"""Locks: one holder at a time, whatever clocks say and however many processes find one stale lock."""

import json
import os
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import pytest
import zarr
from support.fakes import fake_cube, write_fake_cube

import specxr
from specxr.cubes import lock
from specxr.cubes.store import open_cube, write_cube

STALE = lock.STALE_SECONDS


@pytest.fixture
def path(tmp_path):
    return str(write_fake_cube(tmp_path / "cube.zarr", 5))


def places(path, name="run-lasp"):
    return {int(p.parent.name.split("@")[1]): p for p in Path(path, "locks").glob(f"{name}@*/zarr.json")}


def holder(path, name="run-lasp"):
    return json.loads(max(places(path, name).items())[1].read_text())["attributes"]


def put_holder(path, name="run-lasp", silent=0.0, **attributes):
    """A lock of somebody else, which was renewed so many seconds ago."""
    content = {"token": "theirs", "host": socket.gethostname(), "pid": os.getpid(), "started": time.time()}
    content |= {"released": False, **attributes}
    place = Path(path, "locks", f"{name}@{max(places(path, name), default=0) + 1}", "zarr.json")
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps({"zarr_format": 3, "node_type": "group", "attributes": content}))
    now = place.stat().st_mtime
    os.utime(place, (now - silent, now - silent))
    return place


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


@pytest.mark.parametrize("clock", [0.0, -700.0, 86_400.0])
@pytest.mark.parametrize(("silent", "free"), [(STALE - 10, False), (STALE + 10, True)])
def test_the_lock_of_another_host_is_taken_over_when_it_falls_silent(path, silent, free, clock):
    """Whatever the clock of that host says: some minutes behind, or a day ahead."""
    put_holder(path, host="node7", pid=1, silent=silent, started=time.time() - silent + clock)
    if free:
        with lock.hold(path, "run-lasp"):
            assert holder(path)["token"] != "theirs"
    else:
        with pytest.raises(BlockingIOError, match="process 1 on node7"), lock.hold(path, "run-lasp"):
            pass


def test_a_holder_shows_that_it_lives(path, monkeypatch):
    """Also where the clock of its host is set back or ahead meanwhile."""
    with lock.hold(path, "run-lasp") as held:
        place = places(path)[1]
        os.utime(place, (0, 0))
        monkeypatch.setattr(time, "time", lambda: 0.0)
        held.beat()
        assert place.stat().st_mtime == 0.0  # not due yet
        monkeypatch.setattr(lock, "BEAT_SECONDS", 0.0)
        held.beat()
        assert place.stat().st_mtime > 0.0


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


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"attributes": {"token": 3}}', b"\xff" * 40])
def test_a_damaged_lock_is_taken_over(path, content):
    put_holder(path, host="node7", pid=1).write_bytes(content)
    lock.check_free(path, "run-lasp")
    with lock.hold(path, "run-lasp"):
        with pytest.raises(BlockingIOError, match="one writer at a time"), lock.hold(path, "run-lasp"):
            pass


def test_a_holder_whose_record_is_damaged_mends_it(path, monkeypatch):
    monkeypatch.setattr(lock, "BEAT_SECONDS", 0.0)
    with lock.hold(path, "run-lasp") as held:
        places(path)[1].write_bytes(b"{")
        held.beat()
        assert holder(path)["pid"] == os.getpid()


def test_zarr_knows_everything_that_locks_leave(path):
    for _ in range(3):
        with lock.hold(path, "run-lasp"):
            specxr.open_cube(path)
    assert list(places(path)) == [3]  # the last one, which says that the lock is free
    assert list(zarr.open_group(path, mode="r")["locks"].group_keys()) == ["run-lasp@3"]


# Races: of many that find one stale lock, one takes it


def count_holders(path, names, n_threads=6):
    """Number of holders that many attempts at the same instant find, for each lock."""
    counts = []
    with ThreadPoolExecutor(n_threads) as pool:
        for name in names:
            begin, end = Barrier(n_threads), Barrier(n_threads)

            def attempt(_, name=name, begin=begin, end=end):
                begin.wait()
                one = lock.Lock(lock._series(path, name, "r+"), name, os.urandom(8).hex())
                took = one.acquire() is None
                end.wait()  # nobody gives it back before all have tried
                if took:
                    one.release()
                return took

            counts.append(sum(pool.map(attempt, range(n_threads))))
    return counts


def test_one_of_many_threads_takes_over_a_stale_lock(path):
    names = [f"run-{n}" for n in range(40)]
    for name in names:
        put_holder(path, name, host="node7", pid=1, silent=STALE + 10)
    assert count_holders(path, names) == [1] * 40


def test_one_of_many_threads_takes_over_a_stale_lock_in_a_bucket(bucket, monkeypatch):
    url = f"{bucket}/cube.zarr"
    write_cube(fake_cube(5), url)
    monkeypatch.setattr(lock, "_lives", lambda pid: pid != 1)
    names = [f"run-{n}" for n in range(6)]
    for name in names:
        dead = lock.Lock(lock._series(url, name, "r+"), name, "theirs")
        with monkeypatch.context() as patch:
            patch.setattr(os, "getpid", lambda: 1)
            assert dead.acquire() is None
    assert count_holders(url, names, 4) == [1] * 6


PROCESS = """
import os, sys, time
from specxr.cubes import lock
path, turn = sys.argv[1:]
print("ready", flush=True)
for name in map(str.strip, sys.stdin):
    one = lock.Lock(lock._series(path, name, "r+"), name, os.urandom(8).hex())
    print(int(one.acquire() is None), flush=True)
"""


def test_one_of_many_processes_takes_over_a_stale_lock(path):
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESS, path, str(n)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        for n in range(3)
    ]  # fmt: skip
    try:
        assert all(process.stdout.readline() == "ready\n" for process in processes)
        for n in range(30):
            put_holder(path, f"run-{n}", host="node7", pid=1, silent=STALE + 10)
            for process in processes:
                process.stdin.write(f"run-{n}\n")
                process.stdin.flush()
            assert sum(int(process.stdout.readline()) for process in processes) == 1
    finally:
        for process in processes:
            process.communicate()


def test_a_process_that_slept_since_it_looked_does_not_become_a_second_holder(path, monkeypatch):
    """It creates a generation that others used and left meanwhile."""
    put_holder(path, host="node7", pid=1, silent=STALE + 10)
    look, slept = lock._latest, []

    def others_come_first(series):
        found = look(series)
        if not slept:
            slept.append(True)
            with lock.hold(path, "run-lasp"):
                pass
            with lock.hold(path, "run-lasp"):
                pass
            others.append(lock.Lock(series, "run-lasp", "others"))
            assert others[0].acquire() is None
        return found

    others = []
    monkeypatch.setattr(lock, "_latest", others_come_first)
    assert lock.Lock(lock._series(path, "run-lasp", "r+"), "run-lasp", "late").acquire()["token"] == "others"
    others[0].beat()
    assert holder(path)["token"] == "others"


def test_a_cube_in_use_is_not_replaced_by_write_cube(tmp_path):
    path = write_fake_cube(tmp_path / "cube.zarr", 10)
    write_cube(fake_cube(5), path, overwrite=True)
    with lock.hold(path, "run-lasp"), pytest.raises(BlockingIOError, match="is being written \\(run-lasp\\)"):
        write_cube(fake_cube(10), path, overwrite=True)
    assert open_cube(path).sizes["star"] == 5
    assert os.listdir(tmp_path) == ["cube.zarr"]
    write_cube(fake_cube(10), path, overwrite=True)
