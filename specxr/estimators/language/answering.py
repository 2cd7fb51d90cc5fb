"""From spectra that were read to labels with their spread, in batches of questions of the same length."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.estimators.language.decoding import draw_answers
from specxr.estimators.language.network import SpectrumReader
from specxr.estimators.language.tokens import Tokens

# Smallest spread, as a share of the scatter of the training labels: less is not seen by a few draws.
_LEAST_SPREAD = 0.01


@dataclass(frozen=True, eq=False)
class Answering:
    """Asks a network about spectra.

    Attributes
    ----------
    network : SpectrumReader
    tokens : Tokens
    centre, scale : ndarray, shape (label,)
        Mean and scatter of the training labels.
    draws : int
        Answers that are drawn of each star.
    batch : int
        Questions that are computed together; it never changes, so that no star's answer depends on its neighbours.
    """

    network: SpectrumReader
    tokens: Tokens
    centre: NDArray[np.float64]
    scale: NDArray[np.float64]
    draws: int
    batch: int

    def __call__(self, values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Labels of spectra.

        Parameters
        ----------
        values : ndarray, shape (star, pixel)
            Flux over its maximum.

        Returns
        -------
        labels : ndarray, shape (star, label)
            Mean of the answers that were drawn, or what the regression head says.
        covariance : ndarray, shape (star, label, label)
            Their covariance, or the variances that the regression head says.
        """
        n_label = len(self.centre)
        labels = np.full((len(values), n_label), np.nan)
        covariance = np.full((len(values), n_label, n_label), np.nan)
        prompts = [self.tokens.prompt(row) for row in values]
        by_length: Mapping[int, list[int]] = defaultdict(list)
        for star, prompt in enumerate(prompts):
            by_length[len(prompt)].append(star)
        for stars in by_length.values():
            for first in range(0, len(stars), self.batch):
                part = stars[first : first + self.batch]
                filled = part + part[:1] * (self.batch - len(part))
                ids = torch.tensor([prompts[star] for star in filled], device=self.network.device)
                answer = self._asked(ids)
                labels[part], covariance[part] = (array[: len(part)] for array in answer)
        floor = np.diag((_LEAST_SPREAD * self.scale) ** 2)
        return labels, covariance + floor

    @torch.inference_mode()
    def _asked(self, ids: torch.Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        if self.network.regression is not None:
            rows = torch.arange(len(ids), device=ids.device)
            said = self.network(ids, rows, torch.full_like(rows, ids.shape[1] - 1)).double().cpu().numpy()
            mean, log_variance = np.split(said, 2, axis=1)
            spread = self.scale * np.exp(0.5 * log_variance)
            return self.centre + self.scale * mean, np.eye(len(self.scale)) * spread[:, None] ** 2
        columns = draw_answers(self.network, ids, self.tokens.grammar, self.draws)
        drawn = np.array([[self.tokens.grammar.read(answer) for answer in star] for star in columns])
        away = drawn - drawn.mean(axis=1, keepdims=True)
        return drawn.mean(axis=1), np.einsum("sdi,sdj->sij", away, away) / self.draws


def errors_of(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard errors, shape (star, label)."""
    return np.asarray(np.sqrt(np.einsum("sll->sl", covariance)))


def cells_of(
    snr: NDArray[np.float64], labels: NDArray[np.float64], names: tuple[str, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What tells cells of errors apart: the S/N, the lowest where it is not known, and the inferred temperature."""
    teff = labels[:, names.index("teff")] if "teff" in names else np.zeros(len(labels))
    return np.nan_to_num(snr, nan=0.0), teff
