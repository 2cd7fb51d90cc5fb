"""The line spread of a survey, measured on stars of known labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from numpy.polynomial import chebyshev, legendre
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from specxr.cubes.schema import grid_of, validate
from specxr.kernels.broadening import convolve, gaussian_kernel
from specxr.spectra.line_spread import FWHM_TO_SIGMA, Arm, LineSpread, arm_coordinate
from specxr.spectra.normalisation import within
from specxr.spectra.pixels import usable
from specxr.synthesis.generators import Generator
from specxr.synthesis.instrument import MAX_VSINI, OVERSAMPLING, Instrument
from specxr.synthesis.training_set import spectra_on
from specxr.vocabulary import SPEED_OF_LIGHT, STAR, UNUSABLE_NORMALISED

# Arms of the LAMOST low-resolution spectrographs (hot-star paper, section 3.2) [Angstrom].
LAMOST_ARMS = ((3700.0, 5800.0), (5700.0, 9100.0))

# What the atmosphere and interstellar sodium absorb, which no template has [Angstrom, in either medium].
NOT_OF_STARS = (
    (5880.0, 5905.0), (6270.0, 6330.0), (6860.0, 6970.0), (7155.0, 7400.0), (7580.0, 7720.0), (8100.0, 8400.0),
    (8900.0, 9200.0),
)  # fmt: skip

DEGREE = 5  # of the polynomial of an arm (hot-star paper, section 3.2)
PIXELS_PER_WIDTH = 100  # pixels that share one width
_LEAST_GOOD = 60  # pixels of a window
_SHAPE_TERMS = (
    5  # four of the polynomial that brings the template to the flux of a window, one of line strength
)
_TRIED = np.geomspace(35.0, 160.0, 20)  # km/s
_STARS_AT_ONCE = 32
_SYSTEMATIC = 0.02  # of a width: what templates get wrong does not shrink with the noise


@dataclass(frozen=True, eq=False)
class Widths:
    """Width of the lines in windows of an instrument's pixels.

    Attributes
    ----------
    wavelength : ndarray, shape (window,)
        Middle of the window [Angstrom].
    sigma, sigma_err : ndarray, shape (window,)
        Standard deviation of the line spread [km/s]; NaN where the spectra do not tell.
    """

    wavelength: NDArray[np.float64]
    sigma: NDArray[np.float64]
    sigma_err: NDArray[np.float64]


def measure_widths(
    cube: xr.Dataset, labels: Mapping[str, ArrayLike], rv: ArrayLike, generator: Generator
) -> Widths:
    """Measure the line spread in windows of a hundred pixels, from all stars together.

    Parameters
    ----------
    cube : Dataset
        Spectra of slow rotators with many lines: F, G and K stars, of S/N above 100.
    labels : mapping of str to array_like, shape (star,)
        Those of the generator.
    rv : array_like, shape (star,)
        Radial velocities [km/s].
    generator : Generator
        Of spectra that are not broadened, or far less than the survey's.

    Returns
    -------
    Widths
        Of least chi2 summed over the stars; each star's is divided by its own least, so that what templates lack
        does not give the brightest star all the weight.
    """
    validate(cube)
    # A line spread as wide as any that is tried gives the template its margins.
    instrument = Instrument(
        replace(grid_of(cube), line_spread=LineSpread.constant(SPEED_OF_LIGHT * FWHM_TO_SIGMA / _TRIED[-1]))
    )
    wanted = np.stack([np.asarray(labels[name], dtype="f8") for name in generator.labels], axis=1)
    velocity = np.asarray(rv, dtype="f8")
    if not (np.isfinite(wanted).all() and np.isfinite(velocity).all() and np.abs(velocity).max() < MAX_VSINI):
        raise ValueError(
            f"a label or rv is not finite, or an rv beyond {MAX_VSINI:g} km/s; labels and velocities of every star are "
            "required. Select the stars that have them."
        )
    rise = torch.zeros(())
    for first in range(0, len(wanted), _STARS_AT_ONCE):
        some = slice(first, first + _STARS_AT_ONCE)
        fine = torch.from_numpy(
            np.ascontiguousarray(spectra_on(generator, wanted[some], instrument), dtype="f8")
        )
        rise = rise + _rise_of_chi2(cube.isel({STAR: some}), fine, velocity[some], instrument)
    return _least(rise.numpy(), instrument.grid.wavelength, generator.resolving_power)


def fit_line_spread(widths: Widths, arms: Sequence[tuple[float, float]] = LAMOST_ARMS) -> LineSpread:
    """Fit a polynomial of degree five to the widths in each arm.

    Parameters
    ----------
    widths : Widths
    arms : sequence of (float, float), optional
        Wavelengths that each covers [Angstrom]; windows where two overlap count in both.

    Returns
    -------
    LineSpread
    """
    fitted = []
    for low, high in arms:
        known = np.isfinite(widths.sigma) & (widths.wavelength >= low) & (widths.wavelength <= high)
        if known.sum() < DEGREE + 3:
            raise ValueError(
                f"{known.sum()} windows in {low:g}-{high:g} Angstrom have a width; {DEGREE + 3} are required for a "
                "polynomial of degree 5. Give more stars, or stars with more lines."
            )
        sigma = widths.sigma[known]
        error = np.hypot(widths.sigma_err[known], _SYSTEMATIC * sigma)
        # Beyond the outermost windows a polynomial of this degree is free: the arm ends there.
        low, high = (float(widths.wavelength[known][end]) for end in (0, -1))
        scaled = arm_coordinate(widths.wavelength[known], low, high)
        coefficients = chebyshev.chebfit(scaled, sigma, DEGREE, w=1.0 / error)
        fitted.append(Arm(low, high, tuple(map(float, coefficients))))
    return LineSpread(tuple(fitted))


def _rise_of_chi2(
    cube: xr.Dataset, fine: Tensor, velocity: NDArray[np.float64], instrument: Instrument
) -> Tensor:
    """How chi2 of each width is above the least one, in units of the least reduced chi2, shape (width, window)."""
    n_window = instrument.grid.wavelength.size // PIXELS_PER_WIDTH
    used = slice(0, n_window * PIXELS_PER_WIDTH)

    def windows(values: Tensor) -> Tensor:
        return values[:, used].reshape(len(values), n_window, PIXELS_PER_WIDTH)

    flux, ivar = (torch.from_numpy(cube[name].values.astype("f8")) for name in ("flux", "ivar"))
    good = torch.from_numpy(usable(flux.numpy(), ivar.numpy(), cube["mask"].values, UNUSABLE_NORMALISED))
    good &= torch.from_numpy(~within(instrument.grid.wavelength, NOT_OF_STARS))
    weight, flux = windows(torch.where(good, ivar, 0.0)), windows(torch.where(good, flux, 0.0))

    shift = torch.from_numpy(np.log1p(velocity / SPEED_OF_LIGHT) / instrument.ln_step)
    outside = instrument.reach + instrument.margin
    chi2 = []
    for tried in _TRIED:
        width = torch.full_like(shift, tried / SPEED_OF_LIGHT / instrument.ln_step)
        kernel, _ = gaussian_kernel(shift, width, reach=outside)
        broad = convolve(fine[:, None], kernel[:, None])[:, 0, outside : fine.shape[1] - outside]
        pixels = broad.reshape(len(broad), -1, OVERSAMPLING).mean(-1)
        chi2.append(_chi2(flux, weight, windows(pixels)))
    total = torch.stack(chi2)
    least = total.min(0).values
    n_good = (weight > 0).sum(-1)
    rise = (n_good - _SHAPE_TERMS) * (total / least - 1.0)
    return torch.where((n_good >= _LEAST_GOOD) & (least > 0), rise, 0.0).sum(1)


def _chi2(flux: Tensor, weight: Tensor, template: Tensor) -> Tensor:
    """Chi2 of the template in each window, brought to the flux's shape and line strength, shape (star, window)."""
    x = np.linspace(-1.0, 1.0, flux.shape[-1])
    shape = torch.from_numpy(legendre.legvander(x, _SHAPE_TERMS - 2))
    # The constant makes all lines weaker or stronger alike: otherwise lines too strong would look broad.
    design = torch.cat([template[..., None] * shape, torch.ones_like(template)[..., None]], -1)
    weighted = (weight[..., None] * design).mT
    normal = weighted @ design
    # Windows without good pixels are solved as well, and dropped afterwards.
    ridge = 1e-12 * normal.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None] + 1e-30
    normal = normal + ridge * torch.eye(_SHAPE_TERMS, dtype=torch.float64)
    coefficients = torch.linalg.solve(normal, weighted @ flux[..., None])
    residual = flux - (design @ coefficients)[..., 0]
    return (weight * residual**2).sum(-1)


def _least(
    rise: NDArray[np.float64], wavelength: NDArray[np.float64], resolving_power: float | None
) -> Widths:
    """Width of least chi2 and its error from the parabola through the three lowest points of each window."""
    at = np.argmin(rise, axis=0)
    inner = (at > 0) & (at < len(_TRIED) - 1)
    at = np.clip(at, 1, len(_TRIED) - 2)
    window = np.arange(rise.shape[1])
    before, least, after = (rise[at + d, window] for d in (-1, 0, 1))
    step = np.log(_TRIED[1] / _TRIED[0])
    curvature = (before - 2.0 * least + after) / step**2
    known = inner & (curvature > 0)
    curvature = np.where(known, curvature, np.nan)
    ln_width = np.log(_TRIED[at]) - 0.5 * (after - before) / step / curvature
    own = SPEED_OF_LIGHT * FWHM_TO_SIGMA / resolving_power if resolving_power else 0.0
    added = np.exp(ln_width)
    sigma = np.hypot(added, own)
    middle = wavelength[: rise.shape[1] * PIXELS_PER_WIDTH].reshape(-1, PIXELS_PER_WIDTH).mean(axis=1)
    return Widths(middle, sigma, added**2 / sigma * np.sqrt(2.0 / curvature))
