"""Distributions of projected rotational velocities, and what they say above the detection limit (Fig. 8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike

from specxr.plotting.style import BLUE, DATA, GREEN, ORANGE, VERMILION, axis_name, tidy
from specxr.published.hot_stars import VSINI_LIMIT

_COLOURS = (BLUE, VERMILION, GREEN, ORANGE)
_WIDTH = 20.0  # of a bin [km/s]


def plot_rotation(
    samples: Mapping[str, ArrayLike], limit: float = VSINI_LIMIT, figure: FigureBase | None = None
) -> FigureBase:
    """Draw histograms of vsini of several samples, and the shares of stars that rotate faster.

    Parameters
    ----------
    samples : mapping of str to array_like, shape (star,)
        Names of the samples, and vsini [km/s]; values that are not finite are left out.
    limit : float, optional
        Slowest rotation that the spectra show [km/s]; below it distributions are not to be compared. A dashed line.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    figure = figure or Figure(figsize=(5.4, 5.6), layout="constrained")
    above, below = figure.subplots(2, 1, sharex=True)
    largest = 4 * _WIDTH
    for (name, values), colour in zip(samples.items(), _COLOURS * len(samples), strict=False):
        vsini = np.sort(np.asarray(values, "f8").ravel())
        vsini = vsini[np.isfinite(vsini)]
        if not vsini.size:
            continue
        largest = max(largest, float(np.percentile(vsini, 99.5)))
        edges = np.arange(0.0, vsini[-1] + _WIDTH, _WIDTH)
        title = f"{name}: {vsini.size:,}, {np.mean(vsini > limit):.0%} above the limit"
        above.hist(vsini, edges, density=True, histtype="step", color=colour, label=title)
        faster = 1.0 - np.arange(vsini.size) / vsini.size
        below.step(vsini, faster, where="pre", color=colour)
        # Binomial error of the share, one sigma.
        error = np.sqrt(faster * (1.0 - faster) / vsini.size)
        below.fill_between(vsini, faster - error, faster + error, step="pre", color=colour, alpha=0.25, lw=0)
    for ax, text in ((above, "density [s/km]"), (below, "share that rotates faster")):
        ax.axvline(limit, color=DATA, lw=0.9, ls="--")
        ax.set_ylabel(text)
        tidy(ax)
    above.legend(frameon=False, fontsize="small")
    below.set_xlabel(axis_name("vsini"))
    below.set_xlim(0.0, 1.05 * largest)
    below.set_ylim(0.0, 1.02)
    return figure
