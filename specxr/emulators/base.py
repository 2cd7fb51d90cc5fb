"""What an emulator on given pixels is: labels in, flux and its derivatives out."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Protocol

import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required


class Emulator(Protocol):
    """The contract between emulators and the fits of labels.

    `GridEmulator` keeps it as well as the emulators that are trained.
    """

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the labels, in the order in which they are given."""

    @property
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The lowest and highest value of each label that the emulator is good for."""

    def flux(self, labels: Tensor) -> Tensor:
        """Flux, shape (star, pixel), without the time that its derivatives take."""

    def flux_and_derivatives(self, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Flux, shape (star, pixel), and its derivatives by the labels, shape (star, label, pixel).

        The derivatives may be in single precision where the flux is in double. Labels are of shape (star, label). Each
        star is evaluated for itself, to the last bit: see ``kernels.shape`` for the numbers of pixels that BLAS treats
        alike.
        """


class Bounded(Protocol):
    """What has ranges of labels."""

    @property
    def bounds(self) -> Mapping[str, tuple[float, float]]:
        """The lowest and highest value of each label that the emulator is good for."""


class TrainedEmulator(Emulator, Protocol):
    """An emulator whose numbers come from a training set and go into a model file.

    It gives ``kernels.shape.padded(n)`` pixels for the n of its training set; what the others hold is finite and is
    not looked at.
    """

    def to(self, dtype: torch.dtype, device: torch.device | str) -> TrainedEmulator:
        """The emulator in another precision, on another device."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Its numbers."""

    @classmethod
    def required(cls, names: Collection[str], n_label: int, n_pixel: int) -> dict[str, Required]:
        """What is required of `arrays`, of these names, for so many labels and pixels of the training set."""

    @classmethod
    def from_arrays(
        cls, arrays: Mapping[str, NDArray[Any]], bounds: Mapping[str, tuple[float, float]]
    ) -> TrainedEmulator:
        """Build it again from `arrays` that were checked and the bounds of its labels, on the CPU in float64."""


def in_one_line(emulator: Bounded) -> str:
    """What an emulator is, for ``repr``: its arrays have millions of numbers."""
    name = getattr(emulator, "name", "")
    ranges = ", ".join(f"{label} {low:g} to {high:g}" for label, (low, high) in emulator.bounds.items())
    return f"<{type(emulator).__name__}{f' {name!r}' if name else ''}: {ranges}>"
