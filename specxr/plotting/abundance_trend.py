"""[X/Fe] against [Fe/H] in ranges of temperature, with running medians (hot-star paper, Fig. 13)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase

from specxr.galaxy.abundances import Deconvolution, running_median
from specxr.plotting.style import DATA, FAINT, SEQUENTIAL, VERMILION, axis_name, tidy

_MANY = 2000  # stars, from which on a density says more than points


def plot_abundance_trends(
    labels: pd.DataFrame,
    names: Sequence[str],
    teff: Sequence[float] = (7000.0, 10000.0, 20000.0),
    *,
    reference: pd.DataFrame | None = None,
    deconvolved: Mapping[tuple[str, float], Deconvolution] | None = None,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Draw abundances against [Fe/H]: a row for each abundance, a column for each range of temperature.

    Parameters
    ----------
    labels : DataFrame
        ``teff`` [K], ``feh`` and the abundances [dex], one row for each star.
    names : sequence of str
        Abundances, such as ``mg_fe``.
    teff : sequence of float, optional
        Edges of the ranges [K].
    reference : DataFrame, optional
        Tracers that are drawn behind, with ``feh`` and those of the abundances that are known of them.
    deconvolved : mapping, optional
        For an abundance and the lower edge of a range: its distribution with [Fe/H] without errors, of which contours
        are drawn.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    n_column = len(teff) - 1
    figure = figure or Figure(figsize=(4.0 * n_column + 0.8, 2.6 * len(names) + 0.4), layout="constrained")
    panels = figure.subplots(len(names), n_column, sharex=True, sharey="row", squeeze=False)
    for column, (low, high) in enumerate(zip(teff[:-1], teff[1:], strict=True)):
        stars = labels[(labels["teff"] >= low) & (labels["teff"] < high)]
        for ax, name in zip(panels[:, column], names, strict=True):
            known = stars[["feh", name]].dropna()
            if reference is not None and name in reference:
                ax.scatter(reference["feh"], reference[name], s=7, color=FAINT, zorder=0, label="reference")
            _stars(ax, known["feh"].to_numpy(), known[name].to_numpy())
            line = running_median(known["feh"], known[name])
            ax.plot(line["x"], line["median"], color=VERMILION, lw=1.5, label="median")
            band = (line["median"] - line["median_err"], line["median"] + line["median_err"])
            ax.fill_between(line["x"], *band, color=VERMILION, alpha=0.3, lw=0)
            if deconvolved is not None and (name, low) in deconvolved:
                _contours(ax, deconvolved[name, low])
            ax.axhline(0.0, color=DATA, lw=0.6, ls=":")
            tidy(ax)
        panels[0, column].set_title(
            f"{low:,.0f}-{high:,.0f} K, {len(stars):,} stars", fontsize="medium", loc="left"
        )
        panels[-1, column].set_xlabel(axis_name("feh"))
    for ax, name in zip(panels[:, 0], names, strict=True):
        ax.set_ylabel(axis_name(name))
        inside = labels[["feh", name]].dropna()
        if len(inside):
            for limits, values in ((ax.set_xlim, inside["feh"]), (ax.set_ylim, inside[name])):
                low, high = np.percentile(values, (0.5, 99.5))
                limits(low - 0.15, high + 0.15)
    panels[0, 0].legend(frameon=False, fontsize="small")
    return figure


def _stars(ax: Axes, feh: np.ndarray, abundance: np.ndarray) -> None:
    if feh.size > _MANY:
        ax.hist2d(feh, abundance, bins=80, norm=LogNorm(), cmap=SEQUENTIAL, cmin=1, rasterized=True)
    else:
        ax.scatter(feh, abundance, s=4, color="#0072B2", alpha=0.5, linewidths=0, rasterized=True)


def _contours(ax: Axes, mixture: Deconvolution) -> None:
    """Contours that contain 39 % and 86 % of the true stars, as one and two sigma of a normal distribution."""
    wide = 4.0 * np.sqrt(np.diagonal(mixture.covariances, axis1=1, axis2=2))
    low, high = (mixture.means - wide).min(axis=0), (mixture.means + wide).max(axis=0)
    x, y = (np.linspace(a, b, 120) for a, b in zip(low, high, strict=True))
    density = mixture.density(np.stack(np.meshgrid(x, y), axis=-1))
    ordered = np.sort(density.ravel())[::-1]
    inside = np.cumsum(ordered) / ordered.sum()
    levels = sorted({float(ordered[np.searchsorted(inside, share)]) for share in (0.86, 0.39)})
    ax.contour(x, y, density, levels=levels, colors=DATA, linewidths=0.9)
