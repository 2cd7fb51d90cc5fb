"""Where fits begin: the best of a coarse grid of templates by correlation.

The idea is that of the correlation function interpolation of Du et al. (2012), on which LASP relies. The grid of
templates is made from the emulator itself when it meets the observed wavelengths.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise, product

import numpy as np
import torch
from torch import Tensor

from specxr.estimators.lasp.forward import LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA, ForwardModel
from specxr.kernels.compiled.shape import basis_of, shape_workspace
from specxr.kernels.compiled.starts import Bands, Matches, correlate
from specxr.kernels.least_squares import LANES, in_lanes
from specxr.kernels.shape import ShapeBasis

# A shape of low degree is divided out before the correlation: it takes up extinction and flux calibration, and leaves
# the broad lines of hot stars.
_DEGREE = 15
_LEAST_SHAPE = 1e-3  # share of the median flux below which a relative residual has no meaning
# A pixel that stands far out (a cosmic ray, an emission line) must not decide the correlation.
_CLIPPED = (-1.0, 0.5)
SHIFTS = range(-10, 11, 2)  # pixels; lines are about 2.4 pixels wide

_TEFF = (3400, 3800, 4200, 4600, 5000, 5500, 6000, 6500, 7200, 8000, 9000, 10500, 13000, 17000, 25000)
# Among solar-type stars the best template leads to the lowest cost. Where regimes of the emulator meet, and where the
# Balmer lines peak, there are several minima: there the best template of each temperature that correlates nearly
# as well is tried too, and the next best two in any case (docs/design/a-stars.md).
_HOT, _COLD = 8000, 4200
_NEARLY, _AT_LEAST = 0.98, 3
_FEH = (-1.6, -0.6, 0.1)


def _logg(teff: float) -> tuple[float, ...]:
    """Surface gravities where stars are found at this temperature [dex]."""
    if teff < 5200:
        return (1.5, 3.0, 4.6)
    return (2.5, 3.6, 4.5) if teff < 7000 else (3.0, 3.8, 4.4)


@dataclass(frozen=True)
class CoarseGrid:
    """Templates without their shape, ready to correlate.

    Attributes
    ----------
    parameters : Tensor, shape (template, 5)
        Parameters of the templates, without a shift; templates of one temperature stand together.
    templates : Tensor of float32, shape (template, wavelength)
        Templates of unit norm.
    basis : ShapeBasis
        The shape that is divided out before the correlation.
    first : tuple of int
        Index of the first template of each temperature, and the number of all templates.
    teff : tuple of int
        The temperatures [K].
    """

    parameters: Tensor
    templates: Tensor
    basis: ShapeBasis
    first: tuple[int, ...]
    teff: tuple[int, ...]

    @classmethod
    def build(
        cls, model: ForwardModel, bounds: Mapping[str, tuple[float, float]], sigma: float
    ) -> CoarseGrid:
        """Make the grid from an emulator inside its bounds, at a line width of ``sigma`` pixels."""
        coefficients = model.emulator.coefficients
        rows = [
            (teff, logg, feh)
            for teff in _TEFF
            for logg, feh in product(_logg(teff), _FEH)
            if all(
                low <= value <= high
                for value, (low, high) in zip((teff, logg, feh), bounds.values(), strict=True)
            )
        ]
        labels = coefficients.new_tensor(rows)
        parameters = coefficients.new_zeros((len(rows), N_PARAMETERS))
        parameters[:, SIGMA] = sigma
        parameters[:, LN_TEFF] = labels[:, 0].log()
        parameters[:, LOGG:] = labels[:, 1:]
        flux = model.template(parameters)
        basis = ShapeBasis(_DEGREE, int(model.shape.inside.sum()), flux.dtype, flux.device)
        lines = _without_shape(basis, flux * basis.inside, basis.inside.expand_as(flux))
        templates = lines / lines.norm(dim=1, keepdim=True)
        teff = tuple(sorted({row[0] for row in rows}))
        first = tuple(bisect_left(rows, value, key=lambda row: row[0]) for value in (*teff, math.inf))
        return cls(parameters, templates.to(torch.float32), basis, first, teff)

    def starts(self, flux: Tensor, sqrt_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters that the fits of each star begin with; arguments as for ``ForwardModel.fit_shape``.

        Returns
        -------
        parameters : Tensor, shape (star, start, 5)
            The best template at each temperature, the best of all first.
        tried : Tensor of bool, shape (star, start)
            Which of them to try; the first always.
        """
        if flux.device.type == "cpu":
            score, template, shift = self._correlate_compiled(flux, sqrt_weight)
        else:
            lanes = LANES[flux.device.type]
            parts = in_lanes(
                lambda i: self._correlate(flux[i], sqrt_weight[i]), len(flux), lanes, flux.device
            )
            empty = flux.new_zeros((0, 3, len(self.teff)))
            score, template, shift = torch.cat([empty, *parts]).unbind(dim=1)
        parameters = self.parameters[template.long()]
        parameters[..., MU] = parameters.new_tensor(SHIFTS)[shift.long()]
        # The best template at each temperature, and which temperatures to try.
        ordered, order = score.sort(dim=1, descending=True, stable=True)
        best = torch.tensor(self.teff, device=order.device)[order[:, :1]]
        rank = torch.arange(order.shape[1], device=order.device)
        several = (best >= _HOT) | (best <= _COLD)
        also = several & ((ordered > _NEARLY * ordered[:, :1]) | (rank < _AT_LEAST))
        order = order[..., None].expand(-1, -1, N_PARAMETERS)
        return parameters.gather(1, order), (rank == 0) | also

    def _correlate(self, flux: Tensor, sqrt_weight: Tensor) -> Tensor:
        """Score, template and shift of the best template at each temperature, shape (star, 3, temperature).

        The shift is the one at which the middle template of the temperature correlates best.
        """
        lines = _without_shape(self.basis, flux * sqrt_weight, sqrt_weight).to(torch.float32)
        scores = torch.stack([_shift(lines, -pixels) @ self.templates.mT for pixels in SHIFTS], dim=1)
        out = []
        for first, last in pairwise(self.first):
            shift = scores[:, :, (first + last) // 2].argmax(dim=1)
            chosen = scores.gather(1, shift[:, None, None].expand(-1, 1, scores.shape[2]))[:, 0, first:last]
            score, template = chosen.max(dim=1)
            out.append(torch.stack((score, (template + first).float(), shift.float()), dim=1))
        return torch.stack(out, dim=2).to(flux.dtype)

    def _correlate_compiled(self, flux: Tensor, sqrt_weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The same on a CPU, each of shape (star, temperature); see ``kernels.compiled``."""
        spectra = flux.double().contiguous().numpy(), sqrt_weight.double().contiguous().numpy()
        n_pixel = int(self.basis.inside.sum())
        basis = basis_of(_DEGREE, n_pixel, flux.shape[1])
        limits = (_LEAST_SHAPE, *_CLIPPED)
        bands = Bands(self.templates.numpy(), np.array(self.first), np.array(SHIFTS), limits)
        shape = (len(flux), len(self.teff))
        matches = Matches(np.empty(shape, np.float32), np.empty(shape, np.int64), np.empty(shape, np.int64))
        correlate(basis, *spectra, bands, shape_workspace(basis), matches)
        score, template, shift = (torch.from_numpy(array) for array in matches)
        return score, template, shift


def _without_shape(basis: ShapeBasis, flux: Tensor, sqrt_weight: Tensor) -> Tensor:
    """Return relative residuals of a low-degree polynomial fit, times the square root of the weight."""
    fit = basis.fit(sqrt_weight, flux)
    relative = (fit.residual / fit.polynomial.clamp(min=_LEAST_SHAPE)).clamp(*_CLIPPED)
    return torch.where(fit.polynomial > _LEAST_SHAPE, relative, 0.0)


def _shift(lines: Tensor, pixels: int) -> Tensor:
    """Move spectra by whole pixels, zeros coming in."""
    out = torch.zeros_like(lines)
    n = lines.shape[1]
    out[:, max(pixels, 0) : n + min(pixels, 0)] = lines[:, max(-pixels, 0) : n - max(pixels, 0)]
    return out
