"""Colour-magnitude diagrams: candidates, and stars coloured by a label (M-dwarf paper, Figs. 1, 9 and 11)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from numpy.typing import ArrayLike, NDArray

from specxr.plotting.style import BLUE, DATA, POINTS, SEQUENTIAL, VERMILION, NotebookFigure, axis_name, tidy
from specxr.published.m_dwarfs import M_DWARF_SELECTION

_COLOUR, _MAGNITUDE = r"$(G_\mathrm{BP} - G_\mathrm{RP})_0$ [mag]", r"$M_{G,0}$ [mag]"


def plot_candidates(selection: xr.Dataset, ax: Axes | None = None) -> Axes:
    """Draw stars that meet the criteria of M dwarfs and those that do not, with the limits.

    Parameters
    ----------
    selection : Dataset
        From `specxr.galaxy.select_m_dwarfs`.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    Axes
    """
    ax = ax or NotebookFigure(figsize=(5.2, 5.2), layout="constrained").subplots()
    colour, magnitude = selection["bp_rp0"].values, selection["m_g0"].values
    chosen = selection["m_dwarf"].values
    for stars, paint, name in ((~chosen, BLUE, "other stars"), (chosen, VERMILION, "M dwarf candidates")):
        ax.scatter(colour[stars], magnitude[stars], color=paint, label=f"{stars.sum():,} {name}", **POINTS)
    low, high = _limits(colour)
    for (slope, intercept), style in ((M_DWARF_SELECTION.above, "--"), (M_DWARF_SELECTION.below, ":")):
        ends = np.array([low, high])
        ax.plot(ends, slope * ends + intercept, color=DATA, lw=0.9, ls=style)
    ax.axhline(M_DWARF_SELECTION.faintest_giant, color=DATA, lw=0.9)
    ax.set_xlim(low, high)
    ax.legend(frameon=False, fontsize="small", markerscale=2.0, loc="upper right")
    return _named(ax, magnitude)


def plot_colour_magnitude(
    bp_rp: ArrayLike,
    m_g: ArrayLike,
    values: ArrayLike,
    label: str,
    isochrones: pd.DataFrame | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw stars in the colour-magnitude diagram, coloured by a label.

    Parameters
    ----------
    bp_rp, m_g : array_like, shape (star,)
        Dereddened colour and absolute magnitude [mag].
    values : array_like, shape (star,)
        The label.
    label : str
        Its name in the vocabulary.
    isochrones : DataFrame, optional
        Columns ``feh``, ``bp_rp`` and ``m_g``, see `specxr.galaxy.isochrones.read_parsec`: a line for each ``feh``, in
        its colour where the label is [Fe/H].
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    Axes
    """
    ax = ax or NotebookFigure(figsize=(5.4, 4.8), layout="constrained").subplots()
    columns = np.stack([np.asarray(column, "f8") for column in (bp_rp, m_g, values)])
    colour, magnitude, value = columns[:, np.isfinite(columns[2])]
    low, high = np.percentile(value, (2, 98)) if len(value) else (0.0, 1.0)
    points = ax.scatter(
        colour, magnitude, c=value, cmap=SEQUENTIAL, vmin=low, vmax=high, **POINTS | {"alpha": 1.0}
    )
    ax.figure.colorbar(points, ax=ax, extend="both", label=axis_name(label), pad=0.02)
    if isochrones is not None:
        for feh, line in isochrones.groupby("feh"):
            paint = points.to_rgba(feh) if label.startswith("feh") else DATA
            ax.plot(line["bp_rp"], line["m_g"], color=paint, lw=1.4, label=f"[M/H] {feh:+.1f}")
        ax.legend(frameon=False, fontsize="small")
    ax.set_xlim(*_limits(colour))
    return _named(ax, magnitude)


def _limits(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = np.nanpercentile(values, (0.2, 99.8)) if np.isfinite(values).any() else (0.0, 1.0)
    margin = 0.05 * max(high - low, 1e-3)
    return float(low - margin), float(high + margin)


def _named(ax: Axes, magnitude: NDArray[np.float64]) -> Axes:
    low, high = _limits(magnitude)
    ax.set_ylim(high, low)
    ax.set_xlabel(_COLOUR)
    ax.set_ylabel(_MAGNITUDE)
    tidy(ax)
    return ax
