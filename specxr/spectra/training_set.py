"""Training sets: normalised spectra on one grid with their labels, checked before anything is learnt from them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from specxr.content import short_fingerprint
from specxr.spectra.grid import Grid
from specxr.spectra.pixels import usable
from specxr.vocabulary import LABELS, LEFT_OUT, SPECTRA

# A fit finds these from where lines lie and how wide they are beyond the training set; they are not learnt.
NOT_LEARNT = ("rv", "sigma")

# A label that some stars lack is learnt from at least so many others.
_LEAST_KNOWN = 20

# A pixel is learnt if so many of the stars have it: beside a masked band, velocities leave it to a few of them.
_LEAST_SHARE = 0.1


@dataclass(frozen=True, eq=False)
class TrainingSet:
    """Spectra at rest, over their continuum, with known labels.

    Parameters
    ----------
    grid : Grid
        With the recipe of the normalisation, which observations go through as well; where it is empty, observations
        are taken as they come.
    flux, ivar : ndarray, shape (star, wavelength)
        Normalised flux and its inverse variance.
    mask : ndarray of unsigned int, shape (star, wavelength)
        Bits of ``vocabulary.MaskBit``.
    labels : mapping of str to ndarray, shape (star,)
        Labels by names of the vocabulary, in the order in which they are inferred; NaN where a method may do without.
    provenance : mapping, optional
        Origin of the spectra that the trained model keeps, as JSON types: generator, line spread, ...
    types : ndarray of str, shape (star,), optional
        Spectral types, for methods that learn classes as well.
    """

    grid: Grid
    flux: NDArray[Any]
    ivar: NDArray[Any]
    mask: NDArray[Any]
    labels: Mapping[str, NDArray[np.float64]]
    provenance: Mapping[str, Any] = field(default_factory=dict)
    types: NDArray[Any] | None = None

    def __len__(self) -> int:
        return len(self.flux)

    def __getitem__(self, stars: NDArray[Any]) -> TrainingSet:
        """Return a part of the stars."""
        return replace(
            self,
            flux=self.flux[stars],
            ivar=self.ivar[stars],
            mask=self.mask[stars],
            labels={name: values[stars] for name, values in self.labels.items()},
            types=None if self.types is None else self.types[stars],
        )

    @cached_property
    def good(self) -> NDArray[np.bool_]:
        """Pixels that can be learnt from, shape (star, wavelength)."""
        return usable(self.flux, self.ivar, self.mask, LEFT_OUT)

    @cached_property
    def used(self) -> NDArray[np.bool_]:
        """Pixels that enough stars have good, shape (wavelength,); the others are neither learnt nor fitted."""
        return np.asarray(self.good.sum(axis=0) >= max(2.0, _LEAST_SHARE * len(self)))

    @property
    def label_array(self) -> NDArray[np.float64]:
        """Labels of shape (star, label)."""
        return np.stack([np.asarray(values, dtype=np.float64) for values in self.labels.values()], axis=1)

    @property
    def bounds(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each label."""
        return {name: (float(np.nanmin(v)), float(np.nanmax(v))) for name, v in self.labels.items()}

    @cached_property
    def fingerprint(self) -> str:
        """Content hash of spectra, labels, grid and normalisation."""
        labels = {name: np.ascontiguousarray(values, dtype="<f8") for name, values in self.labels.items()}
        spectra = (np.where(self.good, values, 0.0).astype("<f4") for values in (self.flux, self.ivar))
        return short_fingerprint(
            self.grid.fingerprint, self.grid.normalisation, list(labels), *labels.values(), *spectra
        )

    def check(self, missing: bool = False) -> None:
        """Raise ``ValueError`` where nothing sensible could be learnt; `missing` says whether labels may be NaN."""
        self.grid.check_log10("the training spectra")
        self._check_shapes()
        self._check_labels(missing)
        self._check_spectra()

    def _check_shapes(self) -> None:
        n_star = len(self.flux)
        shape = (n_star, self.grid.wavelength.size)
        for name in SPECTRA:
            given = getattr(self, name).shape
            if given != shape:
                raise ValueError(
                    f"{name} of the training set has shape {given}; {shape} is required, stars by wavelengths. "
                    "Correct the array, or the grid."
                )
        for name, values in self.labels.items():
            if np.shape(values) != (n_star,):
                raise ValueError(
                    f"the training label {name} has shape {np.shape(values)}; ({n_star},) is required, one for each "
                    "spectrum. Align labels and spectra."
                )

    def _check_labels(self, missing: bool) -> None:
        if not self.labels:
            raise ValueError(
                "the training set has no labels; at least one is required. Name what is to be learnt."
            )
        for name in self.labels:
            if name not in LABELS or name in NOT_LEARNT:
                known = ", ".join(label for label in LABELS if label not in NOT_LEARNT)
                raise ValueError(
                    f"the training label {name!r} cannot be learnt; one of {known} is required. Rename it, or add it "
                    "to specxr.vocabulary."
                )
        n_star, n_label = self.label_array.shape
        if n_star <= n_label:
            raise ValueError(
                f"the training set has {n_star} stars for {n_label} labels; more stars than labels are required, and "
                "hundreds are sensible. Add stars, or drop labels."
            )
        for name, values in self.labels.items():
            lost = int((~np.isfinite(values)).sum())
            if missing and n_star - lost >= _LEAST_KNOWN and not np.isinf(values).any():
                lost = 0
            if lost:
                raise ValueError(
                    f"the training label {name} is not finite for {lost} of {n_star} stars; finite values are "
                    "required. Select the stars that have it, e.g. cube.isel(star=np.isfinite(cube[name]))."
                )
            if np.nanmin(values) == np.nanmax(values):
                raise ValueError(
                    f"the training label {name} is {np.nanmin(values):g} for every star; a label that varies is "
                    "required. Leave it out, or add stars."
                )
        bare = np.isnan(self.label_array).all(axis=1)
        if bare.any():
            raise ValueError(
                f"{bare.sum()} stars of the training set have no label at all, the first in row {np.argmax(bare)}; one "
                "that is known is required of each. Leave these stars out."
            )
        self._check_label_pairs()

    def _check_label_pairs(self) -> None:
        names, labels = list(self.labels), self.label_array
        for i, j in zip(*np.triu_indices(len(names), 1), strict=True):
            known = np.isfinite(labels[:, i]) & np.isfinite(labels[:, j])
            pair = np.stack([labels[known, i], labels[known, j]], axis=1)
            if len(pair) > 2 and abs(_correlation(pair)) > 1.0 - 1e-9:
                raise ValueError(
                    f"the training labels {names[i]} and {names[j]} are the same up to scale and zero point; labels "
                    "that vary on their own are required. Leave one of them out."
                )

    def _check_spectra(self) -> None:
        empty = ~self.good.any(axis=1)
        if empty.any():
            raise ValueError(
                f"{empty.sum()} training spectra have no good pixel, the first in row {np.argmax(empty)}; unmasked, "
                "finite flux with inverse variance is required. Select the stars that have it."
            )
        highest = np.where(self.good, self.flux, -np.inf).max(axis=0)
        lowest = np.where(self.good, self.flux, np.inf).min(axis=0)
        flat = self.used & (highest == lowest)
        if flat.any():
            raise ValueError(
                f"{flat.sum()} pixels have the same flux in every training spectrum, the first at "
                f"{self.grid.wavelength[np.argmax(flat)]:.1f} Angstrom; flux that varies is required. Mask these "
                "pixels in all stars, or cut them off."
            )
        self._check_copies()

    def _check_copies(self) -> None:
        known = np.nan_to_num(self.label_array, nan=-1e30)  # NaN would be equal to nothing
        _, inverse, count = np.unique(known, axis=0, return_inverse=True, return_counts=True)
        same = np.flatnonzero(count[inverse] > 1)  # spectra that differ in their labels need not be compared
        _, first = np.unique(np.where(self.good[same], self.flux[same], 0.0), axis=0, return_index=True)
        if len(first) < len(same):
            twice = np.setdiff1d(same, same[first])
            raise ValueError(
                f"{len(twice)} training spectra are there twice, the first in row {twice[0]}; each once is required,"
                " or what is held out would have been learnt. Drop the copies."
            )


def _correlation(pair: NDArray[np.float64]) -> float:
    """Correlation of two columns; 0 where one is constant."""
    return float(np.asarray(np.corrcoef(pair.T))[0, 1]) if np.ptp(pair, axis=0).all() else 0.0
