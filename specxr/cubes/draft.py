"""Stars that are added to a cube: whole blocks lie on disk beyond its end, the last one is in memory."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.group import open_group
from specxr.cubes.growth import declare_cube, settle, write_beyond
from specxr.cubes.integrity import STARS_WRITTEN
from specxr.cubes.layout import Layout, describe_layout, star_bytes
from specxr.cubes.locations import PathLike
from specxr.cubes.schema import make_cube, set_flux_units
from specxr.readers.base import Reader, SurveyBlock
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import SPECTRA, STAR, WAVELENGTH


class Draft:
    """Stars that are added to the end of a cube, in the order in which they come.

    Parameters
    ----------
    path : path-like
        The cube, or a place for a new one.
    reader : Reader
        Reader of the survey.
    layout : Layout
        How the cube is cut: memory holds one of its blocks.
    obsid_before : ndarray of int, shape (star,), optional
        Identifiers of the stars that the cube has already; none for a new one.
    beat : callable, optional
        It is called before each write, to renew a lock.
    """

    def __init__(
        self,
        path: PathLike,
        reader: Reader,
        layout: Layout,
        obsid_before: NDArray[np.int64] | None = None,
        beat: Callable[[], None] = lambda: None,
    ):
        self.path, self.reader, self.layout, self.beat = path, reader, layout, beat
        self.obsid_before = np.sort(np.empty(0, "int64") if obsid_before is None else obsid_before)
        self.n_before = len(self.obsid_before)
        self.n_flushed = 0
        self.n_pending = 0
        self._pending: list[SurveyBlock] = []
        self._stars: list[xr.Dataset] = []  # variables of each star of the blocks on disk
        self._starts: list[int] = []  # first star of these blocks, counted from the first new star
        n_pixel = reader.grid.wavelength.size
        self._width_sum, self._width_count = np.zeros(n_pixel), np.zeros(n_pixel, "int64")

    def has(self, obsid: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Whether the cube had stars of these identifiers before, shape (star,)."""
        if not self.n_before:
            return np.zeros(len(obsid), dtype=bool)
        place = np.minimum(np.searchsorted(self.obsid_before, obsid), self.n_before - 1)
        return np.asarray(self.obsid_before[place] == obsid)

    def add(self, block: SurveyBlock) -> None:
        """Add stars at the end."""
        while len(block):
            end = self.n_before + self.n_flushed + self.n_pending
            room = self.layout.block - end % self.layout.block
            part, block = block.take(slice(0, room)), block.take(slice(room, None))
            self._check_columns(part)
            self._note_width(part)
            self._pending.append(part)
            self.n_pending += len(part)
            if len(part) == room:
                self._flush()

    def replace(self, row: int, star: SurveyBlock) -> None:
        """Put a block of one star into the place of the new star number `row`."""
        self._check_columns(star)
        if row >= self.n_flushed:
            pending = _joined(self._pending)
            pixels_and_columns = {name: getattr(pending, name) for name in SPECTRA} | dict(pending.stars)
            for name, values in pixels_and_columns.items():
                values[row - self.n_flushed] = (getattr(star, name) if name in SPECTRA else star.stars[name])[
                    0
                ]
            self._pending = [pending]
            return
        pixels = self._cube([star])[list(SPECTRA)].reset_coords(drop=True)
        write_beyond(self.path, pixels, self.n_before + row)
        block = bisect_right(self._starts, row) - 1
        for name, values in star.stars.items():
            self._stars[block][name].values[row - self._starts[block]] = values[0]

    def finish(self, history: str) -> None:
        """Write what is left, and make all new stars visible."""
        if self._pending:
            self._flush()
        if not self._stars:
            return
        stars = xr.concat(self._stars, STAR)
        group = open_group(self.path, "r+")
        new = {*map(str, stars.variables), WAVELENGTH, *SPECTRA}
        _check_variables(self.path, set(group.array_keys()), new)
        write_beyond(self.path, stars, self.n_before)
        settle(self.path, self.n_before + self.n_flushed)
        attrs: dict[str, Any] = {"survey": self.reader.survey, "history": history}
        # Not of a cube of an earlier version, whose chunks of fill values were not stored.
        if STARS_WRITTEN in group.attrs:
            attrs[STARS_WRITTEN] = self.n_before + self.n_flushed
        if self.n_before:
            attrs["history"] = f"{group.attrs.get('history', '')}; {history}"
        if "data_release" in stars:
            before = str(group.attrs.get("data_release", "")).split(", ")
            attrs["data_release"] = ", ".join(sorted({*before, *stars["data_release"].values} - {""}))
        group.attrs.update(attrs)
        # A cube that has stars keeps the line spread that their labels rest on.
        if not self.n_before and (self._width_count > 0).sum() > 1:
            known = self._width_count > 0
            width = self._width_sum[known] / self._width_count[known]
            line_spread = LineSpread.of_widths(self.reader.grid.wavelength[known], width)
            group[WAVELENGTH].attrs["line_spread"] = line_spread.to_json()

    def _note_width(self, block: SurveyBlock) -> None:
        if block.width is not None:
            known = np.isfinite(block.width) & (block.width > 0)
            self._width_sum += np.where(known, block.width, 0.0).sum(axis=0)
            self._width_count += known.sum(axis=0)

    def _flush(self) -> None:
        self.beat()
        block = self._cube(self._pending)
        if self.n_before == self.n_flushed == 0:
            described = describe_layout(self.layout, star_bytes(block))
            declare_cube(self.path, block.assign_attrs(storage=described), self.layout)
        pixels = block[list(SPECTRA)].reset_coords(drop=True)
        write_beyond(self.path, pixels, self.n_before + self.n_flushed)
        self._stars.append(block.drop_dims(WAVELENGTH))
        self._starts.append(self.n_flushed)
        self.n_flushed += self.n_pending
        self._pending, self.n_pending = [], 0

    def _cube(self, blocks: list[SurveyBlock]) -> xr.Dataset:
        block = _joined(blocks)
        columns = dict(block.stars)
        cube = make_cube(
            block.flux,
            block.ivar,
            self.reader.grid,
            mask=block.mask,
            obsid=columns.pop("obsid"),
            stars=columns,
        )
        return set_flux_units(cube, self.reader.flux_units)

    def _check_columns(self, block: SurveyBlock) -> None:
        known = (
            self._pending[0].stars
            if self._pending
            else self._stars[0].variables
            if self._stars
            else block.stars
        )
        expected, given = {*map(str, known)} - {WAVELENGTH}, set(block.stars)
        if expected != given:
            raise TypeError(
                f"the reader of {self.reader.survey} gave other columns for {block.sources[0]} than before "
                f"({', '.join(sorted(expected ^ given))}); the same ones for each file are required. Correct "
                "the reader."
            )


def _joined(blocks: list[SurveyBlock]) -> SurveyBlock:
    def column(parts: Iterable[NDArray[np.generic]]) -> NDArray[np.generic]:
        values = np.concatenate(list(parts))
        # Strings as objects: an array of fixed length would cut a longer one that replaces one of them.
        return values.astype(object) if values.dtype.kind in "US" else values

    return SurveyBlock(
        np.concatenate([block.flux for block in blocks]),
        np.concatenate([block.ivar for block in blocks]),
        np.concatenate([block.mask for block in blocks]),
        {name: column(block.stars[name] for block in blocks) for name in blocks[0].stars},
        [source for block in blocks for source in block.sources],
    )


def _check_variables(path: PathLike, stored: set[str], new: set[str]) -> None:
    if stored != new:
        raise ValueError(
            f"the variables of {path} and of the stars to be appended differ ({', '.join(sorted(stored ^ new))}); "
            "the same ones are required. Ingest the stars into a cube of their own."
        )
