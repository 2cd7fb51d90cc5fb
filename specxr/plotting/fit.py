"""Figure of one spectrum and its model."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import FigureBase
from numpy.typing import ArrayLike, NDArray

from specxr.plotting.style import DATA, GREEN, VERMILION, NotebookFigure, tidy


def plot_fit(
    wavelength: ArrayLike,
    flux: ArrayLike,
    model: ArrayLike,
    used: ArrayLike | None = None,
    title: str = "",
    medium: str = "",
    figure: FigureBase | None = None,
) -> FigureBase:
    """Draw a spectrum with its model above their difference.

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        Wavelengths [Angstrom].
    flux, model : array_like, shape (wavelength,)
        Spectrum and model, in the same units; pixels where the model is NaN are not drawn.
    used : array_like, shape (wavelength,), optional
        1 where the fit used a pixel, as in the variable ``used`` of `specxr.infer`; all pixels by default.
    title : str, optional
    medium : {"", "vacuum", "air"}, optional
        Medium of the wavelengths, for the name of the axis.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    ValueError
        The model has no finite pixel.
    """
    x, data, fitted = (np.asarray(values, dtype="float64") for values in (wavelength, flux, model))
    left_out = np.zeros(data.shape, bool) if used is None else np.asarray(used) == 0
    drawn = np.isfinite(fitted)
    if not drawn.any():
        raise ValueError(
            "the model has no finite pixel; a fitted model is required. Choose a star whose result is converged."
        )
    window = slice(int(np.argmax(drawn)), drawn.size - int(np.argmax(drawn[::-1])))
    x, data, fitted, left_out = x[window], data[window], fitted[window], left_out[window]
    # Residuals in units of the median flux are fractions, in any survey.
    scale = np.nanmedian(data[~left_out]) if (~left_out).any() else np.nanmedian(data)
    data, fitted = data / scale, fitted / scale

    figure = NotebookFigure(figsize=(9.0, 4.5), layout="constrained") if figure is None else figure
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.step(x, data, where="mid", color=DATA, lw=0.7, label="data")
    top.plot(x, fitted, color=VERMILION, lw=0.9, label="model")
    bottom.axhline(0.0, color=VERMILION, lw=0.9)
    residual = data - fitted
    bottom.step(x, np.where(left_out, np.nan, residual), where="mid", color=DATA, lw=0.7)
    _shade(top, bottom, x, left_out)

    top.set_ylim(*axis_limits(np.concatenate((data[~left_out], fitted))))
    bottom.set_ylim(*axis_limits(residual[~left_out], symmetric=True))
    top.set_ylabel("flux / median")
    bottom.set_ylabel("data - model")
    bottom.set_xlabel(f"{medium} wavelength [Å]".strip())
    top.set_xlim(x[0], x[-1])
    top.legend(loc="lower right", ncols=3, frameon=False, fontsize="small")
    top.set_title(title, fontsize="medium", loc="left")
    for ax in (top, bottom):
        tidy(ax)
    figure.align_ylabels()
    return figure


def _shade(top: Axes, bottom: Axes, wavelength: NDArray[np.float64], left_out: NDArray[np.bool_]) -> None:
    """Draw bands over pixels that were left out, wider by a pixel on both sides so that a single one is visible."""
    for n, span in enumerate(spans(wavelength, left_out, 1.5)):
        top.axvspan(*span, color=GREEN, alpha=0.4, lw=0, label="" if n else "left out")
        bottom.axvspan(*span, color=GREEN, alpha=0.4, lw=0)


def spans(
    wavelength: NDArray[np.float64], chosen: NDArray[np.bool_], wider: float = 0.5
) -> list[tuple[float, float]]:
    """Ranges of wavelength of neighbouring pixels that are chosen, wider on both sides by so many pixels."""
    edges = np.flatnonzero(np.diff(chosen.astype("int8"), prepend=0, append=0))
    width = wider * np.gradient(wavelength)
    return [
        (float(wavelength[start] - width[start]), float(wavelength[stop - 1] + width[stop - 1]))
        for start, stop in edges.reshape(-1, 2)
    ]


def axis_limits(values: NDArray[np.float64], symmetric: bool = False) -> tuple[float, float]:
    """Limits of an axis that do not depend on one wrong pixel."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (-1.0, 1.0)
    if symmetric:
        reach = 1.5 * max(np.percentile(np.abs(values), 99), 1e-6)
        return (-reach, reach)
    low, high = np.percentile(values, (0.2, 99.8))
    margin = 0.08 * max(high - low, 1e-6)
    return (low - margin, high + margin)
