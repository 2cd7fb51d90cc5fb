"""Regressors that read the principal components of a spectrum: ridge and kernel ridge regression, boosted trees."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required
from specxr.kernels.machines.rbf import rbf

_MOST_CENTRES = 6000
_MOST_CHOOSING = 1500  # spectra among which gamma and the penalty are chosen
_GAMMAS = (0.1, 0.3, 1.0)  # over the mean squared distance of two spectra
_PENALTIES = (1e-5, 1e-3, 1e-2, 1e-1)
_POWERS = (
    0.0,
    0.5,
    1.0,
)  # of the scatter by which each coefficient is divided: weak lines are in the later ones
_TILE = 8  # see `networks`
_TREES = {"learning_rate": 0.05, "num_leaves": 31, "min_data_in_leaf": 20, "verbosity": -1, "num_threads": 1}
_ROUNDS, _PATIENCE = 1000, 50


class Machine(Protocol):
    """What is learnt from components."""

    @classmethod
    def learn(cls, learnt: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], seed: int) -> Self:
        """Learn from coefficients, shape (row, component), and labels, shape (row, label), NaN where missing."""

    def __call__(self, coefficients: Tensor) -> Tensor:
        """Labels, shape (star, label), in the units in which they were learnt."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """What a model file holds of it."""

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_label: int) -> Self:
        """Read what `arrays` gave; raises ``ValueError`` where that is something else."""

    @staticmethod
    def required(arrays: Mapping[str, NDArray[Any]], n_label: int) -> dict[str, Required]:
        """What is required of the arrays of a file."""


@dataclass(frozen=True, eq=False)
class Ridge:
    """Linear ridge regression, the plainest method there is.

    Attributes
    ----------
    weight : ndarray of float32, shape (component + 1, label)
        The last row is what is added.
    """

    weight: NDArray[np.float32]

    @classmethod
    def learn(cls, learnt: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], seed: int) -> Self:
        """See `Machine`."""
        features = _with_one(learnt[0].double())
        best, choice = np.inf, features[0, :0]
        for penalty in _PENALTIES:
            columns = []
            for values in learnt[1].double().T:
                known = torch.isfinite(values)
                rows = features[known]
                square = _ridged(rows.T @ rows, penalty * float(rows.square().mean() * len(rows)))
                columns.append(torch.linalg.solve(square, rows.T @ values[known]))
            weight = torch.stack(columns, dim=1)
            error = float((_with_one(held[0].double()) @ weight - held[1]).square().nanmean())
            if error < best:
                best, choice = error, weight
        return cls(choice.float().numpy())

    def __call__(self, coefficients: Tensor) -> Tensor:
        """See `Machine`."""
        n_label = self.weight.shape[1]
        weight = torch.nn.functional.pad(torch.from_numpy(self.weight), (0, -n_label % _TILE))
        return (_with_one(coefficients) @ weight)[:, :n_label]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Machine`."""
        return {"weight": self.weight}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_label: int) -> Self:
        """See `Machine`."""
        return cls(arrays["weight"])

    @staticmethod
    def required(arrays: Mapping[str, NDArray[Any]], n_label: int) -> dict[str, Required]:
        """See `Machine`."""
        return {"weight": Required(("feature", n_label), np.float32)}


def _with_one(features: Tensor) -> Tensor:
    return torch.cat([features, features.new_ones(len(features), 1)], dim=1)


@dataclass(frozen=True, eq=False)
class KernelRidge:
    """Kernel ridge regression with a Gaussian kernel; its options are those that suit held-out stars best.

    Attributes
    ----------
    unit : ndarray of float32, shape (component,)
        By which coefficients are divided.
    centres : ndarray of float32, shape (centre, component)
        In these units.
    dual : ndarray of float32, shape (centre, label)
    """

    unit: NDArray[np.float32]
    centres: NDArray[np.float32]
    dual: NDArray[np.float32]

    @classmethod
    def learn(cls, learnt: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], seed: int) -> Self:
        """See `Machine`."""
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(learnt[0])))
        few, scatter = order[:_MOST_CHOOSING], learnt[0].std(dim=0).clamp(min=1e-12)
        labels, best, choice = learnt[1][few].double(), np.inf, (scatter, 1.0)
        for power, gamma in itertools.product(_POWERS, _GAMMAS):
            unit = scatter**power
            # With the root of gamma in the unit, the kernel is exp(-|a - b|^2).
            unit = unit * (2.0 * float((scatter / unit).square().sum()) / gamma) ** 0.5
            features = (learnt[0][few] / unit).double()
            kernel, to_held = rbf(features, features, 1.0), rbf((held[0] / unit).double(), features, 1.0)
            for penalty in _PENALTIES:
                left = to_held @ _solved(kernel, labels, penalty) - held[1]
                error = float(left.square().nanmean())
                if error < best:
                    best, choice = error, (unit, penalty)
        chosen = order[:_MOST_CENTRES]
        features = learnt[0][chosen] / choice[0]
        dual = _solved(rbf(features.double(), features.double(), 1.0), learnt[1][chosen].double(), choice[1])
        return cls(choice[0].numpy(), features.numpy(), dual.float().numpy())

    def __call__(self, coefficients: Tensor) -> Tensor:
        """See `Machine`."""
        kernel = rbf(coefficients / torch.from_numpy(self.unit), torch.from_numpy(self.centres), 1.0)
        n_label = self.dual.shape[1]
        dual = torch.nn.functional.pad(torch.from_numpy(self.dual), (0, -n_label % _TILE))
        return (kernel @ dual)[:, :n_label]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Machine`."""
        return {"unit": self.unit, "centres": self.centres, "dual": self.dual}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_label: int) -> Self:
        """See `Machine`."""
        return cls(arrays["unit"], arrays["centres"], arrays["dual"])

    @staticmethod
    def required(arrays: Mapping[str, NDArray[Any]], n_label: int) -> dict[str, Required]:
        """See `Machine`."""
        return {
            "unit": Required(("component",), np.float32, "positive"),
            "centres": Required(("centre", "component"), np.float32, "some"),
            "dual": Required(("centre", n_label), np.float32),
        }


def _solved(kernel: Tensor, labels: Tensor, penalty: float) -> Tensor:
    """(K + penalty)^-1 y of the rows whose label is known, 0 for the others."""
    known = torch.isfinite(labels)
    dual = torch.zeros_like(labels)
    if known.all():
        return torch.cholesky_solve(labels, torch.linalg.cholesky(_ridged(kernel, penalty)))
    for i in range(labels.shape[1]):
        rows = torch.nonzero(known[:, i])[:, 0]
        factor = torch.linalg.cholesky(_ridged(kernel[rows][:, rows], penalty))
        dual[rows, i] = torch.cholesky_solve(labels[rows, i : i + 1], factor)[:, 0]
    return dual


def _ridged(kernel: Tensor, penalty: float) -> Tensor:
    return kernel + penalty * torch.eye(len(kernel), dtype=kernel.dtype)


@dataclass(frozen=True, eq=False)
class Trees:
    """Boosted trees of LightGBM (Ke et al. 2017), one model for each label, kept as the text that LightGBM writes.

    Attributes
    ----------
    texts : tuple of str
    """

    texts: tuple[str, ...]

    @classmethod
    def learn(cls, learnt: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor], seed: int) -> Self:
        """See `Machine`."""
        lightgbm = _lightgbm()
        texts = []
        for label in range(learnt[1].shape[1]):
            sets = []
            for features, labels in (learnt, held):
                known = torch.isfinite(labels[:, label])
                sets.append((features[known].double().numpy(), labels[known, label].double().numpy()))
            train = lightgbm.Dataset(sets[0][0], sets[0][1])
            booster = lightgbm.train(
                {**_TREES, "seed": seed, "deterministic": True, "force_row_wise": True},
                train,
                _ROUNDS,
                valid_sets=[lightgbm.Dataset(sets[1][0], sets[1][1], reference=train)],
                callbacks=[lightgbm.early_stopping(_PATIENCE, verbose=False)],
            )
            texts.append(booster.model_to_string(num_iteration=booster.best_iteration))
        return cls(tuple(texts))

    def __call__(self, coefficients: Tensor) -> Tensor:
        """See `Machine`."""
        features = coefficients.double().numpy()
        columns = [booster.predict(features, num_threads=1) for booster in _boosters(self.texts)]
        return torch.from_numpy(np.stack(columns, axis=1)).float()

    def arrays(self) -> dict[str, NDArray[Any]]:
        """See `Machine`."""
        return {f"text{i}": np.frombuffer(text.encode(), np.uint8) for i, text in enumerate(self.texts)}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], n_label: int) -> Self:
        """See `Machine`."""
        return cls(tuple(arrays[f"text{i}"].tobytes().decode() for i in range(n_label)))

    @staticmethod
    def required(arrays: Mapping[str, NDArray[Any]], n_label: int) -> dict[str, Required]:
        """See `Machine`."""
        return {f"text{i}": Required((f"letter{i}",), np.uint8, "any") for i in range(n_label)}


@lru_cache(maxsize=8)
def _boosters(texts: tuple[str, ...]) -> tuple[Any, ...]:
    lightgbm = _lightgbm()
    return tuple(lightgbm.Booster(model_str=text) for text in texts)


def _lightgbm() -> Any:
    try:
        import lightgbm
    except ImportError as error:
        raise ImportError(
            "the network 'lightgbm' was asked for, and the package lightgbm is not installed; it is required. Install "
            "it (pip install 'specxr[lightgbm]'), or choose another network."
        ) from error
    return lightgbm


MACHINES: dict[str, type[Ridge] | type[KernelRidge] | type[Trees]] = {
    "ridge": Ridge,
    "kernel_ridge": KernelRidge,
    "lightgbm": Trees,
}
