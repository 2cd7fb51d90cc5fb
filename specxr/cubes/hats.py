"""Labels as a HATS catalogue, which lsdb opens: Parquet files by position on the sky, with a margin around each.

The stars are read in blocks and appended to the file of their partition, so that the memory does not grow with their
number but for 40 bytes of each star.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xarray as xr
from numpy.typing import NDArray

from specxr.content import timestamp
from specxr.cubes.positions import parse_radius
from specxr.cubes.quantity_tables import about_column
from specxr.cubes.tables import label_table
from specxr.vocabulary import STAR

_ORDER = 29  # of the pixels of HEALPix in the column below; those of partitions are larger
_PIXEL = "_healpix_29"
_BLOCK = 65_536  # stars in memory
_MOST_OPEN = 2000  # partitions: each has an open file while the stars are read

_Pixels = NDArray[np.int64]


def write_hats(
    labels: xr.Dataset,
    out: str | Path,
    beside: xr.Dataset | None = None,
    *,
    rows: int = 500_000,
    margin: str | float = "10 arcsec",
    overwrite: bool = False,
) -> int:
    """Write labels of a run as a HATS collection; needs ``pip install specxr[hats]``.

    Parameters
    ----------
    labels : Dataset
        Labels with ``ra`` and ``dec`` [degree], of `specxr.open_labels`; lazy ones are computed block by block.
    out : str or Path
        Folder of the collection, for ``lsdb.open_catalog``.
    beside : Dataset, optional
        Other variables of the same stars, which become columns.
    rows : int, optional
        Largest number of stars in a partition.
    margin : str or float, optional
        Width of the margin of each partition, so that crossmatches within it lose no pair; a number is in arcseconds.
    overwrite : bool, optional
        Whether a collection in this folder is replaced.

    Returns
    -------
    int
        Number of stars that were written: those with a position.

    Raises
    ------
    ValueError, FileExistsError
        There are no positions, or the folder exists.
    """
    out, width = Path(out), parse_radius(margin)
    _check_free(out, overwrite)
    pixels = _pixels(labels)
    catalogue = _Partitions.of(pixels[pixels >= 0], rows, _margin_order(width))
    draft = out.with_name(f".{out.name}.{uuid4().hex[:8]}.partial")
    names = {out.stem: "object", f"{out.stem}_{width:g}arcs": "margin"}
    own, other = names
    try:
        writers = {name: _Writer(draft / name) for name in names}
        for start in range(0, labels.sizes[STAR], _BLOCK):
            part = {STAR: slice(start, start + _BLOCK)}
            here = pixels[part[STAR]]
            table = label_table(labels.isel(part), None if beside is None else beside.isel(part))
            table = table.assign(**{_PIXEL: here})
            known = np.flatnonzero(here >= 0)
            writers[own].add(table, known, catalogue.of_pixels(here[known], 0))
            writers[other].add(table, *catalogue.near(here, known))
        counts = {name: writer.close(catalogue) for name, writer in writers.items()}
        for name, kind in names.items():
            extra = (
                {"hats_col_healpix": _PIXEL, "hats_col_healpix_order": _ORDER}
                if kind == "object"
                else {"hats_primary_table_url": own, "hats_margin_threshold": width}
            )
            _write_properties(draft / name, name, kind, counts[name], extra)
        collection = {
            "obs_collection": own,
            "hats_primary_table_url": own,
            "all_margins": other,
            "default_margin": other,
        }
        (draft / "collection.properties").write_text(_properties("#HATS Collection", collection | _built()))
        if out.exists():
            shutil.rmtree(out)
        draft.rename(out)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
    return counts[own][0]


def _check_free(out: Path, overwrite: bool) -> None:
    if out.exists() and not (overwrite and (out / "collection.properties").is_file()):
        raise FileExistsError(
            f"{out} exists already; a new name is required. Choose another one, or replace a collection with "
            "overwrite=True (--overwrite)."
        )


def _healpix() -> Any:
    try:
        import astropy_healpix
    except ImportError as error:
        raise ImportError(
            f"astropy-healpix cannot be imported ({error}); it is required to sort stars by position. Install it: pip "
            "install 'specxr[hats]'."
        ) from error
    return astropy_healpix


def _pixels(labels: xr.Dataset) -> _Pixels:
    """Pixel of each star; -1 for a star without a position."""
    from astropy import units as u

    if not {"ra", "dec"} <= set(labels.variables):
        raise ValueError(
            "the labels have no ra and dec [degree]; positions are required in a HATS catalogue. Add them to the cube."
        )
    ra, dec = (np.asarray(labels[name].values, "f8") for name in ("ra", "dec"))
    known = np.isfinite(ra) & (np.abs(dec) <= 90.0)
    if not known.any():
        raise ValueError(
            f"none of the {ra.size:,} stars has a position; at least one is required. Add ra and dec."
        )
    out = np.full(ra.shape, -1, np.int64)
    out[known] = _healpix().lonlat_to_healpix(
        ra[known] * u.deg, dec[known] * u.deg, 2**_ORDER, order="nested"
    )
    return out


def _margin_order(width: float) -> int:
    """Highest order whose pixels are wider than the margin everywhere."""
    radians = np.deg2rad(width / 3600.0)
    return int(np.clip(np.floor(np.log2(0.5 * np.sqrt(np.pi / 3.0) / radians)), 0, 20))


@dataclass(frozen=True)
class _Partitions:
    """Pixels of HEALPix, of several orders, that hold all stars; in the order of their first small pixel."""

    order: _Pixels
    number: _Pixels
    margin_order: int

    @classmethod
    def of(cls, pixels: _Pixels, rows: int, margin_order: int) -> _Partitions:
        ordered = np.sort(pixels)
        found: list[tuple[int, int]] = []
        waiting = [(0, number) for number in range(11, -1, -1)]
        while waiting:
            order, number = waiting.pop()
            shift = 2 * (_ORDER - order)
            first, stop = np.searchsorted(ordered, (number << shift, (number + 1) << shift))
            # A partition smaller than the pixels of the margin would have neighbours that these do not show.
            if stop - first > rows and order < margin_order and len(found) + len(waiting) < _MOST_OPEN:
                waiting += [(order + 1, 4 * number + part) for part in (3, 2, 1, 0)]
            elif stop > first:
                found.append((order, number))
        order, number = np.array(found, np.int64).T
        return cls(order, number, margin_order)

    def of_pixels(self, pixels: _Pixels, shift: int) -> _Pixels:
        """Partition of pixels of the order 29 - shift / 2; -1 where there is none."""
        small = pixels << shift
        starts = self.number << (2 * (_ORDER - self.order))
        place = np.searchsorted(starts, small, side="right") - 1
        stops = (self.number + 1) << (2 * (_ORDER - self.order))
        return np.where((place >= 0) & (small < stops[place]) & (pixels >= 0), place, -1)

    def near(self, pixels: _Pixels, known: _Pixels) -> tuple[_Pixels, _Pixels]:
        """Places of stars, and a partition each, in whose margin they lie."""
        shift = 2 * (_ORDER - self.margin_order)
        with np.errstate(invalid="ignore"):  # corners where seven pixels are neighbours: the eighth is -1
            around = _healpix().neighbours(pixels[known] >> shift, 2**self.margin_order, order="nested")
        own = self.of_pixels(pixels[known], 0)
        theirs = self.of_pixels(np.asarray(around, np.int64), shift)  # shape (8, star)
        star = np.broadcast_to(known, theirs.shape)
        there = (theirs >= 0) & (theirs != own)
        pairs = np.unique(np.stack([star[there], theirs[there]]), axis=1)
        return pairs[0], pairs[1]


class _Writer:
    """The Parquet files of a catalogue while they grow."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._files: dict[int, pq.ParquetWriter] = {}
        self._schema: pa.Schema | None = None
        (folder / "dataset").mkdir(parents=True)

    def add(self, table: pd.DataFrame, stars: _Pixels, partition: _Pixels) -> None:
        """Append rows of a table, each to its partition."""
        if self._schema is None:
            self._schema = _schema(table)
        for number in np.unique(partition):
            rows = table.iloc[stars[partition == number]]
            part = pa.Table.from_pandas(rows, self._schema, preserve_index=False).cast(self._schema)
            if number not in self._files:
                self._files[number] = pq.ParquetWriter(self._folder / f"{number}.parquet", self._schema)
            self._files[number].write_table(part)

    def close(self, partitions: _Partitions) -> tuple[int, int]:
        """Sort each file and put it in its place; returns the number of stars, and of those in the largest file."""
        dataset, metadata, counts = self._folder / "dataset", [], [0]
        info = ["Norder,Npix"]
        assert self._schema is not None
        for place, file in sorted(self._files.items()):
            file.close()
            draft = self._folder / f"{place}.parquet"
            order, number = int(partitions.order[place]), int(partitions.number[place])
            path = dataset / f"Norder={order}" / f"Dir={number // 10_000 * 10_000}" / f"Npix={number}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = pq.read_table(draft).sort_by(_PIXEL)
            collected: list[Any] = []
            pq.write_table(table, path, metadata_collector=collected)
            collected[0].set_file_path(str(path.relative_to(dataset)))
            metadata += collected
            counts.append(table.num_rows)
            info.append(f"{order},{number}")
            draft.unlink()
        pq.write_metadata(self._schema, dataset / "_common_metadata")
        pq.write_metadata(self._schema, dataset / "_metadata", metadata_collector=metadata)
        (self._folder / "partition_info.csv").write_text("\n".join(info) + "\n")
        return sum(counts), max(counts)


def _schema(table: pd.DataFrame) -> pa.Schema:
    """Types of the columns, with their units and descriptions."""
    columns = table.attrs.get("columns", {})

    def fields() -> Iterator[pa.Field]:
        for field in pa.Schema.from_pandas(table, preserve_index=False):
            about = columns.get(field.name) or about_column(field.name)
            notes = {
                key: about[name]
                for name, key in (("units", "unit"), ("long_name", "description"))
                if name in about
            }
            text = pa.types.is_large_string(field.type) or pa.types.is_null(field.type)
            yield pa.field(field.name, pa.string() if text else field.type, metadata=notes or None)

    provenance = {
        name: str(value) for name, value in table.attrs.items() if isinstance(value, str | int | float)
    }
    return pa.schema(list(fields()), metadata=provenance)


def _write_properties(
    folder: Path, name: str, kind: str, counts: tuple[int, int], extra: dict[str, Any]
) -> None:
    orders = [int(line.partition(",")[0]) for line in (folder / "partition_info.csv").read_text().split()[1:]]
    values = {
        "obs_collection": name,
        "dataproduct_type": kind,
        "hats_nrows": counts[0],
        "hats_col_ra": "ra",
        "hats_col_dec": "dec",
        **extra,
        "hats_npix_suffix": ".parquet",
        "hats_max_rows": counts[1],
        "hats_order": max(orders, default=0),
        **_built(),
    }
    for file in ("hats.properties", "properties"):
        (folder / file).write_text(_properties("#HATS catalog", values))


def _built() -> dict[str, Any]:
    return {
        "hats_builder": f"specxr v{version('specxr')}",
        "hats_creation_date": timestamp().replace(":00Z", "Z"),
        "hats_version": "v1.0",
    }


def _properties(title: str, values: dict[str, Any]) -> str:
    return "\n".join([title, *(f"{name}={value}" for name, value in values.items())]) + "\n"
