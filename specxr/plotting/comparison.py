"""Figure of two tables of labels of the same stars."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from textwrap import wrap
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import NDArray

from specxr.plotting.style import (
    BLUE,
    DATA,
    POINTS,
    VERMILION,
    LabelTable,
    NotebookFigure,
    as_table,
    axis_name,
    tidy,
)
from specxr.validation.comparison import match, robust_scatter

# The labels that differences are drawn against.
_AGAINST = ("teff", "logg", "feh")
_CHARACTERS = 28  # of the title, above one panel


def plot_comparison(
    a: LabelTable,
    b: LabelTable,
    on: str = "obsid",
    labels: Sequence[str] | None = None,
    names: tuple[str, str] = ("A", "B"),
    figure: FigureBase | None = None,
    *,
    radius: str | float | None = None,
    converged: bool = True,
) -> FigureBase:
    """Draw two tables of labels against each other.

    A row of panels shows for each label one table against the other, their difference A minus B against each label
    of B, and the histogram of the difference with its median and robust scatter (1.48 times the median absolute
    deviation).

    Parameters
    ----------
    a, b : DataFrame or Dataset
        One row for each star, see `specxr.read_table`; or labels of `specxr.infer`.
    on : str, optional
        Column that identifies the star of a row.
    labels : sequence of str, optional
        Names of labels in the vocabulary; all that both tables have by default.
    names : (str, str), optional
        Names of the two tables in the figure.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.
    radius, converged : optional
        How the tables are joined, see `specxr.validation.comparison.match`.

    Returns
    -------
    Figure or SubFigure
    """
    a, b = as_table(a, "a"), as_table(b, "b")
    joined = match(a, b, on, labels, radius=radius, converged=converged)
    rows = [name.removesuffix("_a") for name in joined.columns if name.endswith("_a")]
    against = [name for name in _AGAINST if name in rows]
    n_columns = len(against) + 2
    if figure is None:
        figure = NotebookFigure(figsize=(2.9 * n_columns, 2.5 * len(rows)), layout="constrained")
    for label, axes in zip(rows, figure.subplots(len(rows), n_columns, squeeze=False), strict=True):
        stars = joined.dropna(subset=[f"{label}_a", f"{label}_b"])
        difference = (stars[f"{label}_a"] - stars[f"{label}_b"]).to_numpy()
        _one_to_one(axes[0], stars, label, names)
        median, scatter = (np.median(difference), robust_scatter(difference)) if len(stars) else (0.0, 0.0)
        reach = 5.0 * scatter or 1.0
        for ax, other in zip(axes[1:-1], against, strict=True):
            ax.scatter(stars[f"{other}_b"], difference, color=BLUE, **POINTS)
            _reference_lines(ax.axhline, median)
            ax.set_xlim(*_limits(stars[f"{other}_b"]))
            ax.set_ylim(median - reach, median + reach)
            ax.set_xlabel(f"{names[1]} {axis_name(other)}")
            ax.set_ylabel(axis_name(label, "Δ "))
        _histogram(axes[-1], difference, median, scatter, label)
        for ax in axes:
            tidy(ax)
    title = (
        f"Δ = {names[0]} - {names[1]}, {len(joined):,} in common; solid line: median; ± is 1.48 MAD; "
        "beyond: farther from the median than 5 times that"
    )
    figure.suptitle("\n".join(wrap(title, _CHARACTERS * n_columns)), fontsize="medium")
    return figure


def _one_to_one(ax: Axes, stars: pd.DataFrame, label: str, names: tuple[str, str]) -> None:
    x, y = stars[f"{label}_b"], stars[f"{label}_a"]
    ax.scatter(x, y, color=BLUE, **POINTS)
    ax.axline((0.0, 0.0), slope=1.0, color=DATA, lw=0.8, ls="--")
    limits = _limits(pd.concat((x, y)))
    ax.set_xlim(*limits)
    ax.set_ylim(*limits)
    ax.set_aspect("equal", adjustable="box")
    ax.set_xlabel(f"{names[1]} {axis_name(label)}")
    ax.set_ylabel(f"{names[0]} {axis_name(label)}")


def _histogram(ax: Axes, difference: NDArray[np.float64], median: float, scatter: float, label: str) -> None:
    reach = 5.0 * scatter or 1.0
    inside = np.abs(difference - median) <= reach
    ax.hist(difference[inside], bins=41, range=(median - reach, median + reach), color=BLUE, alpha=0.7)
    _reference_lines(ax.axvline, median)
    digits = 0 if scatter >= 10 else 1 if scatter >= 1 else 3
    ax.set_title(f"{round(median, digits) + 0.0:+.{digits}f} ± {scatter:.{digits}f}", fontsize="small")
    beyond = int((~inside).sum())
    ax.text(0.97, 0.95, f"{beyond} beyond", transform=ax.transAxes, ha="right", va="top", fontsize="small")
    ax.set_xlim(median - reach, median + reach)
    ax.set_xlabel(axis_name(label, "Δ "))
    ax.set_ylabel("stars")


def _reference_lines(line: Callable[..., Any], median: float) -> None:
    line(0.0, color=DATA, lw=0.8, ls="--")
    line(median, color=VERMILION, lw=1.0)


def _limits(values: pd.Series) -> tuple[float, float]:
    """Limits of an axis that do not depend on a few outliers."""
    if values.empty:
        return (0.0, 1.0)
    low, high = np.nanpercentile(values, (0.5, 99.5))
    margin = 0.06 * max(high - low, 1e-3)
    return (low - margin, high + margin)
