"""Where stores lie: in folders of this machine, or as objects in a bucket; a string names both."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit
from uuid import uuid4

from zarr.abc.store import Store
from zarr.errors import BaseZarrError
from zarr.storage import LocalStore, ObjectStore

from specxr.content import room_named
from specxr.cubes.integrity import CheckedStore
from specxr.cubes.secrets import hidden_secrets

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Bucket

PathLike = str | os.PathLike[str]

# Requests are repeated where a store answers 5xx or does not answer, after 0.1 s at first and after 15 s at most.
_RETRIES: Any = {"max_retries": 12, "retry_timeout": timedelta(minutes=3)}
_COPIES_AT_ONCE = 16


class RemoteStore(ObjectStore[Any]):
    """A Zarr store of objects under a URL.

    It travels, and is printed, as the URL alone: a process that unpickles it connects with the credentials of its
    own environment, so that no task and no log contains any.

    Parameters
    ----------
    url : str
        URL such as ``s3://bucket/survey/cube.zarr``.
    read_only : bool, optional
        Whether writing is refused.
    """

    def __init__(self, url: str, *, read_only: bool = False) -> None:
        super().__init__(_connect(url), read_only=read_only)
        self.url = url

    def with_read_only(self, read_only: bool = False) -> RemoteStore:
        """Return the same store, to be read only or not."""
        return RemoteStore(self.url, read_only=read_only)

    def __reduce__(self) -> tuple[Any, ...]:
        return open_store, (self.url, self.read_only)

    def __str__(self) -> str:
        return self.url

    # Whatever a store answers passes here on its way to messages, tracebacks, ledgers and reports.

    async def get(self, key: str, prototype: Any, byte_range: Any = None) -> Any:
        """Read an object, or a part of it."""
        with hidden_secrets():
            return await super().get(key, prototype, byte_range)

    async def get_partial_values(self, prototype: Any, key_ranges: Any) -> Any:
        """Read parts of objects."""
        with hidden_secrets():
            return await super().get_partial_values(prototype, key_ranges)

    async def exists(self, key: str) -> bool:
        """Whether there is such an object."""
        with hidden_secrets():
            return await super().exists(key)

    async def set(self, key: str, value: Any) -> None:
        """Write an object."""
        with hidden_secrets():
            await super().set(key, value)

    async def set_if_not_exists(self, key: str, value: Any) -> None:
        """Write an object unless it exists."""
        with hidden_secrets():
            await super().set_if_not_exists(key, value)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        with hidden_secrets():
            await super().delete(key)

    async def _list(self, prefix: str | None = None) -> AsyncIterator[Any]:  # type: ignore[override]
        with hidden_secrets():
            async for entry in super()._list(prefix):
                yield entry

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:  # type: ignore[override]
        """Names in a folder."""
        with hidden_secrets():
            async for name in super().list_dir(prefix):
                yield name

    async def getsize(self, key: str) -> int:
        """Size of an object [bytes]."""
        with hidden_secrets():
            return await super().getsize(key)


def is_url(path: PathLike) -> bool:
    """Whether a path names objects in a bucket."""
    return "://" in os.fspath(path)


def join(path: PathLike, *names: str) -> str:
    """Path of something inside a folder or under a URL."""
    return "/".join([os.fspath(path).rstrip("/"), *names])


def open_store(path: PathLike, read_only: bool = False) -> Store:
    """Open the Zarr store at a path or URL, which need not exist.

    Parameters
    ----------
    path : path-like
        Folder, or URL such as ``s3://bucket/cube.zarr``. Credentials, region and endpoint of a bucket are
        those of the environment (``AWS_ACCESS_KEY_ID``, ``AWS_REGION``, ``AWS_ENDPOINT_URL``, ...).
    read_only : bool, optional
        Whether writing is refused.

    Returns
    -------
    zarr.abc.store.Store
    """
    if is_url(path):
        return RemoteStore(os.fspath(path), read_only=read_only)
    return LocalStore(os.fspath(path), read_only=read_only)


def exists(path: PathLike) -> bool:
    """Whether there is anything at a path, or any object under a URL."""
    if not is_url(path):
        return Path(path).exists()
    with reported(path):
        return any(True for _ in _keys(_connect(os.fspath(path))))


def is_group(path: PathLike) -> bool:
    """Whether there is a Zarr v3 group, complete, at a path or URL."""
    if not is_url(path):
        return (Path(path) / "zarr.json").is_file()
    bucket = _connect(os.fspath(path))
    with reported(path):
        try:
            bucket.head("zarr.json")
        except FileNotFoundError:
            return False
    return True


def size_of(path: PathLike) -> int:
    """Size of all files or objects of a store [bytes]."""
    if not is_url(path):
        return sum(file.stat().st_size for file in Path(path).rglob("*") if file.is_file())
    with reported(path):
        return sum(entry["size"] for page in _connect(os.fspath(path)).list() for entry in page)


def age_of(store: Store, key: str) -> float:
    """Time since an object of a store was written [s], by the clock of the store itself.

    The clocks of hosts may differ by days: the age is that of the object beside one that is written now.
    """
    probe = f"{key.rpartition('/')[0]}/{uuid4().hex}.partial"
    store = store.wrapped if isinstance(store, CheckedStore) else store
    if isinstance(store, RemoteStore):
        bucket = store.store
        bucket.put(probe, b"", use_multipart=False)
        try:
            written, now = (bucket.head(name)["last_modified"].timestamp() for name in (key, probe))
        finally:
            bucket.delete(probe)
        return float(now - written)
    assert isinstance(store, LocalStore)
    file = store.root / probe
    try:
        file.touch()
        return file.stat().st_mtime - (store.root / key).stat().st_mtime
    finally:
        file.unlink(missing_ok=True)


@contextmanager
def reported(path: PathLike) -> Iterator[None]:
    """Turn what obstore raises into an error that says what to do."""
    if not is_url(path):
        with room_named(path):
            yield
        return
    from obstore.exceptions import BaseError

    try:
        with hidden_secrets():
            yield
    except BaseError as error:
        if isinstance(error, FileNotFoundError):
            raise
        raise ConnectionError(
            f"{path} cannot be reached: {error}; a bucket that exists and credentials that allow this are "
            "required. Check the URL and the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, "
            "AWS_ENDPOINT_URL; docs/how-to/clouds.md)."
        ) from error


@contextmanager
def readable(path: PathLike) -> Iterator[None]:
    """Turn whatever is raised where the metadata of a store are damaged into an error that names the store."""
    try:
        with reported(path):
            yield
    except (OSError, MemoryError, ImportError):
        raise
    except Exception as error:
        if isinstance(error, ValueError) and not isinstance(error, BaseZarrError | UnicodeDecodeError):
            raise
        what = " ".join(f"{type(error).__name__}: {error}".split())
        raise ValueError(
            f"{path} cannot be read ({what}); a store as specxr wrote it is required. Restore it from a "
            "copy, or write it anew."
        ) from error


@contextmanager
def staged(path: PathLike, overwrite: bool = False, folder: PathLike | None = None) -> Iterator[PathLike]:
    """Yield a new place to write a store in; it takes the place of `path` when the block ends without error.

    Parameters
    ----------
    path : path-like
        Place of the store.
    overwrite : bool, optional
        Whether a Zarr group at `path` is replaced; anything else is never replaced.
    folder : path-like, optional
        Folder of the draft, on the same disk or in the same bucket; that of `path` by default.

    Raises
    ------
    FileExistsError
        Something that may not be replaced is at `path`.

    Notes
    -----
    A folder is renamed, in one step. Object stores have no rename: there, objects are copied, and the metadata of the
    group come last, so that an incomplete copy is no store. What was at `path` is removed before the copies.
    """
    if exists(path) and not overwrite:
        raise FileExistsError(
            f"{path} exists already; a new name is required. Choose another name, or pass overwrite=True "
            "(--overwrite) to replace it."
        )
    if exists(path) and not is_group(path):
        raise FileExistsError(
            f"{path} exists and is not a Zarr group; a new name is required, since only a Zarr group can be replaced. "
            "Choose another name."
        )
    remote = is_url(path)
    if not remote and exists(path):
        _check_removable(Path(path))
    parent, _, name = os.fspath(path).rstrip("/").rpartition("/")
    hidden = f".{name}.{uuid4().hex[:8]}.partial"
    draft: PathLike = join(folder or parent, hidden) if remote else Path(folder or Path(path).parent) / hidden
    if not remote:
        _make_folder(Path(draft), path)
    try:
        with reported(path):
            yield draft
            _publish(os.fspath(path), os.fspath(draft)) if remote else _rename(Path(path), Path(draft))
    except BaseException:  # an interrupt, too, must leave nothing half written
        _remove(draft)
        raise


def _check_removable(path: Path) -> None:
    """Refuse, before anything is written, to replace a store that could not be removed afterwards."""
    for folder, _, _ in os.walk(path):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise PermissionError(
                f"{path} cannot be replaced: {folder} is read-only; write permission in all of its folders is "
                "required. Make it writable, or choose another name."
            )


def _make_folder(draft: Path, path: PathLike) -> None:
    try:
        draft.mkdir()
    except OSError as error:
        raise type(error)(
            f"cannot write {path}: {error.strerror} ({draft.parent}). An existing folder with write "
            "permission is required. Make the folder, or choose another one."
        ) from error


def _rename(path: Path, draft: Path) -> None:
    """Rename `draft` to `path`; what was there is kept until the new one is in place."""
    if not path.exists():
        draft.rename(path)
        return
    previous = draft.with_suffix(".previous")
    path.rename(previous)
    try:
        draft.rename(path)
    except BaseException:
        previous.rename(path)
        raise
    shutil.rmtree(previous)


def _publish(url: str, draft: str) -> None:
    """Copy the objects of `draft` to `url` inside the object store, the metadata of the group last."""
    bucket, new, old = _of_bucket(url), _prefix(url), _prefix(draft)
    _remove(url)
    keys = [key for key in _keys(_connect(draft)) if key != "zarr.json"]
    with ThreadPoolExecutor(_COPIES_AT_ONCE) as pool:
        list(pool.map(lambda key: bucket.copy(f"{old}/{key}", f"{new}/{key}"), keys))
    bucket.copy(f"{old}/zarr.json", f"{new}/zarr.json")
    _remove(draft)


def move_store(old: PathLike, new: PathLike) -> None:
    """Move a store to a place where nothing is, on the same disk or in the same bucket."""
    if is_url(new):
        _publish(os.fspath(new), os.fspath(old))
    else:
        Path(old).rename(new)


def remove_store(path: PathLike) -> None:
    """Remove all files or objects of a store."""
    if is_url(path):
        _remove(path)
    else:
        _check_removable(Path(path))
        shutil.rmtree(path)


def _remove(path: PathLike) -> None:
    if not is_url(path):
        shutil.rmtree(path, ignore_errors=True)
        return
    bucket = _connect(os.fspath(path))
    keys = list(_keys(bucket))
    if "zarr.json" in keys:  # first: without it, the rest is no store
        bucket.delete("zarr.json")
    bucket.delete([key for key in keys if key != "zarr.json"])


def _keys(bucket: Bucket) -> Iterator[str]:
    return (entry["path"] for page in bucket.list() for entry in page)


def _prefix(url: str) -> str:
    return urlsplit(url).path.strip("/")


def _of_bucket(url: str) -> Bucket:
    parts = urlsplit(url)
    return _connect(f"{parts.scheme}://{parts.netloc}")


def _connect(url: str) -> Bucket:
    """Connect to what is under a URL, with the credentials of the environment."""
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query:
        # The URL itself is not repeated: it would carry the secret into a log.
        raise ValueError(
            f"a URL of scheme '{parts.scheme}' holds credentials or options; a URL goes into tasks and logs, so only "
            "bucket and key are allowed. Put credentials into the environment (AWS_ACCESS_KEY_ID, ...)."
        )
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError as error:
        raise ImportError(
            f"{url} is in an object store; the package obstore is required to reach it. Install it: "
            "pip install 'specxr[s3]'."
        ) from error
    try:
        with hidden_secrets():
            return from_url(url, retry_config=_RETRIES)
    except BaseError as error:
        raise ValueError(
            f"{url} cannot be opened: {error}; a URL such as s3://bucket/cube.zarr is required. Correct it."
        ) from error
