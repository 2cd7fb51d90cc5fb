"""The LASP forward model: emulator, broadening and radial velocity, shape polynomial.

Liang et al. (2025), section 2.2, steps 2-5. The flux-conserving rebin of step 3 is linear and folded into the
emulator's coefficients, once for each grid. Spectra are padded, see ``kernels.shape``.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from specxr.emulators.polynomial import GridEmulator
from specxr.kernels.broadening import convolve, gaussian_kernel, rotating_gaussian_kernel
from specxr.kernels.compiled.fit import CompiledModel
from specxr.kernels.compiled.model import EmulatorTables
from specxr.kernels.compiled.shape import basis_of
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
        The emulator on the observed grid.
    coefficients : Tensor, shape (term, pixel)
        Coefficients of the emulator. The last pixel is repeated up to the padded width, as the convolution does.
    slopes : Tensor of float32, shape (term, pixel)
        The same coefficients for the derivatives. An error of 1e-7 in the Jacobian moves the solution by 4e-6 of its
        standard error, and single precision halves the time of most of the work.
    shape : ShapeBasis
    reach : int
        Half width [pixels] of the widest kernel that the bounds allow.
    instrument : float, optional
        Width [pixels] of the instrument's Gaussian. Where it is given, the second parameter is the square of v sin i
        [pixels^2] and not the width of all the broadening.
    """

    emulator: GridEmulator
    coefficients: Tensor
    slopes: Tensor
    shape: ShapeBasis
    reach: int
    instrument: float | None = None

    @classmethod
    def build(
        cls, emulator: GridEmulator, degree: int, reach: int, instrument: float | None = None
    ) -> ForwardModel:
        """Prepare the model of an emulator on its grid, with a shape polynomial of this degree."""
        rows = emulator.coefficients
        n_pixel = rows.shape[1]
        rows = torch.cat((rows, rows[:, -1:].expand(-1, padded(n_pixel) - n_pixel)), dim=1)
        shape = ShapeBasis(degree, n_pixel, rows.dtype, rows.device)
        return cls(emulator, rows, rows.float(), shape, reach, instrument)

    @cached_property
    def compiled(self) -> CompiledModel:
        """The same model for a CPU, one star at a time and in float64 always; see ``kernels.compiled``."""
        source = self.emulator.source
        rows = self.coefficients.double().numpy().reshape(*source.coefficients.shape[:2], -1)
        rows = np.pad(rows, ((0, 0), (0, -rows.shape[1] % 4), (0, 0)))
        tables = EmulatorTables(
            coefficients=rows,
            slopes=rows.astype("f4"),
            powers=source.powers.astype("i8"),
            fiducial=source.fiducial.astype("f8"),
            scale=source.scale.astype("f8"),
            knots=np.log10(source.knots).astype("f8"),
            rates=np.array(source.remainders, dtype="f8"),
            log_teff=source.log_teff,
            instrument=self.instrument or 0.0,
            reach=self.reach,
        )
        n_pixel = int(self.shape.inside.sum())
        return CompiledModel(tables, basis_of(self.shape.degree, n_pixel, rows.shape[2]))

    def template(self, parameters: Tensor) -> Tensor:
        """Broadened and shifted emulator spectra, shape (star, pixel).

        Parameters
        ----------
        parameters : Tensor, shape (star, 5)
            Mean and width of the kernel [pixels] (see `instrument`), ln(Teff / K), logg, [Fe/H].
        """
        flux = self.emulator.terms(_labels(parameters)) @ self.coefficients
        kernel, _ = self._kernel(parameters)
        return convolve(flux[:, None], kernel[:, None])[:, 0]

    def template_and_derivatives(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        """Template, shape (star, pixel), and its derivatives in float32, shape (star, 5, pixel)."""
        labels = _labels(parameters)
        rows = self.emulator.rows(labels)
        rows[:, 1] *= labels[:, :1]  # d/d ln(Teff) = Teff d/dTeff
        n_star, _, n_term = rows.shape
        kernel, by_kernel = self._kernel(parameters)
        flux = rows[:, 0] @ self.coefficients
        template = convolve(flux[:, None], kernel[:, None])[:, 0]
        by_label = (rows[:, 1:].float().reshape(-1, n_term) @ self.slopes).reshape(n_star, 3, -1)
        derivatives = by_label.new_empty((n_star, N_PARAMETERS, flux.shape[1]))
        convolve(flux.float()[:, None], by_kernel.float(), derivatives[:, :2])
        convolve(by_label, kernel.float()[:, None], derivatives[:, 2:])
        return template, derivatives

    def _kernel(self, parameters: Tensor) -> tuple[Tensor, Tensor]:
        mu, width = parameters[:, MU], parameters[:, SIGMA]
        if self.instrument is None:
            return gaussian_kernel(mu, width, self.reach)
        return rotating_gaussian_kernel(mu, width, self.instrument, self.reach)

    def fit_shape(self, parameters: Tensor, flux: Tensor, sqrt_weight: Tensor) -> tuple[ShapeFit, Tensor]:
        """Fit the shape at given parameters; also the model, polynomial and all, shape (star, pixel).

        Parameters
        ----------
        parameters : Tensor, shape (star, 5)
        flux : Tensor, shape (star, pixel)
        sqrt_weight : Tensor, shape (star, pixel)
            Square root of the weight, 0 where a pixel is not used.
        """
        template = self.template(parameters)
        fit = self.shape.fit(template * sqrt_weight, flux * sqrt_weight)
        return fit, template * fit.polynomial

    def linearise(self, parameters: Tensor, flux: Tensor, sqrt_weight: Tensor) -> Linearisation:
        """Cost, gradient and Gauss-Newton matrix, arguments as for `fit_shape`.

        ``extra`` is the least value of the polynomial over the used pixels.
        """
        template, derivatives = self.template_and_derivatives(parameters)
        template = template * sqrt_weight
        fit = self.shape.fit(template, flux * sqrt_weight)
        gradient, hessian = self.shape.reduce(fit, template, derivatives, sqrt_weight)
        least = torch.where(sqrt_weight > 0, fit.polynomial, torch.inf).amin(-1, keepdim=True)
        return Linearisation(fit.cost, gradient, hessian, least)


def _labels(parameters: Tensor) -> Tensor:
    return torch.stack((parameters[:, LN_TEFF].exp(), parameters[:, LOGG], parameters[:, FEH]), dim=1)
