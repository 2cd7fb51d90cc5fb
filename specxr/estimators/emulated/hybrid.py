"""The hybrid: one estimator for the labels that shape a spectrum, another for the rest, given these.

Hot-star paper, section 3.1: SLAM finds Teff, logg, [Fe/H] and vsini; with these held, The Payne finds the abundances.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, Self, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from specxr.content import short_fingerprint
from specxr.estimators.base import Block, Estimator, Output
from specxr.estimators.outputs import outputs_of
from specxr.estimators.registry import open_estimator
from specxr.spectra.grid import Grid
from specxr.vocabulary import LEFT_OUT, MODEL_SPECTRA, Result


@runtime_checkable
class SecondStage(Estimator, Protocol):
    """An estimator that can hold labels of each star at given values and infer the others."""

    def estimate_given(
        self, block: Block, given: Mapping[str, NDArray[Any]], spectra: bool = False
    ) -> tuple[dict[str, NDArray[Any]], NDArray[np.float64]]:
        """Infer labels of the stars of a block with other labels held.

        Parameters
        ----------
        block : Block
        given : mapping of str to ndarray, shape (star,)
            Values at which labels of the estimator are held; a star with a NaN among them is not fitted.
        spectra : bool, optional
            Whether to give the model spectra as well.

        Returns
        -------
        dict of str to ndarray
            As `estimate` gives them; the covariance is that of the labels that are not held.
        ndarray, shape (star, free label, given label)
            Response of the free labels to a change of those that are held, in the order of `labels` and of `given`.
        """


@dataclass(frozen=True, eq=False)
class Hybrid:
    """Labels of a first estimator, and further labels of a second with those that both infer held.

    Parameters
    ----------
    first : Estimator
        A fitted SLAM, in the paper. It gives the covariance of its labels.
    second : SecondStage
        A fitted Payne, in the paper. It infers labels of the first, and more.

    Notes
    -----
    With H the second fit's J^T W J, in blocks of free (f) and held (h) labels, and C_h the covariance of the first,
    a held label that is off by d moves the free ones by G d, G = -H_ff^-1 H_fh. Hence C_f = H_ff^-1 + G C_h G^T and
    C_fh = G C_h, which for one model in both places is the covariance of the fit of all labels at once.
    """

    first: Estimator
    second: SecondStage

    def __post_init__(self) -> None:
        for place, kind, what in (
            ("first", Estimator, "estimate"),
            ("second", SecondStage, "estimate_given"),
        ):
            if not isinstance(getattr(self, place), kind):
                raise ValueError(
                    f"the {place} estimator is {getattr(self, place)!r}; an estimator with `{what}` is required. Open "
                    "one with specxr.open_estimator."
                )
        if not self._shared or not self.rest:
            raise ValueError(
                f"the first estimator infers {', '.join(self.first.labels)} and the second "
                f"{', '.join(self.second.labels)}; the second must share labels with the first and add others. Train "
                "it on more labels, or use the first alone."
            )

    @classmethod
    def open(
        cls,
        first: str,
        second: str,
        *,
        mask_bits: int | str = int(LEFT_OUT),
        device: str = "cpu",
        dtype: str = "float64",
    ) -> Self:
        """Open both estimators by name or from their model files, with the same options."""
        options = {"mask_bits": mask_bits, "device": device, "dtype": dtype}
        return cls(open_estimator(first, **options), _second(open_estimator(second, **options)))

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any], **options: Any) -> Self:
        """Build the hybrid of two provenances; `options` replace what both of these say."""
        first, second = (open_estimator(provenance[name], **options) for name in ("first", "second"))
        return cls(first, _second(second))

    @property
    def _shared(self) -> tuple[str, ...]:
        """Labels that both infer, in the order of the first."""
        return tuple(name for name in self.first.labels if name in self.second.labels)

    @property
    def rest(self) -> tuple[str, ...]:
        """Labels that the second adds."""
        return tuple(name for name in self.second.labels if name not in self.first.labels)

    @property
    def labels(self) -> tuple[str, ...]:
        """Names of the inferred labels: those of the first, then those that the second adds."""
        return self.first.labels + self.rest

    @property
    def inputs(self) -> tuple[str, ...]:
        """Variables that either of the two reads."""
        return tuple(dict.fromkeys(self.first.inputs + self.second.inputs))

    @property
    def weighted(self) -> bool:
        """Whether either of the two weighs pixels by their inverse variance."""
        return self.first.weighted or self.second.weighted

    @property
    def device(self) -> str:
        """The device of the second estimator."""
        return self.second.device

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        return outputs_of(self.labels, chi2="sum of squared residuals over their variance, of the second fit")

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and models of both."""
        return {
            "estimator": "Hybrid",
            "first": dict(self.first.provenance),
            "second": dict(self.second.provenance),
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
        given = {name: before[name] for name in self._shared}
        after, response = self.second.estimate_given(block, given, spectra)

        out = {name: before[name] for label in self.first.labels for name in (label, f"{label}_err")}
        out["covariance"] = self._covariance(before, after, response)
        for i, name in enumerate(self.rest, start=len(self.first.labels)):
            out[name] = after[name]
            out[f"{name}_err"] = np.sqrt(out["covariance"][:, i, i])
        out["limit"] = np.concatenate((before["limit"], after["limit"][:, self._places(self.rest)]), axis=1)
        out["n_iter"] = before["n_iter"] + after["n_iter"]
        # What kept the first fit from converging is what matters, even if the second converged.
        out["result"] = np.where(before["result"] != int(Result.CONVERGED), before["result"], after["result"])
        out["flags"] = before["flags"] | after["flags"]
        for name in ("chi2", "reduced_chi2", "snr_fit", "n_good", *(MODEL_SPECTRA if spectra else ())):
            out[name] = after[name]
        return out

    def _places(self, names: tuple[str, ...]) -> list[int]:
        """Places of labels among those of the second."""
        return [self.second.labels.index(name) for name in names]

    def _covariance(
        self,
        before: Mapping[str, NDArray[Any]],
        after: Mapping[str, NDArray[Any]],
        response: NDArray[np.float64],
    ) -> NDArray[np.float64]:
        """Covariance of all labels, shape (star, label, label), in the order of `labels`."""
        free = self._places(self.rest)
        shared = [self.first.labels.index(name) for name in self._shared]
        first = before["covariance"]
        mixed = response @ first[:, shared]
        second = after["covariance"][:, free][:, :, free] + mixed[:, :, shared] @ np.swapaxes(response, 1, 2)
        return np.block([[first, np.swapaxes(mixed, 1, 2)], [mixed, second]])


def _second(estimator: Estimator) -> SecondStage:
    if not isinstance(estimator, SecondStage):
        raise ValueError(
            f"the second estimator is {type(estimator).__name__}, which cannot hold labels; one that fits an emulator "
            "is required, such as Payne or SLAM. Exchange the two, or train a model."
        )
    return estimator
