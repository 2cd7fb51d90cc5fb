"""Where the training labels lie, and which stars lie outside."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

_MOST = 100_000  # training stars whose neighbours set the limit
# A label is rare with fewer training stars than this, or than this share of them, so near to it [standard deviations].
_FEW, _SMALL_SHARE, _NEARBY = 20, 1.0 / 40.0, 0.5


@dataclass(frozen=True, eq=False)
class Domain:
    """Where the training labels lie: near enough to one of them.

    A star is outside if its nearest training star is farther away than that of all but one in a hundred training
    stars; each label is counted in its standard deviation. Unlike a box or a hull, this follows an isochrone or a gap,
    and it has no difficulty with eleven labels. A star is outside as well if one of its labels is rare: fewer than 20
    training stars (M-dwarf paper, section 2.4; in small training sets fewer than one in forty) have this label to
    within half its standard deviation.

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
        far = ~torch.cat(near).to(labels.device) if near else labels.new_zeros(0, dtype=torch.bool)
        return far | self.rare(labels).any(-1)

    def rare(self, labels: Tensor) -> Tensor:
        """Whether each label, of shape (star, label), has few training stars near it; NaN has."""
        points, unit, _ = self._scaled
        least = min(_FEW, _SMALL_SHARE * len(points))
        values = (labels.cpu().double() / unit).mT.contiguous()
        known = points.mT.contiguous().sort(dim=1).values
        upto = torch.searchsorted(known, values + _NEARBY, right=True)
        count = torch.where(values.isnan(), 0, upto - torch.searchsorted(known, values - _NEARBY))
        return (count < least).mT.to(labels.device)

    def usable(self) -> NDArray[np.float64]:
        """Lowest and highest training label that is not rare, shape (label, 2)."""
        common = ~self.rare(torch.from_numpy(self.labels)).numpy()
        kept = np.where(common, self.labels, np.nan)
        return np.stack([np.nanmin(kept, axis=0), np.nanmax(kept, axis=0)], axis=1)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Differences, not a matrix product: the distance of a star must not depend on its place among the others.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
