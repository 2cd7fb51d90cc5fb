"""Estimators that fit an emulator to normalised spectra: everything but the emulators and how these are trained."""

from __future__ import annotations

import functools
from abc import abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.arrays import Required, check_arrays
from specxr.emulators.base import TrainedEmulator
from specxr.estimators.backend import DTYPES
from specxr.estimators.base import Block, Output
from specxr.estimators.emulated.label_fit import RV, Fitted, LabelFit
from specxr.estimators.emulated.normalise import observe_normalised
from specxr.estimators.model_file import Model
from specxr.estimators.observe import Observed
from specxr.estimators.outputs import Inferred, assemble, blanked, model_spectra, outputs_of
from specxr.estimators.quality import Judge, Quality
from specxr.estimators.trained import Progress, Trained
from specxr.kernels.least_squares import LANES
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation, within
from specxr.spectra.pixels import bits_of, names_of_bits
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import LEFT_OUT, Flag

# A fit begins at the one of so many training stars whose spectrum is nearest. The Balmer lines of hot stars are equally
# strong on either side of 9,000 K: at S/N 100, 1 of 1,000 hot stars then ends in a wrong minimum. With 256 training
# stars it is 11 of 1,000, and three times as many with 128 that are as far from one another as possible.
_CANDIDATES = 1024

# Error of a model beyond what held-out spectra show, as a share of the flux.
_MODEL_ERROR = 0.02

_EMULATOR, _VARIANCE = "emulator.", "variance"  # names of the arrays of a model


@dataclass(frozen=True, kw_only=True, eq=False)
class Emulated(Trained):
    """An estimator that learns an emulator and fits it to observed spectra; a base class.

    A subclass fills in `train_emulator`. Options of all such estimators:

    Parameters
    ----------
    fixed : mapping of str to float, optional
        Labels, or ``rv`` [km/s], that are held in the fit, and their values.
    priors : mapping of str to (float, float), optional
        Mean and standard deviation of Gaussian priors on labels or ``rv``.
    max_velocity : float, optional
        Radial velocities are sought up to this [km/s]; as many pixels at both ends are not used.
    mask_bits : int or str, optional
        Bits of the mask that leave a pixel out, or their names with commas between them, such as "sky,bad_always".
        "missing", "no_ivar" and "bad_flux" always do (docs/reference/masks.md).
    device : {"cpu", "cuda"}, optional
    dtype : {"float64", "float32"}, optional
        Precision of the fit.
    model : Model, optional
        The trained model, which `fit` or `load` puts here.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    priors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_velocity: float = 500.0
    mask_bits: int | str = int(LEFT_OUT)

    # Changes whenever the labels of the same options and model may change.
    code_version: ClassVar[str] = "4"
    emulator_type: ClassVar[type[TrainedEmulator]]

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mask_bits", bits_of(self.mask_bits))
        _check_constraints(self)

    # -- training ------------------------------------------------------------------------------------------------
    def learn(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> dict[str, NDArray[Any]]:
        """Learn an emulator, and how far it is from held-out spectra in each pixel."""
        emulator, variance = self.train_emulator(training, progress, checkpoint)
        weights = {f"{_EMULATOR}{name}": array for name, array in emulator.arrays().items()}
        return {**weights, _VARIANCE: np.where(training.used, variance, np.inf)}

    def check_weights(self) -> None:
        """Raise ``ValueError`` with what is wrong unless the arrays of the model are those that `learn` returns."""
        model = self.trained_model
        names = [n.removeprefix(_EMULATOR) for n in model.weights if n.startswith(_EMULATOR)]
        emulator = self.emulator_type.required(names, len(model.labels), model.n_pixel)
        required = {f"{_EMULATOR}{name}": need for name, need in emulator.items()}
        check_arrays(model.weights, {**required, _VARIANCE: Required((model.n_pixel,), values="any")})
        # It is infinite for the pixels that were not learnt.
        if not ((self.variance >= 0).all() and self.known.any()):
            raise ValueError(f"the array {_VARIANCE} is negative, not a number, or infinite everywhere")
        _ = self.emulator

    @abstractmethod
    def train_emulator(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> tuple[TrainedEmulator, NDArray[np.float64]]:
        """Train an emulator.

        Returns
        -------
        emulator : TrainedEmulator
            The emulator in float64 on the CPU.
        variance : ndarray, shape (wavelength,)
            Mean squared error of the emulator on held-out spectra, less the noise of these.
        """

    @classmethod
    def inference_options(cls) -> tuple[str, ...]:
        """Names of the options that may change after the training."""
        return tuple(f.name for f in fields(Emulated) if f.name != "model")

    # -- what was learnt -----------------------------------------------------------------------------------------
    @property
    def emulator(self) -> TrainedEmulator:
        """The emulator that was learnt, in float64 on the CPU."""
        return _emulator(self.trained_model, self.emulator_type)

    @property
    def variance(self) -> NDArray[np.float64]:
        """Mean squared error of the emulator, infinite for pixels of which it knows nothing, shape (wavelength,)."""
        return self.trained_model.weights[_VARIANCE]

    @property
    def known(self) -> NDArray[np.bool_]:
        """Pixels at rest of which the emulator knows something, shape (wavelength,)."""
        return np.isfinite(self.variance)

    @property
    def used(self) -> NDArray[np.bool_]:
        """Pixels as observed that a fit may use: known, and not excluded by the normalisation; shape (wavelength,)."""
        grid = self.trained_model.grid
        if not grid.normalisation:
            return self.known
        return self.known & ~within(grid.wavelength, Normalisation.from_json(grid.normalisation).excluded)

    # -- inference -----------------------------------------------------------------------------------------------
    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the inferred labels."""
        return (RV, *self.trained_model.labels)

    @property
    def held(self) -> tuple[str, ...]:
        """Labels that are held in the fit."""
        return tuple(self.fixed)

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        return outputs_of(self.labels, chi2="sum of squared residuals over their variance")

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the model that produced the labels."""
        errors = "inverse of J^T W J, W from the inverse variance and the emulator's error"
        if self.trained_model.calibration is not None:
            errors += ", times the scatter of held-out stars over their formal errors"
        return {
            **super().provenance,
            "fixed": dict(self.fixed),
            "priors": {name: list(prior) for name, prior in self.priors.items()},
            "mask_bits": names_of_bits(bits_of(self.mask_bits)),
            "errors": errors,
        }

    @property
    def weighted(self) -> bool:
        """Always: a pixel weighs by its inverse variance and the emulator's error."""
        return True

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be fitted."""
        super().check(grid)
        for name in (*self.fixed, *self.priors):
            if name not in self.labels:
                raise ValueError(
                    f"{name!r} is to be held or has a prior; one of {list(self.labels)} is required, which this "
                    f"{type(self).__name__} infers. Leave it out."
                )

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Fit every star of a block; see ``outputs`` for what comes back."""
        return self._estimate(block, spectra, {})[0]

    def estimate_given(
        self, block: Block, given: Mapping[str, NDArray[Any]], spectra: bool = False
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
        """Fit every star of a block with labels held at values of its own; see ``hybrid.SecondStage``."""
        names = list(given)
        out, observed, fitted = self._estimate(block, spectra, given)
        free = [i for i, name in enumerate(self.labels) if name not in given]
        hold = [self.labels.index(name) for name in names]
        inverse = fitted.covariance.double()[:, free][:, :, free]
        moved = -inverse @ fitted.information.double()[:, free][:, :, hold]
        response = np.full((len(block.flux), len(free), len(hold)), np.nan)
        response[observed.star] = moved.cpu().numpy()
        return out, response

    def snr_of(self, block: Block) -> NDArray[np.float64]:
        """Median signal-to-noise ratio of a pixel, NaN for stars that cannot be fitted, shape (star,)."""
        observed = self.observe(block)
        snr = np.full(len(block.flux), np.nan)
        snr[observed.star] = observed.snr.cpu().numpy()
        return snr

    def observe(self, block: Block) -> Observed:
        """Cut, normalise and weigh the spectra of a block."""
        self.check(block.grid)
        model = self.trained_model
        pixels = model.grid.part_of(block.grid, "the model")
        variance = np.where(self.used, self.variance, np.inf)
        return observe_normalised(
            block,
            pixels,
            bits_of(self.mask_bits),
            model.grid,
            variance,
            self._label_fit,
            least=len(self.labels),
        )

    def _estimate(
        self, block: Block, spectra: bool, given: Mapping[str, NDArray[Any]]
    ) -> tuple[dict[str, NDArray[Any]], Observed, Fitted]:
        observed = self.observe(block)
        if given:
            unknown = ~np.isfinite(np.stack(list(given.values()))).all(axis=0)
            observed = observed.without(unknown)
        one = observed.flux.new_ones(len(observed.star))
        held = {name: value * one for name, value in self.fixed.items()}
        held |= {name: torch.from_numpy(v[observed.star]).to(one) for name, v in given.items()}
        priors = {name: (mean * one, sigma * one) for name, (mean, sigma) in self.priors.items()}
        fitted = self._label_fit.fit(observed.flux, observed.weight, held, priors)

        def model(index: Tensor) -> Tensor:
            return self._label_fit.model(self._label_fit.inward(fitted.parameters[index]))

        quality = self._judge(observed, fitted, model)
        out = assemble(self.labels, observed, self._inferred(observed, fitted, quality))
        if spectra:
            lanes = LANES[observed.flux.device.type]
            out |= model_spectra(block, observed, observed.sqrt_weight > 0, model, lanes)
        return out, observed, fitted

    def _judge(self, observed: Observed, fitted: Fitted, model: Callable[[Tensor], Tensor]) -> Quality:
        """What the residuals say of the fits."""

        def spectra(index: Tensor) -> tuple[Tensor, ...]:
            flux, weight = observed.flux[index], observed.sqrt_weight[index].square() * self._label_fit.inside
            used = weight > 0
            variance = torch.where(used, 1.0 / weight, torch.nan)
            return flux, model(index), torch.ones_like(flux), used, used, variance

        judge = Judge(self.trained_model.grid, _MODEL_ERROR, len(self.labels) - len(self.held))
        return judge(spectra, fitted.parameters[:, 0])

    def _inferred(self, observed: Observed, fitted: Fitted, quality: Quality) -> Inferred:
        """Labels with the errors that the model is calibrated to, and their flags."""
        model = self.trained_model
        values, covariance = fitted.parameters.double(), fitted.covariance.double()
        flags = model.domain.outside(values[:, 1:]) * int(Flag.OUTSIDE_TRAINING)
        shared = None
        if model.calibration is not None:
            snr = observed.snr.cpu().numpy()
            formal = covariance.diagonal(dim1=1, dim2=2).sqrt().cpu().numpy().T
            factors = [
                model.calibration.factor(name, snr, own)
                for name, own in zip(self.labels, formal, strict=True)
            ]
            factor = torch.from_numpy(np.stack(factors, axis=1)).to(covariance.device)
            covariance = covariance * factor[:, :, None] * factor[:, None]
            flags |= torch.from_numpy(model.calibration.beyond(snr)).to(flags) * int(Flag.UNCALIBRATED_ERRORS)
            shared = covariance.new_tensor([model.calibration.shared(name) for name in self.labels])
        singular = torch.isnan(covariance).flatten(1).any(-1)
        values, covariance = blanked(values, covariance, fitted.result, singular)
        return Inferred(
            values,
            covariance,
            fitted.lowest,
            fitted.highest,
            fitted.chi2,
            (observed.sqrt_weight > 0).sum(-1),
            fitted.n_iter,
            fitted.result,
            flags,
            quality,
            int(self.used.sum()),
            float(self.used.sum()),
            shared,
        )

    @property
    def _label_fit(self) -> LabelFit:
        device, dtype = torch.device(self.device), DTYPES[self.dtype]
        return _prepare(self.trained_model, self.emulator_type, self.max_velocity, dtype, device)


@functools.lru_cache(maxsize=8)
def _emulator(model: Model, kind: type[TrainedEmulator]) -> TrainedEmulator:
    arrays = {n.removeprefix(_EMULATOR): a for n, a in model.weights.items() if n.startswith(_EMULATOR)}
    return kind.from_arrays(arrays, model.bounds)


@functools.lru_cache(maxsize=4)
def _prepare(
    model: Model,
    kind: type[TrainedEmulator],
    max_velocity: float,
    dtype: torch.dtype,
    device: torch.device,
) -> LabelFit:
    """Build what all stars share, once a process."""
    # Candidates are drawn without regard to anything: they are dense where stars are.
    chosen = np.random.default_rng(0).permutation(len(model.training_labels))[:_CANDIDATES]
    candidates = torch.from_numpy(model.training_labels[chosen]).to(device, dtype)
    known = torch.from_numpy(np.isfinite(model.weights[_VARIANCE]))
    emulator = _emulator(model, kind).to(dtype, device)
    return LabelFit(emulator, model.grid.ln_step, known, candidates, max_velocity)


def _check_constraints(estimator: Emulated) -> None:
    both = set(estimator.fixed) & set(estimator.priors)
    if both:
        raise ValueError(
            f"{sorted(both)} are held and have a prior; one of the two is required. Leave one out."
        )
    for name, (_, width) in estimator.priors.items():
        if not width > 0:
            raise ValueError(
                f"the prior on {name} has a standard deviation of {width}; a positive one is required. Correct it."
            )
