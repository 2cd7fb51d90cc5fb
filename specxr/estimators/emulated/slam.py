"""SLAM, the Stellar LAbel Machine: support vector regression from labels to flux, and a fit of all labels at once.

Zhang et al. 2020, ApJS 246, 9; hot-star paper, section 3.3; M-dwarf paper, section 3.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.kernel import KernelEmulator
from specxr.emulators.network import scaled_inputs
from specxr.estimators.backend import check_choice
from specxr.estimators.emulated.base import Emulated
from specxr.estimators.trained import Progress
from specxr.kernels.machines.rbf import Kernel
from specxr.kernels.machines.ridge import ridge
from specxr.kernels.machines.selection import MachineSolver, Point, cross_validate, folds_of, train_machines
from specxr.kernels.machines.svr import Batched, Machines
from specxr.kernels.machines.svr_reference import Reference
from specxr.spectra.training_set import TrainingSet

_SOLVERS: dict[str, Callable[[Kernel, float], MachineSolver]] = {"torch": Batched, "sklearn": Reference}
_LOSSES = ("epsilon", "squared")
_WEIGHTS = ("equal", "noise")


@dataclass(frozen=True, kw_only=True, eq=False)
class SLAM(Emulated):
    """Labels and radial velocity of each star, with an emulator that is a kernel machine for every pixel.

    Labels and flux are scaled to zero mean and unit variance, teff in its logarithm. Every pixel takes the
    hyperparameters, of all combinations of those given, that predict held-out stars best. The labels of an observed
    spectrum maximise the posterior (M-dwarf paper, equation 3), each pixel weighted by its inverse variance and by how
    well held-out stars are predicted there. Options of the fit are those of `Emulated`.

    Parameters
    ----------
    loss : {"epsilon", "squared"}, optional
        "epsilon": support vector regression, ``|f|^2 / 2 + C sum max(|y - f| - epsilon, 0)``, with k-fold
        cross-validation.
        "squared": kernel ridge regression, ``|f|^2 / 2 + C sum (y - f)^2``, with leave-one-out errors in closed
        form; much faster, without protection from outlying pixels. It takes no epsilon and no folds.
    solver : {"torch", "sklearn"}, optional
        Solver of the support vector regression: all pixels at once, or scikit-learn one pixel after the other, as a
        reference.
    c : tuple of float, optional
        Penalties, per standard deviation of the pixel.
    gamma : tuple of float, optional
        Rates of the kernel ``exp(-gamma |t - t'|^2)`` of scaled labels t.
    epsilon : tuple of float, optional
        Half widths of the tube, in standard deviations of the pixel.
    weights : {"equal", "noise"}, optional
        What a training star counts. "equal": all the same, as published. "noise": 1 / (n + n0), with the mean variance
        n of its normalised flux and that n0 of the least noisy tenth of the stars. Where S/N differs much within the
        training set, faint stars otherwise drown what the bright ones show.
    n_folds : int, optional
        Number of parts of the training set, each of which is held out once.
    seed : int, optional
        Seed of the folds.

    Examples
    --------
    >>> from specxr import SLAM
    >>> slam = SLAM(loss="squared", c=(1.0, 100.0, 1e4))
    """

    loss: str = "epsilon"
    solver: str = "torch"
    c: tuple[float, ...] = (0.1, 1.0, 10.0)
    gamma: tuple[float, ...] = (0.1, 1.0, 10.0)
    epsilon: tuple[float, ...] = (0.05,)
    weights: str = "equal"
    n_folds: int = 5
    seed: int = 0

    kind: ClassVar[str] = "slam"
    emulator_type: ClassVar[type[KernelEmulator]] = KernelEmulator

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_options(self)

    def train_emulator(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> tuple[KernelEmulator, NDArray[np.float64]]:
        """Train the machines of all pixels."""
        scaled = _Scaled.of(training, self.device, self.weights)
        if self.loss == "epsilon" and self.n_folds > len(training):
            raise ValueError(
                f"{self.n_folds} folds were requested and there are {len(training)} training stars; at most as many"
                " folds as stars are possible. Lower `n_folds`, or add stars."
            )
        machines, points, mse, md = self._machines(scaled, progress or _silent)
        emulator = scaled.emulator(training.bounds, machines, points, mse, md)
        count = _weights(training, self.weights)[:, None] * training.good
        noise = (count * _noise(training)).sum(axis=0) / np.maximum(count.sum(axis=0), 1e-300)
        return emulator, np.maximum(emulator.cv_mse.numpy() - noise, 0.0)

    def _machines(self, scaled: _Scaled, progress: Progress) -> tuple[Machines, Tensor, Tensor, Tensor]:
        """Machines of the learnt pixels, with their (gamma, c, epsilon), CV MSE and CV MD."""
        labels, flux, usable = scaled.labels, scaled.flux, scaled.usable
        weight = scaled.weight[:, None] * usable
        if self.loss == "squared":
            points = [Point(gamma, c, 0.0) for gamma, c in product(self.gamma, self.c)]
            machines, chosen, mse, md = ridge(
                labels, flux, usable, self.gamma, self.c, scaled.weight, progress
            )
        else:
            points = [Point(*values) for values in product(self.gamma, self.c, self.epsilon)]
            kernels = {gamma: Kernel.of(labels, gamma) for gamma in self.gamma}
            fold = folds_of(len(labels), self.n_folds, self.seed).to(labels.device)
            solver = _SOLVERS[self.solver]
            mse, md = cross_validate(kernels, flux, weight, points, fold, solver, progress)
            chosen = mse.argmin(dim=0)
            machines = train_machines(kernels, flux, weight, points, chosen, solver)
        mse, md = (values.gather(0, chosen[None])[0] for values in (mse, md))
        return machines, flux.new_tensor(points)[chosen], mse, md


@dataclass(frozen=True)
class _Scaled:
    """A training set in the units of the machines.

    Attributes
    ----------
    centre, unit : Tensor, shape (label,)
    labels : Tensor, shape (star, label)
    learnt : Tensor of bool, shape (wavelength,)
        Pixels that any star has good; the others are left out below.
    mean, spread : Tensor, shape (pixel,)
    flux, usable : Tensor, shape (star, pixel)
    weight : Tensor, shape (star,)
        What a star counts, of at most 1.
    """

    centre: Tensor
    unit: Tensor
    labels: Tensor
    learnt: Tensor
    mean: Tensor
    spread: Tensor
    flux: Tensor
    usable: Tensor
    weight: Tensor

    @classmethod
    def of(cls, training: TrainingSet, device: str, weights: str) -> _Scaled:
        zero, one = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        inputs, _ = scaled_inputs(torch.from_numpy(training.label_array), tuple(training.labels), zero, one)
        centre, unit = inputs.mean(dim=0), inputs.std(dim=0)
        learnt = torch.from_numpy(training.used)
        usable = torch.from_numpy(training.good)[:, learnt]
        flux = torch.from_numpy(training.flux)[:, learnt].double()
        flux = torch.where(usable, flux, 0.0)
        weight = torch.from_numpy(_weights(training, weights))
        count = weight[:, None] * usable
        mean = (count * flux).sum(dim=0) / count.sum(dim=0)
        away = torch.where(usable, flux - mean, 0.0)
        spread = ((count * away.square()).sum(dim=0) / count.sum(dim=0)).sqrt()
        tensors = (
            centre,
            unit,
            (inputs - centre) / unit,
            learnt,
            mean,
            spread,
            away / spread,
            usable,
            weight,
        )
        return cls(*(tensor.to(device) for tensor in tensors))

    def emulator(
        self,
        bounds: dict[str, tuple[float, float]],
        machines: Machines,
        points: Tensor,
        mse: Tensor,
        md: Tensor,
    ) -> KernelEmulator:
        """The machines in units of labels and flux, on the CPU; pixels that were not learnt are 1."""
        gamma, c, epsilon = points.unbind(dim=1)

        def everywhere(values: Tensor, fill: float) -> Tensor:
            out = values.new_full((*values.shape[:-1], len(self.learnt)), fill)
            out[..., self.learnt] = values
            return out.cpu()

        return KernelEmulator(
            bounds,
            self.centre.cpu(),
            self.unit.cpu(),
            self.labels.cpu(),
            dual=everywhere(machines.dual * self.spread, 0.0),
            intercept=everywhere(machines.intercept * self.spread + self.mean, 1.0),
            gamma=everywhere(gamma, float(gamma[0])),
            c=everywhere(c, torch.nan),
            epsilon=everywhere(epsilon, torch.nan),
            cv_mse=everywhere(mse * self.spread.square(), torch.nan),
            cv_md=everywhere(md * self.spread, torch.nan),
        )


def _weights(training: TrainingSet, kind: str) -> NDArray[np.float64]:
    """What each star counts, the least noisy most; about 1 for most stars where noise does not differ."""
    if kind == "equal":
        return np.ones(len(training))
    noise = _noise(training).sum(axis=1) / training.good.sum(axis=1)
    least = np.quantile(noise, 0.1)
    weight = 1.0 / (noise + least)
    return np.asarray(weight / weight.max())


def _noise(training: TrainingSet) -> NDArray[np.float64]:
    """Variance of the flux by its inverse variance, 0 for pixels that are not good, shape (star, wavelength)."""
    return np.where(training.good, 1.0 / np.where(training.good, training.ivar, 1.0), 0.0)


def _silent(done: int, total: int, error: float) -> None:
    """Do nothing with the progress."""


def _check_options(slam: SLAM) -> None:
    check_choice("loss", slam.loss, _LOSSES)
    check_choice("weights", slam.weights, _WEIGHTS)
    check_choice("solver", slam.solver, _SOLVERS)
    for name in ("c", "gamma", "epsilon"):
        values = getattr(slam, name)
        wrong = [v for v in values if not (np.isfinite(v) and (v > 0 or (v == 0 and name == "epsilon")))]
        if wrong or not values:
            raise ValueError(
                f"{name} is {values}; at least one number, finite and positive, is required. Correct {wrong or 'it'}."
            )
    if slam.n_folds < 2:
        raise ValueError(f"n_folds is {slam.n_folds}; at least 2 are required. The papers take 5 and 10.")
    if slam.solver == "sklearn" and slam.loss == "squared":
        raise ValueError(
            "solver='sklearn' was requested with loss='squared', which is solved in closed form; solver='torch' is "
            "required. Use solver='torch', or loss='epsilon'."
        )
    if slam.solver == "sklearn" and find_spec("sklearn") is None:
        raise ValueError(
            "solver='sklearn' was requested and scikit-learn is not installed; it is required for that solver. Use "
            "solver='torch', or install specxr[sklearn]."
        )
