"""What cross-validation says: errors of pixels, and errors of labels against S/N (M-dwarf paper, Figs. 4 and 5)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from matplotlib.ticker import FixedLocator, NullFormatter, ScalarFormatter
from numpy.typing import ArrayLike, NDArray

from specxr.plotting.style import BLUE, DATA, FAINT, VERMILION, NotebookFigure, axis_name, tidy


def plot_cross_validation(wavelength: ArrayLike, mse: ArrayLike, md: ArrayLike) -> FigureBase:
    """Draw CV MSE (as its square root) and CV MD of every pixel.

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        [Angstrom].
    mse, md : array_like, shape (wavelength,)
        Mean squared and mean deviation of held-out stars [normalised flux]: ``cv_mse`` and ``cv_md`` of
        ``slam.emulator``.

    Returns
    -------
    Figure
    """
    figure = NotebookFigure(figsize=(8.0, 4.4), layout="constrained")
    for ax, values, name in zip(
        figure.subplots(2, sharex=True),
        (np.sqrt(np.asarray(mse, "f8")), np.asarray(md, "f8")),
        (r"$\sqrt{\mathrm{CV\ MSE}}$", "CV MD"),
        strict=True,
    ):
        ax.plot(wavelength, values, color=BLUE, lw=0.6)
        high = np.nanpercentile(np.abs(values), 99.5)
        ax.set_ylim(-1.2 * high if np.nanmin(values) < 0 else 0.0, 1.2 * high)
        ax.set_ylabel(f"{name} [normalised flux]")
        tidy(ax)
    ax.axhline(0.0, color=DATA, lw=0.7, ls="--")
    ax.set_xlabel("wavelength [Angstrom]")
    return figure


def plot_error_law(
    difference: ArrayLike,
    snr: ArrayLike,
    bins: pd.DataFrame,
    law: Callable[[NDArray[np.float64]], NDArray[np.float64]],
    label: str,
    ax: Axes | None = None,
) -> Axes:
    """Draw bias and scatter of held-out stars against S/N, and the law of their errors.

    Parameters
    ----------
    difference : array_like, shape (star,)
        Inferred minus known labels.
    snr : array_like, shape (star,)
    bins : DataFrame
        From `specxr.validation.scatter_by_snr`.
    law : callable
        ``law(snr)``: errors, such as ``slam.model.calibration.labels[label].observed``.
    label : str
        Name of the label in the vocabulary.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.

    Returns
    -------
    Axes
    """
    ax = ax or NotebookFigure(figsize=(4.4, 3.6), layout="constrained").subplots()
    ax.scatter(snr, difference, color=FAINT, s=6, linewidths=0, label="stars", rasterized=True)
    ax.errorbar(bins["snr"], bins["bias"], bins["bias_err"], fmt="o", ms=4, color=BLUE, label="bias")
    ax.errorbar(
        bins["snr"], bins["scatter"], bins["scatter_err"], fmt="^", ms=4, color=VERMILION, label="scatter"
    )
    ends = np.geomspace(bins["snr"].min(), bins["snr"].max(), 100)
    ax.plot(ends, law(ends), color=VERMILION, lw=1.2, label="a + b / SNR$^c$")
    ax.axhline(0.0, color=DATA, lw=0.7, ls="--")
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(FixedLocator([1, 2, 5, 10, 20, 50, 100, 200, 500]))
    ax.xaxis.set_major_formatter(ScalarFormatter())
    ax.set_ylim(-3.0 * bins["scatter"].max(), 3.0 * bins["scatter"].max())
    ax.set_xlabel("S/N per pixel")
    ax.set_ylabel(axis_name(label, "Δ "))
    tidy(ax)
    ax.xaxis.set_minor_formatter(NullFormatter())
    return ax
