"""Estimators that learn from a training set, whatever they learn: training, files, provenance."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from specxr.content import check_local, check_writable, short_fingerprint
from specxr.estimators.backend import DTYPES, check_backend
from specxr.estimators.base import Block, Output
from specxr.estimators.model_file import Model, check_model_path, open_model, refused
from specxr.spectra.grid import Grid
from specxr.spectra.training_set import TrainingSet

#: Called while training: what is done, of how much, and how far predictions are from held-out spectra or labels.
Progress = Callable[[int, int, float], None]


@dataclass(frozen=True, kw_only=True, eq=False)
class Trained(ABC):
    """An estimator that learns from a training set; a base class.

    A subclass fills in `learn`, and infers labels from the weights that this returned. Fields of abstract subclasses
    are options of the inference, and those of concrete ones decide what is learnt; see `inference_options`.

    Parameters
    ----------
    device : {"cpu", "cuda"}, optional
    dtype : {"float64", "float32"}, optional
        Precision of the inference.
    model : Model, optional
        The trained model, which `fit` or `load` puts here.
    """

    device: str = "cpu"
    dtype: str = "float64"
    model: Model | None = None

    kind: ClassVar[str]
    code_version: ClassVar[str]
    keeps_checkpoints: ClassVar[bool] = False
    # From spectra straight to labels: spectra are learnt as the survey gives them, a star may lack labels, and the
    # errors are calibrated by stars that the training itself holds out.
    direct: ClassVar[bool] = False
    tells: ClassVar[str] = "rms"  # what the progress of the training is given
    precisions: ClassVar[tuple[str, ...]] = tuple(DTYPES)

    def __post_init__(self) -> None:
        check_backend(self.device, self.dtype, self.precisions)

    # -- training ------------------------------------------------------------------------------------------------
    def fit(
        self,
        training: TrainingSet,
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Learn from a training set.

        Parameters
        ----------
        training : TrainingSet
        progress : callable, optional
            ``progress(done, total, error)``.
        checkpoint : path-like, optional
            A file in which the training is kept while it lasts. If it exists, the training goes on from there and
            ends as if it had never stopped. Only some methods keep one.

        Returns
        -------
        A fitted copy.

        Raises
        ------
        ValueError
            Nothing sensible can be learnt from the training set, or the method keeps no checkpoint.
        """
        if checkpoint is not None and not self.keeps_checkpoints:
            raise ValueError(
                f"a checkpoint was named for {type(self).__name__}; a method that keeps one is required, such as The "
                "Payne. Leave it out."
            )
        if checkpoint is not None:
            check_local(checkpoint)
        training.check(missing=self.direct)
        weights = self.learn(training, progress, None if checkpoint is None else Path(checkpoint))
        model = Model(
            self.kind,
            training.grid,
            training.bounds,
            weights,
            _completed(training.label_array),
            self.training_options,
            {"fingerprint": training.fingerprint, "stars": len(training), **training.provenance},
        )
        return replace(self, model=model)

    @abstractmethod
    def learn(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> dict[str, NDArray[Any]]:
        """Learn from a checked training set; returns named arrays that a model file can hold."""

    @abstractmethod
    def check_weights(self) -> None:
        """Raise ``ValueError`` with what is wrong unless the arrays of the model are those that `learn` returns."""

    @classmethod
    def inference_options(cls) -> tuple[str, ...]:
        """Names of the options that may change after the training."""
        return tuple(f.name for f in fields(Trained) if f.name != "model")

    @property
    def training_options(self) -> dict[str, Any]:
        """Options that decide what is learnt."""
        other = {"model", *self.inference_options()}
        return {f.name: getattr(self, f.name) for f in fields(self) if f.name not in other}

    @classmethod
    def check_path(cls, path: str | os.PathLike[str], overwrite: bool) -> None:
        """Raise, before anything is computed, where a model of this kind cannot be written to this path."""
        check_model_path(path)
        check_writable(path, overwrite)

    @classmethod
    def open_saved(cls, path: str | os.PathLike[str]) -> Model:
        """Read the model that `save` wrote."""
        return open_model(path)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write the trained model to a .safetensors file, which appears once it is complete."""
        self.trained_model.save(path, overwrite)

    @classmethod
    def load(cls, path: str | os.PathLike[str], **options: Any) -> Self:
        """Open what `save` wrote.

        Parameters
        ----------
        path : path-like
        **options
            Options of the inference, see `inference_options`.

        Raises
        ------
        ValueError
            The file is damaged, was changed, or holds a model of another kind.
        """
        model = cls.open_saved(path)
        if model.kind != cls.kind:
            raise ValueError(
                f"{path} holds a model of kind {model.kind!r}; {cls.kind!r} is required here. Open it with "
                "specxr.open_estimator."
            )
        learnt: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in model.options.items()}
        try:
            trained = cls(**learnt, model=model)
            trained.check_weights()
        except (ValueError, TypeError) as error:
            raise refused(path, error) from error
        return replace(trained, **options)

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any], **options: Any) -> Self:
        """Open the model of a provenance with its options; `options` replace what it says."""
        if not provenance["model"]:
            raise ValueError(
                f"the {cls.__name__} of these labels was not opened from a model file; a file is required to open it "
                "again. Save a model and load it before it makes labels that must last."
            )
        known = {name: provenance[name] for name in cls.inference_options()}
        return cls.load(provenance["model"], **{**known, **options})

    # -- inference -----------------------------------------------------------------------------------------------
    @property
    def trained_model(self) -> Model:
        """The model, once there is one."""
        if self.model is None:
            raise ValueError(
                f"this {type(self).__name__} has learnt nothing yet; a trained one is required. Train it with `fit` or "
                "specxr.train, or open a file with `load`."
            )
        return self.model

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the inferred labels."""
        return self.trained_model.labels

    @property
    def inputs(self) -> tuple[str, ...]:
        """No variables of the stars."""
        return ()

    @property
    @abstractmethod
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""

    @property
    def held(self) -> tuple[str, ...]:
        """Labels that are not inferred but held, whose errors say nothing."""
        return ()

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the model that produced the labels."""
        model = self.trained_model
        return {
            "estimator": type(self).__name__,
            "estimator_version": self.code_version,
            "model": "" if model.source is None else str(model.source),
            "model_fingerprint": model.fingerprint,
            "normalisation": model.grid.normalisation,
            **{name: getattr(self, name) for name in self.inference_options()},
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of options, model and code version."""
        return short_fingerprint({**self.provenance, "model": ""})

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` before anything is computed where this grid cannot be fitted."""
        self.trained_model.grid.part_of(grid, f"this {type(self).__name__}")

    @abstractmethod
    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Infer labels of the stars of a block."""

    @abstractmethod
    def snr_of(self, block: Block) -> NDArray[np.float64]:
        """Median signal-to-noise ratio of a pixel of each star, shape (star,), as the errors are calibrated by it."""


def _completed(labels: NDArray[np.float64]) -> NDArray[np.float64]:
    """Labels of shape (star, label), with the mean of those that are known in the place of each that is missing."""
    return np.where(np.isnan(labels), np.nanmean(labels, axis=0), labels)
