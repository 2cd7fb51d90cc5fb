"""The Kiel diagram: surface gravity against effective temperature."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from specxr.plotting.style import POINTS, SEQUENTIAL, LabelTable, NotebookFigure, as_table, axis_name, tidy


def plot_kiel(labels: LabelTable, ax: Axes | None = None, title: str = "") -> Axes:
    """Draw stars in the Kiel diagram, coloured by metallicity.

    Parameters
    ----------
    labels : DataFrame or Dataset
        ``teff`` [K], ``logg`` and ``feh`` [dex], one row for each star, see `specxr.label_table`; or labels of
        `specxr.infer`.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.
    title : str, optional

    Returns
    -------
    Axes
    """
    labels = as_table(labels, columns=("teff", "logg", "feh"))
    if ax is None:
        ax = NotebookFigure(figsize=(5.6, 4.5), layout="constrained").subplots()
    stars = labels[["teff", "logg", "feh"]].dropna()
    # The range of colours does not depend on a few outliers.
    poor, rich = np.percentile(stars["feh"], (2, 98)) if len(stars) else (-1.0, 0.5)
    points = ax.scatter(
        stars["teff"],
        stars["logg"],
        c=stars["feh"],
        cmap=SEQUENTIAL,
        vmin=poor,
        vmax=rich,
        **POINTS | {"alpha": 1.0},
    )
    ax.figure.colorbar(points, ax=ax, extend="both", label=axis_name("feh"), pad=0.02)
    # A spectrum changes with the logarithm of Teff, and a logarithmic axis keeps cool stars apart beside hot ones.
    ax.set_xscale("log")
    ax.set_xlabel(axis_name("teff"))
    ax.set_ylabel(axis_name("logg"))
    tidy(ax)
    ax.xaxis.set_major_locator(FixedLocator([3000, 4000, 5000, 6000, 7000, 8000, 10000, 15000, 20000, 30000]))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.xaxis.set_minor_formatter(NullFormatter())
    if len(stars):
        teff, logg = (np.percentile(stars[name], (0.2, 99.8)) for name in ("teff", "logg"))
        ax.set_xlim(teff[1] * 1.05, teff[0] / 1.05)
        ax.set_ylim(logg[1] + 0.3, logg[0] - 0.3)
    ax.set_title(title or f"{len(stars):,} stars", fontsize="medium", loc="left")
    return ax
