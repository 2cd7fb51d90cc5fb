"""Lost and damaged chunks: each chunk has a checksum, and the group says up to which star every chunk was written.

`specxr.cubes.store.encoded` gives the checksums, as the last codec of each array, and the attribute
``stars_written`` of a group says how many stars have all their chunks. Groups of earlier versions have neither, and
nothing is claimed of them: a chunk of nothing but fill values was not stored then.

A checksum does not tell one chunk from another. What a chunk holds is therefore held against the shape of its array
before it is decoded: the decoder of strings takes the first bytes of a chunk of flux for a number of strings, and asks
for the memory of all of them.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any
from uuid import uuid4

import google_crc32c
import numpy as np
import zarr
from numcodecs.zstd import Zstd
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import WrapperStore

from specxr.vocabulary import STAR

STARS_WRITTEN = "stars_written"
_CHUNK = re.compile(r"(?P<array>.*[^/])/c(?P<index>(/\d+)+)")
_LOCKS = "locks/"  # a damaged lock is taken over
_CRC = 4  # bytes of a checksum
_OF_NUMBERS, _OF_STRINGS = ["bytes", "zstd", "crc32c"], ["vlen-utf8", "zstd", "crc32c"]
_SIZES = {np.dtype(kind).name: np.dtype(kind).itemsize for kind in "?bBhHiIqQefd"}  # of a value [bytes]
_ABSENT = np.uint64(2**64 - 1)  # place and length, in the index of a shard, of a chunk that it does not have


class DamagedChunkError(OSError):
    """A chunk, or metadata, are lost or are not what was written; the message names them."""


@dataclass(frozen=True)
class _Stored:
    """What the metadata of an array say of its chunks."""

    shape: tuple[int, ...]
    chunk: tuple[int, ...]
    star_axis: int | None
    required: bool  # whether its chunks must exist once its group is written
    checksums: bool
    chunks_in_shard: int  # 0 without shards
    value_bytes: int | None  # size of a value; None for strings, and where there are shards
    strings: bool

    @classmethod
    def read(cls, name: str, metadata: dict[str, Any]) -> _Stored:
        dims = metadata.get("dimension_names") or []
        codecs, chunk = metadata["codecs"], metadata["chunk_grid"]["configuration"]["chunk_shape"]
        inside = 0
        if codecs[-1]["name"] == "sharding_indexed":
            sharding = codecs[-1]["configuration"]
            codecs, inside = sharding["codecs"], math.prod(chunk) // math.prod(sharding["chunk_shape"])
        names = [] if inside else [codec["name"] for codec in codecs]
        return cls(
            shape=tuple(metadata["shape"]),
            chunk=tuple(chunk),
            star_axis=dims.index(STAR) if STAR in dims else None,
            required=STAR in dims or dims == [name],
            checksums=codecs[-1]["name"] == "crc32c",
            chunks_in_shard=inside,
            value_bytes=_SIZES.get(str(metadata["data_type"])) if names == _OF_NUMBERS else None,
            strings=names == _OF_STRINGS,
        )

    def fits(self, content: NDArray[np.uint8]) -> bool:
        """Whether a chunk has as many values as the array asks for, as far as that can be said without decoding it."""
        n_values = math.prod(self.chunk)
        if self.strings:
            try:
                decoded = bytes(Zstd().decode(content[:-_CRC].tobytes()))
            except RuntimeError:
                return False
            return int.from_bytes(decoded[:4], "little") == n_values
        return self.value_bytes is None or _zstd_size(content) in (None, n_values * self.value_bytes)

    def stars(self, index: Sequence[int]) -> tuple[int, int] | None:
        """First star of a chunk, and the last one plus one."""
        if self.star_axis is None:
            return None
        unit = self.chunk[self.star_axis]
        first = index[self.star_axis] * unit
        return first, min(first + unit, self.shape[self.star_axis])


class CheckedStore(WrapperStore[Store]):
    """A Zarr store that raises `DamagedChunkError` in place of a chunk that is lost, or is not what was written.

    Parameters
    ----------
    store : Store
        Where the chunks are.
    """

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self._arrays: dict[str, _Stored | None] = {}

    @property
    def wrapped(self) -> Store:
        """Where the chunks are."""
        return self._store

    def __reduce__(self) -> tuple[Any, ...]:
        return CheckedStore, (self._store,)

    def __dask_tokenize__(self) -> str:
        # Two openings of one store are two things: it may have been written to between them.
        return uuid4().hex

    def __str__(self) -> str:
        return str(self._store)

    async def get(self, key: str, prototype: Any = None, byte_range: Any = None) -> Any:
        """Read a file or object of the store, or a part of it, and check it if it is a chunk."""
        content = await self._store.get(key, prototype or default_buffer_prototype(), byte_range)
        chunk = _CHUNK.fullmatch(key)
        if chunk is None:
            if key.endswith("zarr.json") and not key.startswith(_LOCKS):
                self._check_json(key, content)
            return content
        array = chunk["array"]
        if array not in self._arrays:
            self._arrays[array] = await self._describe(array)
        fault = await self._fault(chunk, content, byte_range is not None)
        if fault:
            # Another process may have replaced the array since its metadata were read.
            self._arrays[array] = await self._describe(array)
            fault = await self._fault(chunk, content, byte_range is not None)
        if fault:
            raise DamagedChunkError(self._message(chunk, fault))
        return content

    def _check_json(self, key: str, content: Any) -> None:
        try:
            if content is None or isinstance(json.loads(content.to_bytes()), dict):
                return
        except ValueError:
            pass
        place = key.split("/")
        labels = f", or remove the labels '{place[1]}' and infer them again" if place[0] == "labels" else ""
        raise DamagedChunkError(
            f"{self._store}/{key} is damaged (it is not JSON of an array or a group); metadata as they were written "
            f"are required. Restore the file from a copy{labels}."
        )

    async def _fault(self, chunk: re.Match[str], content: Any, part: bool) -> str:
        stored = self._arrays[chunk["array"]]
        if stored is None:
            return ""
        if content is None:
            return "is lost" if await self._must_exist(chunk, stored) else ""
        if not stored.checksums:
            return ""
        values = content.as_numpy_array()
        # A part of a shard is one of its chunks, or its index: each ends in a checksum of its own.
        whole_shard = stored.chunks_in_shard and not part
        sound = _is_sound_shard(values, stored.chunks_in_shard) if whole_shard else _has_checksum(values)
        if not sound:
            return "is damaged (its checksum is another one)"
        return "" if stored.fits(_bytes(values)) else "is damaged (it is a chunk of something else)"

    async def _must_exist(self, chunk: re.Match[str], stored: _Stored) -> bool:
        if not stored.required:
            return False
        group = await self._metadata(chunk["array"].rpartition("/")[0]) or {}
        stars = stored.stars(_index(chunk)) or (0, 0)
        return bool(stars[0] < group.get("attributes", {}).get(STARS_WRITTEN, 0))

    async def _describe(self, array: str) -> _Stored | None:
        metadata = await self._metadata(array)
        return None if metadata is None else _Stored.read(array.rpartition("/")[2], metadata)

    async def _metadata(self, node: str) -> dict[str, Any] | None:
        content = await self._store.get(f"{node}/zarr.json".lstrip("/"), default_buffer_prototype())
        return None if content is None else dict(json.loads(content.to_bytes()))

    def _message(self, chunk: re.Match[str], fault: str) -> str:
        stored, (group, _, name) = self._arrays[chunk["array"]], chunk["array"].rpartition("/")
        stars = stored and stored.stars(_index(chunk))
        where = f" of the stars {stars[0]} to {stars[1] - 1}" if stars else ""
        again = (
            "Call `specxr infer` (specxr.run) again, which fits lost blocks anew, or write these labels again."
            if group.startswith("labels/")
            else "Restore it from a copy, or write the cube anew from the survey's files (`specxr ingest --overwrite`)."
        )
        return (
            f"'{name}'{where} {fault}: {self._store}/{chunk[0]}; every chunk as it was written is required. {again} "
            "`specxr info --check` lists all that are lost or damaged."
        )


def damaged_chunks(group: zarr.Group) -> Iterator[DamagedChunkError]:
    """Read all chunks of the variables of a group, and yield what is lost or damaged.

    Parameters
    ----------
    group : zarr.Group
        Spectra or labels of a cube, of `specxr.cubes.group.open_group`.
    """
    for _, array in sorted(group.arrays()):
        metadata: Any = array.metadata
        unit = array.shards or array.chunks
        counts = [range(-(-size // chunk)) for size, chunk in zip(array.shape, unit, strict=True)]
        for index in product(*counts):
            try:
                sync((array.store_path / metadata.encode_chunk_key(index)).get())
            except DamagedChunkError as error:
                yield error


def _index(chunk: re.Match[str]) -> list[int]:
    return [int(number) for number in chunk["index"].split("/")[1:]]


def _bytes(values: NDArray[Any]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(values).view("u1")


def _zstd_size(content: NDArray[np.uint8]) -> int | None:
    """Size of what a frame of zstd holds [bytes], as its header says it (RFC 8878, 3.1.1.1); None where it does not."""
    header = content[:18].tobytes()
    if content.size < 2 * _CRC + 1 or header[:4] != b"\x28\xb5\x2f\xfd":
        return 0
    single, dictionary = header[4] >> 5 & 1, (0, 1, 2, 4)[header[4] & 3]
    length = (single, 2, 4, 8)[header[4] >> 6]
    start = 6 - single + dictionary
    size = int.from_bytes(header[start : start + length], "little") + 256 * (length == 2)
    return size if length else None


def _has_checksum(values: NDArray[Any]) -> bool:
    content = _bytes(values)
    if content.size < _CRC:
        return False
    computed = int(google_crc32c.value(content[:-_CRC]))
    return computed == int.from_bytes(content[-_CRC:].tobytes(), "little")


def _is_sound_shard(values: NDArray[Any], n_chunks: int) -> bool:
    """Whether the index at the end of a shard, and each chunk that it names, have their checksums."""
    content = _bytes(values)
    index = content[-(16 * n_chunks + _CRC) :]
    if content.size < 16 * n_chunks + _CRC or not _has_checksum(index):
        return False
    places = index[:-_CRC].copy().view("<u8").reshape(-1, 2)
    return all(
        start == _ABSENT or _has_checksum(content[int(start) : int(start + length)])
        for start, length in places
    )
