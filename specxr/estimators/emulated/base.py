"""What The Payne and SLAM share: everything but their emulators and how these are trained."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.content import short_fingerprint
from specxr.emulators.base import TrainedEmulator
from specxr.estimators.base import Block, Output
from specxr.estimators.emulated.label_fit import RV, Fitted, LabelFit
from specxr.estimators.fitted import Spectra, labels_of
from specxr.estimators.model_file import Model, read_model
from specxr.estimators.outputs import outputs_of
from specxr.kernels.least_squares import LANES, in_lanes
from specxr.kernels.pseudo_continuum import divide_by_continuum, pseudo_continuum
from specxr.kernels.shape import padded
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation, within
from specxr.spectra.pixels import usable
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import UNUSABLE_NORMALISED, Result

# Changes whenever the labels of the same options and model may change.
CODE_VERSION = "1"

DTYPES = {"float64": torch.float64, "float32": torch.float32}

# Fits begin at the likest of so many training stars. Of hot stars at S/N 100, whose Balmer lines are as strong on
# either side of 9,000 K, 1 in 1,000 then ends in a wrong minimum; from 256 it is 11, and three times that from 128 as
# far from one another as can be.
_CANDIDATES = 1024

#: Called while training: what is done, of how much, and how far the emulator is from held-out spectra.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained:
    """An estimator that learns an emulator from a training set; a base class.

    Parameters
    ----------
    fixed : mapping of str to float, optional
        Labels, or ``rv`` [km/s], that are held in the fit, and their values.
    priors : mapping of str to (float, float), optional
        Mean and standard deviation of Gaussian priors on labels or ``rv``.
    max_velocity : float, optional
        Radial velocities are sought up to this [km/s]; as many pixels at both ends are not used.
    device : {"cpu", "cuda"}, optional
    dtype : {"float64", "float32"}, optional
        Of the arithmetic of the fit.
    model : Model, optional
        What `fit` or `load` puts here.
    """

    fixed: Mapping[str, float] = field(default_factory=dict)
    priors: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    max_velocity: float = 500.0
    device: str = "cpu"
    dtype: str = "float64"
    model: Model | None = None

    kind: ClassVar[str]
    emulator_type: ClassVar[type[TrainedEmulator]]

    def __post_init__(self) -> None:
        _check_options(self)

    # -- training ------------------------------------------------------------------------------------------------
    def fit(self, training: TrainingSet, progress: Progress | None = None) -> Self:
        """Learn from a training set.

        Parameters
        ----------
        training : TrainingSet
        progress : callable, optional
            ``progress(done, total, error)``.

        Returns
        -------
        A fitted copy.
        """
        training.check()
        return self._learnt(training, *self._train(training, progress))

    def _learnt(
        self, training: TrainingSet, emulator: TrainedEmulator, variance: NDArray[np.float64]
    ) -> Self:
        model = Model(
            self.kind,
            emulator,
            training.grid,
            np.where(training.used, variance, np.inf),
            training.label_array,
            self.training_options,
            {"fingerprint": training.fingerprint, "stars": len(training), **training.provenance},
        )
        return replace(self, model=model)

    def _train(
        self, training: TrainingSet, progress: Progress | None
    ) -> tuple[TrainedEmulator, NDArray[np.float64]]:
        """Give an emulator in float64 on the CPU, and its mean squared error in each pixel."""
        raise NotImplementedError

    @property
    def training_options(self) -> dict[str, Any]:
        """Options that decide what is learnt: the fields of the subclass."""
        shared = {f.name for f in fields(Trained)}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in shared}

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the trained model to a .safetensors file, which appears once it is complete."""
        self._model.save(path, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Open what `save` wrote; options are those of the fit (``fixed``, ``priors``, ``device``, ...)."""
        model = read_model(path, cls.kind, cls.emulator_type)
        learnt: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in model.options.items()}
        return cls(**learnt, **options, model=model)

    @classmethod
    def inference_options(cls) -> tuple[str, ...]:
        """Names of the options that may change after the training."""
        return tuple(f.name for f in fields(Trained) if f.name != "model")

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any], **options: Any) -> Self:
        """Open the model of a provenance with its options; `options` replace what it says."""
        if not provenance["model"]:
            raise ValueError(
                f"the {cls.__name__} of these labels was not opened from a model file; a file is required to open it "
                "again. Save models before they make labels that must last."
            )
        known = {name: provenance[name] for name in cls.inference_options()}
        return cls.load(provenance["model"], **{**known, **options})

    # -- inference -----------------------------------------------------------------------------------------------
    @property
    def _model(self) -> Model:
        if self.model is None:
            raise ValueError(
                f"this {type(self).__name__} has learnt nothing yet; a trained one is required. Train it with `fit` or "
                "specxr.train, or open a file with `load`."
            )
        return self.model

    @property
    def labels(self) -> tuple[str, ...]:
        """What it infers."""
        return (RV, *self._model.emulator.labels)

    @property
    def inputs(self) -> tuple[str, ...]:
        """No variables of the stars: fits begin at training stars."""
        return ()

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        return outputs_of(self.labels, chi2="sum of squared residuals over their variance")

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the model that produced the labels."""
        errors = "inverse of J^T W J, W from the inverse variance and the emulator's error"
        if self._model.calibration is not None:
            errors += ", times the scatter of held-out stars over their formal errors"
        return {
            "estimator": type(self).__name__,
            "estimator_version": CODE_VERSION,
            "model": "" if self._model.source is None else str(self._model.source),
            "model_fingerprint": self._model.fingerprint,
            "normalisation": self._model.grid.normalisation,
            "fixed": dict(self.fixed),
            "priors": {name: list(prior) for name, prior in self.priors.items()},
            "max_velocity": self.max_velocity,
            "device": self.device,
            "dtype": self.dtype,
            "errors": errors,
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of options, model and code version."""
        return short_fingerprint({**self.provenance, "model": ""})

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be fitted."""
        self._model.grid.part_of(grid, f"this {type(self).__name__}")
        for name in (*self.fixed, *self.priors):
            if name not in self.labels:
                raise ValueError(
                    f"{name!r} is to be held or has a prior; one of {list(self.labels)} is required, which this "
                    f"{type(self).__name__} infers. Leave it out."
                )

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Fit every star of a block; see ``outputs`` for what comes back."""
        observed = self.observe(block)
        fitted = self.fit_labels(observed)
        out = labels_of(self._model, self.labels, observed, fitted)
        if spectra:
            out |= self.spectra_of(block, observed, fitted)
        return out

    def observe(self, block: Block) -> Spectra:
        """Cut, normalise and weigh the spectra of a block."""
        self.check(block.grid)
        model, label_fit = self._model, self._label_fit
        pixels = model.grid.part_of(block.grid, "the model")
        lower = label_fit.lower

        def tensor(array: NDArray[Any], dtype: str) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(array[:, pixels], dtype=dtype)).to(lower.device)

        flux, ivar = tensor(block.flux, "f8"), tensor(block.ivar, "f8")
        good = torch.from_numpy(usable(block.flux, block.ivar, block.mask, UNUSABLE_NORMALISED)[:, pixels])
        good = good.to(lower.device)
        flux, ivar = torch.where(good, flux, 1.0), torch.where(good, ivar, 0.0)
        if model.grid.normalisation and not block.grid.normalisation:
            recipe = Normalisation.from_json(model.grid.normalisation)
            flux, ivar = divide_by_continuum(flux, ivar, good, model.grid.wavelength, recipe)
        variance = torch.from_numpy(model.variance).to(lower.device)
        used = (ivar > 0) & torch.isfinite(variance)
        weight = torch.where(used, 1.0 / (1.0 / ivar + variance), 0.0)
        weight *= label_fit.inside[: model.n_pixel]
        snr = _median_snr(flux, ivar, used)
        result = torch.zeros(len(flux), dtype=torch.uint8, device=lower.device)
        result[(weight > 0).sum(-1) <= len(self.labels)] = int(Result.TOO_FEW_PIXELS)
        fill = (0, padded(model.n_pixel) - model.n_pixel)
        pad = torch.nn.functional.pad
        return Spectra(
            pixels, pad(flux, fill, value=1.0).to(lower.dtype), pad(weight, fill).to(lower.dtype), snr, result
        )

    def fit_labels(
        self,
        spectra: Spectra,
        fixed: Mapping[str, Tensor] | None = None,
        priors: Mapping[str, tuple[Tensor, Tensor]] | None = None,
    ) -> Fitted:
        """Fit the stars that can be fitted; values of each of these stars go before the options of the estimator."""
        like = spectra.flux.new_ones(len(spectra.fitted))
        held = {name: value * like for name, value in self.fixed.items()} | dict(fixed or {})
        known = {name: (m * like, s * like) for name, (m, s) in self.priors.items()} | dict(priors or {})
        star = spectra.fitted
        return self._label_fit.fit(spectra.flux[star], spectra.weight[star], held, known)

    @property
    def _label_fit(self) -> LabelFit:
        return _prepare(self._model, self.max_velocity, DTYPES[self.dtype], torch.device(self.device))

    def spectra_of(self, block: Block, spectra: Spectra, fitted: Fitted) -> dict[str, NDArray[Any]]:
        """Models in the units of the observed flux, NaN outside the window, and the pixels used."""
        model_flux = np.full(block.flux.shape, np.nan, dtype="f4")
        mask = np.zeros(block.flux.shape, dtype="u1")
        n_pixel, label_fit = self._model.n_pixel, self._label_fit
        mask[:, spectra.pixels] = (spectra.weight > 0)[:, :n_pixel].cpu().numpy()
        lanes = LANES[spectra.flux.device.type]
        found = in_lanes(
            lambda star: label_fit.model(label_fit.inward(fitted.parameters[star]))[:, :n_pixel],
            len(spectra.fitted),
            lanes,
            spectra.flux.device,
        )
        if found:
            star = spectra.fitted.cpu().numpy()
            model_flux[star, spectra.pixels] = (
                (torch.cat(found) * self._continuum(block, spectra)).cpu().numpy()
            )
        return {"model": model_flux, "used": mask}

    def _continuum(self, block: Block, spectra: Spectra) -> Tensor:
        grid = self._model.grid
        if not grid.normalisation or block.grid.normalisation:
            return torch.ones_like(spectra.flux[:1, :1])
        star = spectra.fitted.cpu().numpy()
        flux = torch.from_numpy(np.asarray(block.flux[star, spectra.pixels], dtype="f8"))
        mask, ivar = block.mask[star, spectra.pixels], block.ivar[star, spectra.pixels]
        recipe = Normalisation.from_json(grid.normalisation)
        good = torch.from_numpy(
            usable(flux.numpy(), ivar, mask, UNUSABLE_NORMALISED) & ~within(grid.wavelength, recipe.excluded)
        )
        return pseudo_continuum(flux, good, grid.wavelength, recipe).to(spectra.flux.device)


def _median_snr(flux: Tensor, ivar: Tensor, used: Tensor) -> Tensor:
    """Median signal-to-noise ratio of a pixel, from every fourth: medians are dear."""
    some = slice(None, None, 4)
    snr = torch.where(used[:, some], flux[:, some] * ivar[:, some].sqrt(), torch.nan)
    return snr.nanmedian(dim=1).values if len(snr) else snr[:, 0]


@functools.lru_cache(maxsize=4)
def _prepare(model: Model, max_velocity: float, dtype: torch.dtype, device: torch.device) -> LabelFit:
    """Build what all stars share, once a process."""
    step = model.grid.ln_step
    candidates = torch.from_numpy(_some(model.training_labels, _CANDIDATES)).to(device, dtype)
    emulator = model.emulator.to(dtype, device)
    return LabelFit(emulator, step, model.n_pixel, candidates, max_velocity)


def _some(labels: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Labels of training stars, drawn without regard to anything: dense where stars are."""
    chosen = np.random.default_rng(0).permutation(len(labels))[:n]
    return labels[chosen]


def _check_options(estimator: Trained) -> None:
    if estimator.dtype not in DTYPES:
        raise ValueError(f"dtype {estimator.dtype!r} is not known; one of {list(DTYPES)} is required.")
    if torch.device(estimator.device).type not in LANES:
        raise ValueError(f"device {estimator.device!r} is not known; one of {list(LANES)} is required.")
    if torch.device(estimator.device).type == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {estimator.device!r} was asked for, and torch finds no GPU here; one is required. Use 'cpu'."
        )
    both = set(estimator.fixed) & set(estimator.priors)
    if both:
        raise ValueError(
            f"{sorted(both)} are held and have a prior; one of the two is required. Leave one out."
        )
    for name, (_, width) in estimator.priors.items():
        if not width > 0:
            raise ValueError(
                f"the prior on {name} has a standard deviation of {width}; a positive one is required."
            )
