"""Figures of inferred minus true labels of simulated stars."""

from __future__ import annotations

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure, FigureBase
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter

from specxr.plotting.style import (
    BLUE,
    DATA,
    FAINT,
    GREEN,
    ORANGE,
    POINTS,
    VERMILION,
    LabelTable,
    NotebookFigure,
    as_table,
    axis_name,
    tidy,
)
from specxr.published.hot_stars import KIEL_BIN
from specxr.validation.recovery import recovery_by_snr, recovery_on_kiel, recovery_table
from specxr.vocabulary import LABELS, Result


def plot_recovery(labels: LabelTable, truth: LabelTable, figure: FigureBase | None = None) -> FigureBase:
    """Draw inferred minus true labels against the true temperature, with bias and scatter in bins.

    Parameters
    ----------
    labels : DataFrame or Dataset
        One row for each star, with ``result``, see `specxr.label_table`; or labels of `specxr.infer`. Only converged
        stars are drawn.
    truth : DataFrame or Dataset
        True labels of the same stars in the same order, ``teff`` [K] among them.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    labels, truth = as_table(labels, columns=("result",)), as_table(truth, "truth", ("teff",))
    bins = recovery_table(labels, truth).iloc[:-1]
    names = [name for name in LABELS if f"{name}_bias" in bins]
    converged = (labels["result"] == Result.CONVERGED.name.lower()).to_numpy()
    if figure is None:
        figure = NotebookFigure(figsize=(7.0, 1.6 * len(names) + 0.6), layout="constrained")
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
    figure.suptitle("inferred - true; points with bars: median and 1.48 MAD in bins", fontsize="medium")
    figure.align_ylabels()
    return figure


def plot_recovery_by_snr(
    labels: LabelTable, truth: LabelTable, figure: FigureBase | None = None
) -> FigureBase:
    """Draw scatter (solid) and bias (dashed) against the S/N, in three ranges of temperature (Sun et al. 2025, Fig. 2).

    Parameters
    ----------
    labels, truth : DataFrame or Dataset
        See `specxr.validation.recovery.recovery_by_snr`.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure
    """
    table = recovery_by_snr(as_table(labels), as_table(truth, "truth", ("teff",)))
    whole = (table["lower"] == table["lower"].min()) & (table["upper"] == table["upper"].max())
    ranges = table[~whole].groupby(["lower", "upper"])
    names = [name for name in LABELS if f"{name}_bias" in table]
    n_column = 1 if len(names) < 4 else 2
    n_row = -(-len(names) // n_column)
    if figure is None:
        figure = NotebookFigure(figsize=(4.2 * n_column, 1.9 * n_row + 0.7), layout="constrained")
    panels = figure.subplots(n_row, n_column, sharex=True, squeeze=False)
    for name, ax in zip(names, panels.T.ravel(), strict=False):
        for ((lower, upper), rows), colour in zip(ranges, (BLUE, GREEN, ORANGE), strict=False):
            label = f"{lower:,.0f}-{upper:,.0f} K"
            ax.plot(rows["snr"], rows[f"{name}_scatter"], "o-", ms=3, color=colour, label=label)
            ax.plot(rows["snr"], rows[f"{name}_bias"], "s--", ms=3, color=colour, lw=1.0)
        ax.axhline(0.0, color=FAINT, lw=0.8)
        ax.set_xscale("log")
        ax.set_ylabel(axis_name(name, "Δ "))
        tidy(ax)
        ax.xaxis.set_major_locator(FixedLocator(sorted(table["snr"].unique())))
        ax.xaxis.set_major_formatter(ScalarFormatter())
        ax.xaxis.set_minor_formatter(NullFormatter())
    for ax in panels[-1]:
        ax.set_xlabel("S/N per pixel")
    for ax in panels.T.ravel()[len(names) :]:
        ax.set_visible(False)
    handles, _ = panels[0, 0].get_legend_handles_labels()
    handles += [
        Line2D([], [], color=DATA, marker=marker, ms=3, ls=style, lw=width, label=name)
        for marker, style, width, name in (("o", "-", 1.5, "scatter"), ("s", "--", 1.0, "bias"))
    ]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(handles), frameon=False, fontsize="small"
    )
    figure.align_ylabels()
    return figure


def plot_recovery_on_kiel(
    labels: LabelTable, truth: LabelTable, names: tuple[str, ...] = ("teff", "logg")
) -> Figure:
    """Draw the scatter across the Kiel diagram, a dot for each S/N with the lowest on top (Sun et al. 2025, Fig. 1).

    Parameters
    ----------
    labels, truth : DataFrame or Dataset
        See `specxr.validation.recovery.recovery_on_kiel`.
    names : tuple of str, optional
        LabelTable whose scatter is drawn, one panel for each.

    Returns
    -------
    Figure
    """
    table = recovery_on_kiel(as_table(labels), as_table(truth, "truth", ("teff", "logg")))
    figure = NotebookFigure(figsize=(7.0, 4.0 * len(names)), layout="constrained")
    levels = sorted(table["snr"].unique())
    rise = dict(zip(levels, np.linspace(-0.36, 0.36, len(levels)) if len(levels) > 1 else [0.0], strict=True))
    for name, ax in zip(names, figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        scatter = table[f"{name}_scatter"]
        dots = ax.scatter(
            table["teff"], table["logg"] + KIEL_BIN["logg"] * table["snr"].map(rise),
            c=scatter, s=34, cmap="RdYlGn_r", edgecolors=DATA, linewidths=0.3,
            norm=LogNorm(*np.percentile(scatter, (2, 98))),
        )  # fmt: skip
        for axis, edges in (("x", "teff"), ("y", "logg")):
            width = KIEL_BIN[edges]
            low, high = table[edges].min() - width / 2, table[edges].max() + width / 2
            ax.set(**{f"{axis}lim": (high, low)})
            for edge in np.arange(low, high + width / 2, width):
                (ax.axvline if axis == "x" else ax.axhline)(edge, color=FAINT, lw=0.7, ls="--", zorder=0)
        ax.set_ylabel(axis_name("logg"))
        bar = figure.colorbar(dots, ax=ax, extend="both", label=axis_name(name, "scatter of "))
        bar.formatter = ScalarFormatter()
        bar.minorformatter = NullFormatter()
        tidy(ax)
    ax.set_xlabel(axis_name("teff"))
    steps = ", ".join(f"{level:g}" for level in levels)
    figure.suptitle(f"1.48 MAD of inferred - true; S/N from top to bottom {steps}", fontsize="medium")
    return figure
