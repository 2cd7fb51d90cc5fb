"""How well an emulator gives the spectra and their gradients that it was trained on, drawn."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from specxr.plotting.style import BLUE, DATA, FAINT, GREEN, VERMILION, axis_name, tidy
from specxr.validation.recovery import ABUNDANCE_OFFSET, CORE_FLUX, OFFSETS, pixel_residuals
from specxr.vocabulary import LABELS


def plot_pixel_residuals(model: ArrayLike, flux: ArrayLike, ax: Axes | None = None) -> Axes:
    """Draw the distribution of model minus flux, of all pixels and of line cores (hot-star paper, Fig. A.1).

    Parameters
    ----------
    model, flux : array_like, shape (star, wavelength)
        See `specxr.validation.recovery.pixel_residuals`.
    ax : Axes, optional
        Where to draw; without it, those of a new figure.

    Returns
    -------
    Axes
    """
    if ax is None:
        ax = Figure(figsize=(5.0, 3.6), layout="constrained").subplots()
    model, flux = np.asarray(model, dtype="f8"), np.asarray(flux, dtype="f8")
    residual = 100.0 * (model - flux)
    known = np.isfinite(residual)
    scatter = pixel_residuals(model, flux)
    bins = np.linspace(-4.0, 4.0, 121) * 100.0 * scatter["core"]
    for name, chosen, colour in (("all", known, BLUE), ("core", known & (flux < CORE_FLUX), GREEN)):
        kind = "all pixels" if name == "all" else f"flux < {CORE_FLUX:g}"
        label = f"{kind}: {100.0 * scatter[name]:.2f} %"
        ax.hist(residual[chosen], bins, histtype="step", density=True, color=colour, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("model - flux [% of the pseudo-continuum]")
    ax.set_ylabel("density")
    ax.legend(frameon=False, title="standard deviation")
    tidy(ax)
    return ax


def plot_gradients(
    wavelength: ArrayLike, model: Mapping[str, ArrayLike], generator: Mapping[str, ArrayLike]
) -> Figure:
    """Draw gradient spectra of an emulator over those of its generator, a panel a label (hot-star paper, Fig. A.2).

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        [Angstrom]
    model, generator : mapping of str to array_like, shape (wavelength,)
        See `specxr.validation.recovery.gradient_spectra`.

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(8.0, 1.5 * len(model) + 0.6), layout="constrained")
    for name, ax in zip(model, figure.subplots(len(model), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        ours, theirs = (100.0 * np.asarray(gradients[name], dtype="f8") for gradients in (model, generator))
        ax.axhline(0.0, color=FAINT, lw=0.8)
        ax.plot(wavelength, theirs, color=BLUE, lw=1.4, label="generator")
        ax.plot(wavelength, ours, color=VERMILION, lw=0.7, label="emulator")
        offset = f"{OFFSETS.get(name, ABUNDANCE_OFFSET):g} {LABELS[name].units}"
        ax.set_ylabel(f"{axis_name(name).split(' [')[0]} + {offset}\n[%]")
        rms = np.sqrt(np.nanmean((ours - theirs) ** 2))
        ax.text(
            0.995,
            0.95,
            f"rms difference {rms:.2g} %",
            transform=ax.transAxes,
            ha="right",
            va="top",
            color=DATA,
        )
        tidy(ax)
    ax.set_xlabel("wavelength [Angstrom]")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    figure.align_ylabels()
    return figure
