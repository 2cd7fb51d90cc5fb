"""Spectra as polynomials of the labels, in regimes of temperature: ULySS' TGM and the Cannon alike."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from specxr.content import by_reference, fingerprint
from specxr.emulators.arrays import Required, check_arrays
from specxr.emulators.base import in_one_line
from specxr.kernels.rebin import rebin
from specxr.kernels.refraction import convert_medium
from specxr.vocabulary import MEDIA

_LABELS = ("teff", "logg", "feh")

# No label beyond these enters a polynomial: the highest powers and exponentials stay finite in float64.
_LOWEST = (1e2, -1e2, -1e2)
_HIGHEST = (1e6, 1e2, 1e2)

_REMAINDER_ORDER = 5
_HIGHEST_POWER = 20  # a table of all powers is kept for each star


@dataclass(frozen=True, eq=False)
class PolynomialEmulator:
    """Spectra as polynomials of (teff, logg, feh) in regimes of teff, on the pixels that they are stored on.

    With y = (teff or log10 teff, logg, feh), scaled to x = (y - fiducial_r) / scale_r, in regime r
    flux = sum_i coefficients_ri x0^a_i x1^b_i x2^c_i + sum_j coefficients_rj R(k_j x0),
    where R(z) = exp(z) - (1 + z + ... + z^5 / 5!). Neighbouring regimes are blended linearly in log10 teff.

    Parameters
    ----------
    coefficients : ndarray, shape (regime, term, wavelength)
        Regimes in order of rising teff; terms are the monomials, then the remainders.
    edges : ndarray, shape (wavelength + 1,)
        Edges of the pixels [Angstrom].
    medium : {"vacuum", "air"}
        Medium in which `edges` are measured.
    powers : ndarray of int, shape (monomial, 3)
        The exponents (a, b, c).
    fiducial, scale : ndarray, shape (regime, 3)
        Origin and unit of the scaled labels.
    knots : ndarray, shape (regime - 1, 2)
        The interval of teff [K] in which a regime gives way to the next.
    bounds : mapping of str to (float, float)
        The lowest and highest value of each label that the emulator is good for.
    log_teff : bool
        Whether log10 teff enters, not teff.
    remainders : tuple of float, optional
        The rates k of the exponential remainders R(k x0).
    resolving_power : float, optional
        lambda / FWHM of the stored spectra, where it is known.
    name, citation, licence : str, optional
        Origin of the emulator, and the terms of its use.
    label_scale : str, optional
        The scale of its labels, in one line.
    accuracy : str, optional
        How well a fit with it finds the labels of real stars, in one line.
    errors : tuple of tuple of float, optional
        Rows of lowest and highest teff [K], number of stars, and the scatter of teff [K], logg and feh of real stars
        that the emulator was not made from.
    source : str, optional
        Name or path that `open_emulator` opened; the emulator then travels to other processes as this name and its
        fingerprint.

    References
    ----------
    Wu et al. 2011, A&A 525, A71 (TGM); Ness et al. 2015, ApJ 808, 16 (the Cannon).
    """

    coefficients: NDArray[Any]
    edges: NDArray[np.float64]
    medium: str
    powers: NDArray[np.int64]
    fiducial: NDArray[np.float64]
    scale: NDArray[np.float64]
    knots: NDArray[np.float64]
    bounds: Mapping[str, tuple[float, float]]
    log_teff: bool
    remainders: tuple[float, ...] = ()
    resolving_power: float | None = None
    name: str = ""
    citation: str = ""
    licence: str = ""
    label_scale: str = ""
    accuracy: str = ""
    errors: tuple[tuple[float, ...], ...] = ()
    source: str | None = None

    def __repr__(self) -> str:
        return in_one_line(self)

    def __post_init__(self) -> None:
        try:
            self._check()
        except ValueError as error:
            raise ValueError(
                f"{self.name or 'the emulator'} cannot be used: {error}; arrays that fit together, of finite "
                "numbers, are required. Correct what it was made from."
            ) from error

    def _check(self) -> None:
        """Raise ``ValueError`` with what is wrong with the arrays and attributes."""
        check_arrays(
            {"coefficients": self.coefficients},
            {"coefficients": Required(("regime", "term", "wavelength"), np.floating, "some")},
        )
        regimes, terms, pixels = self.coefficients.shape
        required = {
            "edges": Required((pixels + 1,), values="positive"),
            "powers": Required((terms - len(self.remainders), 3), np.integer),
            "fiducial": Required((regimes, 3)),
            "scale": Required((regimes, 3)),
            "knots": Required((regimes - 1, 2), values="positive"),
        }
        check_arrays({name: getattr(self, name) for name in required}, required)
        if not (np.diff(self.edges) > 0).all() or not (np.diff(self.knots.ravel()) >= 0).all():
            raise ValueError("its edges or its knots do not increase")
        if (self.knots[:, 0] == self.knots[:, 1]).any() or not self.scale.all():
            raise ValueError("a blend of regimes has no width, or a scale is zero")
        if not ((self.powers >= 0) & (self.powers <= _HIGHEST_POWER)).all():
            raise ValueError(f"a power is not one of 0 to {_HIGHEST_POWER}")
        if self.medium not in MEDIA or set(self.bounds) != set(_LABELS):
            raise ValueError(
                f"medium is {self.medium!r} and bounds are given for {sorted(self.bounds)}, and not one of {MEDIA} and "
                f"{_LABELS}"
            )
        ends = np.array([self.bounds[label] for label in _LABELS], dtype=np.float64)
        inside = (ends >= np.transpose([_LOWEST])) & (ends <= np.transpose([_HIGHEST]))
        if ends.shape != (3, 2) or not inside.all() or not (ends[:, 0] < ends[:, 1]).all():
            raise ValueError(f"its bounds are {dict(self.bounds)}")
        power = 1.0 if self.resolving_power is None else self.resolving_power
        if (
            not np.isfinite([*self.remainders, power]).all()
            or power <= 0
            or self.log_teff not in (True, False)
        ):
            raise ValueError(
                f"its log_teff is {self.log_teff!r}, or remainders or resolving power are no numbers"
            )

    @property
    def labels(self) -> tuple[str, str, str]:
        """Names of the labels, in the order in which they are given."""
        return _LABELS

    @property
    def about(self) -> str:
        """Its name, and the accuracy of labels of real stars as its file gives it, in one line."""
        unknown = "its file does not say how well it finds labels of real stars"
        origin = f"{self.citation}; " if self.citation else ""
        return f"{self.name or 'without a name'}: {self.accuracy or origin + unknown}"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that decides a flux or a bound."""
        bounds = [tuple(map(float, self.bounds[label])) for label in _LABELS]
        arrays = (self.coefficients, self.edges, self.powers, self.fiducial, self.scale, self.knots)
        return fingerprint(
            *arrays, self.medium, bool(self.log_teff), list(map(float, self.remainders)), bounds
        )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PolynomialEmulator) and self.fingerprint == other.fingerprint

    def __hash__(self) -> int:
        return hash(self.fingerprint)

    def __reduce__(self) -> tuple[Any, ...]:
        # Weights reach a worker as name and hash, not as megabytes in every task.
        if self.source is not None:
            from specxr.emulators.files import open_emulator

            return by_reference(open_emulator, self.source, self)
        return type(self), tuple(getattr(self, field.name) for field in fields(self))

    @property
    def boundaries(self) -> tuple[float, ...]:
        """Temperatures [K] where a blend of regimes begins or ends; the derivative by teff jumps there."""
        return tuple(map(float, self.knots.ravel()))

    def to_medium(self, wavelength: NDArray[np.float64], medium: str) -> NDArray[np.float64]:
        """Wavelengths [Angstrom] measured in `medium`, brought to the emulator's own."""
        return convert_medium(wavelength, medium, self.medium)

    def check_coverage(self, edges: NDArray[np.float64], medium: str) -> None:
        """Raise ``ValueError`` unless pixels with these edges [Angstrom] in `medium` lie inside."""
        own = self.to_medium(edges, medium)
        if not (self.edges[0] <= own[0] and own[-1] <= self.edges[-1]):
            low, high = convert_medium(self.edges[[0, -1]], self.medium, medium)
            raise ValueError(
                f"the spectra span {edges[0]:.1f}-{edges[-1]:.1f} Angstrom ({medium}); the emulator "
                f"{self.name} covers only {low:.1f}-{high:.1f}, and an emulator that covers them is required. Cut the "
                "spectra to that range, or choose another emulator."
            )

    def on(
        self,
        edges: NDArray[np.float64],
        medium: str,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> GridEmulator:
        """The emulator on other pixels: flux is linear in the coefficients, so these are rebinned, once.

        Parameters
        ----------
        edges : ndarray, shape (wavelength + 1,)
            Edges of the pixels [Angstrom].
        medium : {"vacuum", "air"}
            Medium in which `edges` are measured; they are converted to the emulator's medium.
        dtype : torch.dtype, optional
        device : torch.device or str, optional

        Returns
        -------
        GridEmulator
        """
        self.check_coverage(edges, medium)
        rows = torch.from_numpy(self.coefficients.astype(np.float64)).flatten(0, 1)
        rebinned = rebin(rows, self.edges, self.to_medium(edges, medium))
        return GridEmulator(self, rebinned.to(device=device, dtype=dtype))


class GridEmulator:
    """A `PolynomialEmulator` on given pixels, on one device; made by `PolynomialEmulator.on`.

    Flux is ``terms(labels) @ coefficients``. Each star is evaluated for itself: its terms, and on the CPU
    its flux, are the same to the last bit whatever its neighbours. A label that is NaN gives NaN, in its star
    alone; labels beyond the bounds are extrapolated.

    Attributes
    ----------
    coefficients : Tensor, shape (term, wavelength)
        The terms of all regimes, one regime after another.
    source : PolynomialEmulator
        The emulator itself.
    labels : tuple of str
    bounds : mapping of str to (float, float)
    """

    def __init__(self, emulator: PolynomialEmulator, coefficients: torch.Tensor):
        self.source = emulator
        self.coefficients = coefficients
        self.labels = emulator.labels
        self.bounds = emulator.bounds
        self._log_teff = emulator.log_teff

        def constant(value: Any) -> torch.Tensor:
            return torch.as_tensor(value, dtype=torch.float64, device=coefficients.device)

        self._lowest, self._highest = constant(_LOWEST), constant(_HIGHEST)
        self._fiducial, self._scale = constant(emulator.fiducial), constant(emulator.scale)
        self._rates = constant(emulator.remainders)
        lower, upper = np.log10(emulator.knots).T
        self._knot, self._per_dex = constant(lower), constant(1.0 / (upper - lower))

        degree = max(1, int(emulator.powers.max()))
        self._exponents = constant(np.arange(1, degree + 1)) / self._scale[..., None]
        # Where in the table of _pieces the factors of each monomial lie: first their values, then slopes.
        value = emulator.powers.T + 2 * (degree + 1) * np.arange(3)[:, None]
        pick = np.concatenate([value, value + degree + 1]).ravel()
        self._pick = torch.as_tensor(pick, device=coefficients.device)

    def terms(self, labels: torch.Tensor) -> torch.Tensor:
        """The factors of the coefficients.

        Parameters
        ----------
        labels : Tensor, shape (star, 3)
            teff [K], logg [dex], feh [dex].

        Returns
        -------
        Tensor, shape (star, term)
            Terms of each regime times its weight in the blend, 0 outside it.
        """
        return self.rows(labels)[:, 0]

    def terms_and_derivatives(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Terms, and their derivatives by teff [1/K], logg [1/dex] and feh [1/dex].

        Where two pieces of a blend meet, the derivative is that of the hotter one.

        Parameters
        ----------
        labels : Tensor, shape (star, 3)

        Returns
        -------
        terms : Tensor, shape (star, term)
        derivatives : Tensor, shape (star, 3, term)
        """
        rows = self.rows(labels)
        return rows[:, 0], rows[:, 1:]

    def flux(self, labels: torch.Tensor) -> torch.Tensor:
        """Flux, shape (star, wavelength), of labels of shape (star, 3)."""
        return self.flux_and_derivatives(labels)[0]

    def flux_and_derivatives(self, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Flux, shape (star, wavelength), and its derivatives by the labels, shape (star, 3, wavelength)."""
        # Four rows a star: BLAS sums the rows of a tile of four in orders of their own, so that a star with
        # one row would change in its last bits with its place in the block.
        rows = self.rows(labels)
        flux = (rows.flatten(0, 1) @ self.coefficients).reshape(len(rows), 4, -1)
        return flux[:, 0], flux[:, 1:]

    def rows(self, labels: torch.Tensor) -> torch.Tensor:
        """Terms and their three derivatives in one tensor, shape (star, 4, term); formed in float64."""
        labels = torch.clamp(labels.to(torch.float64), self._lowest, self._highest)
        teff = labels[:, :1]
        log_teff = torch.log10(teff)
        dex_per_kelvin = 1.0 / (math.log(10.0) * teff)

        if self._log_teff:
            value, by_teff, by_logg, by_feh = self._pieces(torch.cat([log_teff, labels[:, 1:]], 1))
            by_teff = by_teff * dex_per_kelvin[:, None]
        else:
            value, by_teff, by_logg, by_feh = self._pieces(labels)

        rise = (log_teff - self._knot) * self._per_dex
        blending = (rise >= 0.0) & (rise < 1.0)
        weight = _between(rise.clamp(0.0, 1.0), first=1.0)
        weight_by_teff = _between(blending * self._per_dex * dex_per_kelvin, first=0.0)

        by_teff = by_teff * weight + value * weight_by_teff
        rows = torch.stack([value * weight, by_teff, by_logg * weight, by_feh * weight], 1)
        return rows.flatten(2).to(self.coefficients.dtype)

    def _pieces(self, y: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Terms and derivatives by y, of shape (star, 3), each of shape (star, regime, term)."""
        x = (y[:, None] - self._fiducial) / self._scale
        one = torch.ones_like(x)[..., None]
        power = torch.cat([one, x[..., None].expand(*x.shape, self._exponents.shape[-1]).cumprod(-1)], -1)
        slope = torch.cat([0.0 * one, self._exponents * power[..., :-1]], -1)
        table = torch.cat([power, slope], -1).flatten(2)
        t, g, f, dt, dg, df = table.index_select(2, self._pick).chunk(6, 2)
        pieces = (t * g * f, dt * g * f, t * dg * f, t * g * df)
        if not len(self._rates):
            return pieces
        remainder, slope = _remainder(x[..., :1] * self._rates)
        slope = slope * self._rates / self._scale[:, :1]
        zero = torch.zeros_like(remainder)
        added = (remainder, slope, zero, zero)
        return tuple(torch.cat(pair, -1) for pair in zip(pieces, added, strict=True))


def _between(rise: torch.Tensor, first: float) -> torch.Tensor:
    """What each regime keeps of its rise once the next has risen: (star, knot) -> (star, regime, 1)."""
    start = rise.new_full((len(rise), 1), first)
    return -torch.diff(torch.cat([start, rise, 0.0 * start], 1), dim=1)[..., None]


def _remainder(z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """exp(z) less its Taylor polynomial of degree 5, and the derivative, exp(z) less that of degree 4."""
    term = series = torch.ones_like(z)
    for n in range(1, _REMAINDER_ORDER):
        term = term * z / n
        series = series + term
    slope = torch.exp(z) - series
    return slope - term * z / _REMAINDER_ORDER, slope
