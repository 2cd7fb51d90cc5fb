"""One writer at a time: a lock in the store itself, which its holder renews.

A lock is a series of records ``locks/<name>@<generation>``, and the record of the highest generation says who holds
it. A process takes a lock that is free or stale by creating the next generation, which the store allows only once;
nobody removes the record of another, so that two processes which find one stale lock cannot both take it. The record
of the highest generation stays, marked as released, when the lock is given back: without it a process that has slept
since it looked could create a generation that was used already.
"""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import uuid4

import psutil
from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from specxr.cubes.group import open_group
from specxr.cubes.locations import PathLike, age_of, is_group, reported

BEAT_SECONDS = 20.0
STALE_SECONDS = 600.0
_TRIES = 100  # far more than processes that may come first

_Holder = dict[str, Any]


class Lock:
    """A lock that this process holds; `beat` renews it, and must be called at least every few minutes.

    Parameters
    ----------
    series : StorePath
        Place of the lock in the store, without a generation.
    what : str
        What is locked, for messages.
    token : str
        A word that no other process has.
    """

    def __init__(self, series: StorePath, what: str, token: str):
        self._series, self._what, self._token = series, what, token
        self._generation = 0
        self._started, self._beaten = time.time(), time.monotonic()

    def acquire(self) -> _Holder | None:
        """Take the lock, or return the holder if another process has it."""
        for _ in range(_TRIES):
            generation, holder = _latest(self._series)
            if holder and not _is_free(self._series, generation, holder):
                return holder
            # An empty generation is one whose record is being written at this moment, or was removed.
            self._generation = generation + (holder is not None)
            with suppress(FileNotFoundError):  # the folder of a generation that is over was removed meanwhile
                sync(_place(self._series, self._generation).set_if_not_exists(self._record()))
            generation, holder = _latest(self._series)
            if holder and holder["token"] == self._token:
                _remove_below(self._series, generation)
                return None
        raise OSError(f"the lock {self._series.path} cannot be taken in {_TRIES} attempts")

    def beat(self) -> None:
        """Renew the lock if that is due.

        Raises
        ------
        BlockingIOError
            Another process has taken the lock over.
        """
        if time.monotonic() - self._beaten < BEAT_SECONDS:
            return
        if not self._is_held():
            _, holder = _latest(self._series)
            by = f"it is held by {_describe(holder)}" if holder else "the lock was removed"
            raise BlockingIOError(
                f"this process was silent for more than {STALE_SECONDS:.0f} s and lost its lock on {self._what}: "
                f"{by}. One writer at a time is required. Let the other process finish, or stop it, and call again."
            )
        self._beaten = time.monotonic()
        sync(_place(self._series, self._generation).set(self._record()))

    def release(self) -> None:
        """Give the lock back, if it is still held."""
        if self._is_held():
            sync(_place(self._series, self._generation).set(self._record(released=True)))

    def _is_held(self) -> bool:
        generation, holder = _latest(self._series)
        # A record that is damaged is written anew by the next beat.
        return generation == self._generation and (not holder or holder["token"] == self._token)

    def _record(self, released: bool = False) -> Any:
        return _metadata(
            token=self._token,
            host=socket.gethostname(),
            pid=os.getpid(),
            started=self._started,
            released=released,
        )


@contextmanager
def hold(path: PathLike, name: str) -> Iterator[Lock]:
    """Hold the lock `name` of a store while the block runs.

    A lock is taken over if its process is dead, or if it was not renewed for ten minutes by the clock of the store.

    Parameters
    ----------
    path : path-like
        The cube.
    name : str
        Name of the lock: ``run-<name>`` for a run, ``stars`` for changes of the spectra themselves.

    Raises
    ------
    BlockingIOError
        Another process holds it.
    """
    try:
        with reported(path):
            lock = Lock(_series(path, name, "r+"), f"{name} of {path}", uuid4().hex)
            holder = lock.acquire()
    except OSError as error:
        if isinstance(error, ConnectionError | FileNotFoundError):
            raise
        raise type(error)(
            f"cannot write in {path}: {error}. A store with free space and permission to write is required. Make "
            "it writable, or copy the cube to another place."
        ) from error
    if holder is not None:
        raise BlockingIOError(_held(path, name, holder))
    try:
        yield lock
    finally:
        with (
            suppress(OSError),
            reported(path),
        ):  # what happened before is more important; the lock grows stale
            lock.release()


def check_free(path: PathLike, name: str) -> None:
    """Raise ``BlockingIOError`` if another process holds the lock `name` of a store."""
    with reported(path):
        series = _series(path, name, "r")
        generation, holder = _latest(series)
        free = not holder or _is_free(series, generation, holder)
    if holder and not free:
        raise BlockingIOError(_held(path, name, holder))


@contextmanager
def no_writer(path: PathLike) -> Iterator[None]:
    """Raise ``BlockingIOError`` if another process holds any lock of a store, before the block runs and at its end.

    A store that is to be replaced is looked at twice, because making the new one may take hours.
    """
    _check_no_writer(path)
    yield
    _check_no_writer(path)


def _check_no_writer(path: PathLike) -> None:
    if not is_group(path):
        return
    with reported(path):
        place = open_group(path).store_path / "locks"
        names = {entry.rpartition("@")[0] for entry in sync(_entries(place.store, place.path))}
    for name in sorted(names - {""}):
        check_free(path, name)


def _series(path: PathLike, name: str, mode: Any) -> StorePath:
    group = open_group(path, mode)
    if mode == "r+":
        # Of several processes that find no such group, Zarr would let one alone go on.
        sync((group.store_path / "locks" / "zarr.json").set_if_not_exists(_metadata()))
    return group.store_path / "locks" / name


def _place(series: StorePath, generation: int) -> StorePath:
    return StorePath(series.store, f"{series.path}@{generation}/zarr.json")


def _generations(series: StorePath) -> list[int]:
    """Generations of a lock, in no order; no name of a run has the character @."""
    folder, _, name = series.path.rpartition("/")
    found = (entry.rpartition("@") for entry in sync(_entries(series.store, folder)))
    return [int(number) for known, _, number in found if known == name and number.isdecimal()]


async def _entries(store: Store, folder: str) -> list[str]:
    return [entry async for entry in store.list_dir(folder)]


def _latest(series: StorePath) -> tuple[int, _Holder | None]:
    """Highest generation of a lock, and its record: None where there is none, empty where it is damaged."""
    generation = max(_generations(series), default=1)
    content = sync(_place(series, generation).get())
    if content is None:
        return generation, None
    try:
        holder = json.loads(content.to_bytes())["attributes"]
        known = {"token": str, "host": str, "pid": int, "started": float, "released": bool}
        return generation, {name: kind(holder[name]) for name, kind in known.items()}
    except (ValueError, KeyError, TypeError):
        return generation, {}


def _remove_below(series: StorePath, generation: int) -> None:
    for old in _generations(series):
        if old < generation:
            with suppress(OSError):  # another process removes it at the same moment
                sync(series.store.delete_dir(f"{series.path}@{old}"))


def _is_free(series: StorePath, generation: int, holder: _Holder) -> bool:
    """Whether the holder has given the lock back, is dead, or has been silent for too long."""
    if holder["released"] or (holder["host"] == socket.gethostname() and not _lives(holder["pid"])):
        return True
    # Clocks of hosts differ: the age is measured with the clock of the store alone.
    try:
        return age_of(series.store, _place(series, generation).path) > STALE_SECONDS
    except FileNotFoundError:  # a higher generation has taken its place, which the next look will find
        return True


def _metadata(**attributes: object) -> Any:
    """Metadata of an empty Zarr group, so that Zarr knows everything that lies in the store."""
    content = {"zarr_format": 3, "node_type": "group", "attributes": attributes}
    return default_buffer_prototype().buffer.from_bytes(json.dumps(content).encode())


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError):
        return False


def _held(path: PathLike, name: str, holder: _Holder) -> str:
    return (
        f"{path} is being written ({name}) by {_describe(holder)}; one writer at a time is required. Wait until it "
        f"has finished, or stop it: the lock of a dead process is taken over, "
        f"on another host after {STALE_SECONDS / 60:.0f} minutes."
    )


def _describe(holder: _Holder) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["started"]))
    return f"process {holder['pid']} on {holder['host']} since {since}"
