"""The shape polynomial: a multiplicative correction whose coefficients are eliminated from the fit.

A model spectrum C is multiplied by a polynomial of degree n so that it has the observed spectrum's shape. The
published programs use Legendre polynomials; Chebyshev polynomials span the same space, hence give the same fit,
and T_i T_j = (T_{i+j} + T_{|i-j|}) / 2 makes the normal matrix a sum of 2 n + 1 moments: one matrix product for
a whole block of stars (docs/design/lasp.md).

Pixels and coefficients are padded with zeros to round numbers. BLAS treats the remainders of its tiles in other
orders of summation, and which rows meet a remainder depends on their place in the block; without remainders a star's
result is the same to the bit wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Added to the unit diagonal of the scaled normal matrix: far below its smallest eigenvalue where pixels
# constrain the polynomial everywhere, and enough for a factorisation where a wide gap leaves it free.
RIDGE = {torch.float64: 1e-13, torch.float32: 1e-7}


def padded(n: int) -> int:
    """Round up to what fills the tiles of BLAS in either precision."""
    return -(-n // 16) * 16


@dataclass(frozen=True)
class ShapeFit:
    """Weighted least-squares fit of ``template * polynomial`` to the flux of each star.

    Attributes
    ----------
    coefficients : Tensor, shape (star, padded(degree + 1))
        Of Chebyshev polynomials.
    polynomial, model, residual : Tensor, shape (star, pixel)
    cost : Tensor, shape (star,)
        Sum of weight * residual^2.
    cholesky : Tensor, shape (star, padded(degree + 1), padded(degree + 1))
        Factor of the scaled normal matrix.
    scale : Tensor, shape (star, padded(degree + 1))
    """

    coefficients: Tensor
    polynomial: Tensor
    model: Tensor
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
        Of the tensors that it works on.

    Attributes
    ----------
    inside : Tensor, shape (pixel,)
        1 for the pixels, 0 for the padding.
    """

    def __init__(self, degree: int, n_pixel: int, dtype: torch.dtype, device: torch.device | str) -> None:
        width, size, n_moment = padded(n_pixel), padded(degree + 1), padded(2 * degree + 2)
        angle = torch.arccos(-1.0 + 2.0 * torch.arange(n_pixel, dtype=torch.float64) / n_pixel)
        moments = torch.zeros((width, n_moment), dtype=torch.float64)
        moments[:n_pixel, : 2 * degree + 1] = torch.cos(angle[:, None] * torch.arange(2 * degree + 1))
        values = moments[:, :size].clone()
        values[:, degree + 1 :] = 0.0
        order = torch.arange(size)
        real = order <= degree
        both = real[:, None] & real
        empty = n_moment - 1  # a column of zeros
        total = torch.where(both, order[:, None] + order, empty)
        difference = torch.where(both, (order[:, None] - order).abs(), empty)
        ridge = torch.where(real, RIDGE[dtype], 1.0)

        def put(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype).contiguous()

        self.degree = degree
        self.moments, self.values, self.transposed = put(moments), put(values), put(values.mT)
        self.inside = put((torch.arange(width) < n_pixel).double())
        self._ridge = put(ridge)
        self._total, self._difference = total.to(device), difference.to(device)

    def fit(self, template: Tensor, flux: Tensor, weight: Tensor) -> ShapeFit:
        """Solve for the polynomial of each star, shapes (star, pixel)."""
        weighted = weight * template
        moment = (weighted * template) @ self.moments
        normal = 0.5 * (moment[:, self._total] + moment[:, self._difference])
        diagonal = normal.diagonal(dim1=-2, dim2=-1)
        scale = torch.rsqrt(torch.where(diagonal > 0, diagonal, 1.0))
        normal = normal * scale[:, :, None] * scale[:, None, :]
        normal.diagonal(dim1=-2, dim2=-1).add_(self._ridge)
        cholesky, _ = torch.linalg.cholesky_ex(normal)
        right = ((weighted * flux) @ self.values) * scale
        coefficients = torch.cholesky_solve(right[:, :, None], cholesky)[:, :, 0] * scale
        polynomial = coefficients @ self.transposed
        model = template * polynomial
        residual = flux - model
        cost = (weight * residual * residual).sum(-1)
        return ShapeFit(coefficients, polynomial, model, residual, cost, cholesky, scale)

    def reduce(
        self, fit: ShapeFit, template: Tensor, derivatives: Tensor, weight: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Gauss-Newton equations of the nonlinear parameters, the polynomial eliminated.

        Kaufman's (1975) variable projection: the Jacobian is the part of ``polynomial * derivatives`` that is
        orthogonal to the columns ``template * T_k``; the projection is a Schur complement.

        Parameters
        ----------
        fit : ShapeFit
        template : Tensor, shape (star, pixel)
        derivatives : Tensor, shape (star, parameter, pixel)
            Of the template.
        weight : Tensor, shape (star, pixel)

        Returns
        -------
        gradient : Tensor, shape (star, parameter)
            Of cost / 2.
        hessian : Tensor, shape (star, parameter, parameter)
        """
        n_star, n_parameter, n_pixel = derivatives.shape
        jacobian = derivatives * fit.polynomial[:, None]
        weighted = jacobian * weight[:, None]
        gradient = -torch.bmm(weighted, fit.residual[:, :, None])[:, :, 0]
        cross = (weighted * template[:, None]).reshape(n_star * n_parameter, n_pixel) @ self.values
        cross = cross.reshape(n_star, n_parameter, -1) * fit.scale[:, None]
        half = torch.linalg.solve_triangular(fit.cholesky, cross.mT, upper=False)
        hessian = torch.bmm(weighted, jacobian.mT) - torch.bmm(half.mT, half)
        return gradient, hessian
