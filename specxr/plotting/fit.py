"""One spectrum and its model."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from numpy.typing import ArrayLike, NDArray

from specxr.plotting.style import DATA, GREEN, VERMILION, tidy


def plot_fit(
    wavelength: ArrayLike,
    flux: ArrayLike,
    model: ArrayLike,
    mask: ArrayLike | None = None,
    title: str = "",
    medium: str = "",
    figure: FigureBase | None = None,
) -> FigureBase:
    """Draw a spectrum with its model above their difference.

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        [Angstrom]
    flux, model : array_like, shape (wavelength,)
        In the same units; the pixels where the model is NaN are not drawn.
    mask : array_like, shape (wavelength,), optional
        Not zero where a pixel was left out of the fit.
    title : str, optional
    medium : {"", "vacuum", "air"}, optional
        Said at the axis.
    figure : Figure or SubFigure, optional
        Where to draw; without it, a new figure.

    Returns
    -------
    Figure or SubFigure
    """
    wavelength, flux, model = (np.asarray(values, dtype="float64") for values in (wavelength, flux, model))
    left_out = np.zeros(flux.shape, bool) if mask is None else np.asarray(mask) != 0
    drawn = np.isfinite(model)
    if not drawn.any():
        raise ValueError(
            "the model has no finite pixel; a fitted model is required. Choose a star whose result is converged."
        )
    window = slice(int(np.argmax(drawn)), drawn.size - int(np.argmax(drawn[::-1])))
    wavelength, flux, model, left_out = (v[window] for v in (wavelength, flux, model, left_out))
    # In units of the median flux, whatever the survey's: the residuals can then be read as fractions.
    scale = np.nanmedian(flux[~left_out]) if (~left_out).any() else np.nanmedian(flux)
    flux, model = flux / scale, model / scale

    figure = Figure(figsize=(9.0, 4.5), layout="constrained") if figure is None else figure
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
    top.step(wavelength, flux, where="mid", color=DATA, lw=0.7, label="data")
    top.plot(wavelength, model, color=VERMILION, lw=0.9, label="model")
    bottom.axhline(0.0, color=VERMILION, lw=0.9)
    residual = flux - model
    bottom.step(wavelength, np.where(left_out, np.nan, residual), where="mid", color=DATA, lw=0.7)
    _shade(top, bottom, wavelength, left_out)

    top.set_ylim(*_limits(np.concatenate((flux[~left_out], model))))
    bottom.set_ylim(*_limits(residual[~left_out], symmetric=True))
    top.set_ylabel("flux / median")
    bottom.set_ylabel("data - model")
    bottom.set_xlabel(f"{medium} wavelength [Å]".strip())
    top.set_xlim(wavelength[0], wavelength[-1])
    top.legend(loc="lower right", ncols=3, frameon=False, fontsize="small")
    top.set_title(title, fontsize="medium", loc="left")
    for ax in (top, bottom):
        tidy(ax)
    figure.align_ylabels()
    return figure


def _shade(top: Axes, bottom: Axes, wavelength: NDArray[np.float64], left_out: NDArray[np.bool_]) -> None:
    """Bands over runs of pixels that were left out, a pixel wider on both sides so that a single one is seen."""
    edges = np.flatnonzero(np.diff(left_out.astype("int8"), prepend=0, append=0))
    width = np.gradient(wavelength)
    for n, (start, stop) in enumerate(edges.reshape(-1, 2)):
        span = (wavelength[start] - 1.5 * width[start], wavelength[stop - 1] + 1.5 * width[stop - 1])
        top.axvspan(*span, color=GREEN, alpha=0.4, lw=0, label="" if n else "left out")
        bottom.axvspan(*span, color=GREEN, alpha=0.4, lw=0)


def _limits(values: NDArray[np.float64], symmetric: bool = False) -> tuple[float, float]:
    """Limits that one wild pixel does not set."""
    values = values[np.isfinite(values)]
    if values.size == 0:
        return (-1.0, 1.0)
    if symmetric:
        reach = 1.5 * max(np.percentile(np.abs(values), 99), 1e-6)
        return (-reach, reach)
    low, high = np.percentile(values, (0.2, 99.8))
    margin = 0.08 * max(high - low, 1e-6)
    return (low - margin, high + margin)
