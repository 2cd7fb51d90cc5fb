"""Style of all figures: colours that the colour-blind can tell apart, and names of axes with units."""

from __future__ import annotations

from collections.abc import Collection
from io import BytesIO
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase, SubFigure

from specxr.content import whole_file
from specxr.cubes.tables import label_table
from specxr.vocabulary import LABELS, STAR

LabelTable = pd.DataFrame | xr.Dataset  # labels that a figure takes: a table, or what `infer` returns

# Okabe & Ito (2008).
BLUE, VERMILION, GREEN, ORANGE = "#0072B2", "#D55E00", "#009E73", "#E69F00"
DATA, FAINT = "0.25", "0.75"
SEQUENTIAL = "viridis"

# Points of many stars: those that overlap must still show where they are dense.
POINTS: dict[str, Any] = {"s": 6, "linewidths": 0, "alpha": 0.6, "rasterized": True}

_SYMBOLS = {
    "rv": "RV",
    "teff": r"$T_\mathrm{eff}$",
    "logg": r"$\log g$",
    "feh": "[Fe/H]",
    "feh_niu": "[Fe/H]",
    "sigma": "line broadening",
    "vsini": r"$v\,\sin i$",
    "vmic": r"$v_\mathrm{mic}$",
}


def axis_name(label: str, prefix: str = "") -> str:
    """Symbol and units of a label of the vocabulary, as the name of an axis."""
    known = LABELS[label]
    return f"{prefix}{_SYMBOLS.get(label, known.long_name)} [{known.units}]"


def as_table(labels: object, name: str = "labels", columns: Collection[str] = ()) -> pd.DataFrame:
    """LabelTable that are to be drawn as a table: one, or labels of `infer` or `open_labels`, which become one.

    Raises
    ------
    TypeError, ValueError
        They are neither, or some of the `columns` are not there.
    """
    if isinstance(labels, xr.Dataset) and STAR in labels.dims:
        labels = label_table(labels)
    if not isinstance(labels, pd.DataFrame):
        raise TypeError(
            f"a {type(labels).__name__} was given as {name}; a pandas.DataFrame with one row for each star, or labels "
            "of specxr.infer or specxr.open_labels, are required. Make a table: specxr.label_table(labels)."
        )
    missing = [column for column in columns if column not in labels]
    if missing:
        raise ValueError(
            f"{name} has no {', '.join(missing)} (it has {', '.join(map(str, labels.columns))}); a column for each is "
            "required to draw this figure. Give labels that have them."
        )
    return labels


class NotebookFigure(Figure):
    """A figure that a notebook shows: IPython knows how to draw those of pyplot only, which is not used here."""

    def _repr_png_(self) -> bytes:
        content = BytesIO()
        self.savefig(content, format="png")
        return content.getvalue()


def tidy(ax: Axes) -> None:
    """Draw ticks on all sides, as astronomers are used to."""
    ax.tick_params(which="both", direction="in", top=True, right=True)
    ax.minorticks_on()


def save_figure(drawn: FigureBase | Axes, path: str | Path, dpi: int = 150) -> None:
    """Write the whole figure on which something was drawn.

    Parameters
    ----------
    drawn : Figure, SubFigure or Axes
        What one of the functions of `specxr.plotting` returned.
    path : str or Path
        File; its suffix tells the format.
    dpi : int, optional
        Resolution [dots per inch].
    """
    figure = drawn.figure if isinstance(drawn, Axes) else drawn
    while isinstance(figure, SubFigure):
        figure = figure.figure
    assert isinstance(figure, Figure)
    with whole_file(path) as draft:
        figure.savefig(draft, dpi=dpi)
