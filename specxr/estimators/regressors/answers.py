"""What a regressor answers: labels with calibrated errors and intervals, and flags."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.estimators.base import Output
from specxr.estimators.domain import Domain
from specxr.estimators.outputs import Inferred, blanked
from specxr.estimators.quality import Quality
from specxr.estimators.regressors.learnt import Held
from specxr.kernels.compiled.unexplained import SQUARES
from specxr.vocabulary import LABELS, STAR, Flag, Result

ENDS = {"lo95": "lower", "hi95": "upper"}


@dataclass(frozen=True, eq=False)
class Answers:
    """What a model says of stars.

    Attributes
    ----------
    labels, errors : ndarray, shape (star, label)
        Formal errors.
    spread : ndarray, shape (star,)
        Scatter of the members, in formal errors.
    probability : ndarray, shape (star, class)
    measures : ndarray, shape (star, measure)
        What `measure_lines` says.
    flags : ndarray of int, shape (star,)
        What the spectrum itself calls for.
    snr : ndarray, shape (star,)
    n_good : ndarray of int, shape (star,)
    """

    labels: NDArray[np.float64]
    errors: NDArray[np.float64]
    spread: NDArray[np.float64]
    probability: NDArray[np.float64]
    measures: NDArray[np.float64]
    flags: NDArray[np.int64]
    snr: NDArray[np.float64]
    n_good: NDArray[np.int64]

    @classmethod
    def joined(cls, parts: list[Answers]) -> Self:
        """Answers of parts of the stars, in one."""
        return cls(*(np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(cls)))

    def __getitem__(self, stars: NDArray[Any] | slice) -> Answers:
        """Return the answers of some stars."""
        return Answers(*(getattr(self, f.name)[stars] for f in fields(self)))

    def calibrated(self, names: tuple[str, ...], held: Held) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Errors and half widths of the intervals, shape (star, label, 2), and whether they are calibrated."""
        teff = self.labels[:, names.index("teff")] if "teff" in names else np.zeros(len(self.labels))
        factor = held.conformal(self.snr, teff)
        known = np.isfinite(factor).all(axis=(1, 2)) & (self.snr >= held.snr[0]) & (self.snr <= held.snr[1])
        plain = np.array([1.0, 1.96])
        return self.errors[:, :, None] * np.where(np.isfinite(factor), factor, plain), known


def inferred_from(
    answers: Answers, names: tuple[str, ...], held: Held, domain: Domain, n_window: int
) -> tuple[Inferred, dict[str, NDArray[np.float64]]]:
    """What `assemble` makes labels of, and the ends of the intervals by name, each of shape (star,)."""
    width, calibrated = answers.calibrated(names, held)
    flags = answers.flags | ~calibrated * int(Flag.UNCALIBRATED_ERRORS)
    flags |= (answers.spread > held.spread) * int(Flag.LARGE_ERRORS)
    labels, error = torch.from_numpy(answers.labels), torch.from_numpy(width[:, :, 0])
    covariance = error[:, :, None] * error[:, None] * torch.from_numpy(held.correlation)
    outside = domain.outside(labels) * int(Flag.OUTSIDE_TRAINING)
    result = torch.full((len(labels),), int(Result.CONVERGED), dtype=torch.uint8)
    nowhere = torch.zeros(labels.shape, dtype=torch.bool)
    values, covariance = blanked(labels, covariance, result, nowhere[:, 0])
    chi2 = torch.from_numpy(answers.measures[:, SQUARES].copy())
    n_good, snr = torch.from_numpy(answers.n_good), torch.from_numpy(answers.snr)
    inferred = Inferred(
        values, covariance, nowhere, nowhere, chi2, n_good, torch.ones_like(n_good), result,
        torch.from_numpy(flags) | outside, Quality(snr, chi2 / n_good, torch.zeros_like(n_good)), n_window, n_window,
    )  # fmt: skip
    ends = {}
    for i, name in enumerate(names):
        ends[f"{name}_lo95"] = answers.labels[:, i] - width[:, i, 1]
        ends[f"{name}_hi95"] = answers.labels[:, i] + width[:, i, 1]
    return inferred, ends


def more_outputs(labels: tuple[str, ...], classes: tuple[str, ...]) -> tuple[Output, ...]:
    """The intervals of the labels, and the class where there are classes."""
    out = [
        Output(f"{name}_{end}", (STAR,), "float64", LABELS[name].interval_attrs(word))
        for name in labels
        for end, word in ENDS.items()
    ]
    if classes:
        attrs = {
            "long_name": "most probable spectral class",
            "flag_values": np.arange(-1, len(classes), dtype="int8"),
            "flag_meanings": " ".join(("none", *classes)),
        }
        out.append(Output("spectral_class", (STAR,), "int8", attrs))
        out.append(
            Output(
                "spectral_class_probability",
                (STAR,),
                "float64",
                {"long_name": "its probability", "units": "1"},
            )
        )
    return tuple(out)
