"""Figure of one star of a cube: spectrum, model, residual, masks by kind, labels, flags in words."""

from __future__ import annotations

import os
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

import numpy as np
import xarray as xr
from matplotlib.figure import FigureBase
from matplotlib.patches import Patch
from numpy.typing import NDArray

from specxr.cubes.choice import places_of
from specxr.cubes.schema import as_cube
from specxr.cubes.store import open_cube, open_labels
from specxr.estimators.registry import open_estimator
from specxr.inference import infer
from specxr.plotting.fit import axis_limits, spans
from specxr.plotting.style import BLUE, DATA, GREEN, ORANGE, VERMILION, NotebookFigure, tidy
from specxr.runs.residuals import Given
from specxr.runs.run import Run
from specxr.vocabulary import LABELS, STAR, UNUSABLE, WAVELENGTH, Flag, MaskBit, Result

_Bands = Iterator[tuple[str, str, NDArray[np.bool_]]]
_ABOUT = ("survey", "subclass", "object_class", "snr", "snr_g", "snr_r", "ra", "dec", "file")

# Kinds of masks, with the bits of each and the colour of its band.
_KINDS: dict[str, tuple[MaskBit, str]] = {
    "no usable flux": (UNUSABLE, "0.5"),
    "flagged by the survey": (MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE, ORANGE),
    "sky, telluric, interstellar": (MaskBit.SKY | MaskBit.TELLURIC | MaskBit.INTERSTELLAR, BLUE),
}


def plot_star(
    cube: str | os.PathLike[str] | xr.Dataset,
    run: str | xr.Dataset | None,
    obsid: int,
    *,
    estimator: Given = None,
    wavelength: tuple[float, float] | None = None,
    figure: FigureBase | None = None,
) -> FigureBase:
    """Draw one star: its spectrum, the model of a run, their difference, masks by kind, labels and flags.

    The model is read where the run has written its model spectra. Otherwise the one star is fitted again, with the
    estimator that is rebuilt from the provenance of the run.

    Parameters
    ----------
    cube : path-like or Dataset
        Path or URL of the cube, or a cube.
    run : str, Dataset or None
        Name of a run of the cube at this path, or labels of `specxr.infer`; None draws the spectrum alone.
    obsid : int
        Identifier of the star.
    estimator : Estimator or path-like, optional
        Estimator of the run, or where its emulator or model file is now.
    wavelength : (float, float), optional
        Range to draw [Angstrom, in the medium of the cube]; by default that of the model, or all of the spectrum.
    figure : Figure or SubFigure, optional
        Figure to draw on; a new one by default.

    Returns
    -------
    Figure or SubFigure

    Raises
    ------
    ValueError, FileNotFoundError
        There is no such star or run, or `run` is a name and `cube` is no path.
    """
    spectra = as_cube(cube) if isinstance(cube, xr.Dataset) else open_cube(cube)
    places = places_of(spectra, np.array([obsid]))
    star = spectra.isel({STAR: places}).load()
    labels = None if run is None else _labels(cube, run).isel({STAR: places}).load()
    model, note = None, ""
    if labels is not None:
        try:
            model = labels if "model" in labels else _fitted_again(cube, run, star, labels, estimator)
        except (ValueError, OSError, ImportError, RuntimeError) as error:
            note = f"no model: {' '.join(str(error).split())}"
    figure = NotebookFigure(figsize=(11.0, 5.6), layout="constrained") if figure is None else figure
    _draw(figure, star, model, wavelength)
    lines = [f"obsid {obsid}{_of_survey(star)}", *([] if labels is None else _in_words(labels)), note]
    text = "\n".join(wrapped for line in lines for wrapped in wrap(line, 150))
    figure.suptitle(text, fontsize="small", x=0.01, ha="left")
    return figure


def _labels(cube: str | os.PathLike[str] | xr.Dataset, run: str | xr.Dataset) -> xr.Dataset:
    if isinstance(run, xr.Dataset):
        return run
    if isinstance(cube, xr.Dataset):
        raise ValueError(
            f"the name of a run, {run!r}, was given for a cube in memory; labels, or the path of a cube, are required. "
            "Give what specxr.infer or specxr.open_labels returned."
        )
    return open_labels(cube, run)


def _fitted_again(
    cube: str | os.PathLike[str] | xr.Dataset,
    run: str | xr.Dataset | None,
    star: xr.Dataset,
    labels: xr.Dataset,
    estimator: Given,
) -> xr.Dataset | None:
    """Labels and model spectrum of the one star, with the estimator of the run; None for a star that has no labels."""
    if "result" in labels and (labels["result"] == Result.NOT_FITTED).all():
        return None
    provenance = dict(labels.attrs)
    if isinstance(estimator, str | os.PathLike):
        provenance["emulator_source" if "emulator_source" in provenance else "model"] = os.fspath(estimator)
    again = (
        open_estimator(provenance)
        if estimator is None or isinstance(estimator, str | os.PathLike)
        else estimator
    )
    start = None
    if isinstance(run, str) and not isinstance(cube, xr.Dataset):
        header = Run.at(cube, run).read_header()
        if header is not None and header.start:
            begun = open_labels(cube, header.start)
            start = begun.isel({STAR: places_of(begun, star["obsid"].values)})
    return infer(star, again, start, spectra=True)


def _draw(
    figure: FigureBase, star: xr.Dataset, model: xr.Dataset | None, window: tuple[float, float] | None
) -> None:
    """Spectrum, model and masks above; the residual below, where there is a model."""
    x, flux = star[WAVELENGTH].values, star["flux"].values[0].astype("f8")
    mask = star["mask"].values[0]
    fitted = np.full(x.shape, np.nan) if model is None else model["model"].values[0].astype("f8")
    used = None if model is None else model["used"].values[0] != 0
    usable = (mask & int(UNUSABLE)) == 0
    shown = (
        np.isfinite(fitted) if np.isfinite(fitted).any() else usable if usable.any() else np.ones_like(usable)
    )
    low, high = window or (x[shown][0], x[shown][-1])
    inside = (x >= low) & (x <= high)
    if inside.sum() < 2:
        raise ValueError(
            f"{inside.sum()} pixels lie between {low:g} and {high:g} Angstrom (the cube covers {x[0]:.1f}-{x[-1]:.1f}"
            "); at least two are required. Choose a range inside the cube."
        )
    top, *others = (
        figure.subplots(2, 1, sharex=True, height_ratios=[3, 1]) if model is not None else [figure.subplots()]
    )
    data = np.where(usable, flux, np.nan)
    top.step(x[inside], data[inside], where="mid", color=DATA, lw=0.7, label="data")
    ranges = data[inside]
    handles = [*top.lines]
    if model is not None and np.isfinite(fitted[inside]).any():
        handles += top.plot(x[inside], fitted[inside], color=VERMILION, lw=0.9, label="model")
        ranges = np.concatenate((ranges, fitted[inside]))
    for name, colour, chosen in _bands(mask, used, fitted):
        if (chosen & inside).any():
            handles.append(Patch(color=colour, alpha=0.35, lw=0, label=name))
            for ax in (top, *others):
                for span in spans(x, chosen & inside):
                    ax.axvspan(*span, color=colour, alpha=0.35, lw=0)
    for ax in others:
        residual = np.where(usable if used is None else used, data - fitted, np.nan)[inside]
        ax.step(x[inside], residual, where="mid", color=DATA, lw=0.7)
        ax.axhline(0.0, color=VERMILION, lw=0.9)
        ax.set_ylim(*axis_limits(residual, symmetric=True))
        ax.set_ylabel("data - model")
    units = star["flux"].attrs.get("units", "1")
    top.set_ylim(*axis_limits(ranges))
    top.set_xlim(low, high)
    top.set_ylabel("flux" if units == "1" else f"flux [{units}]")
    top.legend(handles=handles, loc="lower right", ncols=3, fontsize="x-small")
    [top, *others][-1].set_xlabel(f"{star[WAVELENGTH].attrs['medium']} wavelength [Å]")
    for ax in (top, *others):
        tidy(ax)
    figure.align_ylabels()


def _bands(mask: NDArray[Any], used: NDArray[np.bool_] | None, fitted: NDArray[np.float64]) -> _Bands:
    """Name, colour and pixels of each kind of mask, and of what the fit left out beside these."""
    masked = np.zeros(mask.shape, dtype=bool)
    for name, (bits, colour) in _KINDS.items():
        chosen = ((mask & int(bits)) != 0) & ~masked
        masked |= chosen
        yield name, colour, chosen
    if used is not None:
        yield "left out by the fit", GREEN, ~used & ~masked & np.isfinite(fitted)


def _of_survey(star: xr.Dataset) -> str:
    """What the survey says of the star, as far as the cube has it."""
    parts = [
        f"{name.replace('_', ' ')} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name in _ABOUT
        if name in star
        and (value := star[name].values[0].item() if star[name].dtype.kind == "f" else star[name].values[0])
        not in ("", None)
    ]
    return "".join(f", {part}" for part in parts)


def _in_words(labels: xr.Dataset) -> list[str]:
    """Labels with errors, and how the fit ended with its flags in words."""
    values = []
    for name, label in LABELS.items():
        if name not in labels:
            continue
        value, error = (
            float(labels[key].values[0]) if key in labels else np.nan for key in (name, f"{name}_err")
        )
        digits = {"K": 0, "km/s": 1}.get(label.units, 3)
        units = "" if label.units == "dex" else f" {label.units}"
        values.append(f"{name} {value:.{digits}f} ± {error:.{digits}f}{units}")
    lines = [", ".join(values)]
    if "result" in labels:
        result = Result(int(labels["result"].values[0]))
        lines.append(f"{result.name.lower()}: {result.advice}")
    if "flags" in labels:
        bits = int(labels["flags"].values[0])
        names = [(flag.name or "").lower().replace("_", " ") for flag in Flag if flag & bits]
        lines.append(f"flags: {', '.join(names) or 'none'}")
    return lines
