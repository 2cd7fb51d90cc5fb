"""Spectra as a network of the labels: The Payne's emulator.

Ting et al. 2019, ApJ 879, 69; hot-star paper, section 3.4. The derivatives by the labels go through the layers beside
the values, as one product with each matrix of weights: no graph is kept, and a star's rows do not meet another's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required
from specxr.emulators.base import in_one_line
from specxr.kernels.shape import padded

# An activation gives its value and its derivative.
Activation = Callable[[Tensor], tuple[Tensor, Tensor]]


def _sigmoid(x: Tensor) -> tuple[Tensor, Tensor]:
    value = torch.sigmoid(x)
    return value, value * (1.0 - value)


def _silu(x: Tensor) -> tuple[Tensor, Tensor]:
    gate = torch.sigmoid(x)
    value = x * gate
    return value, gate + value * (1.0 - gate)


ACTIVATIONS: dict[str, Activation] = {"sigmoid": _sigmoid, "silu": _silu}


@dataclass(frozen=True, eq=False)
class NetworkEmulator:
    """A network with hidden layers between labels and pixels.

    Parameters
    ----------
    bounds : mapping of str to (float, float)
        The lowest and highest value of each label that it was trained on, in the order of its inputs.
    activation : {"silu", "sigmoid"}
    centre, unit : Tensor, shape (label,)
        Inputs are (label - centre) / unit, teff in its natural logarithm.
    weights : tuple of Tensor, shape (inputs, outputs)
        Weights of the layers; the last layer has the pixels as its outputs.
    biases : tuple of Tensor, shape (outputs,)
    """

    bounds: Mapping[str, tuple[float, float]]
    activation: str
    centre: Tensor
    unit: Tensor
    weights: tuple[Tensor, ...]
    biases: tuple[Tensor, ...]

    def __repr__(self) -> str:
        return in_one_line(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in the order in which they are given."""
        return tuple(self.bounds)

    def flux(self, labels: Tensor) -> Tensor:
        """Flux, shape (star, pixel)."""
        value, _ = scaled_inputs(labels, self.labels, self.centre, self.unit)
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            value, _ = ACTIVATIONS[self.activation](value @ weight + bias)
        return torch.addmm(self.biases[-1], value, self.weights[-1])

    def flux_and_derivatives(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Flux, shape (star, pixel), and its derivatives by the labels, shape (star, label, pixel)."""
        inputs, slopes = scaled_inputs(labels, self.labels, self.centre, self.unit)
        rows = torch.cat((inputs[:, None], torch.diag_embed(slopes)), dim=1)
        n_star, n_row, _ = rows.shape
        for weight, bias in zip(self.weights[:-1], self.biases[:-1], strict=True):
            rows = (rows.reshape(n_star * n_row, -1) @ weight).reshape(n_star, n_row, -1)
            rows[:, 0] += bias
            value, slope = ACTIVATIONS[self.activation](rows[:, 0])
            rows = rows * slope[:, None]
            rows[:, 0] = value
        flux = torch.addmm(self.biases[-1], rows[:, 0], self.weights[-1])
        # An error of 1e-7 in the derivatives moves labels by far less than their errors.
        slopes = rows[:, 1:].float().flatten(0, 1) @ self._single
        return flux, slopes.reshape(n_star, n_row - 1, -1)

    @cached_property
    def _single(self) -> Tensor:
        """Weights of the last layer in single precision."""
        return self.weights[-1].float()

    def to(self, dtype: torch.dtype, device: torch.device | str) -> NetworkEmulator:
        """The emulator in another precision, on another device."""
        return replace(
            self,
            centre=self.centre.to(device, dtype),
            unit=self.unit.to(device, dtype),
            weights=tuple(weight.to(device, dtype) for weight in self.weights),
            biases=tuple(bias.to(device, dtype) for bias in self.biases),
        )

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its numbers; the activation is one of them, by its place among the known ones."""
        arrays = {
            "centre": self.centre,
            "unit": self.unit,
            "activation": torch.tensor([list(ACTIVATIONS).index(self.activation)]),
        }
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            arrays |= {f"weight{i}": weight, f"bias{i}": bias}
        return {name: np.asarray(tensor.cpu().numpy()) for name, tensor in arrays.items()}

    @classmethod
    def required(cls, names: Collection[str], n_label: int, n_pixel: int) -> dict[str, Required]:
        """What is required of `arrays`, of these names, for so many labels and pixels."""
        n_layer = max(1, sum(name.startswith("weight") for name in names))
        sizes: list[int | str] = [
            n_label,
            *(f"neurons of layer {i}" for i in range(1, n_layer)),
            padded(n_pixel),
        ]
        need = {
            "centre": Required((n_label,)),
            "unit": Required((n_label,), values="positive"),
            "activation": Required((1,), np.int64),
        }
        for i in range(n_layer):
            need[f"weight{i}"] = Required((sizes[i], sizes[i + 1]), values="some")
            need[f"bias{i}"] = Required((sizes[i + 1],))
        return need

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], bounds: Mapping[str, tuple[float, float]]
    ) -> NetworkEmulator:
        """Build it again from `arrays` and the bounds of its labels, on the CPU in float64."""
        if not 0 <= arrays["activation"][0] < len(ACTIVATIONS):
            raise ValueError(f"it has the activation number {arrays['activation'][0]}, which is not known")
        tensors = {name: torch.tensor(array) for name, array in arrays.items()}
        layers = range(sum(name.startswith("weight") for name in arrays))
        return cls(
            bounds,
            list(ACTIVATIONS)[int(arrays["activation"][0])],
            tensors["centre"],
            tensors["unit"],
            tuple(tensors[f"weight{i}"] for i in layers),
            tuple(tensors[f"bias{i}"] for i in layers),
        )


def scaled_inputs(
    labels: Tensor, names: tuple[str, ...], centre: Tensor, unit: Tensor
) -> tuple[Tensor, Tensor]:
    """Inputs of a network and their derivatives by the labels, each of shape (star, label).

    Lines change with the logarithm of the temperature: a step of 1,000 K is a small one at 20,000 K.
    """
    logarithmic = torch.tensor([name == "teff" for name in names], device=labels.device)
    inputs = torch.where(logarithmic, torch.where(logarithmic, labels, 1.0).log(), labels)
    slopes = torch.where(logarithmic, 1.0 / labels, 1.0)
    return (inputs - centre) / unit, slopes / unit
