"""Generators of training spectra: an emulator, or a library of spectra that were computed elsewhere."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, cast

import dask
import dask.array as da
import numpy as np
import pandas as pd
import torch
import xarray as xr
from numpy.typing import NDArray
from scipy.spatial import KDTree

from specxr.cubes.schema import as_cube, grid_of, make_cube
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import STAR, WAVELENGTH

# Relative difference of labels that are the same: those of a library may have been stored as float32.
_LABEL_TOLERANCE = 1e-5


class Generator(Protocol):
    """Source of spectra for given labels: at rest, neither rotating nor spread by an instrument."""

    @property
    def name(self) -> str:
        """Origin of the spectra, for the history of a training set."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels in the vocabulary, in the order of the columns of `spectra`."""

    @property
    def edges(self) -> NDArray[np.float64]:
        """Edges of the pixels [Angstrom], shape (pixel + 1,)."""

    @property
    def medium(self) -> str:
        """Medium of the edges, ``"vacuum"`` or ``"air"``."""

    @property
    def resolving_power(self) -> float | None:
        """Wavelength over FWHM of the spectra; None if they are not broadened."""

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel), in any units, for labels of shape (star, label)."""


class EmulatorSpectra:
    """Spectra of a polynomial emulator.

    Parameters
    ----------
    emulator : PolynomialEmulator
    edges : ndarray, shape (pixel + 1,), optional
        Edges of the pixels [Angstrom, in the emulator's medium]; the emulator's own by default.
    """

    def __init__(self, emulator: PolynomialEmulator, edges: NDArray[np.float64] | None = None) -> None:
        self._emulator = emulator
        self.name = f"emulator {emulator.name} {emulator.fingerprint[:16]}"
        self.labels: tuple[str, ...] = emulator.labels
        self.edges = emulator.edges if edges is None else edges
        self.medium = emulator.medium
        self.resolving_power = emulator.resolving_power
        self._pixels = emulator.on(self.edges, self.medium)

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel) for labels of shape (star, label)."""
        return self._pixels.flux(torch.from_numpy(np.ascontiguousarray(labels, dtype="f8"))).numpy()

    def __reduce__(self) -> tuple[type[EmulatorSpectra], tuple[PolynomialEmulator, NDArray[np.float64]]]:
        return type(self), (self._emulator, self.edges)  # a worker resamples the emulator itself


class Library:
    """A cube of computed spectra with their labels; a training set has stars of the library only.

    Parameters
    ----------
    cube : Dataset
        Cube of `specxr.make_cube`, lazy or in memory, with each label as a variable along ``star``. Its grid has a
        line spread if the spectra are broadened.
    labels : tuple of str
        Names of the variables that are labels.
    name : str, optional
        Name of the library, for messages and for the history of a training set.

    Attributes
    ----------
    design : dict of str to ndarray, shape (star,)
        Labels of the spectra of the library.

    Raises
    ------
    ValueError
        The cube lacks a label.
    """

    def __init__(self, cube: xr.Dataset, labels: tuple[str, ...], name: str = "library") -> None:
        cube = as_cube(cube)
        missing = [label for label in labels if label not in cube.variables]
        if missing or not labels:
            raise ValueError(
                f"the library has no variable {', '.join(missing) or 'that is named as a label'} along '{STAR}'; "
                "labels of each spectrum, named as in the vocabulary, are required. Set cube[name] = ('star', values)."
            )
        grid = grid_of(cube)
        self.name, self.labels = name, tuple(labels)
        self.edges, self.medium = grid.edges, grid.medium
        spread = grid.line_spread
        self.resolving_power = (
            None if spread is None else float(spread.resolving_power(grid.wavelength).max())
        )
        self._flux = cube["flux"]
        known = np.stack([np.asarray(cube[label], dtype="f8") for label in labels], axis=1)
        self.design = dict(zip(self.labels, known.T, strict=True))
        self._scale = np.maximum(np.abs(known).max(axis=0), 1e-30)
        self._tree = KDTree(known / self._scale)

    def spectra(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Flux of shape (star, pixel) for labels of shape (star, label), which are labels of the library."""
        distance, star = self._tree.query(labels / self._scale, p=np.inf)
        if distance.max() > _LABEL_TOLERANCE:
            values = labels[np.argmax(distance)]
            text = ", ".join(f"{name} {value:g}" for name, value in zip(self.labels, values, strict=True))
            raise ValueError(
                f"no spectrum of the {self.name} has {text}; labels of its spectra are required. Use its design, or "
                "train an emulator on it first."
            )
        # This runs inside a task of Dask: more threads would compete with the other tasks.
        with dask.config.set(scheduler="synchronous"):
            flux = self._flux.isel({STAR: star}).transpose(STAR, WAVELENGTH).values
        return np.asarray(flux, dtype="f8")


def open_folder(folder: str | Path, medium: str, resolving_power: float | None = None) -> xr.Dataset:
    """Open a folder of computed spectra as a cube with labels, for `Library`.

    Parameters
    ----------
    folder : str or Path
        Folder with ``labels.csv`` and the spectra. The column ``file`` of the table names the spectra, the other
        columns are labels. A spectrum is a text of two columns, wavelength [Angstrom] and flux; all have the same
        wavelengths, in equal steps of the wavelength or of its logarithm.
    medium : {"vacuum", "air"}
        Medium of the wavelengths.
    resolving_power : float, optional
        Wavelength over FWHM, if the spectra are broadened.

    Returns
    -------
    Dataset
        A cube, lazy, with the labels along ``star``.

    Raises
    ------
    ValueError
        The table lacks the column ``file`` or has no row, or a spectrum is not on the grid of the others.
    """
    table = pd.read_csv(Path(folder) / "labels.csv")
    if "file" not in table or table.empty:
        raise ValueError(
            f"{folder}/labels.csv has the columns {', '.join(table.columns)} and {len(table)} rows; a column 'file' "
            "and a row for each spectrum are required. Write them."
        )
    paths = [Path(folder) / name for name in table["file"]]
    wavelength = _read_text(paths[0])[0]
    spread = None if resolving_power is None else LineSpread.constant(resolving_power)
    grid = Grid.regular(wavelength, medium, spread)
    rows = [
        da.from_delayed(dask.delayed(_read_flux)(path, wavelength), wavelength.shape, dtype="f4")
        for path in paths
    ]
    flux = da.stack(rows).rechunk((min(len(rows), 500), -1))
    return make_cube(
        flux=flux,
        ivar=None,
        wavelength=grid,
        obsid=np.arange(len(table)),
        stars={str(name): table[name].to_numpy() for name in table.columns.drop("file")},
        attrs={"history": f"specxr.synthesis.open_folder: {folder}"},
    )


def _read_text(path: Path) -> NDArray[np.float64]:
    """Wavelength and flux of one file, shape (2, pixel)."""
    columns = np.loadtxt(path, unpack=True, ndmin=2)
    if len(columns) != 2 or not np.isfinite(columns).all():
        raise ValueError(
            f"{path} has {len(columns)} columns, or numbers that are not finite; two columns of finite numbers, "
            "wavelength and flux, are required. Write the file again."
        )
    return columns


def _read_flux(path: Path, wavelength: NDArray[np.float64]) -> NDArray[np.float32]:
    own, flux = _read_text(path)
    if own.shape != wavelength.shape or np.abs(own / wavelength - 1.0).max() > 1e-7:
        raise ValueError(
            f"{path} has {own.size} wavelengths, {own[0]:.2f}-{own[-1]:.2f} Angstrom; those of the other spectra, "
            f"{wavelength.size} in {wavelength[0]:.2f}-{wavelength[-1]:.2f}, are required. Compute it on their grid."
        )
    return cast("NDArray[np.float32]", flux.astype("f4"))
