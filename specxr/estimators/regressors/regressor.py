"""Labels straight from spectra: a network, kernel ridge regression or trees, with errors that hold."""

from __future__ import annotations

import functools
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.estimators.backend import DTYPES, check_choice
from specxr.estimators.base import Block, Output
from specxr.estimators.domain import Domain
from specxr.estimators.model_file import Model
from specxr.estimators.observe import Observed
from specxr.estimators.outputs import assemble, outputs_of
from specxr.estimators.regressors.answers import Answers, inferred_from, more_outputs
from specxr.estimators.regressors.inputs import PIECE, Inputs
from specxr.estimators.regressors.learning import Course, learn_regressor
from specxr.estimators.regressors.learnt import Blueprint, Held, Learnt, check_learnt
from specxr.estimators.regressors.machines import MACHINES
from specxr.estimators.regressors.networks import NETWORKS
from specxr.estimators.regressors.training import Schedule
from specxr.estimators.trained import Progress, Trained
from specxr.kernels.compiled.running_continuum import Spectra
from specxr.spectra.grid import Grid
from specxr.spectra.pixels import bits_of, names_of_bits, usable
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import LEFT_OUT, Flag, Result

LOSSES = ("beta_nll", "paper")
_PART = 256  # stars at once: what they need stays in the cache
_SHOWN, _EPOCHS = 600_000, (20, 150)  # spectra that a network sees, and the epochs that this may make
_LEAST_SHARE = 0.05  # of the pixels that a star must have
_MOST_NEIGHBOURS = 2000  # training stars to which the labels of a star are compared
_WIDEST_GAP = 0.15  # of the wavelengths; regressors learn with gaps up to a fifth


@dataclass(frozen=True, kw_only=True, eq=False)
class Regressor(Trained):
    """Labels of each star straight from its spectrum, for surveys of millions (docs/methods/regressors.md).

    A spectrum is read as the survey gives it: flux over the mean of its surroundings, what is masked interpolated and
    told, and the S/N. While a regressor learns, noise, gaps and shifts are drawn anew for each star in each epoch. A
    part of the stars is held out; by these the errors are calibrated in cells of S/N and temperature, and what a
    spectrum of such a star is like.

    Parameters
    ----------
    network : str, optional
        "dense", "small_cnn", "resnet50", "gru", "patches"; or "ridge", "kernel_ridge" and "lightgbm", which learn
        from principal components.
    hidden : tuple of int, optional
        Neurons of the layers of "dense"; of the others, the last number is the width.
    members : int, optional
        Networks whose mean is the answer.
    classes : tuple of str, optional
        Spectral classes to learn as well, such as ("A", "F", "G"): the beginnings of the variable ``subclass``.
    loss : {"beta_nll", "paper"}, optional
        "paper" is the sum of 50 times the squared errors and the cross-entropy of the class, without variances.
    continuum : float, optional
        Width of the surroundings [Angstrom].
    components : int, optional
        Number of principal components, a multiple of eight.
    snr : (float, float), optional
        While learning, a spectrum of a higher S/N than these is brought down to one that is log-uniform between them,
        as simulations need it. The noise of others grows by up to three times, but not below the lower one.
    max_shift : int, optional
        Shifts while learning [pixel].
    epochs : int, optional
        0 shows 600,000 spectra, in at least 20 and at most 150 epochs.
    batch : int, optional
        Number of stars in a step.
    learning_rate, weight_decay : float, optional
        Those of AdamW; the learning rate falls to zero as a cosine.
    patience : int, optional
        The training ends after so many epochs without gain.
    validation : float, optional
        Fraction of the stars that is held out.
    seed : int, optional
    start_from : str, optional
        File of a regressor with the same network and pixels. The training begins with what it has learnt; labels that
        it does not know get new heads.
    mask_bits : int or str, optional
        Bits of the mask that leave a pixel out, or their names (docs/reference/masks.md).

    Examples
    --------
    >>> from specxr import Regressor
    >>> baseline = Regressor(network="kernel_ridge")
    """

    network: str = "dense"
    hidden: tuple[int, ...] = (256, 256, 128)
    members: int = 2
    classes: tuple[str, ...] = ()
    loss: str = "beta_nll"
    continuum: float = 200.0
    components: int = 64
    snr: tuple[float, float] = (10.0, 500.0)
    max_shift: int = 3
    epochs: int = 0
    batch: int = 32
    learning_rate: float = 1e-3
    weight_decay: float = 0.01
    patience: int = 60
    validation: float = 0.15
    seed: int = 0
    start_from: str = ""
    mask_bits: int | str = int(LEFT_OUT)
    dtype: str = "float32"

    kind: ClassVar[str] = "regressor"
    code_version: ClassVar[str] = "1"
    keeps_checkpoints: ClassVar[bool] = True
    direct: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "mask_bits", bits_of(self.mask_bits))
        check_choice("network", self.network, (*NETWORKS, *MACHINES))
        check_choice("loss", self.loss, LOSSES)
        positive = ("members", "continuum", "components", "batch", "learning_rate", "patience")
        wrong = [name for name in positive if not getattr(self, name) > 0]
        wrong += [name for name in ("epochs", "weight_decay", "max_shift") if not getattr(self, name) >= 0]
        if wrong or not self.hidden or min(self.hidden) < 1 or self.components % 8:
            given = ", ".join(f"{name} is {getattr(self, name)}" for name in (*wrong, "hidden", "components"))
            raise ValueError(
                f"{given}; positive numbers are required, and a number of components that is a multiple of eight. "
                "Correct them."
            )
        if not 0.0 < self.validation < 1.0 or not 0.0 < self.snr[0] < self.snr[1]:
            raise ValueError(
                f"validation is {self.validation} and snr is {self.snr}; a fraction between 0 and 1, and two rising "
                "positive numbers are required. Take 0.15 and (10, 500)."
            )
        if self.network == "patches" and self.hidden[-1] % 4:
            raise ValueError(
                f"the width of the patches is {self.hidden[-1]}; a multiple of 4 is required, the number of heads. "
                "Take hidden=(64,)."
            )

    @classmethod
    def inference_options(cls) -> tuple[str, ...]:
        """Names of the options that may change after the training."""
        return ("device", "dtype", "mask_bits")

    # -- training ------------------------------------------------------------------------------------------------
    def learn(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> dict[str, NDArray[Any]]:
        """Learn components and networks, and calibrate the errors by stars that are held out."""
        if self.classes and self.network in MACHINES:
            raise ValueError(
                f"the classes {', '.join(self.classes)} are to be learnt by {self.network}, which learns labels only; "
                f"one of {', '.join(NETWORKS)} is required. Choose one, or leave `classes` out."
            )
        blueprint = self._blueprint(training.grid, tuple(training.labels))
        epochs = self.epochs or int(np.clip(_SHOWN // len(training), *_EPOCHS))
        schedule = Schedule(
            epochs, self.batch, self.learning_rate, self.weight_decay, self.patience, self.loss, self.seed
        )
        course = Course(schedule, self.snr, self.max_shift, self.components, self.validation, self.device)
        return learn_regressor(training, blueprint, course, self._start(training.grid), progress, checkpoint)

    def _blueprint(self, grid: Grid, labels: tuple[str, ...]) -> Blueprint:
        inputs = Inputs(grid.wavelength, self.continuum)
        return Blueprint(self.network, self.hidden, self.members, self.loss, inputs, labels, self.classes)

    def _start(self, grid: Grid) -> Learnt | None:
        """What the training begins with."""
        if not self.start_from:
            return None
        known = type(self).load(self.start_from)
        known.check(grid)
        same = ("network", "hidden", "continuum")
        differing = [name for name in same if getattr(known, name) != getattr(self, name)]
        if differing or self.network in MACHINES or known.trained_model.n_pixel != len(grid.wavelength):
            raise ValueError(
                f"the training is to start from {self.start_from}, a {known.network} with hidden {known.hidden}, "
                f"continuum {known.continuum} and {known.trained_model.n_pixel} pixels; a network with the options and "
                "the pixels of this one is required. Train with the same network, hidden and continuum."
            )
        return known._learnt[0]

    def check_weights(self) -> None:
        """Raise ``ValueError`` with what is wrong unless the arrays of the model are those that `learn` returns."""
        model = self.trained_model
        check_learnt(model.weights, self._blueprint(model.grid, model.labels))
        _ = self._learnt

    # -- inference -----------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        chi2 = "squared residuals of the principal components, weighted by the inverse variance, summed"
        return (*outputs_of(self.labels, chi2), *more_outputs(self.labels, self.classes))

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the model that produced the labels."""
        return {**super().provenance, "mask_bits": names_of_bits(bits_of(self.mask_bits))}

    @property
    def weighted(self) -> bool:
        """Always: the S/N that is told comes from the inverse variance."""
        return True

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be read."""
        super().check(grid)
        learnt = self.trained_model.grid.normalisation
        if learnt and not grid.normalisation:
            raise ValueError(
                f"the cube is not normalised; this Regressor was trained on spectra normalised by {learnt}, which is "
                "required. Use specxr.normalise with this recipe, or train on spectra as observed."
            )

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Infer labels of every star of a block; see ``outputs`` for what comes back."""
        self.check(block.grid)
        model = self.trained_model
        pixels = model.grid.part_of(block.grid, "the model")
        shown = _Shown.of(block) if spectra else None
        parts, counts = [], []
        for first in range(0, len(block.flux), _PART) or [0]:
            part = slice(first, min(first + _PART, len(block.flux)))
            answer, n_usable = self._answer(block, part, pixels, shown)
            parts.append(answer)
            counts.append(n_usable)
        answers, n_usable = Answers.joined(parts), np.concatenate(counts)
        least = max(len(self.labels), _LEAST_SHARE * model.n_pixel)
        result = np.where(answers.n_good > least, int(Result.CONVERGED), int(Result.NON_FINITE))
        result[n_usable <= least] = int(Result.TOO_FEW_PIXELS)
        star = np.flatnonzero(result == int(Result.CONVERGED))
        none = torch.empty(0)
        n_good = np.where(result == int(Result.CONVERGED), answers.n_good, n_usable).astype("i4")
        observed = Observed(pixels, none, none, none, none, star, result.astype("u1"), n_good)
        kept = answers[star]
        inferred, ends = inferred_from(kept, self.labels, self._learnt[1], _domain(model), model.n_pixel)
        out = assemble(self.labels, observed, inferred)
        for name, values in ends.items():
            out[name] = np.full(len(result), np.nan)
            out[name][star] = values
        if self.classes:
            out["spectral_class"] = np.full(len(result), -1, "i1")
            out["spectral_class_probability"] = np.full(len(result), np.nan)
            out["spectral_class"][star] = kept.probability.argmax(axis=1)
            out["spectral_class_probability"][star] = kept.probability.max(axis=1)
        return out if shown is None else {**out, **shown.without(result != int(Result.CONVERGED))}

    def snr_of(self, block: Block) -> NDArray[np.float64]:
        """Mean signal-to-noise ratio of a pixel of each star, shape (star,)."""
        pixels = self.trained_model.grid.part_of(block.grid, "the model")
        return self._spectra(block, slice(None), pixels)[0].snr

    def _answer(
        self, block: Block, part: slice, pixels: slice, shown: _Shown | None
    ) -> tuple[Answers, NDArray[np.int64]]:
        """What the model says of a part of the stars, and their numbers of usable pixels."""
        learnt, _ = self._learnt
        seen, n_usable = self._spectra(block, part, pixels)
        n = part.stop - part.start
        flux = torch.from_numpy(_filled(seen.flux, learnt.lanes))
        coefficients, expected = learnt.components.coefficients_and_model(flux)
        expected = expected[:n]
        padded = Spectra(*(_filled(array, learnt.lanes) for array in seen))
        labels, errors, spread, probability = (a[:n] for a in learnt.predict(padded, coefficients))
        measures = learnt.components.measures(seen, expected)
        flags = learnt.components.flags(measures, seen.snr)
        flags |= self._gap(seen) * int(Flag.LOW_COVERAGE)
        if shown is not None:
            shown.model[part, pixels] = (1.0 + expected.numpy()) * seen.continuum
            shown.used[part, pixels] = seen.weight > 0
        return Answers(labels, errors, spread, probability, measures, flags, seen.snr, seen.n_good), n_usable

    def _spectra(self, block: Block, part: slice, pixels: slice) -> tuple[Spectra, NDArray[np.int64]]:
        flux, ivar, mask = (array[part, pixels] for array in (block.flux, block.ivar, block.mask))
        good = usable(flux, ivar, mask, bits_of(self.mask_bits))
        return self._learnt[0].blueprint.inputs.spectra(flux, ivar, good), good.sum(axis=1)

    def _gap(self, seen: Spectra) -> NDArray[np.bool_]:
        """Whether the widest gap of each star is wider than those that were learnt, shape (star,)."""
        wavelength = self.trained_model.grid.wavelength
        width = np.diff(np.append(wavelength[::PIECE], wavelength[-1]))
        empty = seen.share[:, : len(width)] < 0.1
        run, widest = np.zeros(len(empty)), np.zeros(len(empty))
        for piece, step in zip(empty.T, width, strict=True):
            run = np.where(piece, run + step, 0.0)
            np.maximum(widest, run, out=widest)
        return np.asarray(widest > _WIDEST_GAP * (wavelength[-1] - wavelength[0]))

    @property
    def _learnt(self) -> tuple[Learnt, Held]:
        blueprint = self._blueprint(self.trained_model.grid, self.labels)
        key = tuple(getattr(self, f.name) for f in fields(self) if f.name != "model")
        return _opened(self.trained_model, _Key(blueprint, key, self.device, self.dtype))


@dataclass(frozen=True, eq=False)
class _Key:
    """A blueprint, with what tells it apart from others in a cache."""

    blueprint: Blueprint
    options: tuple[Any, ...]
    device: str
    dtype: str

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Key) and self.options == other.options

    def __hash__(self) -> int:
        return hash(self.options)


@functools.lru_cache(maxsize=8)
def _opened(model: Model, key: _Key) -> tuple[Learnt, Held]:
    """Build what all stars share, once a process."""
    learnt = Learnt.from_arrays(model.weights, key.blueprint)
    learnt.to(key.device, DTYPES[key.dtype])
    return learnt, Held.from_arrays(model.weights)


@functools.lru_cache(maxsize=8)
def _domain(model: Model) -> Domain:
    """Where the training labels lie, from as many stars as cost no more than the network."""
    order = np.random.default_rng(0).permutation(len(model.training_labels))
    return Domain(model.training_labels[order[:_MOST_NEIGHBOURS]])


@dataclass(frozen=True, eq=False)
class _Shown:
    """Model spectra and used pixels of a block."""

    model: NDArray[np.float32]
    used: NDArray[np.uint8]

    @classmethod
    def of(cls, block: Block) -> _Shown:
        return cls(np.full(block.flux.shape, np.nan, "f4"), np.zeros(block.flux.shape, "u1"))

    def without(self, refused: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """The variables, without those of stars that have no labels."""
        self.model[refused], self.used[refused] = np.nan, 0
        return {"model": self.model, "used": self.used}


def _filled(array: NDArray[Any], lanes: int) -> NDArray[Any]:
    """The rows, and as many zeros as fill the last batch."""
    missing = -len(array) % lanes if len(array) else lanes
    return np.concatenate([array, np.zeros((missing, *array.shape[1:]), array.dtype)]) if missing else array
