"""Inferred minus true labels of simulated stars, drawn."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure, FigureBase
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from specxr.plotting.style import BLUE, DATA, POINTS, VERMILION, axis_name, tidy
from specxr.validation.recovery import recovery_table
from specxr.vocabulary import LABELS, Result


def plot_recovery(labels: pd.DataFrame, truth: pd.DataFrame, figure: FigureBase | None = None) -> FigureBase:
    """Draw inferred minus true labels against the true temperature, with bias and scatter in bins.

    Parameters
    ----------
    labels : DataFrame
        One row a star, with ``result``; see `specxr.tables.label_table`. Only converged stars are drawn.
    truth : DataFrame
        True labels of the same stars in the same order, ``teff`` [K] among them.
    figure : Figure or SubFigure, optional
        Where to draw; without it, a new figure.

    Returns
    -------
    Figure or SubFigure
    """
    bins = recovery_table(labels, truth).iloc[:-1]
    names = [name for name in LABELS if f"{name}_bias" in bins]
    converged = (labels["result"] == Result.CONVERGED.name.lower()).to_numpy()
    if figure is None:
        figure = Figure(figsize=(7.0, 1.6 * len(names) + 0.6), layout="constrained")
    middle = np.sqrt(bins["lower"] * bins["upper"])
    for name, ax in zip(names, figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        difference = labels[name].to_numpy() - truth[name].to_numpy()
        ax.scatter(truth["teff"][converged], difference[converged], color=BLUE, **POINTS)
        ax.axhline(0.0, color=DATA, lw=0.8, ls="--")
        ax.errorbar(
            middle, bins[f"{name}_bias"], yerr=bins[f"{name}_scatter"],
            fmt="o", ms=4, color=VERMILION, capsize=3, lw=1.2,
        )  # fmt: skip
        reach = 4.0 * np.nanmax(bins[f"{name}_scatter"]) or 1.0
        ax.set_ylim(-reach, reach)
        ax.set_ylabel(axis_name(name, "Δ "))
        ax.set_xscale("log")
        tidy(ax)
        ax.xaxis.set_major_locator(FixedLocator([4000, 5000, 6000, 7000, 8000, 10000, 12000]))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_xlabel("true " + axis_name("teff"))
    figure.suptitle("inferred - true; median and 1.48 MAD in bins", fontsize="medium")
    figure.align_ylabels()
    return figure
