"""Line spread of a survey, measured on stars with known labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import xarray as xr
from numpy.polynomial import chebyshev, legendre
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from specxr.cubes.schema import as_cube, check_ivar, grid_of
from specxr.kernels.broadening import convolve, gaussian_kernel
from specxr.spectra.line_spread import FWHM_TO_SIGMA, Arm, LineSpread, arm_coordinate
from specxr.spectra.normalisation import within
from specxr.spectra.pixels import usable
from specxr.synthesis.generators import Generator
from specxr.synthesis.instrument import MAX_VSINI, OVERSAMPLING, Instrument
from specxr.synthesis.training_set import spectra_on
from specxr.vocabulary import LEFT_OUT, SPEED_OF_LIGHT, STAR

# Ranges in which the atmosphere and interstellar sodium absorb, as no template does [Angstrom, in either medium].
NOT_OF_STARS = (
    (5880.0, 5905.0), (6270.0, 6330.0), (6860.0, 6970.0), (7155.0, 7400.0), (7580.0, 7720.0), (8100.0, 8400.0),
    (8900.0, 9200.0),
)  # fmt: skip

PIXELS_PER_WIDTH = 100  # pixels that share one width
_LEAST_GOOD = 60  # least number of good pixels in a window
# A polynomial of four terms brings the template to the flux of a window, and one more term changes the line strength.
_SHAPE_TERMS = 5
_TRIED = np.geomspace(35.0, 160.0, 20)  # widths that are tried [km/s]
_STARS_AT_ONCE = 32
# Error that templates cause, as a fraction of a width: it does not become smaller with the noise.
_SYSTEMATIC = 0.02


@dataclass(frozen=True, eq=False)
class Widths:
    """Width of the lines in windows of an instrument's pixels.

    Attributes
    ----------
    wavelength : ndarray, shape (window,)
        Middle of the window [Angstrom].
    sigma, sigma_err : ndarray, shape (window,)
        Standard deviation of the line spread and its error [km/s]; NaN where the spectra do not constrain it.
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
        Spectra of slow rotators with many lines: F, G and K stars with an S/N above 100.
    labels : mapping of str to array_like, shape (star,)
        Labels that the generator takes.
    rv : array_like, shape (star,)
        Radial velocities [km/s].
    generator : Generator
        Generator of templates whose lines are not broadened, or far less than the survey's.

    Returns
    -------
    Widths
        Widths that minimise chi2, summed over the stars. The chi2 of a star is divided by its own minimum: otherwise
        the brightest star, whose template is never exact, would have all the weight.

    Raises
    ------
    ValueError
        A label or velocity is not finite, or a velocity is too large.
    """
    cube = as_cube(cube)
    check_ivar(cube, "the measurement of the line spread")
    # A line spread as wide as the widest that is tried gives the template its margins.
    instrument = Instrument(
        replace(grid_of(cube), line_spread=LineSpread.constant(SPEED_OF_LIGHT * FWHM_TO_SIGMA / _TRIED[-1]))
    )
    values = np.stack([np.asarray(labels[name], dtype="f8") for name in generator.labels], axis=1)
    velocity = np.asarray(rv, dtype="f8")
    if not (np.isfinite(values).all() and np.isfinite(velocity).all() and np.abs(velocity).max() < MAX_VSINI):
        raise ValueError(
            f"a label or an rv is not finite, or an rv lies beyond {MAX_VSINI:g} km/s; labels and velocities of all "
            "stars are required. Select the stars that have them."
        )
    rise = torch.zeros(())
    for first in range(0, len(values), _STARS_AT_ONCE):
        rows = slice(first, first + _STARS_AT_ONCE)
        fine = torch.from_numpy(
            np.ascontiguousarray(spectra_on(generator, values[rows], instrument), dtype="f8")
        )
        rise = rise + _rise_of_chi2(cube.isel({STAR: rows}), fine, velocity[rows], instrument)
    return _least(rise.numpy(), instrument.grid.wavelength, generator.resolving_power)


def fit_line_spread(widths: Widths, arms: Sequence[tuple[float, float]], degree: int = 5) -> LineSpread:
    """Fit a polynomial to the widths in each arm.

    Parameters
    ----------
    widths : Widths
        Widths that `measure_widths` returned.
    arms : sequence of (float, float)
        First and last wavelength of each arm [Angstrom]; windows where two arms overlap count in both. Those of LAMOST
        are `specxr.published.hot_stars.LINE_SPREAD_ARMS`.
    degree : int, optional
        Degree of the polynomial.

    Returns
    -------
    LineSpread
        Line spread of the survey, see `specxr.cubes.schema.with_line_spread`.

    Raises
    ------
    ValueError
        An arm has too few windows with a width.
    """
    fitted = []
    for low, high in arms:
        known = np.isfinite(widths.sigma) & (widths.wavelength >= low) & (widths.wavelength <= high)
        if known.sum() < degree + 3:
            raise ValueError(
                f"{known.sum()} windows in {low:g}-{high:g} Angstrom have a width; {degree + 3} are required for a "
                f"polynomial of degree {degree}. Give more stars, or stars with more lines."
            )
        sigma = widths.sigma[known]
        error = np.hypot(widths.sigma_err[known], _SYSTEMATIC * sigma)
        # Nothing constrains the polynomial beyond the outermost windows: the arm ends there.
        low, high = (float(widths.wavelength[known][end]) for end in (0, -1))
        scaled = arm_coordinate(widths.wavelength[known], low, high)
        coefficients = chebyshev.chebfit(scaled, sigma, degree, w=1.0 / error)
        fitted.append(Arm(low, high, tuple(map(float, coefficients))))
    return LineSpread(tuple(fitted))


def _rise_of_chi2(
    cube: xr.Dataset, fine: Tensor, velocity: NDArray[np.float64], instrument: Instrument
) -> Tensor:
    """Chi2 of each width minus the least, in units of the least reduced chi2, shape (width, window)."""
    n_window = instrument.grid.wavelength.size // PIXELS_PER_WIDTH
    used = slice(0, n_window * PIXELS_PER_WIDTH)

    def windows(values: Tensor) -> Tensor:
        return values[:, used].reshape(len(values), n_window, PIXELS_PER_WIDTH)

    flux, ivar = (torch.from_numpy(cube[name].values.astype("f8")) for name in ("flux", "ivar"))
    good = torch.from_numpy(usable(flux.numpy(), ivar.numpy(), cube["mask"].values, LEFT_OUT))
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
    """Chi2 in each window, of the template with the shape and line strength of the flux, shape (star, window)."""
    x = np.linspace(-1.0, 1.0, flux.shape[-1])
    shape = torch.from_numpy(legendre.legvander(x, _SHAPE_TERMS - 2))
    # The constant makes all lines weaker or stronger together: otherwise lines that are too strong look broad.
    design = torch.cat([template[..., None] * shape, torch.ones_like(template)[..., None]], -1)
    weighted = (weight[..., None] * design).mT
    normal = weighted @ design
    # Windows without good pixels are solved as well, and left out afterwards.
    ridge = 1e-12 * normal.diagonal(dim1=-2, dim2=-1).amax(-1)[..., None, None] + 1e-30
    normal = normal + ridge * torch.eye(_SHAPE_TERMS, dtype=torch.float64)
    coefficients = torch.linalg.solve(normal, weighted @ flux[..., None])
    residual = flux - (design @ coefficients)[..., 0]
    chi2: Tensor = (weight * residual**2).sum(-1)
    return chi2


def _least(
    rise: NDArray[np.float64], wavelength: NDArray[np.float64], resolving_power: float | None
) -> Widths:
    """Width that minimises chi2 and its error, from the parabola through the three lowest points of each window."""
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
