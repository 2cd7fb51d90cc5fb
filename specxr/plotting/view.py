"""The page of ``specxr view``: the Kiel diagram of a run, and spectra of the stars that are chosen in it.

bokeh is an extra: ``pip install 'specxr[dashboard]'``.
"""

from __future__ import annotations

import html
import os
from typing import Any

import numpy as np
import xarray as xr
from bokeh.document import Document
from bokeh.events import SelectionGeometry, Tap
from bokeh.layouts import column, row
from bokeh.models import (
    BasicTickFormatter,
    BoxSelectTool,
    ColorBar,
    ColumnDataSource,
    Div,
    LinearColorMapper,
    LogColorMapper,
    Range1d,
    Select,
    WheelZoomTool,
)
from bokeh.plotting import figure
from numpy.typing import NDArray

from specxr.cubes.integers import with_integers
from specxr.cubes.store import open_cube, open_labels
from specxr.plotting.fit import axis_limits
from specxr.plotting.style import BLUE, VERMILION
from specxr.vocabulary import LABELS, STAR, UNUSABLE, WAVELENGTH

Box = tuple[float, float, float, float]  # lowest and highest Teff [K], lowest and highest log g [dex]

_COUNT = "number of stars"
_BINS = (230, 280)  # of log g and of Teff: two pixels of the screen each
_MOST_POINTS = 5_000  # a browser draws as many in a moment
_MOST_SPECTRA = 4
_REDRAW_AFTER = 50  # [ms]: the steps of one turn of the wheel are one new picture
_PALETTE = "Viridis256"


class KielView:
    """The stars of a run as the page needs them: columns in memory, spectra in the store.

    Parameters
    ----------
    path : path-like
        Path or URL of the cube.
    run : str
        Name of a run with ``teff`` and ``logg``.

    Attributes
    ----------
    title : str
        Cube and run.
    medium : str
        Medium of the wavelength.
    colours : list of str
        Numeric variables of the labels and of the stars, which can colour the diagram.

    Raises
    ------
    ValueError, FileNotFoundError
        There is no such cube or run, or the run has no effective temperature or no surface gravity.
    """

    def __init__(self, path: str | os.PathLike[str], run: str) -> None:
        self.title = f"{os.fspath(path)}::{run}"
        self._cube, self._labels = open_cube(path), with_integers(open_labels(path, run))
        self.medium = str(self._cube[WAVELENGTH].attrs["medium"])
        missing = [name for name in ("teff", "logg") if name not in self._labels]
        if missing:
            raise ValueError(
                f"the run {run} has no {' and no '.join(missing)}; teff and logg are required for a Kiel diagram. "
                "Choose another run with --run."
            )
        self.colours = list(
            dict.fromkeys(
                str(name)
                for data in (self._labels, self._cube)
                for name, values in data.variables.items()
                if values.dims == (STAR,) and values.dtype.kind in "iuf"
            )
        )
        self._columns: dict[str, NDArray[np.float64]] = {}

    def column(self, name: str) -> NDArray[np.float64]:
        """Values of a variable of the labels, or else of the cube, shape (star,); read when first asked for."""
        if name not in self._columns:
            data = self._labels if name in self._labels.variables else self._cube
            self._columns[name] = np.asarray(data[name].values, dtype=np.float64)
        return self._columns[name]

    def whole(self) -> Box:
        """The box that holds all stars but a few outliers."""
        teff, logg = self.column("teff"), self.column("logg")
        known = np.isfinite(teff) & np.isfinite(logg) & (teff > 0)
        if not known.any():
            return 3000.0, 10000.0, 0.0, 5.0
        (cool, hot), (low, high) = (np.percentile(values[known], (0.2, 99.8)) for values in (teff, logg))
        return float(cool / 1.05), float(hot * 1.05), float(low - 0.3), float(high + 0.3)

    def inside(self, box: Box, colour: str | None = None) -> NDArray[np.int64]:
        """Places of the stars in a box, edges included, whose `colour` is known."""
        cool, hot, low, high = box
        teff, logg = self.column("teff"), self.column("logg")
        chosen = (teff >= cool) & (teff <= hot) & (logg >= low) & (logg <= high)
        if colour is not None:
            chosen &= np.isfinite(self.column(colour))
        return np.flatnonzero(chosen)

    def nearest(self, box: Box, colour: str | None = None) -> NDArray[np.int64]:
        """Places of the stars in a box, those that lie nearest to its middle first."""
        found = self.inside(box, colour)
        x, y = self._in_box(found, box)
        return found[np.argsort((x - 0.5) ** 2 + (y - 0.5) ** 2, kind="stable")]

    def image(self, box: Box, colour: str | None = None) -> NDArray[np.float64]:
        """Stars of a box in bins of log g and of the logarithm of Teff.

        Parameters
        ----------
        box : (float, float, float, float)
        colour : str, optional
            Variable whose mean is wanted; the number of stars if not given.

        Returns
        -------
        ndarray, shape (logg, teff)
            NaN where there is no star.
        """
        found = self.inside(box, colour)
        n_logg, n_teff = _BINS
        x, y = self._in_box(found, box)
        # Bins are equal, and counting by their number is ten times as fast as a search for edges.
        bins = np.minimum((y * n_logg).astype(np.int64), n_logg - 1) * n_teff
        bins += np.minimum((x * n_teff).astype(np.int64), n_teff - 1)
        counts = np.bincount(bins, minlength=n_logg * n_teff).astype(np.float64)
        counts[counts == 0] = np.nan
        if colour is None:
            return counts.reshape(_BINS)
        sums = np.bincount(bins, weights=self.column(colour)[found], minlength=n_logg * n_teff)
        return np.asarray(sums / counts).reshape(_BINS)

    def spectra(self, places: NDArray[np.int64]) -> xr.Dataset:
        """Obsids, flux and model of some stars; nothing but the blocks of these stars is read.

        ``flux`` is NaN where no pixel is usable. ``model`` is there if the run wrote its model spectra.
        """
        stars = self._cube[["obsid", "flux", "mask"]].isel({STAR: places}).load()
        shown = stars[["flux"]].where((stars["mask"] & int(UNUSABLE)) == 0)
        if "model" in self._labels:
            model = self._labels["model"].isel({STAR: places}).load()
            shown["model"] = (model.dims, model.values)
        return shown

    def page(self, document: Document) -> None:
        """Put the page into a new document, as `bokeh.server.server.Server` asks for."""
        _Page(self, document)

    def _in_box(self, places: NDArray[np.int64], box: Box) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """How far stars lie from the cool and from the low end of a box, as parts of its width and height."""
        cool, hot, low, high = box
        width = np.log(hot) - np.log(cool)
        x = (np.log(self.column("teff")[places]) - np.log(cool)) / width
        # Rounding of the logarithm must not move a star at an edge out of the box.
        return np.clip(x, 0.0, 1.0), (self.column("logg")[places] - low) / (high - low)


def _named(name: str) -> str:
    return f"{name} [{LABELS[name].units}]" if name in LABELS else name


class _Page:
    """What one visitor sees, and what happens when the visitor zooms, chooses a colour, or brushes."""

    def __init__(self, view: KielView, document: Document) -> None:
        self._view, self._document, self._waits = view, document, False
        cool, hot, low, high = view.whole()
        self._kiel = figure(
            name="kiel",
            width=690,
            height=560,
            x_axis_type="log",
            x_range=Range1d(hot, cool),
            y_range=Range1d(high, low),
            tools="pan,wheel_zoom,box_zoom,box_select,reset",
            toolbar_location="above",
            x_axis_label="teff [K]",
            y_axis_label="logg [dex]",
        )
        self._kiel.xaxis.formatter = BasicTickFormatter(use_scientific=False)
        self._kiel.toolbar.logo = None
        self._kiel.toolbar.active_drag = self._kiel.select_one(BoxSelectTool)
        self._kiel.toolbar.active_scroll = self._kiel.select_one(WheelZoomTool)
        self._mappers = [
            mapper(palette=_PALETTE, low=0, high=1, nan_color=(0, 0, 0, 0))
            for mapper in (LogColorMapper, LinearColorMapper)
        ]
        self._bars = [ColorBar(color_mapper=mapper, title=_COUNT) for mapper in self._mappers]
        for bar in self._bars:
            self._kiel.add_layout(bar, "right")
        self._bins = ColumnDataSource(name="bins")
        self._images = [
            self._kiel.image("image", "x", "y", "dw", "dh", source=self._bins, color_mapper=mapper)
            for mapper in self._mappers
        ]
        self._points = ColumnDataSource({"x": [], "y": [], "value": []}, name="points")
        self._dots = self._kiel.scatter("x", "y", source=self._points, size=5, line_color=None)
        self._brushed = ColumnDataSource({"x": [], "y": []}, name="brushed")
        rings = self._kiel.scatter(
            "x", "y", source=self._brushed, size=11, fill_color=None, line_color=VERMILION, line_width=2
        )
        # Rings mark what is chosen; bokeh's own mark would keep the colours of an earlier choice.
        for renderer in (self._dots, rings):
            renderer.selection_glyph = renderer.nonselection_glyph = None
        self._colour = Select(
            name="colour", title="colour", value=_COUNT, width=220, options=[
                (name, _named(name)) for name in (_COUNT, *view.colours)
            ],
        )  # fmt: skip
        self._told = Div(name="told", width=760, text="Drag a box over stars, or click on one.")
        self._drawn = Div(name="drawn", width=440)
        self._spectra = [self._spectrum(number) for number in range(_MOST_SPECTRA)]
        for each in self._spectra[1:]:
            each.x_range = self._spectra[0].x_range
        self.redraw()
        self._colour.on_change("value", lambda attr, old, new: self._safely(self.redraw))
        for axis in (self._kiel.x_range, self._kiel.y_range):
            for end in ("start", "end"):
                axis.on_change(end, lambda attr, old, new: self._soon())
        self._kiel.on_event(SelectionGeometry, self._box_drawn)
        self._kiel.on_event(Tap, self._tapped)
        head = Div(text=f"<b>{html.escape(view.title)}</b>", width=900)
        left = column(row(self._colour, self._drawn), self._kiel)
        document.add_root(column(head, row(left, column(self._told, *self._spectra))))
        document.title = f"specxr view {view.title}"

    def _spectrum(self, number: int) -> Any:
        drawn = figure(
            name=f"spectrum {number}",
            width=760,
            height=180,
            tools="xpan,xwheel_zoom,reset",
            toolbar_location="right",
            x_axis_label=f"{self._view.medium} wavelength [Å]",
            y_axis_label="flux",
            visible=False,
        )
        source = ColumnDataSource({"x": [], "flux": [], "model": []}, name=f"pixels {number}")
        drawn.step("x", "flux", source=source, mode="center", color="#404040", line_width=0.8)
        drawn.line("x", "model", source=source, color=VERMILION)
        drawn.title.text_font_size = "9pt"
        drawn.toolbar.logo = None
        return drawn

    def _box(self) -> Box:
        """What is in view."""
        x, y = self._kiel.x_range, self._kiel.y_range
        cool, hot = sorted((float(x.start), float(x.end)))
        low, high = sorted((float(y.start), float(y.end)))
        return cool, hot, low, high

    def _chosen_colour(self) -> str | None:
        name = str(self._colour.value)
        return None if name == _COUNT else name

    def _soon(self) -> None:
        if not self._waits:
            self._waits = True
            self._document.add_timeout_callback(lambda: self._safely(self.redraw), _REDRAW_AFTER)

    def _safely(self, action: Any, *arguments: Any) -> None:
        """Act, and tell the visitor of a store that cannot be read."""
        try:
            action(*arguments)
        except (ValueError, OSError) as error:
            self._told.text = html.escape(" ".join(str(error).split()))

    def redraw(self) -> None:
        """Draw the stars that are in view: as points where they are few, else in bins."""
        self._waits = False
        box, colour = self._box(), self._chosen_colour()
        cool, hot, low, high = box
        stars = self._view.inside(box, colour)
        few = stars.size <= _MOST_POINTS
        nothing: dict[str, Any] = {"image": [], "x": [], "y": [], "dw": [], "dh": []}
        if few:
            shown = np.ones(stars.size) if colour is None else self._view.column(colour)[stars]
            self._bins.data = nothing
            teff, logg = (self._view.column(name)[stars] for name in ("teff", "logg"))
            self._points.data = {"x": teff, "y": logg, "value": shown}
        else:
            image = self._view.image(box, colour)
            shown = image[np.isfinite(image)]
            self._points.data = {"x": [], "y": [], "value": []}
            self._bins.data = nothing | {
                "image": [image.astype("f4")], "x": [cool], "y": [low], "dw": [hot - cool], "dh": [high - low]
            }  # fmt: skip
        counted = colour is None
        # The range of colours does not depend on a few outliers; of counts it begins at one star.
        ends = (float(v) for v in np.percentile(shown, (2, 98))) if shown.size else (0.0, 1.0)
        first, last = (1.0, float(shown.max(initial=2.0))) if counted else ends
        mapper = self._mappers[0 if counted else 1]
        mapper.update(low=first, high=last if last > first else first + 1.0)
        for number, (bar, renderer) in enumerate(zip(self._bars, self._images, strict=True)):
            renderer.visible = (number == 0) == counted
            bar.visible = renderer.visible and not (few and counted)
            bar.title = _named(colour or _COUNT)
        self._dots.glyph.fill_color = BLUE if counted else {"field": "value", "transform": mapper}
        total = self._view.column("teff").size
        how = "each is a point" if few else "in bins: zoom in to see single stars"
        self._drawn.text = f"{stars.size:,} of {total:,} stars are in view, {how}."

    def _box_drawn(self, event: SelectionGeometry) -> None:
        if event.final and event.geometry["type"] == "rect":
            ends = (float(event.geometry[key]) for key in ("x0", "x1", "y0", "y1"))
            x0, x1, y0, y1 = ends
            self._safely(self.brush, (min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)))

    def _tapped(self, event: Tap) -> None:
        """The star that lies nearest to the pointer, within some pixels of the screen."""
        if event.x is None or event.y is None or event.x <= 0:
            return
        cool, hot, low, high = self._box()
        factor, reach = (hot / cool) ** 0.012, 0.015 * (high - low)
        box = (event.x / factor, event.x * factor, event.y - reach, event.y + reach)
        self._safely(self.brush, box, 1)

    def brush(self, box: Box, most: int = _MOST_SPECTRA) -> None:
        """Draw the spectra of the stars of a box that are nearest to its middle, `most` of them."""
        stars = self._view.nearest(box, self._chosen_colour())
        chosen = stars[:most]
        spectra = self._view.spectra(chosen)
        self._brushed.data = {
            "x": self._view.column("teff")[chosen],
            "y": self._view.column("logg")[chosen],
        }
        x = spectra[WAVELENGTH].values
        for number, drawn in enumerate(self._spectra):
            drawn.visible = number < chosen.size
            if not drawn.visible:
                continue
            flux = spectra["flux"].values[number].astype("f8")
            model = spectra["model"].values[number] if "model" in spectra else np.full(x.shape, np.nan)
            source = self._document.get_model_by_name(f"pixels {number}")
            source.data = {"x": x, "flux": flux, "model": model}
            drawn.y_range.start, drawn.y_range.end = axis_limits(flux)
            drawn.title.text = self._words(int(chosen[number]), int(spectra["obsid"].values[number]))
        what = f"{stars.size:,} star{'' if stars.size == 1 else 's'} there"
        some = (
            f"; the spectra of the {chosen.size} nearest to the middle are drawn" if stars.size > most else ""
        )
        self._told.text = f"{what}{some}."

    def _words(self, place: int, obsid: int) -> str:
        """Identifier and labels of a star."""
        colour = self._chosen_colour()
        names: list[str] = [name for name in ("teff", "logg", "feh") if name in self._view.colours]
        names += [colour] if colour is not None and colour not in names else []
        words = [f"{name} {self._view.column(name)[place]:.{0 if name == 'teff' else 2}f}" for name in names]
        return ", ".join([f"obsid {obsid}", *words])
