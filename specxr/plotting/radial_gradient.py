"""Radial gradients of abundances: stars, bins, and fitted lines (hot-star paper, Fig. 14)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from numpy.typing import ArrayLike

from specxr.galaxy.gradients import Gradient
from specxr.plotting.style import BLUE, DATA, FAINT, GREEN, ORANGE, VERMILION, NotebookFigure, tidy

_COLOURS = (VERMILION, GREEN, ORANGE, DATA)


def plot_radial_gradient(
    radius: ArrayLike,
    value: ArrayLike,
    fits: Mapping[str, Gradient],
    bins: pd.DataFrame | None = None,
    name: str = "[Fe/H]",
    ax: Axes | None = None,
) -> Axes:
    """Draw abundances against the Galactocentric radius, with bins and fitted lines.

    Parameters
    ----------
    radius, value : array_like, shape (star,)
        Galactocentric radius [kpc] and abundance [dex].
    fits : mapping of str to Gradient
        Lines and their names; a band shows the error that a fit leaves of its line.
    bins : DataFrame, optional
        From `specxr.galaxy.bin_gradient`; a bar shows the scatter in a bin.
    name : str, optional
        Name of the abundance.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    Axes
    """
    ax = ax or NotebookFigure(figsize=(6.0, 4.0), layout="constrained").subplots()
    columns = np.stack([np.asarray(radius, "f8"), np.asarray(value, "f8")])
    r, y = columns[:, np.isfinite(columns).all(axis=0)]
    many = r.size > 2000
    ax.scatter(
        r,
        y,
        s=2 if many else 8,
        color=FAINT if many else BLUE,
        alpha=0.6,
        linewidths=0,
        rasterized=True,
    )
    if bins is not None:
        ax.errorbar(
            bins["radius"], bins["value"], yerr=bins["scatter"], fmt="o", ms=4, color=BLUE, lw=0.9, capsize=2
        )
    low, high = np.percentile(r, (0.2, 99.8)) if r.size else (5.0, 15.0)
    along = np.linspace(low, high, 200)
    for (title, fit), colour in zip(fits.items(), _COLOURS * len(fits), strict=False):
        line, error = fit.line(along)
        ax.plot(along, line, color=colour, lw=1.4, label=f"{title}: {slope_text(fit)}")
        ax.fill_between(along, line - error, line + error, color=colour, alpha=0.25, lw=0)
    if y.size:
        bottom, top = np.percentile(y, (0.5, 99.5))
        margin = 0.1 * max(top - bottom, 0.1)
        ax.set_ylim(bottom - margin, top + margin)
    ax.set_xlim(low - 0.2, high + 0.2)
    ax.set_xlabel(r"$R_\mathrm{GC}$ [kpc]")
    ax.set_ylabel(f"{name} [dex]")
    ax.legend(frameon=False, fontsize="small", loc="upper right")
    tidy(ax)
    return ax


def slope_text(fit: Gradient) -> str:
    """Slopes of a fit with their errors, and the radius of its break, as text."""
    v, e = fit.values, fit.errors
    text = f"{v['slope']:+.4f} ± {e['slope']:.4f} dex/kpc"
    if "break_radius" in v:
        text += f", beyond {v['break_radius']:.1f} kpc {v['outer_slope']:+.4f} ± {e['outer_slope']:.4f}"
    return text
