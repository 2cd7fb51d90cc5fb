"""Where the training of a network stands, and the file that keeps it while it lasts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from specxr.content import fingerprint_of_file, whole_file


@dataclass
class TrainingState:
    """Where a training stands.

    Attributes
    ----------
    parameters : list of Tensor
        What is learnt, and what else the network keeps.
    optimiser : Optimizer
    generator : Generator
    best : list of Tensor
        Copies of the parameters where held-out stars were predicted best.
    best_loss : float
    rounds, waited, halved : int
        Rounds that are done, rounds since the best, and times that the learning rate was halved.
    """

    parameters: list[Tensor]
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    best: list[Tensor]
    best_loss: float = np.inf
    rounds: int = 0
    waited: int = 0
    halved: int = 0


def copies(parameters: list[Tensor]) -> list[Tensor]:
    """Copies of tensors."""
    return [p.detach().clone() for p in parameters]


_MOMENTS = ("step", "exp_avg", "exp_avg_sq")
_COUNTERS = ("best_loss", "rounds", "waited", "halved")


def keep_state(state: TrainingState, path: Path, mark: str) -> None:
    """Write the state to a file, which replaces the former at once."""
    tensors = {"generator": state.generator.get_state()}
    for i, (parameter, best) in enumerate(zip(state.parameters, state.best, strict=True)):
        tensors |= {f"parameter{i}": parameter.detach(), f"best{i}": best}
        # What the network keeps without learning it, such as the means of a batch normalisation, has no moments.
        if parameter in state.optimiser.state:
            moments = state.optimiser.state[parameter]
            tensors |= {f"{name}{i}": moments[name] for name in _MOMENTS}
    counters = {name: getattr(state, name) for name in _COUNTERS}
    metadata = {"mark": mark, "counters": json.dumps(counters)}
    with whole_file(path) as draft:
        save_file(tensors, draft, metadata={**metadata, "sha256": _hash(tensors, metadata)})


def _hash(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    return fingerprint_of_file({name: tensor.cpu().numpy() for name, tensor in tensors.items()}, metadata)


def restore_state(state: TrainingState, path: Path, mark: str) -> None:
    """Go on from a file that `keep_state` wrote."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.pop("sha256", None) != _hash(tensors, metadata):
            raise ValueError("its content does not have the hash that it was written with")
    except (SafetensorError, ValueError) as error:
        raise ValueError(
            f"the checkpoint {path} cannot be read ({error}); a complete one is required. Delete it to begin anew."
        ) from error
    if metadata.get("mark") != mark:
        raise ValueError(
            f"the checkpoint {path} is of another training: spectra and options must be the same. Delete it to begin "
            "anew, or name another."
        )
    for name, value in json.loads(metadata["counters"]).items():
        setattr(state, name, value)
    state.generator.set_state(tensors["generator"])
    for i, parameter in enumerate(state.parameters):
        with torch.no_grad():
            parameter.copy_(tensors[f"parameter{i}"])
        state.best[i] = tensors[f"best{i}"].to(parameter.device)
        if f"step{i}" in tensors:
            state.optimiser.state[parameter] = {
                name: tensors[f"{name}{i}"].to("cpu" if name == "step" else parameter.device)
                for name in _MOMENTS
            }
    for group in state.optimiser.param_groups:
        group["lr"] *= 0.5**state.halved
