"""What a regressor has learnt, as it lies in a model file, and what it says of spectra."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required, check_arrays
from specxr.estimators.conformal import Conformal
from specxr.estimators.regressors.components import Components
from specxr.estimators.regressors.inputs import Inputs
from specxr.estimators.regressors.machines import MACHINES, Machine
from specxr.estimators.regressors.networks import Network, build_network
from specxr.estimators.regressors.training import moments, standardised
from specxr.kernels.compiled.running_continuum import Spectra

# Stars in one batch, filled up: BLAS then rounds each star alike, whatever its neighbours. Convolutions and sequences
# do not, and each star is a batch of its own.
_LANES = 64


@dataclass(frozen=True, eq=False)
class LabelUnits:
    """Labels in units of their scatter; the logarithm of the temperature.

    Attributes
    ----------
    names : tuple of str
    centre, scale : ndarray, shape (label,)
    """

    names: tuple[str, ...]
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def of(cls, names: tuple[str, ...], labels: NDArray[np.float64]) -> Self:
        """Mean and scatter of labels, shape (star, label), NaN where they are missing."""
        plain = cls(names, np.zeros(len(names)), np.ones(len(names)))
        values = plain.standardised(labels)
        return cls(names, np.nanmean(values, axis=0), np.nanstd(values, axis=0))

    def standardised(self, labels: NDArray[np.float64]) -> NDArray[np.float64]:
        """Labels of shape (star, label) in these units."""
        values = np.where(self._logarithmic, np.log(np.where(self._logarithmic, labels, 1.0)), labels)
        return np.asarray((values - self.centre) / self.scale)

    def labels(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """What `standardised` undoes."""
        own = values * self.scale + self.centre
        # A temperature stays a finite number whatever a network says of a spectrum that is none.
        return np.where(self._logarithmic, np.exp(np.clip(own, 0.0, 20.0)), own)

    def errors(self, labels: NDArray[np.float64], sigma: NDArray[np.float64]) -> NDArray[np.float64]:
        """Errors of labels from those in these units."""
        return np.asarray(sigma * self.scale * np.where(self._logarithmic, labels, 1.0))

    @property
    def _logarithmic(self) -> NDArray[np.bool_]:
        return np.array([name == "teff" for name in self.names])


@dataclass(frozen=True, eq=False)
class Blueprint:
    """What decides the arrays of a model: network, pixels, labels and classes.

    Attributes
    ----------
    network : str
    hidden : tuple of int
    members : int
    loss : str
    inputs : Inputs
    labels, classes : tuple of str
    """

    network: str
    hidden: tuple[int, ...]
    members: int
    loss: str
    inputs: Inputs
    labels: tuple[str, ...]
    classes: tuple[str, ...]

    def networks(self, seed: int = 0) -> tuple[Network, ...]:
        """Networks of all members with their first weights; none where components are learnt from."""
        if self.network in MACHINES:
            return ()
        n_output = 2 * len(self.labels) + len(self.classes)
        n_pixel = len(self.inputs.wavelength)
        return tuple(
            build_network(self.network, n_pixel, self.hidden, n_output, seed + i) for i in range(self.members)
        )


@dataclass(frozen=True, eq=False)
class Learnt:
    """What a regressor has learnt.

    Attributes
    ----------
    blueprint : Blueprint
    units : LabelUnits
    components : Components
    centre, scale : Tensor of float32, shape (pixel,)
        Mean of each pixel, and what it is multiplied by.
    networks : tuple of Network
    machine : Machine, optional
    """

    blueprint: Blueprint
    units: LabelUnits
    components: Components
    centre: Tensor
    scale: Tensor
    networks: tuple[Network, ...] = ()
    machine: Machine | None = None

    def to(self, device: str, dtype: torch.dtype) -> None:
        """Put the networks on a device, in a precision, for inference."""
        for network in self.networks:
            network.to(device, dtype).eval()

    @torch.no_grad()
    def predict(self, spectra: Spectra, coefficients: Tensor) -> tuple[NDArray[np.float64], ...]:
        """Say what the labels of stars are.

        Parameters
        ----------
        spectra : Spectra
        coefficients : Tensor, shape (star, component)

        Returns
        -------
        labels, errors : ndarray, shape (star, label)
            In the units of the vocabulary; the formal errors of the mean of all members.
        spread : ndarray, shape (star,)
            The largest ratio among the labels of the members' scatter to the formal error.
        probability : ndarray, shape (star, class)
        """
        if self.machine is not None:
            mean = self.machine(coefficients).double()[None]
            variance, logits = torch.ones_like(mean), mean.new_zeros(1, mean.shape[1], 0)
        else:
            rows = standardised(self.blueprint.inputs.rows(spectra), self.centre, self.scale)
            outs = torch.stack([self._out(network, rows) for network in self.networks]).double().cpu()
            n_label = len(self.units.names)
            pairs = [moments(out, n_label) for out in outs]
            mean = torch.stack([pair[0] for pair in pairs])
            variance = torch.stack([pair[1] for pair in pairs]).exp()
            if self.blueprint.loss == "paper":  # which learns no variance
                variance = torch.ones_like(variance)
            logits = outs[:, :, 2 * n_label :]
        scatter = mean.var(dim=0, correction=0)
        total = variance.mean(dim=0) + scatter
        labels = self.units.labels(mean.mean(dim=0).numpy())
        errors = self.units.errors(labels, total.sqrt().numpy())
        spread = (scatter / total).sqrt().amax(dim=1).numpy()
        return labels, errors, spread, logits.softmax(dim=2).mean(dim=0).numpy()

    def _out(self, network: Network, rows: Tensor) -> Tensor:
        weight = network.head.weight
        alone = self.blueprint.network != "dense" and weight.device.type == "cpu"
        parts = [network(part.to(weight)) for part in torch.split(rows, 1 if alone else _LANES)]
        return torch.cat(parts)

    @property
    def lanes(self) -> int:
        """Numbers of stars that are predicted together are multiples of this."""
        return _LANES

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a model file holds of it."""
        arrays: dict[str, NDArray[Any]] = {
            "label_centre": self.units.centre,
            "label_scale": self.units.scale,
            "pixel_centre": self.centre.numpy(),
            "pixel_scale": self.scale.numpy(),
            **_prefixed("components.", self.components.arrays()),
        }
        for i, network in enumerate(self.networks):
            state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
            arrays |= _prefixed(f"member{i}.", {n: a for n, a in state.items() if a.ndim})
        if self.machine is not None:
            arrays |= _prefixed("machine.", self.machine.arrays())
        return arrays

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], blueprint: Blueprint) -> Self:
        """Read what `arrays` gave, once it was checked against `required`."""
        networks = blueprint.networks()
        for i, network in enumerate(networks):
            own = {n: torch.from_numpy(np.array(a)) for n, a in part_of(arrays, f"member{i}.").items()}
            network.load_state_dict(own, strict=False)  # counters, which no inference reads, are not kept
        machine = None
        if blueprint.network in MACHINES:
            machine = MACHINES[blueprint.network].from_arrays(
                part_of(arrays, "machine."), len(blueprint.labels)
            )
        return cls(
            blueprint,
            LabelUnits(blueprint.labels, arrays["label_centre"], arrays["label_scale"]),
            Components.from_arrays(part_of(arrays, "components.")),
            torch.from_numpy(np.array(arrays["pixel_centre"])),
            torch.from_numpy(np.array(arrays["pixel_scale"])),
            networks,
            machine,
        )


@dataclass(frozen=True, eq=False)
class Held:
    """What held-out stars say of the answers.

    Attributes
    ----------
    conformal : Conformal
    correlation : ndarray, shape (label, label)
        Of the errors of the labels.
    spread : float
        Largest spread of the members.
    snr : (float, float)
        Lowest and highest S/N.
    """

    conformal: Conformal
    correlation: NDArray[np.float64]
    spread: float
    snr: tuple[float, float]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a model file holds of it."""
        numbers = np.array([self.spread, *self.snr])
        own = {"correlation": self.correlation, "limits": numbers}
        return {**_prefixed("conformal.", self.conformal.arrays()), **own}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Self:
        """Read what `arrays` gave."""
        spread, low, high = map(float, arrays["limits"])
        return cls(
            Conformal.from_arrays(part_of(arrays, "conformal.")), arrays["correlation"], spread, (low, high)
        )


def check_learnt(arrays: Mapping[str, NDArray[Any]], blueprint: Blueprint) -> None:
    """Raise ``ValueError`` with what is wrong unless the arrays are those of a regressor of this blueprint."""
    n_label, n_pixel = len(blueprint.labels), len(blueprint.inputs.wavelength)
    required = {
        "label_centre": Required((n_label,)),
        "label_scale": Required((n_label,), values="positive"),
        "pixel_centre": Required((n_pixel,), np.float32),
        "pixel_scale": Required((n_pixel,), np.float32, "positive"),
        "correlation": Required((n_label, n_label)),
        "limits": Required((3,), values="positive"),
        **_prefixed("components.", Components.required(n_pixel)),
        **_prefixed("conformal.", Conformal.required(part_of(arrays, "conformal."), n_label)),
    }
    for i, network in enumerate(blueprint.networks()):
        own = {n: Required(tuple(t.shape), np.float32) for n, t in network.state_dict().items() if t.ndim}
        required |= _prefixed(f"member{i}.", own)
    if blueprint.network in MACHINES:
        machine = part_of(arrays, "machine.")
        required |= _prefixed("machine.", MACHINES[blueprint.network].required(machine, n_label))
    check_arrays(arrays, required)


def part_of(arrays: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    """The arrays whose names begin with a prefix, without it."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _prefixed(prefix: str, items: Mapping[str, Any]) -> dict[str, Any]:
    return {f"{prefix}{name}": item for name, item in items.items()}
