"""The language model as an estimator: spectra as text or as tokens of numbers, labels as an answer.

Lu et al. 2026 (the language paper), section III; docs/methods/language.md says where this differs.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from specxr.content import short_fingerprint
from specxr.emulators.arrays import Required, check_arrays
from specxr.estimators.backend import check_choice
from specxr.estimators.base import Block, Output
from specxr.estimators.conformal import Conformal
from specxr.estimators.language.answering import Answering, cells_of, errors_of
from specxr.estimators.language.base_model import (
    PRECISIONS,
    Adapter,
    adapter_config,
    check_base,
    check_installed,
    check_same_base,
    fingerprint_of_base,
    open_base,
    set_adapter,
)
from specxr.estimators.language.folder import AdaptedModel, check_model_folder, open_adapted
from specxr.estimators.language.learning import ADAPTER_ARRAYS, CONFORMAL_ARRAYS, learn_language
from specxr.estimators.language.network import SpectrumReader, own_arrays_of
from specxr.estimators.language.observing import Read, judged, read_block, spectra_of
from specxr.estimators.language.reading import Reading
from specxr.estimators.language.tokens import NumberTokens, TextTokens, Tokens, open_tokenizer
from specxr.estimators.model_file import Model
from specxr.estimators.outputs import assemble, outputs_of
from specxr.estimators.trained import Progress, Trained
from specxr.spectra.grid import Grid
from specxr.spectra.pixels import bits_of, names_of_bits
from specxr.spectra.training_set import TrainingSet
from specxr.vocabulary import LABELS, LEFT_OUT, STAR

_TOKENS, _ANSWERS = ("text", "numbers"), ("digits", "regression")
_LEAST_PIXELS = 10


@dataclass(frozen=True, kw_only=True, eq=False)
class LanguageModel(Trained):
    """Labels of spectra by a causal language model with a low-rank adapter.

    It needs the extra ``language``, and a base model in a local folder; nothing is ever downloaded. What is trained
    is saved as a folder. The defaults are those of the language paper.

    Parameters
    ----------
    base : str
        Folder of the base model: any causal model of transformers, such as Llama-3.1-8B-Instruct. Where labels are
        inferred, only needed if it lies elsewhere than in the training.
    tokens : {"text", "numbers"}, optional
        Whether a spectrum is written as the paper's text, five tokens a pixel, or with one token a pixel from a
        vocabulary of the numbers 0.000 to 1.000, whose embedding is learnt.
    answer : {"digits", "regression"}, optional
        Whether labels are answered digit by digit, or by a linear head on the last hidden state: the control.
    window : (float, float), optional
        First and last wavelength that is read [Angstrom].
    step : float, optional
        Distance of the pixels that are read [Angstrom].
    rank, alpha, dropout : int, int, float, optional
        Those of the adapter (LoRA) of all linear layers.
    number_token_loss : float, optional
        Weight of the distance between expected and true digits beside the cross-entropy.
    learning_rate, weight_decay : float, optional
        Those of AdamW; the learning rate falls to zero along a cosine.
    epochs, minibatch, accumulation : int, optional
        Rounds through the training set, spectra computed together, and minibatches of a step.
    checkpointing : bool, optional
        Compute activations twice instead of keeping them.
    validation : float, optional
        Fraction of the stars that are not learnt and calibrate the errors; 0 for the bare spread of the answers.
    seed : int, optional
        Seed of the held-out stars, the first weights, the order of the batches and the dropout.
    start_from : str, optional
        Folder of a language model from which the training goes on, as the paper's second stage does.
    draws : int, optional
        Answers that are drawn of each star; their mean is the label and their spread its error.
    batch : int, optional
        Spectra that are inferred together.
    mask_bits : int or str, optional
        Bits of the mask that leave a pixel out, or their names with commas between them; it is then interpolated.
    device : {"cpu", "cuda"}, optional
    dtype : {"float32", "bfloat16", "nf4"}, optional
        How the weights of the base model are held; "nf4" (QLoRA, extra ``qlora``) is the paper's.
    model : Model, optional
        The trained model, which `fit` or `load` puts here.

    Examples
    --------
    >>> from specxr import LanguageModel
    >>> paper = LanguageModel(base="/models/Llama-3.1-8B-Instruct", dtype="nf4", device="cpu")
    """

    base: str = ""
    draws: int = 16
    batch: int = 8
    mask_bits: int | str = int(LEFT_OUT)
    dtype: str = "float32"

    tokens: str = "text"
    answer: str = "digits"
    window: tuple[float, float] = (3800.0, 8700.0)
    step: float = 1.0
    rank: int = 64
    alpha: int = 128
    dropout: float = 0.1
    number_token_loss: float = 0.0
    learning_rate: float = 1e-4
    weight_decay: float = 0.1
    epochs: int = 1
    minibatch: int = 1
    accumulation: int = 16
    checkpointing: bool = True
    validation: float = 0.1
    seed: int = 0
    start_from: str = ""

    kind: ClassVar[str] = "languagemodel"
    # Changes whenever the labels of the same options and model may change.
    code_version: ClassVar[str] = "1"
    direct: ClassVar[bool] = True
    tells: ClassVar[str] = "loss"
    precisions: ClassVar[tuple[str, ...]] = PRECISIONS

    def __post_init__(self) -> None:
        super().__post_init__()
        check_choice("tokens", self.tokens, _TOKENS)
        check_choice("answer", self.answer, _ANSWERS)
        object.__setattr__(self, "mask_bits", bits_of(self.mask_bits))
        positive = (
            "draws", "batch", "step", "rank", "alpha", "learning_rate", "epochs", "minibatch", "accumulation",
        )  # fmt: skip
        wrong = [name for name in positive if not getattr(self, name) > 0]
        wrong += [name for name in ("dropout", "validation") if not 0.0 <= getattr(self, name) < 1.0]
        wrong += [name for name in ("number_token_loss", "weight_decay") if not getattr(self, name) >= 0.0]
        wrong += [] if 0.0 < self.window[0] < self.window[1] else ["window"]
        if wrong:
            raise ValueError(
                f"{', '.join(f'{name} is {getattr(self, name)}' for name in wrong)}; positive numbers are required, "
                "dropout and validation between 0 and 1, and a window that increases. Correct them."
            )

    @classmethod
    def inference_options(cls) -> tuple[str, ...]:
        """Names of the options that may change after the training."""
        return "device", "dtype", "base", "draws", "batch", "mask_bits"

    @property
    def reading(self) -> Reading:
        """The linear pixels that are read."""
        return Reading(self.window, self.step)

    # -- training ------------------------------------------------------------------------------------------------
    def fit(
        self,
        training: TrainingSet,
        progress: Progress | None = None,
        checkpoint: str | os.PathLike[str] | None = None,
    ) -> Self:
        """Learn from a training set; see `Trained.fit`. ``progress(step, steps, loss)`` tells the loss."""
        check_installed(self.dtype)
        folder = check_base(self.base)
        self.reading.pixels(training.grid)
        training.check()  # an answer has all labels
        fitted = super().fit(training, progress, checkpoint).trained_model
        adapter = _starting_with(ADAPTER_ARRAYS, fitted.weights)
        model = replace(
            fitted,
            weights={
                name: array for name, array in fitted.weights.items() if not name.startswith(ADAPTER_ARRAYS)
            },
            training={
                **fitted.training,
                "base": str(folder.absolute()),
                "base_fingerprint": fingerprint_of_base(folder),
            },
        )
        return replace(
            self, model=AdaptedModel.of(model, adapter, adapter_config(folder.absolute(), self._adapter))
        )

    def learn(
        self, training: TrainingSet, progress: Progress | None, checkpoint: Path | None
    ) -> dict[str, NDArray[Any]]:
        """Learn the adapter and what is beside it, and calibrate the errors by stars that are not learnt."""
        return learn_language(self, training, progress)

    def check_weights(self) -> None:
        """Raise ``ValueError`` with what is wrong unless the arrays of the model are those that `learn` returns."""
        model = self.trained_model
        n_label = len(model.labels)
        check_arrays(
            {name: array for name, array in model.weights.items() if name in ("centre", "scale")},
            {"centre": Required((n_label,)), "scale": Required((n_label,), values="positive")},
        )
        conformal = _starting_with(CONFORMAL_ARRAYS, model.weights)
        if conformal:
            check_arrays(conformal, Conformal.required(conformal, n_label))
        own = own_arrays_of(model.weights)
        adapter = model.adapter if isinstance(model, AdaptedModel) else {}
        if not adapter or not all(np.isfinite(array).all() for array in (*adapter.values(), *own.values())):
            raise ValueError("its adapter has no weights, or some that are not finite")

    @classmethod
    def check_path(cls, path: str | os.PathLike[str], overwrite: bool) -> None:
        """Raise, before anything is computed, where the folder of a model cannot be written to this path."""
        check_model_folder(path, overwrite)

    @classmethod
    def open_saved(cls, path: str | os.PathLike[str]) -> Model:
        """Read the folder that `save` wrote."""
        return open_adapted(path)

    # -- inference -----------------------------------------------------------------------------------------------
    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        what = "sum of squared differences between the flux over its maximum and what is read of it"
        ends = [
            Output(f"{name}_{end}95", (STAR,), "float64", LABELS[name].interval_attrs(word))
            for name in self.labels
            for end, word in (("lo", "lower"), ("hi", "upper"))
        ]
        return (*outputs_of(self.labels, chi2=what), *ends)

    @property
    def weighted(self) -> bool:
        """Never: a text has no errors."""
        return False

    @property
    def base_folder(self) -> str:
        """Folder of the base model: that of the training unless another one is given."""
        return self.base or str(self.trained_model.training.get("base", ""))

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the model that produced the labels."""
        errors = "spread of the answers" if self.answer == "digits" else "said by the regression head"
        if _starting_with(CONFORMAL_ARRAYS, self.trained_model.weights):
            errors += ", times the factors that held-out stars require"
        return {
            **super().provenance,
            "mask_bits": names_of_bits(bits_of(self.mask_bits)),
            "base_fingerprint": self.trained_model.training.get("base_fingerprint", ""),
            "errors": errors,
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of options, model and code version; not of where the base model lies."""
        return short_fingerprint({**self.provenance, "model": "", "base": ""})

    def check(self, grid: Grid) -> None:
        """Raise before anything is computed where this grid cannot be read, or the base model is not there."""
        super().check(grid)
        check_installed(self.dtype)
        check_same_base(self.adapted.training, check_base(self.base_folder))

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Ask for the labels of every star of a block; see ``outputs`` for what comes back."""
        self.check(block.grid)
        model = self.trained_model
        read = self.read(block, model.grid)
        names, observed = self.labels, read.observed
        labels, covariance = self._answering()(read.values)
        half = 1.96 * errors_of(covariance)
        conformal = _starting_with(CONFORMAL_ARRAYS, model.weights)
        if conformal:
            factors = Conformal.from_arrays(conformal)(*cells_of(observed.snr.numpy(), labels, names))
            half = factors[:, :, 1] * errors_of(covariance)
            covariance = covariance * factors[:, :, None, 0] * factors[:, None, :, 0]
        out = assemble(names, observed, judged(block, read, self.reading, model, labels, covariance))
        for i, name in enumerate(names):
            for end, sign in (("lo", -1.0), ("hi", 1.0)):
                out[f"{name}_{end}95"] = np.full(len(block.flux), np.nan)
                out[f"{name}_{end}95"][observed.star] = labels[:, i] + sign * half[:, i]
        return out | (spectra_of(block, read, self.reading, model.grid) if spectra else {})

    def snr_of(self, block: Block) -> NDArray[np.float64]:
        """Median signal-to-noise ratio of a pixel, NaN for stars that cannot be read, shape (star,)."""
        observed = self.read(block, self.trained_model.grid).observed
        snr = np.full(len(block.flux), np.nan)
        snr[observed.star] = observed.snr.numpy()
        return snr

    # -- what both need ------------------------------------------------------------------------------------------
    @property
    def _adapter(self) -> Adapter:
        return Adapter(self.rank, self.alpha, self.dropout)

    @property
    def adapted(self) -> AdaptedModel:
        """The trained model with its adapter."""
        model = self.trained_model
        assert isinstance(model, AdaptedModel)
        return model

    def read(self, block: Block, grid: Grid) -> Read:
        """Read the spectra of a block; `grid` is that of the training set."""
        return read_block(block, grid, self.reading, bits_of(self.mask_bits), _LEAST_PIXELS)

    def tokens_of(self, base: Path, bounds: Mapping[str, tuple[float, float]]) -> Tokens:
        """How spectra and labels between these bounds become tokens."""
        if self.tokens == "numbers":
            return NumberTokens(bounds)
        return TextTokens(open_tokenizer(base), bounds, self.window)

    def network_of(self, base: Path, tokens: Tokens, n_label: int, *, checkpointing: bool) -> SpectrumReader:
        """The base model with an adapter that has not learnt anything."""
        causal = open_base(base, self.dtype, self.device, self._adapter, checkpointing=checkpointing)
        n_symbols = len(tokens.symbols) if isinstance(tokens, NumberTokens) else 0
        return SpectrumReader(causal, n_symbols, 0 if self.answer == "digits" else 2 * n_label)

    def _answering(self) -> Answering:
        return _prepare(self.adapted, self.base_folder, self.dtype, self.device, self.draws, self.batch)

    def _open(self) -> Answering:
        """Put the base model and what was learnt together."""
        model, base = self.adapted, Path(self.base_folder)
        tokens = self.tokens_of(base, model.bounds)
        network = self.network_of(base, tokens, len(model.labels), checkpointing=False)
        set_adapter(network.causal, model.adapter)
        network.set_own_arrays(own_arrays_of(model.weights))
        network.to(self.device).eval()
        return Answering(
            network, tokens, model.weights["centre"], model.weights["scale"], self.draws, self.batch
        )


@functools.lru_cache(maxsize=2)
def _prepare(model: AdaptedModel, base: str, dtype: str, device: str, draws: int, batch: int) -> Answering:
    """Open the network once a process."""
    learnt: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in model.options.items()}
    here = LanguageModel(
        **learnt, base=base, dtype=dtype, device=device, draws=draws, batch=batch, model=model
    )
    return here._open()


def _starting_with(prefix: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}
