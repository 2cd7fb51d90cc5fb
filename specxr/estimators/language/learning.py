"""How a language model learns: examples, adapter, and the calibration of its errors by stars that are held out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from specxr.estimators.base import Block
from specxr.estimators.conformal import Conformal
from specxr.estimators.language.answering import Answering, cells_of, errors_of
from specxr.estimators.language.base_model import adapter_of, check_length, check_same_base, set_adapter
from specxr.estimators.language.fine_tuning import Example, FineTuning, accelerator_for, fine_tune, seeded
from specxr.estimators.language.network import SpectrumReader
from specxr.estimators.language.tokens import NumberTokens, Tokens
from specxr.estimators.trained import Progress
from specxr.spectra.training_set import TrainingSet

if TYPE_CHECKING:
    from specxr.estimators.language.estimator import LanguageModel

# Before names of arrays.
ADAPTER_ARRAYS, CONFORMAL_ARRAYS = "adapter.", "conformal."
_LEAST_HELD_OUT = 20  # stars that calibrate errors


def learn_language(
    model: LanguageModel, training: TrainingSet, progress: Progress | None
) -> dict[str, NDArray[Any]]:
    """Learn the adapter and what is beside it, and calibrate the errors by stars that are not learnt.

    Parameters
    ----------
    model : LanguageModel
        Its options.
    training : TrainingSet
    progress : callable, optional
        ``progress(step, steps, loss)``.

    Returns
    -------
    dict of str to ndarray
        Arrays of the adapter, those beside it, and the factors of the errors.
    """
    held_out = _held_out(model, len(training))
    learnt = training[~held_out].label_array
    centre, scale = learnt.mean(axis=0), learnt.std(axis=0)
    tokens = model.tokens_of(Path(model.base), training.bounds)
    read = model.read(Block(training.grid, training.flux, training.ivar, training.mask), training.grid)
    if len(read.values) < len(training):
        lost = len(training) - len(read.values)
        raise ValueError(
            f"{lost} of {len(training)} training spectra cannot be read; spectra with good pixels and positive "
            f"flux in {model.window[0]:g}-{model.window[1]:g} Angstrom are required. Leave these stars out."
        )
    digits = model.answer == "digits"
    kinds = [""] * len(training) if training.types is None else training.types.tolist()
    examples = [
        Example(
            tokens.prompt(read.values[star]),
            tokens.answer(dict(zip(training.labels, labels, strict=True)), kinds[star]) if digits else [],
            (labels - centre) / scale,
        )
        for star, labels in enumerate(training.label_array)
    ]
    accelerator = accelerator_for(model.device, model.accumulation)
    with seeded(model.seed):
        network = model.network_of(Path(model.base), tokens, len(centre), checkpointing=model.checkpointing)
    check_length(network.causal, max(len(e.prompt) + len(e.answer) for e in examples))
    if model.start_from:
        _go_on_from(model, network, tokens)
    recipe = FineTuning(
        model.learning_rate,
        model.weight_decay,
        model.epochs,
        model.minibatch,
        model.number_token_loss,
        model.seed,
    )
    kept = [example for example, held in zip(examples, held_out, strict=True) if not held]
    ids = tokens.grammar.ids[tokens.grammar.digits]
    state = fine_tune(network, kept, ids, recipe, accelerator, progress)
    weights = {
        f"{ADAPTER_ARRAYS}{name}": array
        for name, array in adapter_of(network.causal, network.of_causal(state)).items()
    }
    weights |= network.own_arrays(state) | {"centre": centre, "scale": scale}
    if held_out.any():
        network.to(model.device)
        answering = Answering(network, tokens, centre, scale, model.draws, model.batch)
        labels, covariance = answering(read.values[held_out])
        difference = labels - training.label_array[held_out]
        cells = cells_of(read.observed.snr.numpy()[held_out], labels, tuple(training.labels))
        calibrated = Conformal.of(difference, errors_of(covariance), *cells)
        weights |= {f"{CONFORMAL_ARRAYS}{name}": array for name, array in calibrated.arrays().items()}
    return weights


def _held_out(model: LanguageModel, n_star: int) -> NDArray[np.bool_]:
    """The stars that are not learnt, shape (star,)."""
    number = int(round(model.validation * n_star))
    if 0 < number < _LEAST_HELD_OUT or (model.validation and not number):
        raise ValueError(
            f"validation {model.validation} of {n_star} stars holds {number} out; at least {_LEAST_HELD_OUT} are "
            "required to calibrate errors. Hold more of them out, or take validation=0 for errors that are not "
            "calibrated."
        )
    held_out = np.zeros(n_star, dtype=bool)
    held_out[np.random.default_rng(model.seed).permutation(n_star)[:number]] = True
    return held_out


def _go_on_from(model: LanguageModel, network: SpectrumReader, tokens: Tokens) -> None:
    """Put the weights of an earlier stage into a network, those of symbols by their names."""
    earlier = type(model).load(model.start_from)
    known = earlier.adapted
    check_same_base(known.training, Path(model.base))
    differing = [
        name for name in ("tokens", "window", "step", "rank", "alpha")
        if getattr(earlier, name) != getattr(model, name)
    ]  # fmt: skip
    if differing:
        said = ", ".join(
            f"{name} is {getattr(model, name)}, not {getattr(earlier, name)}" for name in differing
        )
        raise ValueError(
            f"{said} as in '{model.start_from}'; the same is required to go on from there. Give the options of the "
            "first stage."
        )
    set_adapter(network.causal, known.adapter)
    if isinstance(tokens, NumberTokens):
        network.take_symbols(known.weights, NumberTokens(known.bounds).symbols, tokens.symbols)
