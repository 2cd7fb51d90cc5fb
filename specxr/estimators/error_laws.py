"""Honest errors: what cross-validation says of bias and scatter, and where the training labels end.

The formal errors of a fit know the noise alone. Held-out stars show the rest: for each label their scatter against S/N
is described by a + b / SNR^c (M-dwarf paper, equations 4-8; a = 0 is its power law), and so are their formal errors.
The ratio of the two multiplies a star's formal error, so that errors have the scatter that was found, and still
differ from star to star as the fit says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import least_squares
from torch import Tensor

STARS_PER_BIN = 20  # at least, as in the M-dwarf paper, Fig. 5
_MAX_BINS = 20


@dataclass(frozen=True)
class Law:
    """scatter = a + b / SNR^c, with a, b, c >= 0."""

    a: float
    b: float
    c: float

    def __call__(self, snr: NDArray[np.float64]) -> NDArray[np.float64]:
        """Scatter at a signal-to-noise ratio per pixel."""
        return np.asarray(self.a + self.b * np.asarray(snr, dtype=np.float64) ** -self.c)

    @classmethod
    def fit(cls, snr: NDArray[np.float64], scatter: NDArray[np.float64]) -> Law:
        """Fit to the scatter in bins, relative departures having equal weight."""
        scatter = np.maximum(scatter, 1e-12 * max(scatter.max(), 1e-300))
        middle = np.median(
            snr
        )  # b / SNR^c is b' (SNR / middle)^-c, whose two numbers hardly depend on each other
        unit = np.median(scatter)

        def departure(p: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.log((p[0] + p[1] * (snr / middle) ** -p[2] + 1e-12) * unit / scatter))

        found = least_squares(departure, [0.1, 0.9, 1.0], bounds=([0.0, 0.0, 0.0], [10.0, 10.0, 3.0])).x
        return cls(float(found[0] * unit), float(found[1] * unit * middle ** found[2]), float(found[2]))


@dataclass(frozen=True)
class LabelCalibration:
    """What held-out stars say of one label.

    Attributes
    ----------
    bias, scatter : float
        Mean and root mean square about it of inferred minus true (M-dwarf paper, equations 4 and 5).
    found, formal : Law
        Half the width that holds 68 % of inferred minus true, and median formal error, against S/N.
    coverage : float
        Fraction of held-out stars within one calibrated error of the truth; 0.683 if errors are Gaussian and honest.
    pull_scatter : float
        Half the width that holds 68 % of (inferred - true) / calibrated error.
    """

    bias: float
    scatter: float
    found: Law
    formal: Law
    coverage: float
    pull_scatter: float


@dataclass(frozen=True)
class Calibration:
    """What held-out stars say of every label.

    Attributes
    ----------
    labels : mapping of str to LabelCalibration
    snr_range : (float, float)
        Of the held-out stars; beyond it the ratio of found to formal errors is the one at its end.
    n_star, folds : int
        How many were held out, in how many parts.
    """

    labels: Mapping[str, LabelCalibration]
    snr_range: tuple[float, float]
    n_star: int
    folds: int

    @classmethod
    def of(
        cls,
        inferred: Mapping[str, NDArray[Any]],
        errors: Mapping[str, NDArray[Any]],
        truth: Mapping[str, NDArray[Any]],
        snr: NDArray[np.float64],
        folds: int,
    ) -> Calibration:
        """Compare held-out stars with the truth; each array is of shape (star,), formal errors in `errors`."""
        usable = np.isfinite(snr) & (snr > 0)
        for name in truth:
            usable &= np.isfinite(inferred[name]) & np.isfinite(errors[name])
        if usable.sum() < STARS_PER_BIN:
            raise ValueError(
                f"{usable.sum()} held-out stars could be fitted; at least {STARS_PER_BIN} are required to calibrate "
                "errors. Train on more stars, or look at why their fits fail."
            )
        snr = snr[usable]
        ends = float(snr.min()), float(snr.max())
        labels = {
            name: _calibrate(inferred[name][usable] - truth[name][usable], errors[name][usable], snr, ends)
            for name in truth
        }
        return cls(labels, ends, int(usable.sum()), folds)

    def factor(self, name: str, snr: NDArray[np.float64]) -> NDArray[np.float64]:
        """By what the formal error of a label is to be multiplied, shape (star,)."""
        if name not in self.labels:  # it was held
            return np.ones_like(snr)
        label = self.labels[name]
        return _ratio(label.found, label.formal, snr, self.snr_range)

    def to_dict(self) -> dict[str, Any]:
        """As JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` gave."""
        labels = {
            name: LabelCalibration(**{**c, "found": Law(**c["found"]), "formal": Law(**c["formal"])})
            for name, c in content["labels"].items()
        }
        return cls(labels, tuple(content["snr_range"]), content["n_star"], content["folds"])


def _calibrate(
    difference: NDArray[np.float64],
    error: NDArray[np.float64],
    snr: NDArray[np.float64],
    ends: tuple[float, float],
) -> LabelCalibration:
    bins = np.array_split(np.argsort(snr, kind="stable"), min(len(snr) // STARS_PER_BIN, _MAX_BINS))
    middle = np.array([np.median(snr[rows]) for rows in bins])
    found = Law.fit(middle, np.array([_half_width(difference[rows]) for rows in bins]))
    formal = Law.fit(middle, np.array([np.median(error[rows]) for rows in bins]))
    pull = difference / (error * _ratio(found, formal, snr, ends))
    return LabelCalibration(
        bias=float(difference.mean()),
        scatter=float(difference.std()),
        found=found,
        formal=formal,
        coverage=float((np.abs(pull) < 1.0).mean()),
        pull_scatter=float(_half_width(pull)),
    )


def _half_width(values: NDArray[np.float64]) -> float:
    low, high = np.quantile(values, [0.1587, 0.8413])
    return float(0.5 * (high - low))


def _ratio(
    found: Law, formal: Law, snr: NDArray[np.float64], ends: tuple[float, float]
) -> NDArray[np.float64]:
    snr = np.clip(snr, *ends)
    return np.asarray(found(snr) / np.maximum(formal(snr), 1e-300))


@dataclass(frozen=True, eq=False)
class Domain:
    """Where the training labels lie: near enough to one of them.

    A star is outside where its nearest training star is farther than that of all but one in a hundred training stars,
    each label counted in its standard deviation. Unlike a box or a hull this follows an isochrone or a gap, and it has
    no difficulty with eleven labels.

    Parameters
    ----------
    labels : ndarray, shape (star, label)
        Of the training set.
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
        return labels, unit, float(torch.quantile(torch.cat(nearest)[:100_000], 0.99))

    def outside(self, labels: Tensor) -> Tensor:
        """Whether each star, labels of shape (star, label), lies outside; NaN does."""
        points, unit, limit = self._scaled
        found = [
            _distance(some.cpu().double() / unit, points).amin(dim=1) <= limit
            for some in torch.split(labels, 256)
        ]
        return ~torch.cat(found).to(labels.device) if found else labels.new_zeros(0, dtype=torch.bool)


def _distance(a: Tensor, b: Tensor) -> Tensor:
    # Differences, not a matrix product: a star's distance must not depend on its place among the others.
    return torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
