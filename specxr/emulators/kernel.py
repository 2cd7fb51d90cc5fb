"""Spectra as kernel machines of the labels: the emulator of SLAM.

Zhang et al. 2020, ApJS 246, 9; M-dwarf paper, section 3.1. Each pixel is a sum of radial basis functions about the
training stars; pixels with the same gamma share them, and are one matrix product.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from specxr.emulators.arrays import Required
from specxr.emulators.base import in_one_line
from specxr.emulators.network import scaled_inputs
from specxr.kernels.machines.fewer import fewer_stars
from specxr.kernels.shape import padded

# Sums are taken over fewer training stars where that changes the flux by less than this anywhere within the training
# labels (typically by a fiftieth of it), and over still fewer for the derivatives, which need not be as accurate.
_FLUX_ERROR, _DERIVATIVE_ERROR = 1e-5, 3e-4
# Largest rounding error [flux per unit of a scaled label] of derivatives that are summed in single precision.
_ROUNDING = 1e-3


class _Group(NamedTuple):
    """Pixels of one gamma: stars about which their functions are, and the weights of these.

    The points have the shape (label, star). The derivatives have weights of their own for the first of these stars.
    """

    gamma: float
    points: Tensor
    dual: Tensor
    slopes: Tensor

    def kernels(self, inputs: Tensor) -> Tensor:
        """Values of the radial functions, shape (star, training star)."""
        # A sum over labels along the innermost axis would take five times as long.
        away = ((own[:, None] - theirs).square() for own, theirs in zip(inputs.T, self.points, strict=True))
        return torch.exp(-self.gamma * functools.reduce(torch.add, away))

    def derivatives(self, inputs: Tensor, slopes: Tensor, kernels: Tensor) -> Tensor:
        """Derivatives by the labels, shape (star, label, pixel); `slopes` are those of the inputs."""
        # d exp(-gamma |t - t_i|^2) / dlabel = -2 gamma (t - t_i) dt/dlabel times itself.
        few = kernels[:, None, : len(self.slopes)].to(self.slopes.dtype)
        away = (inputs[:, :, None] - self.points[:, : len(self.slopes)]).to(few.dtype)
        rows = away * few * (-2.0 * self.gamma * slopes).to(few.dtype)[:, :, None]
        return (rows.flatten(0, 1) @ self.slopes).reshape(*rows.shape[:2], self.slopes.shape[1])


@dataclass(frozen=True, eq=False)
class KernelEmulator:
    """flux_j = sum_i dual_ij exp(-gamma_j |t - t_i|^2) + intercept_j at the scaled labels t.

    Parameters
    ----------
    bounds : mapping of str to (float, float)
        The lowest and highest value of each label that it was trained on, in the order of its inputs.
    centre, unit : Tensor, shape (label,)
        Scaled labels are (label - centre) / unit, teff in its natural logarithm.
    training : Tensor, shape (star, label)
        Scaled labels t_i.
    dual : Tensor, shape (star, pixel)
        Weights of the training stars in units of the flux; 0 where a star is not a support vector of the pixel.
    intercept : Tensor, shape (pixel,)
    gamma, c, epsilon : Tensor, shape (pixel,)
        Hyperparameters. C and epsilon are for the record, in units of the pixel's standard deviation.
    cv_mse, cv_md : Tensor, shape (pixel,)
        Mean squared and mean deviation of held-out stars, for the record (M-dwarf paper, equations 1 and 2).
    """

    bounds: Mapping[str, tuple[float, float]]
    centre: Tensor
    unit: Tensor
    training: Tensor
    dual: Tensor
    intercept: Tensor
    gamma: Tensor
    c: Tensor
    epsilon: Tensor
    cv_mse: Tensor
    cv_md: Tensor

    def __repr__(self) -> str:
        return in_one_line(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in the order in which they are given."""
        return tuple(self.bounds)

    @cached_property
    def _products(self) -> tuple[list[_Group], Tensor, Tensor]:
        """The pixels by their gamma; where each pixel lies among them, and its intercept.

        Stars and pixels are filled up with zeros to round numbers, see ``kernels.shape``.
        """
        groups, pixels, start = [], torch.zeros_like(self.gamma, dtype=torch.int64), 0
        training, dual = self.training.double().cpu(), self.dual.double().cpu()
        for gamma in torch.unique(self.gamma).tolist():
            members = torch.nonzero(self.gamma == gamma)[:, 0]
            width = padded(len(members))
            order, weights = fewer_stars(
                training, dual[:, members.cpu()], gamma, (_FLUX_ERROR, _DERIVATIVE_ERROR)
            )
            flux, slopes = (
                pad(w, (0, width - len(members), 0, padded(len(w)) - len(w))).to(self.dual) for w in weights
            )
            points = training[order[: len(weights[0])]].to(self.training).mT
            points = pad(points, (0, len(flux) - points.shape[1])).contiguous()
            # Single precision halves the time, unless large weights of both signs leave little of it.
            rounding = torch.finfo(torch.float32).eps * slopes.abs().sum(0).max()
            groups.append(_Group(gamma, points, flux, slopes.float() if rounding < _ROUNDING else slopes))
            pixels[members] = start + torch.arange(len(members), device=members.device)
            start += width
        unused = padded(len(pixels)) - len(pixels)
        return groups, pad(pixels, (0, unused)), pad(self.intercept, (0, unused))

    def flux(self, labels: Tensor) -> Tensor:
        """Flux, shape (star, pixel)."""
        inputs, _ = scaled_inputs(labels, self.labels, self.centre, self.unit)
        groups, pixels, intercept = self._products
        flux = [group.kernels(inputs) @ group.dual for group in groups]
        return torch.cat(flux, dim=1).gather(1, pixels.expand(len(inputs), -1)) + intercept

    def flux_and_derivatives(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Flux, shape (star, pixel), and its derivatives by the labels, shape (star, label, pixel)."""
        inputs, slopes = scaled_inputs(labels, self.labels, self.centre, self.unit)
        groups, pixels, intercept = self._products
        flux, derivatives = [], []
        for group in groups:
            kernels = group.kernels(inputs)
            flux.append(kernels @ group.dual)
            derivatives.append(group.derivatives(inputs, slopes, kernels))
        # A gather takes a third of the time of `index_select`.
        whole = torch.cat(flux, dim=1).gather(1, pixels.expand(len(inputs), -1)) + intercept
        return whole, torch.cat(derivatives, dim=2).gather(2, pixels.expand(*inputs.shape, -1))

    def to(self, dtype: torch.dtype, device: torch.device | str) -> KernelEmulator:
        """The emulator in another precision, on another device."""
        moved = {name: tensor.to(device, dtype) for name, tensor in self._tensors().items()}
        return type(self)(self.bounds, **moved)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its numbers."""
        return {name: tensor.cpu().numpy() for name, tensor in self._tensors().items()}

    @classmethod
    def required(cls, names: Collection[str], n_label: int, n_pixel: int) -> dict[str, Required]:
        """What is required of `arrays` for so many labels and pixels; the `names` are always the same."""
        return {
            "centre": Required((n_label,)),
            "unit": Required((n_label,), values="positive"),
            "training": Required(("star", n_label), values="some"),
            "dual": Required(("star", n_pixel), values="some"),
            "intercept": Required((n_pixel,), values="some"),
            "gamma": Required((n_pixel,), values="positive"),
            **{name: Required((n_pixel,), values="any") for name in ("c", "epsilon", "cv_mse", "cv_md")},
        }

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], bounds: Mapping[str, tuple[float, float]]
    ) -> KernelEmulator:
        """Build it again from `arrays` and the bounds of its labels, on the CPU in float64."""
        return cls(bounds, **{name: torch.tensor(array) for name, array in arrays.items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name != "bounds"}
