"""The wavelength grid that all spectra of a cube share."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from specxr.content import short_fingerprint
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import MEDIA, SAMPLINGS

# Pixels; the float32 wavelengths of survey files move a pixel by 0.02.
SAME_PIXEL = 0.05
# Largest relative difference of two resolving powers that is accepted: the nominal line spread of an instrument and the
# one that is measured on its spectra differ by about that.
_SAME_POWER = 0.15

# What wavelengths of stars would be in other units: name, lowest and highest value.
_LOOKS = (
    ("log10 of Angstrom", 3.3, 4.6),
    ("metres", 1e-8, 1e-3),
    ("microns", 0.1, 50.0),
    ("nm", 150.0, 2600.0),
)


@dataclass(frozen=True, eq=False)
class Grid:
    """The wavelength grid that all spectra of a cube share.

    Parameters
    ----------
    wavelength : ndarray, shape (wavelength,)
        Pixel centres [Angstrom], increasing.
    medium : {"vacuum", "air"}
    sampling : {"log10", "linear"}
    step : float
        Pixel width in log10(Angstrom) or in Angstrom.
    line_spread : LineSpread, optional
        Line spread of the instrument. It does not tell grids apart.
    normalisation : str, optional
        JSON of the `Normalisation` by which the flux was divided already; empty for flux in the survey's own units.
        It does not tell grids apart.
    """

    wavelength: NDArray[np.float64]
    medium: str
    sampling: str
    step: float
    line_spread: LineSpread | None = None
    normalisation: str = ""

    def __repr__(self) -> str:
        first, last = self.wavelength[0], self.wavelength[-1]
        return (
            f"<Grid: {self.wavelength.size:,} pixels, {first:.1f} to {last:.1f} Angstrom, {self.medium}, "
            f"{self.sampling} step {self.step:g}>"
        )

    @classmethod
    def regular(
        cls, wavelength: ArrayLike, medium: str | None, line_spread: LineSpread | None = None
    ) -> Grid:
        """Grid of pixels whose sampling and step are found from their centres.

        Parameters
        ----------
        wavelength : array_like, shape (wavelength,)
            Pixel centres [Angstrom], increasing, in equal steps of log10(Angstrom) or of Angstrom.
        medium : {"vacuum", "air"}
        line_spread : LineSpread, optional

        Raises
        ------
        ValueError
            The medium is not given, or the steps are not equal.
        """
        if medium not in MEDIA:
            raise ValueError(
                f"the medium of the wavelengths is {medium!r}; one of {MEDIA} is required, since the two differ by "
                "more than a pixel. Say which: medium='vacuum', for example."
            )
        centres = np.asarray(wavelength, dtype=np.float64)
        if centres.ndim != 1 or centres.size < 2 or not np.isfinite(centres).all() or not centres[0] > 0:
            raise ValueError(
                f"the wavelengths have shape {centres.shape}; one axis of at least two finite, positive pixel centres "
                "[Angstrom] is required. Give the wavelengths of all pixels, the same for all stars."
            )
        if not (np.diff(centres) > 0).all():
            raise ValueError(
                "the wavelengths do not increase everywhere; increasing pixel centres are required. Sort the pixels, "
                "and the columns of flux and ivar with them."
            )
        departures: dict[str, tuple[float, float]] = {}
        for sampling, position in (("log10", np.log10(centres)), ("linear", centres)):
            step = float(position[-1] - position[0]) / (centres.size - 1)
            away = np.abs((position - position[0]) / step - np.arange(centres.size)).max()
            departures[sampling] = float(away), step
        best = min(departures, key=lambda sampling: departures[sampling][0])
        departure, step = departures[best]
        if departure > SAME_PIXEL:
            raise ValueError(
                f"the wavelengths depart by {departures['log10'][0]:.3g} pixels from equal steps of log10 and by "
                f"{departures['linear'][0]:.3g} from equal steps of Angstrom; at most {SAME_PIXEL} of one of them is "
                "required. Rebin the spectra to regular pixels first, with their flux conserved: "
                "specxr.from_specutils(spectra, medium=..., grid=...) does, or give a Grid with the exact step."
            )
        return cls(centres, medium, best, step, line_spread)

    @property
    def edges(self) -> NDArray[np.float64]:
        """Pixel edges [Angstrom], shape (wavelength + 1,)."""
        half = 0.5 * self.step
        if self.sampling == "log10":
            lower = self.wavelength * 10.0**-half
            return np.append(lower, self.wavelength[-1] * 10.0**half)
        return np.append(self.wavelength - half, self.wavelength[-1] + half)

    @property
    def ln_step(self) -> float:
        """Pixel width in ln(wavelength); the grid must be log10."""
        self.check_log10("these spectra")
        return self.step * math.log(10.0)

    def check(self) -> None:
        """Raise ``ValueError``, with what is wrong, unless the pixels are what medium, sampling and step say."""
        if self.medium not in MEDIA or self.sampling not in SAMPLINGS:
            raise ValueError(f"its wavelengths are in {self.medium!r}, in steps of {self.sampling!r}")
        centres = self.wavelength
        if not (
            np.isfinite(self.step) and self.step > 0 and centres.size > 1 and (np.diff(centres) > 0).all()
        ):
            raise ValueError(f"its {centres.size} wavelengths do not increase, or their step is {self.step}")
        departure = float(np.abs(self.index(centres) - np.arange(centres.size)).max())
        if not departure <= SAME_PIXEL:
            raise ValueError(f"its wavelengths depart by {departure:.3g} pixels from steps of {self.step:g}")
        if self.line_spread is not None:
            self.line_spread.sigma(centres)

    def check_log10(self, what: str) -> None:
        """Raise ``ValueError`` unless the steps are log10; `what` names the spectra in the message."""
        if self.sampling != "log10":
            raise ValueError(
                f"{what} are sampled in steps of {self.sampling}; steps of log10 are required, on which a velocity is "
                "a shift. Resample them to a log10 grid."
            )

    def index(self, wavelength: ArrayLike) -> NDArray[np.float64]:
        """Pixel numbers, with their fractions, of wavelengths [Angstrom] in the grid's medium."""
        wavelength = np.asarray(wavelength, dtype=np.float64)
        if self.sampling == "log10":
            return np.asarray(np.log10(wavelength / self.wavelength[0]) / self.step)
        return np.asarray((wavelength - self.wavelength[0]) / self.step)

    def part_of(self, other: Grid, what: str) -> slice:
        """Pixels of another grid that are the pixels of this one.

        Parameters
        ----------
        other : Grid
            The grid of a cube.
        what : str
            Name, for the message, of the model that was trained on this grid.

        Raises
        ------
        ValueError
            The grids, the resolving powers or the normalisations are not alike; the message says what differs.
        """
        for name in ("medium", "sampling"):
            given, needed = getattr(other, name), getattr(self, name)
            if given != needed:
                raise ValueError(
                    f"the cube's wavelengths have the {name} {given}; {what} was trained on {needed}, which is "
                    "required. Resample the cube, or train on spectra like these."
                )
        position = other.index(self.wavelength)
        first = int(round(position[0]))
        stop = first + self.wavelength.size
        if first < 0 or stop > other.wavelength.size:
            raise ValueError(
                f"the cube covers {other.described}; {what} was trained on {self.span}, which is required. Train on "
                "the cube's range."
            )
        departure = float(np.abs(position - first - np.arange(self.wavelength.size)).max())
        if departure > SAME_PIXEL:
            raise ValueError(
                f"the cube's pixels depart by {departure:.3g} pixels from those that {what} was trained on (step "
                f"{other.step:g}, trained {self.step:g}); at most {SAME_PIXEL} is required. Resample the cube to the "
                "grid of the training set."
            )
        self._check_alike(other, what)
        return slice(first, stop)

    def _check_alike(self, other: Grid, what: str) -> None:
        """Compare line spreads, where both are known, and normalisations."""
        if self.line_spread is not None and other.line_spread is not None:
            ours = float(np.median(self.line_spread.resolving_power(self.wavelength)))
            theirs = float(np.median(other.line_spread.resolving_power(self.wavelength)))
            if abs(theirs / ours - 1.0) > _SAME_POWER:
                raise ValueError(
                    f"the cube has a resolving power of {theirs:.4g}; {what} was trained on {ours:.4g}, and they may "
                    f"differ by {_SAME_POWER:.0%}. Bring the cube to the lower one, or train on spectra like these."
                )
        if other.normalisation and other.normalisation != self.normalisation:
            raise ValueError(
                f"the cube was normalised by {other.normalisation}; {what} requires {self.normalisation or 'none'}. "
                "Give the cube as observed (it is normalised here), or train on spectra normalised alike."
            )

    @property
    def span(self) -> str:
        """First and last wavelength, to print."""
        return f"{self.wavelength[0]:.1f}-{self.wavelength[-1]:.1f} Angstrom"

    @property
    def described(self) -> str:
        """First and last wavelength and their medium, to print, and what they look like if that is not Angstrom."""
        first, last = self.wavelength[[0, -1]]
        looks = next((name for name, low, high in _LOOKS if low <= first and last <= high), "")
        hint = f", which looks like {looks}: wavelengths in Angstrom are required" if looks else ""
        return f"{first:.6g}-{last:.6g} Angstrom in {self.medium}{hint}"

    @property
    def fingerprint(self) -> str:
        """Content hash, for caches and provenance."""
        wavelength = np.ascontiguousarray(self.wavelength, dtype="<f8")
        return short_fingerprint(wavelength, self.medium, self.sampling, self.step)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Grid) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __getitem__(self, pixels: slice) -> Grid:
        """Return a window of the grid."""
        return replace(self, wavelength=self.wavelength[pixels])
