"""LASP: labels by fitting an empirical emulator of stellar spectra.

Liang et al. (2025), Wu et al. (2011); the forward model is in ``forward``, the fit in ``kernels.least_squares``.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators import open_emulator
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.base import Block, Grid, Output
from specxr.estimators.forward import FEH, LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA, ForwardModel
from specxr.estimators.starts import CoarseGrid
from specxr.kernels.broadening import TRUNCATION
from specxr.kernels.least_squares import LANES, Solution, levenberg_marquardt
from specxr.kernels.shape import padded
from specxr.vocabulary import LABELS, SPEED_OF_LIGHT, Flag, MaskBit, Result, flag_attrs, result_attrs

# Changes whenever the labels of the same options and emulator may change.
CODE_VERSION = "1"

MAX_VELOCITY = 800.0  # km/s
SIGMA_BOUNDS = (0.25, 8.0)  # pixels
# A pixel with one of these bits says nothing about the star; the survey's own masks flag far more, mostly good.
UNUSABLE = MaskBit.MISSING | MaskBit.NO_IVAR | MaskBit.BAD_FLUX
_FWHM = 2.0 * math.sqrt(2.0 * math.log(2.0))
_DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(frozen=True)
class _Prepared:
    """What the fit needs of one grid: made once a process."""

    pixels: slice
    ln_step: float
    model: ForwardModel
    coarse: CoarseGrid
    lower: Tensor
    upper: Tensor


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
        return _outputs(self.labels, self.save_model)

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
        pixels = _window(self, grid)
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
        prepared = _prepare(self, block.grid)
        flux, weight, scale, result = _normalise(self, prepared, block)
        fitted = torch.nonzero(result == int(Result.CONVERGED))[:, 0]
        lanes = LANES[flux.device.type]
        start = _starts(prepared, fitted, lanes, flux, weight)
        solution = levenberg_marquardt(
            lambda parameters, star: prepared.model.linearise(parameters, flux[star], weight[star]),
            fitted,
            start,
            prepared.lower,
            prepared.upper,
            lanes=lanes,
            n_extra=1,
        )
        n_good = (weight > 0).sum(-1)
        out = _labels_of(self, prepared, solution, fitted, n_good, result)
        if self.save_model:
            out |= _spectra_of(block, prepared, solution, fitted, flux, weight, scale)
        return out


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


def _outputs(labels: tuple[str, ...], save_model: bool) -> tuple[Output, ...]:
    star = ("star",)
    out = []
    for name in labels:
        out.append(Output(name, star, "float64", LABELS[name].attrs))
        out.append(Output(f"{name}_err", star, "float64", LABELS[name].error_attrs))
    note = "labels in the order of the coordinate, units of their products"
    out += [
        Output(
            "covariance", ("star", "label", "label_"), "float64", {"long_name": "covariance", "note": note}
        ),
        Output(
            "chi2",
            star,
            "float64",
            {
                "long_name": "sum of squared residuals of flux / median(flux) over the good pixels",
                "units": "1",
            },
        ),
        Output("n_good", star, "int32", {"long_name": "pixels used", "units": "1"}),
        Output("n_iter", star, "int16", {"long_name": "evaluations of the model", "units": "1"}),
        Output("result", star, "uint8", {"long_name": "how the fit ended", **result_attrs()}),
        Output("flags", star, "uint16", {"long_name": "reasons for care", **flag_attrs(Flag, "uint16")}),
    ]
    if save_model:
        spectrum = ("star", "wavelength")
        out += [
            Output("model", spectrum, "float32", {"long_name": "fitted model, NaN outside the window"}),
            Output("fit_mask", spectrum, "uint8", {"long_name": "1 where a pixel was used"}),
        ]
    return tuple(out)


def _window(lasp: LASP, grid: Grid) -> slice:
    """Pixels whose centres lie in the window, in the emulator's medium."""
    if grid.sampling != "log10":
        raise ValueError(
            f"the cube's wavelengths are sampled in steps of {grid.sampling}; LASP requires steps of log10, on which"
            " a velocity is a shift. Rebin the cube to a log10 grid."
        )
    centres = lasp._emulator.to_medium(grid.wavelength, grid.medium)
    inside = np.flatnonzero((centres >= lasp.window[0]) & (centres <= lasp.window[1]))
    return slice(int(inside[0]), int(inside[-1]) + 1) if inside.size else slice(0, 0)


@functools.lru_cache(maxsize=4)
def _prepare(lasp: LASP, grid: Grid) -> _Prepared:
    lasp.check(grid)
    pixels = _window(lasp, grid)
    dtype, device = _DTYPES[lasp.dtype], torch.device(lasp.device)
    emulator = lasp._emulator.on(grid[pixels].edges, grid.medium, dtype=dtype, device=device)
    ln_step = grid.step * math.log(10.0)
    farthest = math.log1p(MAX_VELOCITY / SPEED_OF_LIGHT) / ln_step
    reach = math.ceil(farthest + TRUNCATION * SIGMA_BOUNDS[1])
    model = ForwardModel.build(emulator, lasp.degree, reach)
    bounds = lasp._emulator.bounds
    lower = [-farthest, SIGMA_BOUNDS[0], math.log(bounds["teff"][0]), bounds["logg"][0], bounds["feh"][0]]
    upper = [farthest, SIGMA_BOUNDS[1], math.log(bounds["teff"][1]), bounds["logg"][1], bounds["feh"][1]]
    sigma = 1.0
    if grid.resolving_power:
        sigma = float(np.clip(1.0 / (grid.resolving_power * _FWHM * ln_step), 0.5, 5.0))
    return _Prepared(
        pixels,
        ln_step,
        model,
        CoarseGrid.build(model, bounds, sigma),
        torch.tensor(lower, dtype=dtype, device=device),
        torch.tensor(upper, dtype=dtype, device=device),
    )


def _normalise(lasp: LASP, prepared: _Prepared, block: Block) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Flux over its median, weights (0 or 1), the medians, and a result code for stars that cannot be fitted."""
    device, dtype = torch.device(lasp.device), _DTYPES[lasp.dtype]

    def tensor(array: NDArray[Any], kind: str) -> Tensor:
        window = np.ascontiguousarray(array[:, prepared.pixels], dtype=kind)
        return torch.from_numpy(window).to(device)

    flux = tensor(block.flux, "f8")
    unusable = (tensor(block.mask, "i8") & int(UNUSABLE)) != 0
    ivar = tensor(block.ivar, "f8")
    good = ~unusable & torch.isfinite(flux) & (ivar > 0)
    n_good = good.sum(-1)
    scale = torch.nanquantile(torch.where(good, flux, torch.nan), 0.5, dim=1) if len(flux) else flux[:, 0]
    result = torch.zeros(len(flux), dtype=torch.uint8, device=device)
    result[~(torch.isfinite(scale) & (scale > 0))] = int(Result.NON_FINITE)
    result[n_good <= lasp.degree + 1 + N_PARAMETERS] = int(Result.TOO_FEW_PIXELS)
    flux = torch.where(good & (result == 0)[:, None], flux / scale[:, None], 1.0)
    padding = (0, padded(flux.shape[1]) - flux.shape[1])
    pad = torch.nn.functional.pad
    return pad(flux.to(dtype), padding, value=1.0), pad(good.to(dtype), padding), scale, result


def _starts(prepared: _Prepared, star: Tensor, lanes: int, flux: Tensor, weight: Tensor) -> Tensor:
    """Parameters that the fit of each star begins with, shape (star, 5)."""

    def best(index: Tensor) -> Tensor:
        return prepared.coarse.best(flux[star[index]], weight[star[index]])

    found = _in_lanes(best, len(star), lanes, flux.device)
    return torch.cat(found) if found else flux.new_zeros((0, N_PARAMETERS))


def _in_lanes(function: Callable[[Tensor], Tensor], n: int, lanes: int, device: torch.device) -> list[Tensor]:
    """Apply a function of indices below ``n`` to blocks that all have ``lanes`` of them (see ``least_squares``)."""
    out = []
    for first in range(0, n, lanes):
        index = torch.arange(first, first + lanes, device=device)
        out.append(function(index.clamp(max=n - 1))[: n - first])
    return out


def _labels_of(
    lasp: LASP, prepared: _Prepared, solution: Solution, star: Tensor, n_good: Tensor, result: Tensor
) -> dict[str, NDArray[Any]]:
    """Labels, errors, codes and flags of all stars, NaN for those that were not fitted."""
    p = solution.parameters.double()
    variance = solution.cost.double() / (n_good[star] - N_PARAMETERS).clamp(min=1)
    inverse, singular = torch.linalg.inv_ex(solution.hessian.double())
    pixel_velocity = SPEED_OF_LIGHT * prepared.ln_step
    rv = SPEED_OF_LIGHT * torch.expm1(prepared.ln_step * p[:, MU])
    teff = p[:, LN_TEFF].exp()
    values = torch.stack((rv, teff, p[:, LOGG], p[:, FEH], pixel_velocity * p[:, SIGMA]), dim=1)
    one = torch.ones_like(rv)
    slopes = torch.stack(
        (pixel_velocity * torch.exp(prepared.ln_step * p[:, MU]), teff, one, one, pixel_velocity * one), dim=1
    )
    order = [MU, LN_TEFF, LOGG, FEH, SIGMA]
    covariance = (
        inverse[:, order][:, :, order] * variance[:, None, None] * slopes[:, :, None] * slopes[:, None]
    )

    at_bound = (solution.parameters <= prepared.lower) | (solution.parameters >= prepared.upper)
    negative = ~(solution.extra[:, 0] > 0)
    code = solution.result.clone()
    ok = code == int(Result.CONVERGED)
    code[ok & (singular != 0)] = int(Result.SINGULAR)
    code[ok & at_bound.any(-1)] = int(Result.OUT_OF_BOUNDS)
    code[ok & negative] = int(Result.NEGATIVE_SHAPE)
    values[code == int(Result.NON_FINITE)] = torch.nan
    covariance[(code == int(Result.NON_FINITE)) | (singular != 0)] = torch.nan

    flags = torch.zeros(len(star), dtype=torch.int32, device=star.device)
    flags |= at_bound.any(-1) * int(Flag.EDGE_OF_GRID) | negative * int(Flag.NEGATIVE_SHAPE)
    n_pixel = prepared.pixels.stop - prepared.pixels.start
    flags |= (2 * n_good[star] < n_pixel) * int(Flag.FEW_PIXELS)
    for boundary in lasp._emulator.boundaries:
        flags |= ((teff / boundary - 1.0).abs() < 0.01) * int(Flag.AT_REGIME_BOUNDARY)

    result[star] = code
    full = _filler(len(result), star)
    errors = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    out: dict[str, NDArray[Any]] = {}
    for i, name in enumerate(lasp.labels):
        out[name] = full(values[:, i], np.nan, "f8")
        out[f"{name}_err"] = full(errors[:, i], np.nan, "f8")
    out["covariance"] = full(covariance, np.nan, "f8")
    out["chi2"] = full(solution.cost, np.nan, "f8")
    out["n_good"] = n_good.cpu().numpy().astype("i4")
    out["n_iter"] = full(solution.n_iter, 0, "i2")
    out["result"] = result.cpu().numpy()
    out["flags"] = full(flags, 0, "u2")
    return out


def _filler(n_star: int, star: Tensor) -> Any:
    where = star.cpu().numpy()

    def full(values: Tensor, fill: float, dtype: str) -> NDArray[Any]:
        out = np.full((n_star, *values.shape[1:]), fill, dtype=dtype)
        out[where] = values.detach().cpu().numpy()
        return out

    return full


def _spectra_of(
    block: Block,
    prepared: _Prepared,
    solution: Solution,
    star: Tensor,
    flux: Tensor,
    weight: Tensor,
    scale: Tensor,
) -> dict[str, NDArray[Any]]:
    """Models in the units of the observed flux, and the pixels used."""
    model = np.full(block.flux.shape, np.nan, dtype="f4")
    mask = np.zeros(block.flux.shape, dtype="u1")
    mask[:, prepared.pixels] = (weight > 0)[:, : prepared.pixels.stop - prepared.pixels.start].cpu().numpy()
    n_pixel = prepared.pixels.stop - prepared.pixels.start

    def spectrum(index: Tensor) -> Tensor:
        some = star[index]
        fit = prepared.model.fit_shape(solution.parameters[index], flux[some], weight[some])
        return (fit.model[:, :n_pixel] * scale[some, None]).float().cpu()

    lanes = LANES[flux.device.type]
    found = _in_lanes(spectrum, len(star), lanes, flux.device)
    if found:
        model[star.cpu().numpy(), prepared.pixels] = torch.cat(found).numpy()
    return {"model": model, "fit_mask": mask}
