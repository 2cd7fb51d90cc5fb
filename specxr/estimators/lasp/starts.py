"""Where fits begin: the best of a coarse grid of templates by correlation.

The idea is that of the correlation function interpolation of Du et al. (2012), on which LASP relies. The grid of
templates is made from the emulator itself when it meets the observed wavelengths.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from specxr.estimators.lasp.forward import LN_TEFF, LOGG, MU, N_PARAMETERS, SIGMA, ForwardModel
from specxr.kernels.shape import ShapeBasis, padded

# A shape of low degree is divided out before the correlation: it takes up extinction and flux calibration, and leaves
# the broad lines of hot stars.
_DEGREE = 15
_LEAST_SHAPE = 1e-3  # share of the median flux below which a relative residual has no meaning
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
    templates : Tensor of float32, shape (wavelength, template)
        Templates of unit norm.
    basis : ShapeBasis
        The shape that is divided out before the correlation.
    band : Tensor of int64, shape (template,)
        Index of the template's temperature.
    teff : tuple of int
        The temperatures [K].
    """

    parameters: Tensor
    templates: Tensor
    basis: ShapeBasis
    band: Tensor
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
        shifted, moved = [], []
        for shift in SHIFTS:
            shifted.append(_shift(lines, shift))
            moved.append(parameters.clone())
            moved[-1][:, MU] = shift
        templates = torch.cat(shifted)
        templates = templates / templates.norm(dim=1, keepdim=True)
        unused = padded(len(templates)) - len(templates)
        templates = torch.nn.functional.pad(templates, (0, 0, 0, unused))
        teff = tuple(sorted({row[0] for row in rows}))
        band = torch.tensor([teff.index(row[0]) for row in rows], device=flux.device).repeat(len(SHIFTS))
        return cls(torch.cat(moved), templates.to(torch.float32).mT.contiguous(), basis, band, teff)

    def starts(self, flux: Tensor, sqrt_weight: Tensor) -> tuple[Tensor, Tensor]:
        """Parameters that the fits of each star begin with; arguments as for ``ForwardModel.fit_shape``.

        Returns
        -------
        parameters : Tensor, shape (star, start, 5)
            The best template at each temperature, the best of all first.
        tried : Tensor of bool, shape (star, start)
            Which of them to try; the first always.
        """
        lines = _without_shape(self.basis, flux * sqrt_weight, sqrt_weight)
        score = (lines.to(torch.float32) @ self.templates)[:, : len(self.parameters)]
        # The best template at each temperature, and which temperatures to try.
        template = torch.stack(
            [self._best_of(score, torch.nonzero(self.band == i)[:, 0]) for i in range(len(self.teff))], dim=1
        )
        ordered, order = score.gather(1, template).sort(dim=1, descending=True, stable=True)
        first = torch.tensor(self.teff, device=order.device)[order[:, :1]]
        rank = torch.arange(order.shape[1], device=order.device)
        several = (first >= _HOT) | (first <= _COLD)
        also = several & ((ordered > _NEARLY * ordered[:, :1]) | (rank < _AT_LEAST))
        return self.parameters[template.gather(1, order)], (rank == 0) | also

    @staticmethod
    def _best_of(score: Tensor, templates: Tensor) -> Tensor:
        return templates[score[:, templates].argmax(dim=1)]


def _without_shape(basis: ShapeBasis, flux: Tensor, sqrt_weight: Tensor) -> Tensor:
    """Return relative residuals of a low-degree polynomial fit, times the square root of the weight."""
    fit = basis.fit(sqrt_weight, flux)
    # A pixel that stands far out (a cosmic ray, an emission line) must not decide the correlation.
    relative = (fit.residual / fit.polynomial.clamp(min=_LEAST_SHAPE)).clamp(-1.0, 0.5)
    return torch.where(fit.polynomial > _LEAST_SHAPE, relative, 0.0)


def _shift(lines: Tensor, pixels: int) -> Tensor:
    """Move spectra by whole pixels, zeros coming in."""
    out = torch.zeros_like(lines)
    n = lines.shape[1]
    out[:, max(pixels, 0) : n + min(pixels, 0)] = lines[:, max(-pixels, 0) : n - max(pixels, 0)]
    return out
