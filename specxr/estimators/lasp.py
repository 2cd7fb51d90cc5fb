"""LASP: labels by fitting an empirical emulator of stellar spectra.

Liang et al. (2025), Wu et al. (2011); the forward model is in ``forward``, the fit in ``kernels.least_squares``.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators import open_emulator
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.base import Block, Grid, Output
from specxr.estimators.forward import N_PARAMETERS
from specxr.estimators.observed import Observed, observe
from specxr.estimators.outcome import labels_of, outputs_of, spectra_of
from specxr.estimators.prepare import Prepared, prepare, window_of
from specxr.kernels.least_squares import LANES, in_lanes, levenberg_marquardt

# Changes whenever the labels of the same options and emulator may change.
CODE_VERSION = "1"

_DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class LASP:
    """Radial velocity, Teff, logg, [Fe/H] and line broadening of each star.

    The model is an emulator's spectrum, shifted and broadened by a Gaussian and multiplied by a polynomial; it is
    fitted to the flux divided by its median over the good pixels, without weights (No Clean: only masked pixels
    are left out).

    Parameters
    ----------
    emulator : str, Path or PolynomialEmulator
        A file (ULySS TGM ``.fits``, or ``.safetensors``), or "default" for the embedded one.
    clean : bool
        Reject outlying pixels. Not available in this version: must be False.
    solver : {"lm"}
        Batched Levenberg-Marquardt with variable projection.
    window : tuple of float
        First and last wavelength of the fit [Angstrom], in the emulator's medium.
    degree : int
        Of the shape polynomial.
    device : str
        "cpu" or "cuda".
    dtype : {"float64", "float32"}
        Of the arithmetic.
    save_model : bool
        Also give ``model(star, wavelength)``, in units of the observed flux, and ``fit_mask``.

    References
    ----------
    Liang, J.-C., et al. 2025, Scalable Stellar Parameter Inference Using Python-based LASP, sections 2.1-2.2.
    Wu, Y., et al. 2011, Research in Astronomy and Astrophysics, 11, 924.

    Examples
    --------
    >>> import specxr
    >>> lasp = specxr.LASP("default")
    >>> lasp.labels
    ('rv', 'teff', 'logg', 'feh', 'sigma')
    """

    emulator: str | Path | PolynomialEmulator = "default"
    clean: bool = False
    solver: str = "lm"
    window: tuple[float, float] = (4200.0, 5700.0)
    degree: int = 50
    device: str = "cpu"
    dtype: str = "float64"
    save_model: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.emulator, PolynomialEmulator):
            object.__setattr__(self, "emulator", open_emulator(self.emulator))
        object.__setattr__(self, "window", (float(self.window[0]), float(self.window[1])))
        _check_options(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it infers."""
        return ("rv", "teff", "logg", "feh", "sigma")

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        chi2 = "sum of squared residuals of flux / median(flux) over the good pixels"
        return outputs_of(self.labels, self.save_model, chi2)

    @property
    def _emulator(self) -> PolynomialEmulator:
        assert isinstance(self.emulator, PolynomialEmulator)
        return self.emulator

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the emulator that produced the labels."""
        return {
            "estimator": "LASP",
            "estimator_version": CODE_VERSION,
            "emulator": self._emulator.name,
            "emulator_fingerprint": self._emulator.fingerprint,
            "clean": self.clean,
            "solver": self.solver,
            "window": list(self.window),
            "degree": self.degree,
            "device": self.device,
            "dtype": self.dtype,
            "errors": "inverse of J^T J, scaled by the mean squared residual over n_good - 5 degrees of freedom",
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of options, emulator and code version."""
        content = json.dumps({**self.provenance, "save_model": self.save_model}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]

    def check(self, grid: Grid) -> None:
        """Raise before anything is computed where this grid cannot be fitted.

        Raises
        ------
        ValueError
            The grid is not logarithmic, leaves too few pixels in the window, or is not covered by the emulator.
        """
        pixels = window_of(grid, self._emulator, self.window)
        found = pixels.stop - pixels.start
        needed = self.degree + 1 + N_PARAMETERS
        if found <= needed:
            raise ValueError(
                f"{found} pixels of the cube lie in the window {self.window[0]:g}-{self.window[1]:g} A"
                f" ({self._emulator.medium}); more than {needed} are needed for a polynomial of degree"
                f" {self.degree} and {N_PARAMETERS} labels. Widen `window`, or lower `degree`."
            )
        self._emulator.check_coverage(grid[pixels].edges, grid.medium)

    def estimate(self, block: Block) -> dict[str, NDArray[Any]]:
        """Fit every star of a block; see ``outputs`` for what comes back."""
        prepared = self.prepare(block.grid)
        observed = observe(block, prepared, self.degree)
        flux, weight, star = observed.flux, observed.weight, observed.fitted
        lanes = LANES[flux.device.type]
        solution = levenberg_marquardt(
            lambda parameters, star: prepared.model.linearise(parameters, flux[star], weight[star]),
            star,
            _starts(prepared, observed, lanes),
            prepared.lower,
            prepared.upper,
            lanes=lanes,
            n_extra=1,
        )
        out = labels_of(self.labels, prepared, observed, solution)
        if self.save_model:
            out |= spectra_of(block, prepared, observed, solution, lanes)
        return out

    def prepare(self, grid: Grid) -> Prepared:
        """Bring the emulator to a grid; kept for the next block."""
        self.check(grid)
        device = torch.device(self.device)
        return prepare(self._emulator, grid, self.window, self.degree, _DTYPES[self.dtype], device)


def _check_options(lasp: LASP) -> None:
    if lasp.clean:
        raise ValueError(
            "clean=True was asked for; this version of LASP fits without cleaning only. Use clean=False (--no-clean)."
        )
    if lasp.solver != "lm":
        raise ValueError(f"solver {lasp.solver!r} is not known; one of ['lm'] is required. Use solver='lm'.")
    if lasp.dtype not in _DTYPES:
        raise ValueError(f"dtype {lasp.dtype!r} is not known; one of {list(_DTYPES)} is required.")
    if torch.device(lasp.device).type not in LANES:
        raise ValueError(f"device {lasp.device!r} is not known; one of {list(LANES)} is required.")
    if torch.device(lasp.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device 'cuda' was asked for, but torch finds no GPU; one is required. Use device='cpu', or install a"
            " CUDA build of torch on a machine with a GPU."
        )
    if not lasp.window[0] < lasp.window[1]:
        raise ValueError(f"window {lasp.window} is empty; give it as (first, last) wavelength in Angstrom.")
    if lasp.degree < 0:
        raise ValueError(f"degree {lasp.degree} is negative; 0 or more is required.")


def _starts(prepared: Prepared, observed: Observed, lanes: int) -> Tensor:
    """Parameters that the fit of each star begins with, shape (star, 5)."""
    star = observed.fitted

    def best(index: Tensor) -> Tensor:
        return prepared.coarse.best(observed.flux[star[index]], observed.weight[star[index]])

    found = in_lanes(best, len(star), lanes, star.device)
    return torch.cat(found) if found else prepared.lower.new_zeros((0, N_PARAMETERS))
