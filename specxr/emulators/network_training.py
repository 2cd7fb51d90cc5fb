"""How a network emulator is trained: Adam on random batches, until held-out spectra are predicted no better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.emulators.network import ACTIVATIONS, NetworkEmulator, scaled_inputs
from specxr.emulators.training_state import TrainingState, copies, keep_state, restore_state
from specxr.kernels.shape import padded
from specxr.spectra.training_set import TrainingSet

_BATCHES_PER_ROUND = 100
_ROUNDS_PER_CHECKPOINT = 10
_HALVINGS = 6  # times that the learning rate is halved before the training ends
_GAIN = 0.99  # a round is better than the best if its loss is lower by one percent

# No flux counts as better known than this. Emulators are rarely better, and without a floor the few stars of highest
# S/N would decide what is learnt.
_FLOOR = 0.003


@dataclass(frozen=True)
class Recipe:
    """Options of a training; see `specxr.Payne`."""

    hidden: tuple[int, ...]
    activation: str
    learning_rate: float
    weight_decay: float
    batch: int
    max_rounds: int
    patience: int
    validation: float
    seed: int


@dataclass(frozen=True)
class _Spectra:
    """Stars in the units of the network, in float32: inputs, outputs and weights."""

    inputs: Tensor
    outputs: Tensor
    weight: Tensor

    def __getitem__(self, stars: Tensor) -> _Spectra:
        return _Spectra(self.inputs[stars], self.outputs[stars], self.weight[stars])


@dataclass(frozen=True)
class _Units:
    """What brings labels and flux to the units of the network: standardised labels, flux less its mean."""

    bounds: dict[str, tuple[float, float]]
    centre: Tensor
    unit: Tensor
    mean: Tensor
    scale: Tensor
    known: Tensor

    @classmethod
    def of(cls, training: TrainingSet) -> _Units:
        labels = torch.from_numpy(training.label_array)
        inputs, _ = scaled_inputs(labels, tuple(training.labels), torch.zeros(1), torch.ones(1))
        good = training.good
        flux = np.where(good, training.flux, 0.0)
        n_good = good.sum(axis=0)
        mean = np.where(n_good > 0, flux.sum(axis=0, dtype="f8") / np.maximum(n_good, 1), 1.0)
        spread = np.sqrt((np.where(good, flux - mean, 0.0) ** 2).sum() / good.sum())
        return cls(
            training.bounds,
            inputs.mean(dim=0),
            inputs.std(dim=0),
            torch.from_numpy(mean),
            torch.tensor(spread, dtype=torch.float64),
            torch.from_numpy(n_good > 0),
        )

    def spectra(self, training: TrainingSet) -> _Spectra:
        """Stars of a training set as the network sees them."""
        labels = torch.from_numpy(training.label_array)
        inputs, _ = scaled_inputs(labels, tuple(self.bounds), self.centre, self.unit)
        good = training.good
        flux = torch.from_numpy(np.where(good, training.flux, 1.0))
        variance = torch.from_numpy(1.0 / np.where(good, training.ivar, 1.0)) + _FLOOR**2
        weight = torch.from_numpy(good) / variance
        weight = weight / (weight.sum() / max(int(good.sum()), 1))
        return _Spectra(inputs.float(), ((flux - self.mean) / self.scale).float(), weight.float())

    def emulator(self, activation: str, parameters: list[Tensor]) -> NetworkEmulator:
        """The network of labels and flux in their own units, on padded pixels; 1 where no star has a pixel."""
        layers = [p.detach().cpu().double() for p in parameters]
        scale = self.scale * self.known
        layers[-2], layers[-1] = layers[-2] * scale, layers[-1] * scale + self.mean
        fill = (0, padded(len(self.mean)) - len(self.mean))
        layers[-2:] = [torch.nn.functional.pad(p, fill) for p in layers[-2:]]
        return NetworkEmulator(
            self.bounds, activation, self.centre, self.unit, tuple(layers[::2]), tuple(layers[1::2])
        )


def train_network(
    training: TrainingSet,
    recipe: Recipe,
    device: str,
    progress: Callable[[int, int, float], None] | None = None,
    checkpoint: Path | None = None,
) -> tuple[NetworkEmulator, NDArray[np.float64]]:
    """Train a network on spectra.

    Parameters
    ----------
    training : TrainingSet
        Checked.
    recipe : Recipe
    device : str
    progress : callable, optional
        ``progress(round, max_rounds, rms)``, with the least root mean square residual of the held-out spectra so far.
    checkpoint : Path, optional
        File in which the state is kept; if it exists, the training goes on from it and ends with the same network.

    Returns
    -------
    emulator : NetworkEmulator
        The network in float64 on the CPU.
    variance : ndarray, shape (wavelength,)
        Mean squared residual of the held-out spectra, less their noise.
    """
    generator = torch.Generator().manual_seed(recipe.seed)
    order = torch.randperm(len(training), generator=generator).numpy()
    n_held = min(max(1, round(recipe.validation * len(training))), len(training) - 1)
    held, learnt = training[order[:n_held]], training[order[n_held:]]
    units = _Units.of(learnt)
    held_out, learning = (_on(units.spectra(part), device) for part in (held, learnt))
    state = _begin(recipe, learning, generator)
    mark = f"{training.fingerprint} {recipe!r}"
    if checkpoint is not None and checkpoint.exists():
        restore_state(state, checkpoint, mark)

    while state.rounds < recipe.max_rounds and state.halved <= _HALVINGS:
        _learn(state, learning, recipe)
        _judge(state, _loss(state.parameters, held_out, recipe.activation).item(), recipe)
        if progress is not None:
            progress(state.rounds, recipe.max_rounds, float(units.scale) * state.best_loss**0.5)
        if checkpoint is not None and state.rounds % _ROUNDS_PER_CHECKPOINT == 0:
            keep_state(state, checkpoint, mark)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    emulator = units.emulator(recipe.activation, state.best)
    return emulator, held_out_variance(emulator.flux, held)


def held_out_variance(emulate: Callable[[Tensor], Tensor], held: TrainingSet) -> NDArray[np.float64]:
    """Mean squared residual of held-out spectra less their noise, not below 0, shape (wavelength,)."""
    labels = torch.from_numpy(held.label_array)
    flux = torch.cat([emulate(part) for part in torch.split(labels, 256)])
    good = held.good
    residual = np.where(good, held.flux - flux[:, : good.shape[1]].numpy(), 0.0)
    noise = np.where(good, 1.0 / np.where(good, held.ivar, 1.0), 0.0)
    return np.asarray(np.maximum((residual**2 - noise).sum(axis=0) / np.maximum(good.sum(axis=0), 1), 0.0))


def _on(spectra: _Spectra, device: str) -> _Spectra:
    return _Spectra(spectra.inputs.to(device), spectra.outputs.to(device), spectra.weight.to(device))


def _begin(recipe: Recipe, learning: _Spectra, generator: torch.Generator) -> TrainingState:
    sizes = (learning.inputs.shape[1], *recipe.hidden, learning.outputs.shape[1])
    parameters = []
    for inputs, outputs in zip(sizes[:-1], sizes[1:], strict=True):
        weight = (2.0 * torch.rand((inputs, outputs), generator=generator) - 1.0) / inputs**0.5
        parameters += [weight, torch.zeros(outputs)]
    parameters[-2] *= 0.1  # begin near the mean spectrum
    parameters = [p.to(learning.inputs.device).requires_grad_() for p in parameters]
    optimiser = torch.optim.AdamW(parameters, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return TrainingState(parameters, optimiser, generator, copies(parameters))


def _loss(parameters: list[Tensor], spectra: _Spectra, activation: str) -> Tensor:
    """Mean weighted squared residual, in units of the flux's own variance."""
    values = spectra.inputs
    for weight, bias in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
        values, _ = ACTIVATIONS[activation](values @ weight + bias)
    residual = values @ parameters[-2] + parameters[-1] - spectra.outputs
    return (spectra.weight * residual.square()).mean()


def _learn(state: TrainingState, learning: _Spectra, recipe: Recipe) -> None:
    """One round of batches of random stars."""
    size = (_BATCHES_PER_ROUND, recipe.batch)
    stars = torch.randint(len(learning.inputs), size, generator=state.generator)
    for batch in stars.to(learning.inputs.device):
        loss = _loss(state.parameters, learning[batch], recipe.activation)
        state.optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimiser.step()


def _judge(state: TrainingState, loss: float, recipe: Recipe) -> None:
    """Keep the best network; halve the learning rate, from the best, where none was better for a while."""
    state.rounds += 1
    state.waited += 1
    if loss < state.best_loss:
        if loss < _GAIN * state.best_loss:
            state.waited = 0
        state.best, state.best_loss = copies(state.parameters), loss
    if state.waited >= recipe.patience:
        state.waited, state.halved = 0, state.halved + 1
        for group in state.optimiser.param_groups:
            group["lr"] *= 0.5
        with torch.no_grad():
            for parameter, best in zip(state.parameters, state.best, strict=True):
                parameter.copy_(best)
