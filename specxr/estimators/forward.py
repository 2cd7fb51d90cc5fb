"""The LASP forward model: emulator, broadening and radial velocity, shape polynomial.

Liang et al. (2025), section 2.2, steps 2-5. The flux-conserving rebin of step 3 is linear and folded into the
emulator's coefficients once a grid. Spectra are padded, see ``kernels.shape``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from specxr.emulators.polynomial import GridEmulator
from specxr.kernels.broadening import convolve, gaussian_kernel
from specxr.kernels.least_squares import Linearisation
from specxr.kernels.shape import ShapeBasis, ShapeFit, padded

# Order of the nonlinear parameters of the fit.
MU, SIGMA, LN_TEFF, LOGG, FEH = range(5)
N_PARAMETERS = 5


@dataclass(frozen=True)
class ForwardModel:
    """Model spectra of a block of stars and their derivatives.

    Attributes
    ----------
    emulator : GridEmulator
        On the observed grid.
    coefficients : Tensor, shape (term, pixel)
        Of the emulator, the last pixel repeated to ``shape.padded`` pixels, as the convolution would do.
    shape : ShapeBasis
    reach : int
        Half width [pixels] of the widest kernel that the bounds allow.
    """

    emulator: GridEmulator
    coefficients: Tensor
    shape: ShapeBasis
    reach: int

    @classmethod
    def build(cls, emulator: GridEmulator, degree: int, reach: int) -> ForwardModel:
        """Prepare the model of an emulator on its grid, with a shape polynomial of this degree."""
        rows = emulator.coefficients
        n_pixel = rows.shape[1]
        rows = torch.cat((rows, rows[:, -1:].expand(-1, padded(n_pixel) - n_pixel)), dim=1)
        return cls(emulator, rows, ShapeBasis(degree, n_pixel, rows.dtype, rows.device), reach)

    def template(self, parameters: Tensor) -> Tensor:
        """Broadened and shifted emulator spectra, shape (star, pixel).

        Parameters
        ----------
        parameters : Tensor, shape (star, 5)
            Mean and width of the kernel [pixels], ln(Teff / K), logg, [Fe/H].
        """
        flux = self.emulator.terms(_labels(parameters)) @ self.coefficients
        kernel, _ = gaussian_kernel(parameters[:, MU], parameters[:, SIGMA], self.reach)
        return convolve(flux[:, None], kernel[:, None])[:, 0]

    def template_and_derivatives(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Template and its derivatives by the five parameters, shapes (star, pixel), (star, 5, pixel)."""
        labels = _labels(parameters)
        terms, by_label = self.emulator.terms_and_derivatives(labels)
        rows = torch.cat((terms[:, None], by_label), dim=1)
        rows[:, 1] *= labels[:, :1]  # d/d ln(Teff) = Teff d/dTeff
        n_star, n_row, n_term = rows.shape
        flux = (rows.reshape(-1, n_term) @ self.coefficients).reshape(n_star, n_row, -1)
        kernel, by_kernel = gaussian_kernel(parameters[:, MU], parameters[:, SIGMA], self.reach)
        broadened = convolve(flux, kernel[:, None])
        kinematic = convolve(flux[:, :1], by_kernel)
        return broadened[:, 0], torch.cat((kinematic, broadened[:, 1:]), dim=1)

    def fit_shape(self, parameters: Tensor, flux: Tensor, weight: Tensor) -> ShapeFit:
        """Model spectra with their best shape polynomial; flux and weight of shape (star, pixel)."""
        return self.shape.fit(self.template(parameters), flux, weight)

    def linearise(self, parameters: Tensor, flux: Tensor, weight: Tensor) -> Linearisation:
        """Cost, gradient and Gauss-Newton matrix; ``extra`` is the least polynomial over the used pixels."""
        template, derivatives = self.template_and_derivatives(parameters)
        fit = self.shape.fit(template, flux, weight)
        gradient, hessian = self.shape.reduce(fit, template, derivatives, weight)
        least = torch.where(weight > 0, fit.polynomial, torch.inf).amin(-1, keepdim=True)
        return Linearisation(fit.cost, gradient, hessian, least)


def _labels(parameters: Tensor) -> Tensor:
    return torch.stack((parameters[:, LN_TEFF].exp(), parameters[:, LOGG], parameters[:, FEH]), dim=1)
