"""Honest errors: how the errors of a fit are brought to the scatter of held-out stars.

The formal errors of a fit know only the noise. Held-out stars show everything else: for each label their scatter
against the signal-to-noise ratio is described by a + b / SNR^c (M-dwarf paper, equations 4-8; a = 0 is its power law),
and so are their formal errors. The ratio of the two multiplies the formal error of a star. Errors then have the
scatter of the held-out stars, and still differ from star to star as the fit says. Where the labels of the held-out
stars have errors of their own, which are the same whatever the fit says, the law itself is the error, as in the paper.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

_STARS_PER_BIN = 20  # at least, as in the M-dwarf paper, Fig. 5
_MAX_BINS = 20
_WITHIN_ONE = 0.6827  # of Gaussian numbers


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
        """Fit the scatter in bins; relative departures have equal weights."""
        scatter = np.maximum(scatter, 1e-12 * max(scatter.max(), 1e-300))
        middle = np.median(snr)  # as b' (SNR / middle)^-c the two numbers of b / SNR^c are nearly independent
        unit = np.median(scatter)

        def departure(p: NDArray[np.float64]) -> NDArray[np.float64]:
            return np.asarray(np.log((p[0] + p[1] * (snr / middle) ** -p[2] + 1e-12) * unit / scatter))

        best = least_squares(departure, [0.1, 0.9, 1.0], bounds=([0.0, 0.0, 0.0], [10.0, 10.0, 3.0])).x
        return cls(float(best[0] * unit), float(best[1] * unit * middle ** best[2]), float(best[2]))


@dataclass(frozen=True)
class LabelCalibration:
    """Errors of one label among the held-out stars.

    Attributes
    ----------
    bias, scatter : float
        Mean and root mean square about it of inferred minus true (M-dwarf paper, equations 4 and 5).
    observed, formal : Law
        Half of the width that holds 68 % of inferred minus true, and the median formal error, against S/N.
    coverage : float
        Fraction of held-out stars within one calibrated error of the truth; 0.683 if errors are Gaussian and honest.
    pull_scatter : float
        Half the width that holds 68 % of (inferred - true) / calibrated error.
    """

    bias: float
    scatter: float
    observed: Law
    formal: Law
    coverage: float
    pull_scatter: float


@dataclass(frozen=True)
class Calibration:
    """Errors of all labels among the held-out stars.

    Attributes
    ----------
    labels : mapping of str to LabelCalibration
    snr_range : (float, float)
        Signal-to-noise ratios of the held-out stars; beyond them the ratio of scatter to formal errors is that at the
        nearer end.
    adopted : bool
        Whether the law of the scatter itself is the error; if not, it scales the formal errors.
    n_star, folds : int
        Number of held-out stars, and number of parts in which they were held out; 1 for stars that were
        never to be learnt.
    """

    labels: Mapping[str, LabelCalibration]
    snr_range: tuple[float, float]
    n_star: int
    folds: int
    adopted: bool = False

    @classmethod
    def of(
        cls,
        inferred: Mapping[str, NDArray[Any]],
        errors: Mapping[str, NDArray[Any]],
        truth: Mapping[str, NDArray[Any]],
        snr: NDArray[np.float64],
        folds: int,
        adopted: bool = False,
    ) -> Calibration:
        """Compare held-out stars with the truth; each array is of shape (star,), formal errors in `errors`."""
        usable = np.isfinite(snr) & (snr > 0)
        for name in truth:
            usable &= np.isfinite(inferred[name]) & np.isfinite(errors[name])
        if usable.sum() < _STARS_PER_BIN:
            raise ValueError(
                f"{usable.sum()} held-out stars could be fitted; at least {_STARS_PER_BIN} are required to calibrate "
                "errors. Train on more stars, or look at why their fits fail."
            )
        snr = snr[usable]
        ends = float(snr.min()), float(snr.max())
        labels = {
            name: _calibrate(
                inferred[name][usable] - truth[name][usable], errors[name][usable], snr, ends, adopted
            )
            for name in truth
        }
        return cls(labels, ends, int(usable.sum()), folds, adopted)

    def factor(self, name: str, snr: NDArray[np.float64], formal: NDArray[np.float64]) -> NDArray[np.float64]:
        """Factors of the formal errors of a label, shape (star,)."""
        if name not in self.labels:  # the label was held
            return np.ones_like(snr)
        label = self.labels[name]
        return _ratio(label.observed, formal if self.adopted else label.formal, snr, self.snr_range)

    def shared(self, name: str) -> float:
        """Error of a label at the best S/N of the held-out stars, where their scatter itself is the error.

        It is that of their labels for the most part, and says nothing about a single star; 0 for scaled formal errors.
        """
        if not self.adopted or name not in self.labels:
            return 0.0
        return float(self.labels[name].observed(np.array(self.snr_range[1])))

    def beyond(self, snr: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether each S/N lies outside those of the held-out stars, shape (star,); NaN does."""
        return ~((snr >= self.snr_range[0]) & (snr <= self.snr_range[1]))

    def to_dict(self) -> dict[str, Any]:
        """Content as JSON types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> Calibration:
        """Read what `to_dict` gave."""
        labels = {
            name: LabelCalibration(**{**c, "observed": Law(**c["observed"]), "formal": Law(**c["formal"])})
            for name, c in content["labels"].items()
        }
        ends = tuple(content["snr_range"])
        return cls(labels, ends, content["n_star"], content["folds"], content.get("adopted", False))


def _calibrate(
    difference: NDArray[np.float64],
    error: NDArray[np.float64],
    snr: NDArray[np.float64],
    ends: tuple[float, float],
    adopted: bool,
) -> LabelCalibration:
    bins = np.array_split(np.argsort(snr, kind="stable"), min(len(snr) // _STARS_PER_BIN, _MAX_BINS))
    middle = np.array([np.median(snr[rows]) for rows in bins])
    observed = Law.fit(middle, np.array([_half_width(difference[rows]) for rows in bins]))
    formal = Law.fit(middle, np.array([np.median(error[rows]) for rows in bins]))

    def pulls() -> NDArray[np.float64]:
        return np.asarray(difference / (error * _ratio(observed, error if adopted else formal, snr, ends)))

    # The scatter of few stars in a bin is too small on average. All stars together say by how much.
    excess = float(np.quantile(np.abs(pulls()), _WITHIN_ONE))
    observed = Law(observed.a * excess, observed.b * excess, observed.c)
    pull = pulls()
    return LabelCalibration(
        bias=float(difference.mean()),
        scatter=float(difference.std()),
        observed=observed,
        formal=formal,
        coverage=float((np.abs(pull) < 1.0).mean()),
        pull_scatter=float(_half_width(pull)),
    )


def _half_width(values: NDArray[np.float64]) -> float:
    low, high = np.quantile(values, [0.1587, 0.8413])
    return float(0.5 * (high - low))


def _ratio(
    observed: Law, formal: Law | NDArray[np.float64], snr: NDArray[np.float64], ends: tuple[float, float]
) -> NDArray[np.float64]:
    snr = np.clip(snr, *ends)
    below = formal(snr) if isinstance(formal, Law) else formal
    return np.asarray(observed(snr) / np.maximum(below, 1e-300))
