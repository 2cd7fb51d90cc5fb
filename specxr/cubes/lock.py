"""One writer at a time: a lock in the store itself, with a heartbeat."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import psutil
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath

from specxr.cubes.locations import PathLike
from specxr.cubes.store import open_group

BEAT_SECONDS = 20.0
STALE_SECONDS = 600.0


class Lock:
    """A lock that this process holds; `beat` renews it, and must be called at least every few minutes.

    Parameters
    ----------
    place : StorePath
        Place of the lock in the store.
    what : str
        What is locked, for messages.
    token : str
        A word that no other process has.
    """

    def __init__(self, place: StorePath, what: str, token: str):
        self._place, self._what, self._token = place, what, token
        self._started = self._beaten = time.time()

    @property
    def content(self) -> bytes:
        """Metadata of an empty Zarr group, so that Zarr knows everything that lies in the store."""
        holder = {
            "token": self._token, "host": socket.gethostname(), "pid": os.getpid(),
            "started": self._started, "beat": self._beaten,
        }  # fmt: skip
        return json.dumps({"zarr_format": 3, "node_type": "group", "attributes": holder}).encode()

    def acquire(self) -> dict[str, Any] | None:
        """Take the lock, or return the holder if another process has it."""
        for _ in range(2):  # the second time without the stale one
            sync(self._place.set_if_not_exists(_buffer(self.content)))
            holder = _read(self._place)
            if holder is not None and holder["token"] == self._token:
                return None
            if holder is not None and not _is_stale(holder):
                break
            sync(self._place.delete())
        return holder

    def beat(self) -> None:
        """Renew the lock if that is due.

        Raises
        ------
        BlockingIOError
            Another process has taken the lock over.
        """
        if time.time() - self._beaten < BEAT_SECONDS:
            return
        self._check_held()
        self._beaten = time.time()
        sync(self._place.set(_buffer(self.content)))

    def _check_held(self) -> None:
        holder = _read(self._place)
        if holder is None or holder["token"] != self._token:
            by = "the lock was removed" if holder is None else f"it is held by {_describe(holder)}"
            raise BlockingIOError(
                f"this process was silent for more than {STALE_SECONDS:.0f} s and lost its lock on {self._what}: "
                f"{by}. One writer at a time is required. Let the other process finish, or stop it, and call again."
            )

    def release(self) -> None:
        """Remove the lock, if it is still held."""
        holder = _read(self._place)
        if holder is not None and holder["token"] == self._token:
            sync(self._place.delete())


@contextmanager
def hold(path: PathLike, name: str) -> Iterator[Lock]:
    """Hold the lock `name` of a store while the block runs.

    A lock is taken over if its process is dead, or if it was not renewed for ten minutes.

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
        place = _place(path, name)
        lock = Lock(place, f"{name} of {path}", uuid4().hex)
        holder = lock.acquire()
    except OSError as error:
        raise type(error)(
            f"cannot write in {path}: {error}. A store with free space and permission to write is required. Make "
            "it writable, or copy the cube to another place."
        ) from error
    if holder is not None:
        raise BlockingIOError(_held(path, name, holder))
    try:
        yield lock
    finally:
        lock.release()


def check_free(path: PathLike, name: str) -> None:
    """Raise ``BlockingIOError`` if another process holds the lock `name` of a store."""
    holder = _read(_place(path, name, "r"))
    if holder is not None and not _is_stale(holder):
        raise BlockingIOError(_held(path, name, holder))


def _place(path: PathLike, name: str, mode: Any = "r+") -> StorePath:
    group = open_group(path, mode)
    if mode == "r+":
        group.require_group("locks")
    return group.store_path / "locks" / name / "zarr.json"


def _read(place: StorePath) -> dict[str, Any] | None:
    content = sync(place.get())
    return None if content is None else dict(json.loads(content.to_bytes())["attributes"])


def _is_stale(holder: dict[str, Any]) -> bool:
    if time.time() - holder["beat"] > STALE_SECONDS:
        return True
    return holder["host"] == socket.gethostname() and not _lives(holder["pid"])


def _lives(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _held(path: PathLike, name: str, holder: dict[str, Any]) -> str:
    return (
        f"{path} is being written ({name}) by {_describe(holder)}; one writer at a time is required. Wait until it "
        f"has finished, or stop it: the lock of a dead process is taken over, "
        f"on another host after {STALE_SECONDS / 60:.0f} minutes."
    )


def _describe(holder: dict[str, Any]) -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(holder["started"]))
    return f"process {holder['pid']} on {holder['host']} since {since}"


def _buffer(content: bytes) -> Any:
    return default_buffer_prototype().buffer.from_bytes(content)
