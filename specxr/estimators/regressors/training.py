"""How the network of a regressor learns: AdamW, a cosine, early stop, and checkpoints that resume to the bit."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.training_state import TrainingState, copies, keep_state, restore_state
from specxr.estimators.regressors.disturbance import Disturbance, SurveySpectra, mixed
from specxr.estimators.regressors.inputs import Inputs
from specxr.estimators.regressors.networks import Network

_EPOCHS_PER_CHECKPOINT = 5
_BETA = 0.5
_LOG_VARIANCE = (-14.0, 6.0)  # of labels in units of their scatter
_LABEL_WEIGHT = 50.0  # of squared errors beside the cross-entropy (language paper, section IV.1)
_LARGEST_GRADIENT = 5.0


@dataclass(frozen=True)
class Schedule:
    """Options of a training; see `specxr.Regressor`."""

    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    patience: int
    loss: str
    seed: int


@dataclass(frozen=True, eq=False)
class Lesson:
    """Spectra with what is to be learnt of them.

    Attributes
    ----------
    inputs : Inputs
    spectra : SurveySpectra
    labels : Tensor, shape (star, label)
        In units of their scatter, NaN where a label is missing.
    classes : Tensor of int, shape (star,)
        The class of each star, -1 where it has none.
    disturbance, natural : Disturbance
        What happens to spectra that are learnt, and to those that are held out.
    centre, scale : Tensor, shape (pixel,)
        Mean of each pixel, and what it is multiplied by.
    device : str
    """

    inputs: Inputs
    spectra: SurveySpectra
    labels: Tensor
    classes: Tensor
    disturbance: Disturbance
    natural: Disturbance
    centre: Tensor
    scale: Tensor
    device: str

    def rows(self, stars: NDArray[np.int64], epoch: int, *, natural: bool = False) -> Tensor:
        """Inputs of the network of some stars in an epoch, shape (star, input)."""
        disturbed = (self.natural if natural else self.disturbance)(self.spectra, stars, epoch)
        rows = self.inputs.rows(self.inputs.spectra(*disturbed))
        return standardised(rows, self.centre, self.scale).to(self.device)


def standardised(rows: Tensor, centre: Tensor, scale: Tensor) -> Tensor:
    """Rows of inputs with their pixels standardised, in place."""
    pixels = rows[:, : len(centre)]
    pixels.sub_(centre).mul_(scale)
    return rows


def learn_network(
    network: Network,
    lesson: Lesson,
    learnt: NDArray[np.int64],
    held: NDArray[np.int64],
    schedule: Schedule,
    progress: Callable[[int, float], None],
    checkpoint: tuple[Path, str] | None = None,
) -> Network:
    """Train a network until its learning rate is zero, or until the held-out stars are predicted no better for long.

    Only in the second case has it the weights of the epoch that predicts them best: chosen by the held-out stars, every
    network would seem better on these than it is, and errors that they calibrate would be too small.

    Parameters
    ----------
    network : Network
        With its first weights.
    lesson : Lesson
    learnt, held : ndarray of int
        Stars to learn, and stars to hold out.
    schedule : Schedule
    progress : callable
        ``progress(epochs, rms)``, the least root mean square error of the held-out labels in units of their scatter.
    checkpoint : (Path, str), optional
        File in which the state is kept, and what training it belongs to.
    """
    network.to(lesson.device)
    tensors = [t for t in network.state_dict(keep_vars=True).values() if t.is_floating_point()]
    optimiser = torch.optim.AdamW(
        network.parameters(), lr=schedule.learning_rate, weight_decay=schedule.weight_decay
    )
    state = TrainingState(tensors, optimiser, torch.Generator(), copies(tensors))
    if checkpoint is not None and checkpoint[0].exists():
        restore_state(state, *checkpoint)
    seen = lesson.rows(held, 0, natural=True)
    truth = lesson.labels[held].to(lesson.device)
    while state.rounds < schedule.epochs and state.waited < schedule.patience:
        _epoch(network, lesson, learnt, schedule, state)
        error = _error(network, seen, truth)
        state.rounds += 1
        state.waited += 1
        if error < state.best_loss:
            state.best, state.best_loss, state.waited = copies(tensors), error, 0
        progress(state.rounds, state.best_loss)
        if checkpoint is not None and state.rounds % _EPOCHS_PER_CHECKPOINT == 0:
            keep_state(state, *checkpoint)
    if state.rounds < schedule.epochs:
        with torch.no_grad():
            for tensor, best in zip(tensors, state.best, strict=True):
                tensor.copy_(best)
    if checkpoint is not None:
        keep_state(state, *checkpoint)
    return network.cpu().eval()


def _epoch(
    network: Network, lesson: Lesson, learnt: NDArray[np.int64], schedule: Schedule, state: TrainingState
) -> None:
    """Show all stars once, in an order that the seed and the epoch decide."""
    network.train()
    order = np.random.default_rng(mixed(schedule.seed, state.rounds)).permutation(learnt)
    batches = np.array_split(order, max(1, round(len(order) / schedule.batch)))
    for i, stars in enumerate(batches):
        done = (state.rounds + i / len(batches)) / schedule.epochs
        for group in state.optimiser.param_groups:
            group["lr"] = 0.5 * schedule.learning_rate * (1.0 + math.cos(math.pi * done))
        out = network(lesson.rows(stars, state.rounds))
        labels, classes = lesson.labels[stars].to(out.device), lesson.classes[stars].to(out.device)
        loss = _loss(out, labels, classes, schedule.loss)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), _LARGEST_GRADIENT)
        state.optimiser.step()


def _error(network: Network, rows: Tensor, labels: Tensor) -> float:
    """Root mean square error of the labels of held-out stars.

    The likelihood would judge the variances as well, which soon are too small for stars that are not learnt.
    """
    network.eval()
    with torch.no_grad():
        out = torch.cat([network(part) for part in torch.split(rows, 256)])
        mean, _ = moments(out, labels.shape[1])
        return float((mean - labels).square().nanmean().sqrt())


def moments(out: Tensor, n_label: int) -> tuple[Tensor, Tensor]:
    """Mean and logarithm of the variance of each label, shape (star, label), of the outputs of a network."""
    mean, log_variance = out[:, : 2 * n_label].reshape(-1, n_label, 2).unbind(-1)
    return mean, log_variance.clamp(*_LOG_VARIANCE)


def _loss(out: Tensor, labels: Tensor, classes: Tensor, kind: str) -> Tensor:
    """beta-NLL (Seitzer et al. 2022, equation 5), or the paper's sum of squares and cross-entropy.

    A label that is missing is replaced by the prediction before anything is computed: NaN times a weight of zero would
    be NaN in the gradient.
    """
    mean, log_variance = moments(out, labels.shape[1])
    known = torch.isfinite(labels)
    square = (torch.where(known, labels, mean.detach()) - mean).square()
    count = known.sum().clamp(min=1)
    if kind == "paper":
        total = _LABEL_WEIGHT * square.sum() / count
    else:
        likelihood = 0.5 * (log_variance + square * torch.exp(-log_variance))
        total = (torch.exp(log_variance.detach() * _BETA) * likelihood * known).sum() / count
    named = classes >= 0
    if named.any():
        total = total + torch.nn.functional.cross_entropy(out[named, 2 * labels.shape[1] :], classes[named])
    return total
