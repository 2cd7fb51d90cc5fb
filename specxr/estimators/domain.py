"""Where the training labels lie, and which stars lie outside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST = 100_000  # training stars whose neighbours set the limit


@dataclass(frozen=True, eq=False)
class Domain:
    """Where the training labels lie: near enough to one of them.

    A star is outside if its nearest training star is farther away than that of all but one in a hundred training
    stars; each label is counted in its standard deviation. Unlike a box or a hull, this follows an isochrone or a gap,
    and it has no difficulty with eleven labels.

    Parameters
    ----------
    labels : ndarray, shape (star, label)
        Labels of the training set.
    """

    labels: NDArray[np.float64]

    @cached_property
    def _scaled(self) -> tuple[Tensor, Tensor, float]:
        labels = torch.from_numpy(self.labels)
        unit = labels.std(dim=0)
        labels = labels / unit
        nearest = []
        for first in range(0, len(labels), 256):
            distance = _distance(labels[first : first + 256], labels)
            distance[:, first:].fill_diagonal_(torch.inf)
            nearest.append(distance.amin(dim=1))
        return labels, unit, float(torch.quantile(torch.cat(nearest)[:_MOST], 0.99))

    def outside(self, labels: Tensor) -> Tensor:
        """Whether each star, with labels of shape (star, label), lies outside; a star with a NaN does."""
        points, unit, limit = self._scaled
        near = [
            _distance(part.cpu().double() / unit, points).amin(dim=1) <= limit
            for part in torch.split(labels, 256)
        ]
        return ~torch.cat(near).to(labels.device) if near else labels.new_zeros(0, dtype=torch.bool)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Differences, not a matrix product: the distance of a star must not depend on its place among the others.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
