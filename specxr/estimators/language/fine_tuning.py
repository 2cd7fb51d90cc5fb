"""Fine-tuning: AdamW with a cosine over batches of questions of like lengths, by accelerate on one device or many."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler

from specxr.estimators.language.network import SpectrumReader

_CLIP = 1.0  # largest norm of a gradient
_WITHIN = 50  # batches among which the questions of like lengths are looked for


@dataclass(frozen=True)
class Example:
    """A question and what is to be said.

    Attributes
    ----------
    prompt : list of int
    answer : list of int
        Empty for the regression head.
    labels : ndarray, shape (label,)
        In units of their scatter about their mean, for the regression head.
    """

    prompt: list[int]
    answer: list[int]
    labels: NDArray[np.float64]


@dataclass(frozen=True)
class FineTuning:
    """How to train (section III.3).

    Attributes
    ----------
    learning_rate, weight_decay : float
        Those of AdamW; the learning rate falls to zero along a cosine.
    epochs : int
    batch : int
        Questions that are computed together.
    number_token_loss : float
        Weight of the distance between the digits that are expected and the true ones, beside the cross-entropy.
    seed : int
    """

    learning_rate: float
    weight_decay: float
    epochs: int
    batch: int
    number_token_loss: float
    seed: int


class ByLength(Sampler[list[int]]):
    """Batches of examples of like lengths, in a new random order each time.

    Parameters
    ----------
    lengths : sequence of int
    batch_size : int
    seed : int
    """

    drop_last = False  # of what accelerate asks a sampler of batches

    def __init__(self, lengths: Sequence[int], batch_size: int, seed: int) -> None:
        self.lengths, self.batch_size = np.asarray(lengths), batch_size
        self._random = np.random.default_rng(seed)

    def __len__(self) -> int:
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        order = self._random.permutation(len(self.lengths))
        pools = np.split(order, np.arange(0, len(order), self.batch_size * _WITHIN)[1:])
        order = np.concatenate([pool[np.argsort(self.lengths[pool], kind="stable")] for pool in pools])
        batches = np.split(order, np.arange(0, len(order), self.batch_size)[1:])
        for i in self._random.permutation(len(batches)):
            yield batches[i].tolist()


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Draw random numbers of torch from a seed, and leave those of the caller as they are."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield


def accelerator_for(device: str, accumulation: int) -> Any:
    """What spreads the training over devices; it must exist before the base model is opened.

    Parameters
    ----------
    device : str
        "cpu", or "cuda"; under ``accelerate launch`` its configuration says which GPUs, and whether ZeRO spreads the
        weights over them.
    accumulation : int
        Batches whose gradients are added up to a step.
    """
    from accelerate import Accelerator

    return Accelerator(cpu=device == "cpu", gradient_accumulation_steps=accumulation)


def fine_tune(
    network: SpectrumReader,
    examples: Sequence[Example],
    digits: NDArray[np.int64],
    recipe: FineTuning,
    accelerator: Any,
    progress: Callable[[int, int, float], None] | None = None,
) -> dict[str, Tensor]:
    """Train the adapter and the heads of a network.

    Parameters
    ----------
    network : SpectrumReader
    examples : sequence of Example
    digits : ndarray of int, shape (10,)
        Tokens of the digits.
    recipe : FineTuning
    accelerator : Accelerator
        See `accelerator_for`.
    progress : callable, optional
        ``progress(step, steps, loss)``.

    Returns
    -------
    dict of str to Tensor
        The weights that were trained, whole on every process.
    """
    lengths = [len(example.prompt) + len(example.answer) for example in examples]
    sampler = ByLength(lengths, recipe.batch, recipe.seed)
    dataset: Any = list(examples)
    loader: Any = DataLoader(dataset, batch_sampler=sampler, collate_fn=_together)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer: Any = torch.optim.AdamW(trained, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    steps = recipe.epochs * -(-len(sampler) // accelerator.gradient_accumulation_steps)
    schedule: Any = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: 0.5 * (1.0 + float(np.cos(np.pi * min(1.0, step / steps))))
    )
    model, optimizer, loader, schedule = accelerator.prepare(network, optimizer, loader, schedule)
    model.train()
    done = 0
    with seeded(recipe.seed):  # of the dropout
        for _ in range(recipe.epochs):
            for batch in loader:
                with accelerator.accumulate(model):
                    loss = _loss(model, batch, digits, recipe.number_token_loss)
                    accelerator.backward(loss)
                    if accelerator.sync_gradients:
                        accelerator.clip_grad_norm_(trained, _CLIP)
                    optimizer.step()
                    schedule.step()
                    optimizer.zero_grad()
                if accelerator.sync_gradients:
                    done += 1
                    if progress is not None:
                        progress(done, steps, float(loss.detach()))
    state = accelerator.get_state_dict(model)
    network.eval()
    names = {name for name, parameter in network.named_parameters() if parameter.requires_grad}
    return {name: tensor for name, tensor in state.items() if name in names}


def _together(examples: Sequence[Example]) -> dict[str, Tensor]:
    """One array of several examples; what stands behind the shorter ones is seen by none of their tokens."""
    longest = max(len(example.prompt) + len(example.answer) for example in examples)
    ids = torch.zeros((len(examples), longest), dtype=torch.int64)
    rows, places, said = [], [], []
    for row, example in enumerate(examples):
        whole = torch.tensor([*example.prompt, *example.answer])
        ids[row, : len(whole)] = whole
        n = max(1, len(example.answer))  # the regression head answers once, after the question
        rows.append(torch.full((n,), row))
        places.append(len(example.prompt) - 1 + torch.arange(n))
        said.append(torch.tensor(example.answer, dtype=torch.int64))
    labels = torch.from_numpy(np.stack([example.labels for example in examples])).float()
    return {
        "ids": ids,
        "row": torch.cat(rows),
        "before": torch.cat(places),
        "said": torch.cat(said),
        "labels": labels,
    }


def _loss(
    model: Any, batch: dict[str, Tensor], digits: NDArray[np.int64], number_token_loss: float
) -> Tensor:
    given = model(batch["ids"], batch["row"], batch["before"])
    if not len(batch["said"]):
        mean, log_variance = given.chunk(2, dim=-1)
        return nn.functional.gaussian_nll_loss(mean, batch["labels"], log_variance.exp(), eps=1e-4)
    loss = nn.functional.cross_entropy(given, batch["said"])
    if number_token_loss:
        loss = loss + number_token_loss * _distance_of_digits(given, batch["said"], digits)
    return loss


def _distance_of_digits(scores: Tensor, said: Tensor, digits: NDArray[np.int64]) -> Tensor:
    """Mean distance between the digits that are expected and the true ones (Zausinger et al. 2025, eq. 3).

    Cross-entropy does not know that 9 is farther from 2 than 3.
    """
    ids = torch.from_numpy(digits).to(said.device)
    is_digit, digit = (said[:, None] == ids).max(dim=1)
    expected = scores[is_digit][:, ids].softmax(-1)
    away = (torch.arange(len(digits), device=said.device) - digit[is_digit, None]).abs()
    return (expected * away).sum(-1).mean()
