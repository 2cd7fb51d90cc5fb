"""Answers drawn under the grammar: as many as are asked for of each spectrum, whatever the model has learnt."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.estimators.language.grammar import Grammar
from specxr.estimators.language.network import SpectrumReader


def draw_answers(network: SpectrumReader, prompts: Tensor, grammar: Grammar, draws: int) -> NDArray[np.int64]:
    """Draw answers to each of some questions.

    The draws of a star share out the distribution of each token evenly: draw i takes the token at one of the quantiles
    (i + 1/2) / draws, in an order of its own for each token. The quantiles are the same for all stars, so that a
    star's answers depend on its spectrum alone. With one draw it is the median of each digit.

    Parameters
    ----------
    network : SpectrumReader
    prompts : Tensor of int, shape (star, token)
        Questions of the same length.
    grammar : Grammar
    draws : int

    Returns
    -------
    ndarray of int, shape (star, draw, token)
        Columns of the grammar.
    """
    n_star, n_prompt = prompts.shape
    device = prompts.device
    allowed = torch.from_numpy(grammar.allowed).to(device)
    successor = torch.from_numpy(grammar.successor).to(device)
    ids = torch.from_numpy(grammar.ids).to(device)
    orders = np.random.default_rng(0)
    said = network.read(prompts, use_cache=True)
    cache = said.past_key_values
    cache.batch_repeat_interleave(draws)
    hidden = said.last_hidden_state[:, -1].repeat_interleave(draws, dim=0)
    state = torch.zeros(n_star * draws, dtype=torch.int64, device=device)
    position = torch.full((n_star * draws, 1), n_prompt, device=device)
    seen = torch.ones((n_star * draws, n_prompt), dtype=torch.int64, device=device)
    columns = []
    while True:
        quantile = (orders.permutation(draws) + 0.5) / draws
        at = torch.from_numpy(np.tile(quantile, n_star)).to(device)
        scores = network.scores(hidden)[:, ids].double().masked_fill(~allowed[state], -torch.inf)
        below = scores.softmax(-1).cumsum(-1)
        # The last allowed token also where rounding leaves the sum below the quantile.
        reached = (below > at[:, None]) & allowed[state]
        last = allowed[state].int().cumsum(-1).argmax(-1)
        column = torch.where(reached.any(-1), reached.int().argmax(-1), last)
        columns.append(column)
        going = state != grammar.end
        state = successor[state, column]
        if bool((state == grammar.end).all()):
            return torch.stack(columns, dim=1).view(n_star, draws, -1).cpu().numpy()
        # An answer that has ended goes on with tokens that are not seen.
        seen = torch.cat([seen, going[:, None].long()], dim=1)
        said = network.read(
            ids[column][:, None],
            use_cache=True,
            past_key_values=cache,
            attention_mask=seen,
            position_ids=position,
        )
        hidden, cache = said.last_hidden_state[:, -1], said.past_key_values
        position = position + going[:, None].long()
