"""One fit of labels and radial velocity for every trained emulator.

The model of a spectrum is the emulator's at the labels, shifted by the radial velocity; the weighted squared residuals,
and priors, are minimised by ``kernels.least_squares``. With Gaussian noise that is the maximum of the posterior
of SLAM (M-dwarf paper, equation 3) and the fit of The Payne (hot-star paper, section 3.4) alike.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from specxr.emulators.base import Emulator
from specxr.kernels.compiled.convolution import convolve_rows
from specxr.kernels.compiled.jit import Array
from specxr.kernels.compiled.shifted import AtRest, Stars, advance, descents, shift_workspace
from specxr.kernels.least_squares import Linearisation, Solution, in_lanes, in_steps, levenberg_marquardt
from specxr.kernels.shape import padded
from specxr.kernels.shift import TAPS, shift_kernel
from specxr.vocabulary import SPEED_OF_LIGHT

RV = "rv"
_COARSE_STEP = 2  # pixels between the velocities at which fits may begin; lines are about as wide
_FEW = 64  # templates that are tried at all these velocities
# Stars of one product of the emulator: BLAS takes a quarter less time a star than with 64 (CPU).
_LANES = {"cpu": 256, "cuda": 8192}


@dataclass(frozen=True)
class Fitted:
    """Labels of the fitted stars; ``rv`` is the first of the parameters, the labels of the emulator follow.

    Attributes
    ----------
    parameters : Tensor, shape (star, parameter)
        Radial velocity [km/s] and labels in their units.
    information : Tensor, shape (star, parameter, parameter)
        J^T W J, priors included, of all parameters, held ones too.
    covariance : Tensor, shape (star, parameter, parameter)
        Inverse of it over the free parameters, 0 for those that are held; NaN where they cannot be told apart.
    lowest, highest : Tensor of bool, shape (star, parameter)
        Whether a free parameter lies at an end of its range.
    chi2 : Tensor, shape (star,)
        Sum of squared residuals over their variance, without the priors.
    n_iter, result : Tensor, shape (star,)
    """

    parameters: Tensor
    information: Tensor
    covariance: Tensor
    lowest: Tensor
    highest: Tensor
    chi2: Tensor
    n_iter: Tensor
    result: Tensor


@dataclass(frozen=True)
class _Templates:
    """Spectra less 1, and their squares, in single precision, of shape (pixel, template)."""

    flux: Tensor
    squares: Tensor
    number: int

    @classmethod
    def of(cls, spectra: Tensor) -> _Templates:
        rows = spectra.to(torch.float32) - 1.0
        rows = torch.nn.functional.pad(rows, (0, 0, 0, padded(len(rows)) - len(rows)))
        flux = rows.mT.contiguous()
        return cls(flux, flux.square(), len(spectra))

    def chi2(self, weighted: Tensor, weight: Tensor) -> Tensor:
        """Chi2 less what does not depend on the template, shape (star, template); `weighted` is the flux less 1."""
        chi2 = weight @ self.squares - 2.0 * weighted @ self.flux
        return chi2[:, : self.number]


class LabelFit:
    """The forward model of an emulator on one grid, ready to be fitted to blocks of stars.

    Spectra given to it have ``kernels.shape.padded(n)`` pixels, of which those beyond the n of the grid have no weight.

    Parameters
    ----------
    emulator : Emulator
        Flux at rest, `padded` pixels.
    ln_step : float
        Pixel width in ln(wavelength).
    known : Tensor of bool, shape (pixel,)
        Pixels of the grid of which the emulator knows something.
    candidates : Tensor, shape (candidate, label)
        Labels at which fits may begin.
    max_velocity : float
        Bound of the radial velocity [km/s] to either side.
    """

    def __init__(
        self, emulator: Emulator, ln_step: float, known: Tensor, candidates: Tensor, max_velocity: float
    ) -> None:
        self.emulator, self.ln_step = emulator, ln_step
        farthest = math.log1p(max_velocity / SPEED_OF_LIGHT) / ln_step
        self.reach = math.ceil(farthest) + TAPS
        self.inside = _out_of_reach(~known.to(candidates.device), self.reach)
        bounds = torch.tensor(list(emulator.bounds.values())).to(candidates)
        self.lower = torch.cat((candidates.new_tensor([-farthest]), bounds[:, 0]))
        self.upper = torch.cat((candidates.new_tensor([farthest]), bounds[:, 1]))
        self._lanes = _LANES[candidates.device.type]
        widest = math.floor(farthest) // _COARSE_STEP * _COARSE_STEP
        self._shifts = torch.arange(-widest, widest + 1, _COARSE_STEP, device=candidates.device)
        self._candidates = candidates
        parts = [emulator.flux_and_derivatives(part) for part in torch.split(candidates, 256)]
        spectra, derivatives = (torch.cat(rows) for rows in zip(*parts, strict=True))
        # What leaves at one end of a template and comes in at the other meets pixels without weight.
        moved = [torch.roll(spectra[:_FEW], shift, dims=1) for shift in self._shifts.tolist()]
        self._moved, self._all = _Templates.of(torch.cat(moved)), _Templates.of(spectra)
        if candidates.device.type == "cpu":
            self._known = AtRest(spectra.numpy(), derivatives.numpy())

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the parameters."""
        return (RV, *self.emulator.labels)

    def fit(
        self,
        flux: Tensor,
        weight: Tensor,
        fixed: Mapping[str, Tensor] | None = None,
        priors: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Fitted:
        """Fit stars, each for itself.

        Parameters
        ----------
        flux : Tensor, shape (star, pixel)
            Normalised, finite.
        weight : Tensor, shape (star, pixel)
            1 / variance, of the observation and of the emulator; 0 for pixels that are not used.
        fixed : mapping of str to Tensor, shape (star,), optional
            Values at which labels, or ``rv`` [km/s], are held.
        priors : mapping of str to (Tensor, Tensor), each of shape (star,), optional
            Mean and standard deviation of Gaussian priors on labels or ``rv``.
        """
        weight = weight * self.inside
        n_star = len(flux)
        lower, upper = (bound.expand(n_star, -1).clone() for bound in (self.lower, self.upper))
        held = torch.zeros_like(lower)
        for name, values in (fixed or {}).items():
            held[:, self.names.index(name)] = values
        held = self.inward(held)
        for name in fixed or {}:
            i = self.names.index(name)
            lower[:, i] = upper[:, i] = held[:, i]
        mean, strength = self._priors(n_star, priors or {})

        def begin(star: Tensor) -> Tensor:
            return self._begin(flux[star], weight[star])

        found = in_lanes(begin, n_star, self._lanes, flux.device)
        shift, template = torch.cat([self._shifts.new_zeros((0, 2)), *found]).unbind(1)
        start = torch.cat((shift[:, None].to(flux), self._candidates[template]), dim=1)
        start = torch.clamp(start, lower, upper)
        template[(start[:, 1:] != self._candidates[template]).any(1)] = -1

        def evaluate(parameters: Tensor, star: Tensor) -> Linearisation:
            point = self.linearise(parameters, flux[star], weight[star])
            return _with_priors(point, parameters, mean[star], strength[star])

        if flux.device.type == "cpu":
            each = (flux, weight, *(t.double() for t in (start, lower, upper, mean, strength)), template)
            solution = self._descend(Stars(*(tensor.contiguous().numpy() for tensor in each)))
        else:
            star = torch.arange(n_star, device=flux.device)
            solution = levenberg_marquardt(evaluate, star, start, lower, upper, lanes=self._lanes)
        return self._outward(solution, lower, upper)

    def model(self, parameters: Tensor) -> Tensor:
        """Model spectra, shape (star, pixel), at a shift [pixels] and labels, shape (star, parameter)."""
        flux = self.emulator.flux(parameters[:, 1:])
        kernel, _ = shift_kernel(parameters[:, 0], self.reach)
        return convolve_rows(flux[:, None], kernel[:, None])[:, 0]

    def linearise(self, parameters: Tensor, flux: Tensor, weight: Tensor) -> Linearisation:
        """Cost, gradient and Gauss-Newton matrix; the cost is the ``extra`` as well.

        Notes
        -----
        With the shift S, emulated flux m and derivatives D = dm/dlabels, J = [S' m, S D]. The gradient D^T (S^T W r)
        needs the adjoint shift of one spectrum instead of a shift of every derivative. For the labels' part of the
        matrix, D^T (S^T W S) D, the diagonal diag(S^T w) stands for S^T W S, which it is for whole pixels.
        """
        rest, by_label = self.emulator.flux_and_derivatives(parameters[:, 1:])
        derivatives = by_label.to(rest.dtype)
        kernel, by_shift = shift_kernel(parameters[:, 0], self.reach)
        moved = convolve_rows(rest[:, None], torch.stack((kernel, by_shift), dim=1))
        model, slope = moved[:, 0], moved[:, 1]
        residual = flux - model
        weighted = torch.stack((weight * residual, weight * slope, weight), dim=1)
        cost = (weighted[:, 0] * residual).sum(-1)
        by_mu = -(weighted[:, 0] * slope).sum(-1)
        mu_mu = (weighted[:, 1] * slope).sum(-1)

        # Weights vanish near both ends, so that the adjoint of the convolution is the one with the kernel reversed.
        at_rest = convolve_rows(weighted, kernel.flip(-1)[:, None])
        products = torch.bmm(derivatives, at_rest[:, :2].mT)
        labels = torch.bmm(derivatives * at_rest[:, 2:].clamp(min=0.0), derivatives.mT)
        gradient = torch.cat((by_mu[:, None], -products[:, :, 0]), dim=1)
        mixed = products[:, :, 1:]
        top = torch.cat((mu_mu[:, None, None], mixed.mT), dim=2)
        hessian = torch.cat((top, torch.cat((mixed, labels), dim=2)), dim=1)
        return Linearisation(cost, gradient, hessian, cost[:, None])

    def _descend(self, stars: Stars) -> Solution:
        """Fit stars on a CPU: as ``levenberg_marquardt`` does, compiled but for the products of the emulator."""
        state, space = descents(stars.start), shift_workspace(stars.flux, self.reach)
        lanes = np.empty(min(self._lanes, len(stars.flux)), np.int64)
        emulated, dtype = self._known, self.lower.dtype
        running, waiting = advance(stars, emulated, self._known, space, state, lanes, 0, 0)
        while running:
            # Filled up to a step of lanes, so that every product is rounded alike.
            filled = np.arange(in_steps(running, self.lower.device)).clip(max=running - 1)
            trial = torch.from_numpy(state.trial[lanes[filled], 1:]).to(dtype)
            rows = self.emulator.flux_and_derivatives(trial)
            emulated = AtRest(*(tensor.contiguous().numpy() for tensor in rows))
            running, waiting = advance(stars, emulated, self._known, space, state, lanes, running, waiting)

        def tensor(array: Array) -> Tensor:
            return torch.from_numpy(array).to(dtype)

        return Solution(
            tensor(state.parameters),
            tensor(state.cost),
            tensor(state.gradient),
            tensor(state.hessian),
            tensor(state.chi2[:, None]),
            torch.from_numpy(state.result),
            torch.from_numpy(state.n_iter),
        )

    def _begin(self, flux: Tensor, weight: Tensor) -> Tensor:
        """Where to begin, shape (star, 2): a shift from a few templates, and which of all templates is then nearest."""
        relative = weight / weight.amax(-1, keepdim=True).clamp(min=1e-300)
        rows = torch.stack((relative * (flux - 1.0), relative)).to(torch.float32)
        nearest = self._moved.chi2(*rows).argmin(dim=1)
        shift = self._shifts[nearest // len(self._candidates[:_FEW])]
        pixel = (torch.arange(flux.shape[1], device=flux.device) + shift[:, None]) % flux.shape[1]
        best = self._all.chi2(*rows.gather(2, pixel.expand_as(rows))).argmin(dim=1)
        return torch.stack((shift, best), dim=1)

    def inward(self, parameters: Tensor) -> Tensor:
        """Parameters with the radial velocity [km/s] as a shift [pixels]."""
        mu = torch.log1p(parameters[:, :1] / SPEED_OF_LIGHT) / self.ln_step
        return torch.cat((mu, parameters[:, 1:]), dim=1)

    def _priors(self, n_star: int, priors: Mapping[str, tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        """Mean and 1 / variance, 0 where there is no prior, shapes (star, parameter)."""
        mean = self.lower.new_zeros((n_star, len(self.names)))
        strength = torch.zeros_like(mean)
        for name, (centre, width) in priors.items():
            i = self.names.index(name)
            mean[:, i] = centre
            strength[:, i] = width**-2
        strength[:, 0] *= (self.ln_step * (SPEED_OF_LIGHT + mean[:, 0])) ** 2  # km/s to pixels
        return self.inward(mean), strength

    def _outward(self, solution: Solution, lower: Tensor, upper: Tensor) -> Fitted:
        """From pixels to km/s, and from the matrix to the covariance."""
        parameters, free = solution.parameters.clone(), lower < upper
        lowest, highest = free & (parameters <= lower), free & (parameters >= upper)
        parameters[:, 0] = SPEED_OF_LIGHT * torch.expm1(self.ln_step * parameters[:, 0])
        unit = torch.ones_like(parameters)  # d(km/s) / d(pixel)
        unit[:, 0] = self.ln_step * (SPEED_OF_LIGHT + parameters[:, 0])
        information = solution.hessian / (unit[:, :, None] * unit[:, None])
        both = free[:, :, None] & free[:, None]
        known = torch.where(free, information.diagonal(dim1=-2, dim2=-1), 1.0)
        scale = known.clamp(min=1e-300).rsqrt()
        scaled = torch.where(both, information * scale[:, :, None] * scale[:, None], 0.0)
        scaled.diagonal(dim1=-2, dim2=-1).copy_(torch.ones_like(scale))
        factor, failed = torch.linalg.cholesky_ex(scaled)
        # The inverse of one matrix that has none would raise for all.
        factor = torch.where((failed != 0)[:, None, None], torch.eye(factor.shape[-1]).to(factor), factor)
        inverse = torch.cholesky_inverse(factor) * scale[:, :, None] * scale[:, None]
        covariance = torch.where(both, inverse, 0.0)
        covariance[(failed != 0) | ~(known > 0).all(-1)] = torch.nan
        return Fitted(
            parameters,
            information,
            covariance,
            lowest,
            highest,
            solution.extra[:, 0],
            solution.n_iter,
            solution.result,
        )


def _out_of_reach(unknown: Tensor, reach: int) -> Tensor:
    """Pixels that no velocity fills from an unknown pixel or from beyond the ends, shape (padded pixel,).

    They are the same for all velocities: a fit whose pixels came and went with the velocity would compare sums over
    different pixels.
    """
    fill = (reach, padded(len(unknown)) - len(unknown) + reach)
    spoilt = torch.nn.functional.pad(unknown.to(torch.float32), fill, value=1.0)
    window = torch.nn.functional.max_pool1d(spoilt[None, None], 2 * reach + 1, stride=1)
    return window[0, 0] == 0


def _with_priors(point: Linearisation, parameters: Tensor, mean: Tensor, strength: Tensor) -> Linearisation:
    away = parameters - mean
    return Linearisation(
        point.cost + (strength * away * away).sum(-1),
        point.gradient + strength * away,
        point.hessian + torch.diag_embed(strength),
        point.extra,
    )
