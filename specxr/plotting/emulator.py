"""Figures of an emulator against the spectra, and the gradients, that it was trained on."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from specxr.plotting.style import BLUE, DATA, FAINT, GREEN, VERMILION, NotebookFigure, axis_name, tidy
from specxr.published.hot_stars import CORE_FLUX, GRADIENT_OFFSETS
from specxr.validation.emulator import pixel_residuals
from specxr.vocabulary import LABELS


def plot_pixel_residuals(
    model: ArrayLike, flux: ArrayLike, ax: Axes | None = None, core_flux: float = CORE_FLUX
) -> Axes:
    """Draw the distribution of model minus flux, of all pixels and of line cores (Sun et al. 2025, Fig. A.1).

    Parameters
    ----------
    model, flux : array_like, shape (star, wavelength)
        See `specxr.validation.pixel_residuals`.
    ax : Axes, optional
        Axes to draw on; those of a new figure by default.
    core_flux : float, optional
        A pixel with less flux lies in the core of a line.

    Returns
    -------
    Axes
    """
    if ax is None:
        ax = NotebookFigure(figsize=(5.0, 3.6), layout="constrained").subplots()
    model, flux = np.asarray(model, dtype="f8"), np.asarray(flux, dtype="f8")
    residual = 100.0 * (model - flux)
    known = np.isfinite(residual)
    scatter = pixel_residuals(model, flux, core_flux)
    bins = (np.linspace(-4.0, 4.0, 121) * 100.0 * scatter["core"]).tolist()
    for name, chosen, colour in (("all", known, BLUE), ("core", known & (flux < core_flux), GREEN)):
        kind = "all pixels" if name == "all" else f"flux < {core_flux:g}"
        label = f"{kind}: {100.0 * scatter[name]:.2f} %"
        ax.hist(residual[chosen], bins, histtype="step", density=True, color=colour, label=label)
    ax.set_yscale("log")
    ax.set_xlabel("model - flux [% of the pseudo-continuum]")
    ax.set_ylabel("density")
    ax.legend(frameon=False, title="standard deviation")
    tidy(ax)
    return ax


def plot_gradients(
    wavelength: ArrayLike,
    model: Mapping[str, ArrayLike],
    generator: Mapping[str, ArrayLike],
    offsets: Mapping[str, float] = GRADIENT_OFFSETS,
) -> Figure:
    """Draw gradient spectra of an emulator over those of its generator, a panel for each label.

    Parameters
    ----------
    wavelength : array_like, shape (wavelength,)
        Wavelengths [Angstrom].
    model, generator : mapping of str to array_like, shape (wavelength,)
        See `specxr.validation.gradient_spectra`.
    offsets : mapping of str to float, optional
        Changes of the labels that made the gradients; those of Sun et al. 2025, Fig. A.2, by default.

    Returns
    -------
    Figure
    """
    figure = NotebookFigure(figsize=(8.0, 1.5 * len(model) + 0.6), layout="constrained")
    for name, ax in zip(model, figure.subplots(len(model), 1, sharex=True, squeeze=False)[:, 0], strict=True):
        ours, theirs = (100.0 * np.asarray(gradients[name], dtype="f8") for gradients in (model, generator))
        ax.axhline(0.0, color=FAINT, lw=0.8)
        ax.plot(wavelength, theirs, color=BLUE, lw=1.4, label="generator")
        ax.plot(wavelength, ours, color=VERMILION, lw=0.7, label="emulator")
        offset = f"{offsets[name]:g} {LABELS[name].units}"
        ax.set_ylabel(f"{axis_name(name).split(' [')[0]} + {offset}\n[%]")
        rms = np.sqrt(np.nanmean((ours - theirs) ** 2))
        text = f"rms difference {rms:.2g} %"
        ax.text(0.995, 0.95, text, transform=ax.transAxes, ha="right", va="top", color=DATA)
        tidy(ax)
    ax.set_xlabel("wavelength [Angstrom]")
    figure.legend(*ax.get_legend_handles_labels(), loc="outside upper right", ncols=2, frameon=False)
    figure.align_ylabels()
    return figure
