"""The shape polynomial: a multiplicative correction whose coefficients are eliminated from the fit.

A model spectrum C is multiplied by a polynomial of degree n so that it has the observed spectrum's shape. The
published programs use Legendre polynomials; Chebyshev polynomials span the same space, hence give the same fit,
and T_i T_j = (T_{i+j} + T_{|i-j|}) / 2 makes the normal matrix a sum of 2 n + 1 moments: one matrix product for
a whole block of stars (docs/methods/lasp.md).

Pixels and coefficients are padded with zeros to round numbers. BLAS treats the remainders of its tiles in other
orders of summation, and which rows meet a remainder depends on their place in the block; without remainders a star's
result is the same to the bit wherever it stands.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

# Added to the unit diagonal of the scaled normal matrix: far below its smallest eigenvalue where pixels
# constrain the polynomial everywhere, and enough for a factorisation where a wide gap leaves it free.
RIDGE = {torch.float64: 1e-13, torch.float32: 1e-7}


def padded(n: int) -> int:
    """Round up to what leaves no remainder of a tile of BLAS."""
    return -(-n // 8) * 8


@dataclass(frozen=True)
class ShapeFit:
    """Least-squares fit of ``template * polynomial`` to the flux of each star.

    Attributes
    ----------
    coefficients : Tensor, shape (star, padded(degree + 1))
        Degree of the Chebyshev polynomials.
    polynomial : Tensor, shape (star, pixel)
    residual : Tensor, shape (star, pixel)
        Times the square root of the weight.
    cost : Tensor, shape (star,)
        Sum of the squared residuals.
    cholesky : Tensor, shape (star, padded(degree + 1), padded(degree + 1))
        Factor of the scaled normal matrix.
    scale : Tensor, shape (star, padded(degree + 1))
    """

    coefficients: Tensor
    polynomial: Tensor
    residual: Tensor
    cost: Tensor
    cholesky: Tensor
    scale: Tensor


class ShapeBasis:
    """Chebyshev polynomials at the nodes x_j = -1 + 2 j / p (Liang et al. 2025, section 2.2, step 5).

    Spectra given to its methods have ``padded(n_pixel)`` pixels, of which those beyond the first ``n_pixel`` must
    have no weight.

    Parameters
    ----------
    degree : int
    n_pixel : int
    dtype, device
        Type and device of the tensors.

    Attributes
    ----------
    inside : Tensor, shape (pixel,)
        1 for the pixels, 0 for the padding.
    """

    def __init__(self, degree: int, n_pixel: int, dtype: torch.dtype, device: torch.device | str) -> None:
        width, size = padded(n_pixel), padded(degree + 1)
        n_moment = 2 * size
        angle = torch.arccos(-1.0 + 2.0 * torch.arange(n_pixel, dtype=torch.float64) / n_pixel)
        moments = torch.zeros((width, n_moment), dtype=torch.float64)
        moments[:n_pixel, : 2 * degree + 1] = torch.cos(angle[:, None] * torch.arange(2 * degree + 1))
        values = moments[:, :size].clone()
        values[:, degree + 1 :] = 0.0
        order = torch.arange(size)
        real = order <= degree

        def put(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype).contiguous()

        self.degree = degree
        self.moments, self.values, self.transposed = put(moments), put(values), put(values.mT)
        self.inside = put((torch.arange(width) < n_pixel).double())
        self._single = self.values.float()
        self._real = real.to(device)
        self._ridge = put(torch.where(real, RIDGE[dtype], 1.0))
        self._difference = (order[:, None] - order).abs().to(device)

    def fit(self, template: Tensor, flux: Tensor) -> ShapeFit:
        """Solve for the polynomial of each star.

        Parameters
        ----------
        template, flux : Tensor, shape (star, pixel)
            Both times the square root of the weight, which is 0 in the padding.
        """
        moment = (template * template) @ self.moments
        # Twice the normal matrix: T_|i-j| gathered, T_{i+j} as a view that walks along the moments.
        size, n_moment = self.values.shape[1], moment.shape[1]
        normal = moment[:, self._difference]
        normal += moment.as_strided((len(moment), size, size), (n_moment, 1, 1))
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        scale = torch.rsqrt(torch.where(diagonal > 0, diagonal, 1.0)) * self._real
        normal *= scale[:, :, None] * scale[:, None, :]
        normal.diagonal(dim1=-2, dim2=-1).add_(self._ridge)
        cholesky, _ = torch.linalg.cholesky_ex(normal)
        scale = scale * math.sqrt(2.0)
        right = ((template * flux) @ self.values) * scale
        coefficients = torch.cholesky_solve(right[:, :, None], cholesky)[:, :, 0] * scale
        polynomial = coefficients @ self.transposed
        residual = flux - template * polynomial
        cost = (residual * residual).sum(-1)
        return ShapeFit(coefficients, polynomial, residual, cost, cholesky, scale)

    def reduce(
        self, fit: ShapeFit, template: Tensor, derivatives: Tensor, sqrt_weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gauss-Newton equations of the nonlinear parameters, the polynomial eliminated.

        Kaufman's (1975) variable projection: the Jacobian is the part of ``polynomial * derivatives`` that is
        orthogonal to the columns ``template * T_k``; the projection is a Schur complement.

        Parameters
        ----------
        fit : ShapeFit
        template : Tensor, shape (star, pixel)
            As it was given to `fit`.
        derivatives : Tensor, shape (star, parameter, pixel)
            Derivatives of the template, not multiplied by the square root of the weight. The pixel sums have their
            precision.
        sqrt_weight : Tensor, shape (star, pixel)
            Root of the weight.

        Returns
        -------
        gradient : Tensor, shape (star, parameter)
            Of cost / 2.
        hessian : Tensor, shape (star, parameter, parameter)
        """
        n_star, n_parameter, n_pixel = derivatives.shape
        kind, double = derivatives.dtype, fit.scale.dtype
        values = self.values if kind == double else self._single
        jacobian = derivatives * (sqrt_weight * fit.polynomial).to(kind)[:, None]
        gradient = -torch.bmm(jacobian, fit.residual.to(kind)[:, :, None])[:, :, 0].to(double)
        columns = (jacobian * template.to(kind)[:, None]).reshape(-1, n_pixel) @ values
        cross = columns.reshape(n_star, n_parameter, -1).to(double) * fit.scale[:, None]
        half = torch.linalg.solve_triangular(fit.cholesky, cross.mT, upper=False)
        hessian = torch.bmm(jacobian, jacobian.mT).to(double) - torch.bmm(half.mT, half)
        return gradient, 0.5 * (hessian + hessian.mT)
