"""Photometric criteria of O, B and A stars (hot-star paper, Fig. 10)."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase

from specxr.plotting.style import BLUE, DATA, POINTS, VERMILION, as_table, tidy
from specxr.published.hot_stars import HOT_STAR_SELECTION


def plot_colour_cuts(photometry: pd.DataFrame, figure: FigureBase | None = None) -> FigureBase:
    """Draw J - H and G against G - Ks, with the criteria of Zari et al. (2021) and the stars that meet both.

    Parameters
    ----------
    photometry : DataFrame
        ``phot_g_mean_mag``, ``j``, ``h`` and ``ks`` [mag], and ``oba_colours`` and ``no_giant``, booleans of
        `specxr.galaxy`; one row for each star.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    columns = ("phot_g_mean_mag", "j", "h", "ks", "oba_colours", "no_giant")
    photometry = as_table(photometry, "photometry", columns)
    figure = figure or Figure(figsize=(8.4, 3.9), layout="constrained")
    left, right = figure.subplots(1, 2)
    chosen = photometry["oba_colours"] & photometry["no_giant"]
    g, j, h, ks = (photometry[name] for name in ("phot_g_mean_mag", "j", "h", "ks"))
    for ax, values in ((left, j - h), (right, g)):
        for stars, colour, name in ((~chosen, VERMILION, "others"), (chosen, BLUE, "meet both criteria")):
            ax.scatter(
                (g - ks)[stars], values[stars], color=colour, label=f"{stars.sum():,} {name}", **POINTS
            )
        ax.set_xlabel(r"$G - K_s$ [mag]")
        tidy(ax)
    low, high = np.nanpercentile(g - ks, (0.2, 99.8)) if len(g) else (-1.0, 4.0)
    ends = np.array([low - 0.2, high + 0.2])
    slope, above, below = HOT_STAR_SELECTION.oba_colours
    for intercept in (above, below):
        left.plot(ends, slope * ends + intercept, color=DATA, lw=0.9, ls="--")
    slope, intercept = HOT_STAR_SELECTION.no_giant
    right.plot(ends, slope * ends + intercept, color=DATA, lw=0.9, ls="--")
    left.set_ylabel(r"$J - H$ [mag]")
    right.set_ylabel(r"$G$ [mag]")
    right.invert_yaxis()
    for ax in (left, right):
        ax.set_xlim(*ends)
    left.legend(frameon=False, fontsize="small", markerscale=2.0)
    return figure
