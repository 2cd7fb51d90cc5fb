"""Figures of a bulk run: its speed, how the fits ended, labels and residuals."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from specxr.plotting.style import BLUE, DATA, GREEN, VERMILION, NotebookFigure, axis_name, tidy
from specxr.vocabulary import LABELS

_BINS = 60
_UNITS = (
    (2 * 86400.0, "days", 86400.0),
    (7200.0, "hours", 3600.0),
    (120.0, "minutes", 60.0),
    (0.0, "seconds", 1.0),
)


def plot_throughput(
    started: ArrayLike, finished: ArrayLike, n_stars: ArrayLike, figure: FigureBase | None = None
) -> FigureBase:
    """Draw the number of stars fitted per second, and the number of blocks at work, against time.

    Parameters
    ----------
    started, finished : array_like, shape (block,)
        Unix time at which the block began and ended [s].
    n_stars : array_like, shape (block,)
        Number of stars of the block; they are spread evenly over its duration.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    begin, end, stars = (np.asarray(values, dtype="float64") for values in (started, finished, n_stars))
    figure = NotebookFigure(figsize=(9.0, 3.6), layout="constrained") if figure is None else figure
    rate, busy = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    first = begin.min() if begin.size else 0.0
    begin, end = begin - first, np.maximum(end - first, begin - first + 1e-3)
    length = end.max() if end.size else 1.0
    unit, seconds = next((name, scale) for limit, name, scale in _UNITS if length >= limit)
    edges = np.linspace(0.0, length, _BINS + 1)
    # Time that each block spends in each bin: the overlap of two intervals.
    overlap = np.clip(
        np.minimum(end[:, None], edges[None, 1:]) - np.maximum(begin[:, None], edges[None, :-1]), 0.0, None
    )
    width = edges[1] - edges[0]
    rate.stairs((overlap / (end - begin)[:, None] * stars[:, None]).sum(0) / width, edges / seconds, fill=True,
                color=BLUE, alpha=0.85)  # fmt: skip
    busy.stairs(overlap.sum(0) / width, edges / seconds, color=DATA, lw=1.2)
    rate.set_ylabel("stars / s")
    busy.set_ylabel("blocks\nat work")
    busy.set_xlabel(f"{unit} since the first block")
    busy.set_xlim(0.0, length / seconds)
    for ax in (rate, busy):
        ax.set_ylim(bottom=0.0)
        tidy(ax)
    figure.align_ylabels()
    return figure


def plot_results(counts: Mapping[str, int], figure: FigureBase | None = None) -> FigureBase:
    """Draw how many fits ended with each result.

    Parameters
    ----------
    counts : mapping of str to int
        Number of stars for each result code, by its name.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    shown = {name: n for name, n in sorted(counts.items(), key=lambda item: item[1]) if n}
    if figure is None:
        figure = NotebookFigure(figsize=(5.6, 0.9 + 0.36 * max(len(shown), 1)), layout="constrained")
    ax = figure.subplots()
    colours = [GREEN if name == "converged" else VERMILION for name in shown]
    bars = ax.barh(
        [name.replace("_", " ") for name in shown], list(shown.values()), color=colours, height=0.7
    )
    total = sum(shown.values()) or 1
    ax.bar_label(bars, [f"{n:,} ({n / total:.2%})" for n in shown.values()], padding=4, fontsize="small")
    # Failures are few: on a linear axis they would not be visible.
    ax.set_xscale("log")
    ax.set_xlim(0.5, total * 30.0)
    ax.set_xlabel("stars")
    ax.tick_params(axis="y", length=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    return figure


def plot_distributions(labels: pd.DataFrame, figure: FigureBase | None = None) -> FigureBase:
    """Draw the histogram of each label, and of its error.

    Parameters
    ----------
    labels : DataFrame
        One row for each star; its columns are labels of the vocabulary, and ``<label>_err``.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    names = [name for name in LABELS if name in labels]
    if figure is None:
        figure = NotebookFigure(figsize=(2.4 * max(len(names), 1), 4.0), layout="constrained")
    axes = figure.subplots(2, max(len(names), 1), squeeze=False)
    for n, name in enumerate(names):
        for row, (column, colour) in enumerate(((name, BLUE), (f"{name}_err", DATA))):
            values = labels[column].to_numpy() if column in labels else np.empty(0)
            ax = axes[row, n]
            _histogram(ax, values[np.isfinite(values)], colour, log=row == 1)
            ax.set_xlabel(axis_name(name, "error of " if row else ""), fontsize="small")
            ax.set_yticks([])
            ax.tick_params(labelsize="small", direction="in")
    return figure


def _histogram(ax: Axes, values: NDArray[np.float64], colour: str, log: bool) -> None:
    values = values[values > 0] if log else values
    if not values.size:
        return
    # Outliers are counted in the first and last bin, so that they do not stretch the axis.
    low, high = np.percentile(values, (0.5, 99.5))
    high = high if high > low else 1.01 * low + (not log)
    edges = (np.geomspace if log else np.linspace)(low, high, 41)
    ax.hist(np.clip(values, edges[0], edges[-1]), edges.tolist(), color=colour, alpha=0.85)
    if log:
        ax.set_xscale("log")
        # Panels are narrow: the labels of all minor ticks of a short axis would lie on one another.
        decades = np.log10(edges[-1] / edges[0])
        ax.xaxis.set_major_locator(LogLocator(subs=(1.0,) if decades > 1.5 else (1.0, 3.0)))
        ax.xaxis.set_major_formatter("{x:g}")
        ax.xaxis.set_minor_formatter(NullFormatter())
    else:
        ax.locator_params(axis="x", nbins=4)


def plot_residuals(
    wavelength: ArrayLike, residual: ArrayLike, medium: str = "", figure: FigureBase | None = None
) -> FigureBase:
    """Draw observed minus model spectra by wavelength: the median and the central 68 % of the stars.

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        Wavelengths [Angstrom].
    residual : array_like, shape (star, wavelength)
        Observed minus model, in units of the median flux of each star; NaN where a pixel was not fitted.
    medium : {"", "vacuum", "air"}, optional
        Medium of the wavelengths, for the name of the axis.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    wavelength, residual = np.asarray(wavelength), 100.0 * np.asarray(residual)
    figure = NotebookFigure(figsize=(9.0, 3.0), layout="constrained") if figure is None else figure
    ax = figure.subplots()
    drawn = np.isfinite(residual).any(axis=0)
    low, median, high = np.nanpercentile(residual[:, drawn], (16, 50, 84), axis=0)
    ax.fill_between(wavelength[drawn], low, high, color=BLUE, alpha=0.3, lw=0, label="central 68 %")
    ax.plot(wavelength[drawn], median, color=BLUE, lw=0.8, label="median")
    ax.axhline(0.0, color=DATA, lw=0.8, ls="--")
    reach = 1.3 * np.percentile(np.maximum(np.abs(low), np.abs(high)), 99)
    ax.set_ylim(-reach, reach)
    ax.set_xlim(wavelength[drawn][0], wavelength[drawn][-1])
    ax.set_xlabel(f"{medium} wavelength [Å]".strip())
    ax.set_ylabel("observed - model [%]")
    ax.legend(loc="upper right", ncols=2, frameon=False, fontsize="small")
    tidy(ax)
    return figure
