"""The hybrid: one estimator for the labels that shape a spectrum, another for the rest, given these.

Hot-star paper, section 3.1: SLAM finds Teff, logg, [Fe/H] and vsini; with these held, The Payne finds the abundances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.content import short_fingerprint
from specxr.estimators.base import Block, Output
from specxr.estimators.emulated.base import Trained
from specxr.estimators.emulated.label_fit import Fitted
from specxr.estimators.fitted import Spectra, labels_of
from specxr.estimators.outputs import outputs_of
from specxr.estimators.registry import open_estimator
from specxr.spectra.grid import Grid
from specxr.vocabulary import Result


@dataclass(frozen=True, eq=False)
class Hybrid:
    """Labels of a first estimator, and the other labels of a second with those of the first held.

    Parameters
    ----------
    first : Trained
        A fitted SLAM, in the paper.
    second : Trained
        A fitted Payne, in the paper; it knows the labels of the first, and more.

    Notes
    -----
    With H the second fit's J^T W J, in blocks of free (f) and held (h) labels, and C_h the covariance of the first,
    a held label that is off by d moves the free ones by G d, G = -H_ff^-1 H_fh. Hence C_f = H_ff^-1 + G C_h G^T and
    C_fh = G C_h, which for one model in both places is the covariance of the fit of all labels at once.
    """

    first: Trained
    second: Trained

    def __post_init__(self) -> None:
        known, wanted = self.first.labels, self.second.labels
        if not set(known) < set(wanted):
            raise ValueError(
                f"the first estimator infers {', '.join(known)} and the second {', '.join(wanted)}; the second must "
                "infer all of these and more. Train it on more labels, or use the first alone."
            )

    @classmethod
    def open(cls, first: str, second: str, *, device: str = "cpu", dtype: str = "float64") -> Self:
        """Open both estimators from their model files."""
        options = {"device": device, "dtype": dtype}
        return cls(open_estimator(first, **options), open_estimator(second, **options))

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any], **options: Any) -> Self:
        """Build the hybrid of two provenances; `options` replace what both of these say."""
        first, second = (open_estimator(provenance[name], **options) for name in ("first", "second"))
        return cls(first, second)

    @property
    def rest(self) -> tuple[str, ...]:
        """What the second adds."""
        return tuple(name for name in self.second.labels if name not in self.first.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it infers."""
        return self.first.labels + self.rest

    @property
    def device(self) -> str:
        """Where the second estimator computes."""
        return self.second.device

    @property
    def inputs(self) -> tuple[str, ...]:
        """Variables that either of the two reads."""
        return tuple(dict.fromkeys(self.first.inputs + self.second.inputs))

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        return outputs_of(self.labels, chi2="sum of squared residuals over their variance, of the second fit")

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and models of both."""
        return {
            "estimator": "Hybrid",
            "first": self.first.provenance,
            "second": self.second.provenance,
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of both."""
        return short_fingerprint(self.first.fingerprint, self.second.fingerprint)

    def check(self, grid: Grid) -> None:
        """Raise ``ValueError`` where this grid cannot be fitted by both."""
        self.first.check(grid)
        self.second.check(grid)

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Fit every star of a block twice; see ``outputs`` for what comes back."""
        before = self.first.estimate(block)
        observed = _without(self.second.observe(block), before["result"])
        star = observed.fitted
        held = {name: torch.from_numpy(before[name]).to(observed.flux)[star] for name in self.first.labels}
        fitted = self.second.fit_labels(observed, fixed=held)
        assert self.second.model is not None
        after = labels_of(self.second.model, self.second.labels, observed, fitted)

        out = {name: before[name] for label in self.first.labels for name in (label, f"{label}_err")}
        out["covariance"] = self._covariance(before, after, star.cpu().numpy(), fitted)
        for i, name in enumerate(self.rest, start=len(self.first.labels)):
            out[name] = after[name]
            out[f"{name}_err"] = np.sqrt(out["covariance"][:, i, i])
        order = [self.second.labels.index(name) for name in self.rest]
        out["limit"] = np.concatenate((before["limit"], after["limit"][:, order]), axis=1)
        for name in ("chi2", "n_good"):
            out[name] = after[name]
        out["n_iter"] = before["n_iter"] + after["n_iter"]
        # What kept the first fit from converging is what is to be known, though the second may have.
        out["result"] = np.where(before["result"] != int(Result.CONVERGED), before["result"], after["result"])
        out["flags"] = before["flags"] | after["flags"]
        if spectra:
            out |= self.second.spectra_of(block, observed, fitted)
        return out

    def _covariance(
        self,
        before: dict[str, NDArray[Any]],
        after: dict[str, NDArray[Any]],
        star: NDArray[np.int64],
        fitted: Fitted,
    ) -> NDArray[np.float64]:
        """Covariance of all labels, shape (star, label, label), in the order of `labels`."""
        names = self.second.labels
        free = [names.index(name) for name in self.rest]
        hold = [names.index(name) for name in self.first.labels]
        information = fitted.information.double()
        inverse = fitted.covariance.double()[:, free][:, :, free]
        moved = -inverse @ information[:, free][:, :, hold]
        response = np.full((len(before["result"]), len(free), len(hold)), np.nan)
        response[star] = moved.cpu().numpy()
        first = before["covariance"]
        mixed = response @ first
        second = after["covariance"][:, free][:, :, free] + mixed @ np.swapaxes(response, 1, 2)
        return np.block([[first, np.swapaxes(mixed, 1, 2)], [mixed, second]])


def _without(spectra: Spectra, result: NDArray[np.uint8]) -> Spectra:
    """Leave out stars for which the first fit gave no labels."""
    none = np.isin(result, [int(Result.NON_FINITE), int(Result.TOO_FEW_PIXELS)])
    lost = torch.from_numpy(np.where(none, result, int(Result.CONVERGED)).astype("u1"))
    return replace(spectra, result=torch.maximum(spectra.result, lost.to(spectra.result.device)))
