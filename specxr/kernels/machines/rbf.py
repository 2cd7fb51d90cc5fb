"""The radial basis function kernel of training labels, and a thin factor of it where it has one."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

# Eigenvalues below this fraction of the largest one are left out of the thin factor.
_CUT = 1e-8


def rbf(left: Tensor, right: Tensor, gamma: float) -> Tensor:
    """exp(-gamma |l - r|^2), shape (n_left, n_right), of labels (n, label) that are scaled to unit variance."""
    # Distances from differences, not from a matrix product: each depends on its own two stars alone.
    distance = torch.cdist(left, right, compute_mode="donot_use_mm_for_euclid_dist")
    return torch.exp(-gamma * distance.square())


@dataclass(frozen=True)
class Kernel:
    """The kernel of some training stars, K.

    Attributes
    ----------
    labels : Tensor of float64, shape (star, label)
        Scaled to unit variance.
    gamma : float
    factor : Tensor of float64, shape (star, rank), or None
        F with F F^T = K to `_CUT`, where the rank is less than half the number of stars: two products with F
        then cost less than one with K.
    """

    labels: Tensor
    gamma: float
    factor: Tensor | None

    @classmethod
    def of(cls, labels: Tensor, gamma: float) -> Kernel:
        """Factorise the kernel of all training stars; see the attributes."""
        values, vectors = torch.linalg.eigh(rbf(labels, labels, gamma))
        kept = values > _CUT * values[-1]
        thin = 2 * int(kept.sum()) < len(labels)
        return cls(labels, gamma, vectors[:, kept] * values[kept].sqrt() if thin else None)

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, stars: Tensor) -> Kernel:
        """Return the kernel of some of the stars; the factor needs no new decomposition."""
        factor = None if self.factor is None else self.factor[stars]
        return replace(self, labels=self.labels[stars], factor=factor)

    @property
    def matrix(self) -> Tensor:
        """K, shape (star, star)."""
        return rbf(self.labels, self.labels, self.gamma)

    def to(self, other: Kernel) -> Tensor:
        """Kernel between these stars and others, shape (star, other)."""
        return rbf(self.labels, other.labels, self.gamma)
