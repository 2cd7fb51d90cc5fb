"""A bulk run in the store of its cube: the spectra, the labels, and the ledger beside them."""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import xarray as xr
import zarr
from numpy.typing import NDArray
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.sync import sync
from zarr.errors import ZarrUserWarning

from specxr.content import short_fingerprint
from specxr.cubes.group import open_group
from specxr.cubes.integrity import STARS_WRITTEN, DamagedChunkError
from specxr.cubes.labels import declare_labels, resize_labels
from specxr.cubes.locations import is_url, reported
from specxr.cubes.store import array_of, check_run_name, dims_of, run_names, write_unit
from specxr.runs.ledger import LEDGER_VERSION, BlockRecord, Header, Ledger
from specxr.vocabulary import STAR, WAVELENGTH

# What Zarr raises for a record, or for metadata, that are not what was written.
_DAMAGE = (DamagedChunkError, ValueError, TypeError, RuntimeError, AttributeError)
_READ_AT_ONCE = 64


@dataclass(frozen=True)
class Run:
    """A bulk run of a cube.

    The store is opened once, when it is first needed; metadata are read anew each time, because other processes change
    them. A run travels to a worker as its path and its name.

    Parameters
    ----------
    path : str
        Path or URL of the cube, which is the same for all workers.
    name : str
        Name of the run; its labels are in the group ``labels/<name>`` of the cube.

    Examples
    --------
    >>> from specxr.runs.run import Run
    >>> Run("dr10.zarr", "lasp").read_ledger().blocks  # doctest: +SKIP
    """

    path: str
    name: str

    @classmethod
    def at(cls, store: str | os.PathLike[str], name: str) -> Run:
        """Handle of a run, which need not exist, of the cube at a path that may be relative.

        Raises
        ------
        ValueError
            The name cannot name a run.
        """
        check_run_name(name)
        path = os.fspath(store)
        return cls(path if is_url(path) else os.path.abspath(path), name)

    def __reduce__(self) -> tuple[type[Run], tuple[str, str]]:
        return Run, (self.path, self.name)

    def __str__(self) -> str:
        return f"run '{self.name}' of {self.path}"

    @cached_property
    def cube(self) -> zarr.Group:
        """The group of the cube, open for reading and writing."""
        return open_group(self.path, "r+")

    def beside(self, name: str) -> Run:
        """Handle of another run of the same cube, through the same open store."""
        other = Run(self.path, name)
        other.__dict__["cube"] = self.cube
        return other

    @property
    def lock(self) -> str:
        """Name of the lock that the writer of the run holds."""
        return f"run-{self.name}"

    def names(self) -> list[str]:
        """Names of all runs of the cube, in the order of the alphabet."""
        with reported(self.path):
            return run_names(self.cube)

    @property
    def exists(self) -> bool:
        """Whether the cube has labels of this name, whoever made them."""
        return self.name in self.names()

    # The labels

    @property
    def has_labels(self) -> bool:
        """Whether labels of any star were written."""
        with warnings.catch_warnings(
            action="ignore", category=ZarrUserWarning
        ):  # of what is left of a ledger
            arrays = [array for _, array in self.labels.arrays()]
        return any(array.nchunks_initialized for array in arrays if STAR in dims_of(array))

    @property
    def labels(self) -> zarr.Group:
        """The group of the labels."""
        return self._group(f"labels/{self.name}")

    def read_spectra(self, name: str, stars: slice) -> NDArray[Any]:
        """Read a variable of some stars of the cube; inverse variances that it does not have are NaN."""
        if name == "ivar" and name not in self.cube:
            return np.full_like(self.read_spectra("flux", stars), np.nan)
        return _values(self.cube, name, stars)

    def read_labels(self, name: str, stars: slice) -> NDArray[Any]:
        """Read a variable of the labels of some stars."""
        return _values(self.labels, name, stars)

    def begin(self, header: Header, labels: xr.Dataset) -> None:
        """Declare the labels of all stars, and then the ledger, in place of what had this name.

        Parameters
        ----------
        header : Header
            What the run fits.
        labels : Dataset
            Labels of no star, which declare the variables (``specxr.inference.declare``).
        """
        declare_labels(self.cube, self.name, labels, header.n_stars, header.stars_per_block)
        ledger = self.labels.create_group("ledger", overwrite=True)
        ledger.create_array(
            "blocks",
            shape=(header.n_blocks,),
            chunks=(1,),
            dtype="string",
            fill_value="",
            compressors=(ZstdCodec(level=0), Crc32cCodec()),
            dimension_names=["block"],
        )
        # The attributes are written last and in one piece: they say that the ledger and the labels are complete.
        ledger.attrs.put(_as_attributes(header))

    def grow(self, header: Header, again: Sequence[BlockRecord] = ()) -> None:
        """Make room for stars that were appended to the cube; the run is then not complete.

        Parameters
        ----------
        header : Header
            What the run fits from now on.
        again : sequence of BlockRecord
            Blocks that were done and are to be fitted again, of which nothing is recorded any more.
        """
        for block in again:
            self._blocks[block.index] = ""
        resize_labels(self.labels, header.n_stars)
        self._blocks.resize((header.n_blocks,))
        self.ledger.attrs.put(_as_attributes(header))

    def complete(self) -> None:
        """Record that every star has its labels."""
        header = self.read_header()
        assert header is not None
        self.labels.attrs.update({"complete": True, STARS_WRITTEN: header.n_stars})

    def damaged(self, blocks: Sequence[BlockRecord]) -> list[BlockRecord]:
        """Of some blocks that are done, those with labels that are lost or damaged.

        Of model spectra, which are as large as the cube, it is seen only whether they are there.
        """
        arrays = [array for _, array in self.labels.arrays() if STAR in dims_of(array)]

        async def is_sound(block: BlockRecord, limit: asyncio.Semaphore) -> bool:
            for array in arrays:
                metadata: Any = array.metadata  # of Zarr v3, which has keys of chunks
                index = (block.star_start // write_unit(array), *[0] * (array.ndim - 1))
                place = array.store_path / metadata.encode_chunk_key(index)
                async with limit:
                    try:
                        spectra = WAVELENGTH in dims_of(array)
                        found = await place.exists() if spectra else await place.get() is not None
                    except DamagedChunkError:
                        return False
                if not found:
                    return False
            return True

        async def look() -> list[bool]:
            limit = asyncio.Semaphore(_READ_AT_ONCE)
            return await asyncio.gather(*(is_sound(block, limit) for block in blocks))

        with reported(self.path):
            return [block for block, sound in zip(blocks, sync(look()), strict=True) if not sound]

    # The ledger

    @property
    def ledger(self) -> zarr.Group:
        """The group of the ledger."""
        return self._group(f"labels/{self.name}/ledger")

    def read_ledger(self) -> Ledger:
        """Read the whole ledger; this is also possible while the run goes on.

        Raises
        ------
        FileNotFoundError
            There is no ledger, because there is no such run, or because ``write_labels`` wrote the labels.
        ValueError
            A newer version of specxr wrote the ledger.
        """
        header = self.read_header()
        if header is None:
            raise FileNotFoundError(
                f"{self.path} has no ledger of a run '{self.name}' (runs: {', '.join(self.names()) or 'none'}); a run "
                "that `specxr.run` (`specxr infer`) made is required. Choose one of these, or make one."
            )
        try:
            texts: list[str | None] = [str(text) for text in np.asarray(self._blocks[: header.n_blocks])]
        except _DAMAGE:  # of some records: all others are good
            texts = [self._read_text(index) for index in range(header.n_blocks)]
        # A ledger that has just grown may have more records than the header says.
        return Ledger(
            header, [_record(text, block) for block, text in zip(header.blocks, texts, strict=False)]
        )

    def read_header(self) -> Header | None:
        """Read what the run fits; None where there is no ledger.

        Raises
        ------
        ValueError
            A newer version of specxr wrote the ledger.
        """
        try:
            attrs: dict[str, Any] = dict(self.ledger.attrs)
            self._blocks  # noqa: B018  without its records, a ledger is lost
            version = int(attrs["ledger_version"])
        except (KeyError, FileNotFoundError, *_DAMAGE):
            return None
        if version > LEDGER_VERSION:
            raise ValueError(
                f"the ledger of {self} has version {version}; version {LEDGER_VERSION} or an older one is required by "
                "this specxr. Install a newer specxr, or choose another name for the run."
            )
        checksum = attrs.pop("checksum", None)
        try:
            header = Header(**attrs)
        except TypeError:
            return None
        return header if checksum in (None, _checksum(header)) else None

    def read_record(self, index: int) -> BlockRecord | None:
        """Read what is recorded of a block; None where nothing is recorded, or the record is damaged."""
        nothing = BlockRecord(index, 0, 0)
        record = _record(self._read_text(index), nothing)
        return None if record is nothing else record

    def _read_text(self, index: int) -> str | None:
        try:
            return str(self._blocks[index])
        except _DAMAGE:
            return None

    def write_record(self, record: BlockRecord) -> None:
        """Write the record of a block."""
        with reported(self.path):
            self._blocks[record.index] = record.to_json()

    @property
    def _blocks(self) -> zarr.Array[Any]:
        return array_of(self.cube, f"labels/{self.name}/ledger/blocks")

    def _group(self, place: str) -> zarr.Group:
        group = self.cube[place]
        assert isinstance(group, zarr.Group)
        return group


def _values(group: zarr.Group, name: str, stars: slice) -> NDArray[Any]:
    return np.asarray(array_of(group, name)[stars])


def _as_attributes(header: Header) -> dict[str, Any]:
    return {**asdict(header), "checksum": _checksum(header)}


def _checksum(header: Header) -> str:
    return short_fingerprint(asdict(header))


def _record(text: str | None, block: BlockRecord) -> BlockRecord:
    """Record of a block; where nothing is recorded, or the record is damaged, as if it had not been tried."""
    try:
        record = BlockRecord.from_json(text) if text else block
    except (ValueError, TypeError):
        return block
    return record if record.index == block.index else block
