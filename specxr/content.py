"""Content: its fingerprint, objects that travel as a path and a hash, and files that are whole or absent."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, TypeVar
from uuid import uuid4

import numpy as np

_SHORT = 16  # characters of a SHA-256 that tell options, grids and blocks apart


class Fingerprinted(Protocol):
    """What has a content hash."""

    @property
    def fingerprint(self) -> str:
        """Hash of everything that decides a result."""


_T = TypeVar("_T", bound=Fingerprinted)


def fingerprint(*parts: object) -> str:
    """SHA-256 of arrays and of values that JSON can hold, in their order, as 64 hexadecimal digits.

    Parameters
    ----------
    *parts : ndarray, bytes, or anything that JSON can hold
        The shape and the type of an array count as well as its numbers.
    """
    content = hashlib.sha256()
    for part in parts:
        if isinstance(part, np.ndarray):
            array = np.ascontiguousarray(part)
            content.update(f"{array.shape} {array.dtype.str} ".encode())
            content.update(array.tobytes())
        else:
            content.update(part if isinstance(part, bytes) else json.dumps(part, sort_keys=True).encode())
        content.update(b"\n")
    return content.hexdigest()


def fingerprint_of_file(arrays: Mapping[str, Any], attributes: Mapping[str, Any]) -> str:
    """`fingerprint` of named arrays and of the attributes beside them, for the files that hold both."""
    return fingerprint(attributes, *(part for name in sorted(arrays) for part in (name, arrays[name])))


def short_fingerprint(*parts: object) -> str:
    """The first sixteen digits of `fingerprint`."""
    return fingerprint(*parts)[:_SHORT]


def timestamp() -> str:
    """Time of this moment in UTC, to the second, as ISO 8601 has it."""
    return datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def by_reference(opener: Callable[[str], _T], source: str, content: _T) -> tuple[Any, ...]:
    """What ``__reduce__`` returns so that an object travels as the path and the hash of what it was read from.

    Weights would otherwise be copied into every task of a graph.

    Parameters
    ----------
    opener : callable
        A function of a module that opens `source`.
    source : str
        Path or name.
    content : object
        The object that `opener` returned.
    """
    return reopen, (opener, source, content.fingerprint)


@lru_cache(maxsize=8)
def reopen(opener: Callable[[str], _T], source: str, expected: str) -> _T:
    """Open once in each process what another process opened.

    Raises
    ------
    ValueError
        The content is not what it was there.
    """
    content = opener(source)
    if content.fingerprint != expected:
        raise ValueError(
            f"{source} has the fingerprint {content.fingerprint[:_SHORT]} here, not {expected[:_SHORT]} as where the "
            "work was prepared; both must be the same. Give every machine the same file and the same version of specxr."
        )
    return content


@contextmanager
def whole_file(path: str | os.PathLike[str], overwrite: bool = True) -> Iterator[Path]:
    """Yield a path to write to; the file takes its name when the block ends without an error.

    Parameters
    ----------
    path : path-like
    overwrite : bool, optional
        Whether a file of this name may be replaced.

    Raises
    ------
    FileNotFoundError, PermissionError, FileExistsError
        The folder does not exist or cannot be written to, or the file exists and may not be replaced.
    """
    check_writable(path, overwrite)
    path = Path(path)
    # In the same folder, because a replacement is atomic only within one file system; with the same suffix, because
    # writers choose a format by it.
    draft = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        with room_named(path):
            yield draft
            os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)


@contextmanager
def room_named(path: str | os.PathLike[str]) -> Iterator[None]:
    """Name the path, and the space that is left, where a disk is full: the system does not."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        folder = next(parent for parent in Path(path).absolute().parents if parent.is_dir())
        raise OSError(
            error.errno,
            f"{path} cannot be written: {os.strerror(error.errno)} ({shutil.disk_usage(folder).free / 1e6:,.0f} MB "
            f"free in {folder}); room for all of it is required. Make room, or choose another place.",
        ) from error


def check_local(path: str | os.PathLike[str]) -> None:
    """Raise ``ValueError`` where a file is to be written to a URL."""
    if "://" in os.fspath(path):
        # The URL itself is not repeated: it may hold a secret.
        raise ValueError(
            "a file is to be written to a URL; a path of this machine is required. Write it here, and copy it."
        )


def check_writable(path: str | os.PathLike[str], overwrite: bool = True) -> None:
    """Raise, before anything is computed, where `whole_file` refuses this path."""
    check_local(path)
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"the folder '{path.parent}' of {path.name} does not exist; an existing folder is required. Make it, or "
            "choose another one."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"the folder '{path.parent}' cannot be written to; write permission is required. Choose another folder "
            f"for {path.name}."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"'{path}' exists already; a new name is required. Choose another name, or overwrite it (--overwrite)."
        )
