"""The network: a base model with its adapter, the embedding of numbers, and the heads that answer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from specxr.estimators.language.tokens import N_NUMBERS

_FREQUENCIES = 64  # of the Fourier features of a number, from one to as many as tell neighbours apart
_CAUSAL = "causal."  # before the names of weights of the base model and its adapter
_OWN = "language."  # before the names of the arrays of a model that are no part of the adapter


class NumberEmbedding(nn.Module):
    """Embeddings of symbols, which are learnt, and of numbers, which are a learnt map of their Fourier features.

    A table of 1,001 embeddings would not know that 0.302 lies beside 0.303.

    Parameters
    ----------
    n_symbols : int
        Number of the first tokens, which are no numbers.
    width : int
        Size of an embedding.
    """

    features: Tensor

    def __init__(self, n_symbols: int, width: int) -> None:
        super().__init__()
        value = torch.linspace(0.0, 1.0, N_NUMBERS)
        frequency = torch.logspace(0.0, math.log10(N_NUMBERS / 4), _FREQUENCIES)
        phase = math.pi * value[:, None] * frequency
        features = torch.cat([value[:, None], phase.sin(), phase.cos()], dim=1)
        self.register_buffer("features", features, persistent=False)
        self.symbols = nn.Embedding(n_symbols, width)
        self.numbers = nn.Linear(features.shape[1], width)

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings of tokens, shape (..., width)."""
        # Each layer is called, because ZeRO brings its weights together only then.
        n_symbols = self.symbols.num_embeddings
        symbols = self.symbols(ids.clamp(max=n_symbols - 1))
        numbers = self.numbers(self.features[(ids - n_symbols).clamp(min=0)])
        return torch.where((ids < n_symbols)[..., None], symbols, numbers)


class SpectrumReader(nn.Module):
    """Reads tokens, and answers with more tokens or with labels at once.

    Parameters
    ----------
    causal : Module
        The base model with its adapter.
    n_symbols : int
        Number of symbols of the vocabulary of numbers; 0 where the base model has the vocabulary.
    n_values : int
        Number of values that the regression head gives; 0 without one.
    """

    def __init__(self, causal: Any, n_symbols: int = 0, n_values: int = 0) -> None:
        super().__init__()
        self.causal = causal
        width = int(causal.get_base_model().get_input_embeddings().weight.shape[1])
        self.embedding = NumberEmbedding(n_symbols, width) if n_symbols else None
        self.symbols = nn.Linear(width, n_symbols) if n_symbols and not n_values else None
        self.regression = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, n_values)) if n_values else None

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return next(self.parameters()).device

    def read(self, ids: Tensor, **options: Any) -> Any:
        """Hidden states of tokens, of shape (row, token, width), and what the base model gives beside them."""
        base = self.causal.get_base_model()
        if self.embedding is None:
            embedded = base.get_input_embeddings()(ids)
        else:
            embedded = self.embedding(ids).to(base.dtype)
        return base.get_decoder()(inputs_embeds=embedded, **options)

    def scores(self, hidden: Tensor) -> Tensor:
        """Logits of the token that follows, for hidden states of shape (..., width)."""
        if self.symbols is not None:
            return torch.as_tensor(self.symbols(hidden.float()))
        return torch.as_tensor(self.causal.get_base_model().get_output_embeddings()(hidden).float())

    def forward(self, ids: Tensor, row: Tensor, before: Tensor) -> Tensor:
        """What is said after some of the tokens: logits, or the values of the regression head.

        Logits of all tokens of a spectrum as text would be 12.6 GB.

        Parameters
        ----------
        ids : Tensor of int, shape (row, token)
        row, before : Tensor of int, shape (place,)
            Rows and places of the tokens after which something is said.

        Returns
        -------
        Tensor, shape (place, token of the vocabulary) or (place, value)
        """
        hidden = self.read(ids, use_cache=False).last_hidden_state[row, before]
        return self.scores(hidden) if self.regression is None else self.regression(hidden.float())

    # -- what a model file holds of it ---------------------------------------------------------------------------
    def of_causal(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Those of some weights that belong to the base model and its adapter, under their names there."""
        return {n.removeprefix(_CAUSAL): t for n, t in state.items() if n.startswith(_CAUSAL)}

    def own_arrays(self, state: Mapping[str, Tensor]) -> dict[str, NDArray[Any]]:
        """Those of some weights that are neither the base model's nor the adapter's, under names of a model file."""
        return {
            f"{_OWN}{name}": tensor.detach().float().cpu().numpy()
            for name, tensor in state.items()
            if not name.startswith(_CAUSAL)
        }

    def take_symbols(
        self, arrays: Mapping[str, NDArray[Any]], theirs: Sequence[str], ours: Sequence[str]
    ) -> None:
        """Take the embedding of numbers from another model, and what it knows of symbols of the same names."""
        rows = [(ours.index(symbol), theirs.index(symbol)) for symbol in ours if symbol in theirs]
        here, there = zip(*rows, strict=True)
        with torch.no_grad():
            for name, parameter in self.named_parameters():
                known = arrays.get(f"{_OWN}{name}")
                if name.startswith(_CAUSAL) or known is None:
                    continue
                if "symbols" in name:
                    parameter[list(here)] = torch.from_numpy(known[list(there)])
                elif parameter.shape == known.shape:
                    parameter.copy_(torch.from_numpy(known))

    def set_own_arrays(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        """Put these weights back; those of another shape or name are an error."""
        own = {n.removeprefix(_OWN): torch.from_numpy(a) for n, a in arrays.items() if n.startswith(_OWN)}
        expected = {n: t.shape for n, t in self.state_dict().items() if not n.startswith(_CAUSAL)}
        if {name: tensor.shape for name, tensor in own.items()} != expected:
            raise ValueError(
                f"the weights {', '.join(own) or 'none'} do not fit this base model, which has {', '.join(expected)}; "
                "those that were trained with it are required. Name the base model of the training."
            )
        with torch.no_grad():
            for name, tensor in own.items():
                self.get_parameter(name).copy_(tensor)


def own_arrays_of(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Those arrays of a model that are weights beside the base model and its adapter."""
    return {name: array for name, array in arrays.items() if name.startswith(_OWN)}
