"""A mock of the hot-star paper: labels, places, photometry and repeat visits of hot stars and of what is like them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.vocabulary import LABELS, STAR

KINDS = ("disc", "bhb", "straggler", "cool")  # values of the variable `kind`

_FIRST_ID = 2_000_000_000_000_000_000  # as long as identifiers of Gaia are
_SUN = 8.122  # distance from the centre of the Galaxy [kpc]
_DISC_LENGTH, _DISC_HEIGHT, _HALO_REACH = 3.0, 0.1, 12.0  # kpc

# Directions of the centre of the Galaxy, of its rotation and of its pole, in equatorial coordinates (J2000).
_TO_EQUATORIAL = np.array([
    [-0.0548755604, 0.4941094279, -0.8676661490],
    [-0.8734370902, -0.4448296300, -0.1980763734],
    [-0.4838350155, 0.7469822445, 0.4559837762],
])  # fmt: skip

# Unreddened dwarfs, about as in Pecaut & Mamajek (2013): Teff [K], G - Ks, J - H and M_Ks [mag].
_DWARFS = np.array([
    (5500.0, 1.52, 0.34, 3.4), (6340.0, 1.08, 0.20, 2.6), (7220.0, 0.68, 0.12, 2.0), (8080.0, 0.38, 0.06, 1.5),
    (9700.0, 0.04, 0.00, 0.9), (12500.0, -0.33, -0.06, 0.2), (19000.0, -0.55, -0.11, -0.9),
    (35000.0, -0.75, -0.15, -2.5),
]).T  # fmt: skip
_GIANT = (2.3, 0.58, -1.6)
# Extinction in Ks, and reddening of G - Ks and J - H, over that in V (Wang & Chen 2019, rounded).
_KS, _G_KS, _J_H = 0.078, 0.71, 0.105
_ZERO_AGE_LOGG = 4.28


@dataclass(frozen=True)
class HotStarMock:
    """How many stars a mock has, and what is true of them.

    Parameters
    ----------
    n_disc, n_bhb, n_stragglers, n_cool : int
        Young stars of the disc, blue horizontal branch stars, blue stragglers, and cooler stars, half of them giants.
    visits : int
        Spectra of each of the first tenth of the stars of the disc; the others have one.
    slope, feh_at_sun, scatter : float
        Gradient of [Fe/H] [dex/kpc], [Fe/H] at the Sun's radius and intrinsic scatter [dex] of the disc.
    snr : (float, float)
        Range of the S/N per pixel, uniform in its logarithm.
    distance_error : float
        Relative error of the distances.
    teff : (float, float)
        Temperatures of the disc [K], uniform in the logarithm.
    """

    n_disc: int = 2500
    n_bhb: int = 250
    n_stragglers: int = 100
    n_cool: int = 250
    visits: int = 3
    slope: float = -0.07
    feh_at_sun: float = 0.0
    scatter: float = 0.10
    snr: tuple[float, float] = (15.0, 200.0)
    distance_error: float = 0.08
    teff: tuple[float, float] = (7000.0, 18000.0)

    def draw(self, seed: int = 0) -> xr.Dataset:
        """Draw all stars, a row for each spectrum.

        Parameters
        ----------
        seed : int, optional

        Returns
        -------
        Dataset
            Along ``star``: ``teff``, ``logg``, ``feh`` and ``vsini``, the true labels; ``kind``, the index in `KINDS`;
            ``source_id``, the same for all visits; ``ra``, ``dec`` [degree]; ``distance`` and ``distance_err``, as they
            are observed [kpc]; ``true_distance``; ``phot_g_mean_mag``, ``j``, ``h`` and ``ks`` [mag]; ``snr`` and
            ``snr_r``; and ``lasp_teff``, NaN for stars that a pipeline of cool stars does not fit [K].
        """
        rng = np.random.default_rng([seed, 10])
        parts = [
            _disc(self, rng), _halo(self.n_bhb, 1, rng), _halo(self.n_stragglers, 2, rng), _cool(self.n_cool, rng),
        ]  # fmt: skip
        stars = xr.concat(parts, STAR)
        stars["source_id"] = (STAR, _FIRST_ID + np.arange(stars.sizes[STAR]))
        stars = stars.merge(_photometry(stars, rng))
        again = np.repeat(np.arange(self.n_disc // 10), max(self.visits - 1, 0))
        stars = stars.isel({STAR: np.concatenate([np.arange(stars.sizes[STAR]), again])})
        n = stars.sizes[STAR]
        snr = _uniform_in_log(self.snr, n, rng)
        error = self.distance_error * stars["true_distance"].values
        # All visits of a star have one distance, that of its first.
        shift = rng.normal(size=n)[stars["source_id"].values - _FIRST_ID]
        observed = np.maximum(stars["true_distance"].values + error * shift, 0.05)
        teff = stars["teff"].values
        lasp = np.where(teff < 8500.0, teff + rng.normal(0.0, 150.0, n), np.nan)
        stars = stars.assign(
            snr=(STAR, snr),
            snr_r=(STAR, snr),
            distance=(STAR, observed, {"units": "kpc", "long_name": "distance, with its error"}),
            distance_err=(STAR, self.distance_error * observed, {"units": "kpc"}),
            lasp_teff=(
                STAR,
                lasp,
                {"units": "K", "long_name": "effective temperature of a pipeline of cool stars"},
            ),
        )
        for name in ("teff", "logg", "feh", "vsini"):
            stars[name].attrs = LABELS[name].attrs
        return stars


def draw_disc_places(n: int, rng: np.random.Generator, sun: float = _SUN) -> xr.Dataset:
    """Draw places of stars of the disc that a northern survey sees.

    Parameters
    ----------
    n : int
    rng : Generator
    sun : float, optional
        Distance of the Sun from the centre of the Galaxy, in whose plane it lies [kpc].

    Returns
    -------
    Dataset
        ``ra`` and ``dec`` [degree] and ``distance`` [kpc] along ``star``: a disc of 3 kpc scale length and 0.1 kpc
        scale height, seen as far as some kpc, mostly outwards.
    """
    places = [np.zeros((0, 3))]
    while sum(len(part) for part in places) < n:
        distance = rng.gamma(3.0, 0.9, 4 * n)
        longitude = rng.uniform(np.radians(40.0), np.radians(250.0), 4 * n)
        height = rng.laplace(0.0, _DISC_HEIGHT, 4 * n)
        flat = np.sqrt(np.maximum(distance**2 - height**2, 0.0))
        x, y = flat * np.cos(longitude), flat * np.sin(longitude)
        radius = np.hypot(sun - x, y)
        kept = (rng.random(4 * n) < np.exp(-(radius - 4.0) / _DISC_LENGTH)) & (np.abs(height) < distance)
        kept &= (radius > 4.0) & (distance > 0.1)
        places.append(np.stack([x, y, height], axis=1)[kept])
    return _sky(np.concatenate(places)[:n])


def _disc(mock: HotStarMock, rng: np.random.Generator) -> xr.Dataset:
    n = mock.n_disc
    places = draw_disc_places(n, rng)
    x, y, _ = _galactic(places)
    radius = np.hypot(_SUN - x, y)
    feh = mock.feh_at_sun + mock.slope * (radius - _SUN) + rng.normal(0.0, mock.scatter, n)
    teff = _uniform_in_log(mock.teff, n, rng)
    logg = _ZERO_AGE_LOGG - 0.7 * rng.beta(1.0, 2.0, n) + rng.normal(0.0, 0.03, n)
    vsini = np.clip(rng.lognormal(np.log(90.0) + 0.25, 0.5, n), 5.0, 400.0)
    return _stars(places, 0, teff, logg, feh, vsini)


def _halo(n: int, kind: int, rng: np.random.Generator) -> xr.Dataset:
    """Stars far from the plane, metal-poor: those of the horizontal branch, or stragglers near the main sequence."""
    direction = rng.normal(size=(6 * n + 20, 3))
    direction /= np.linalg.norm(direction, axis=1, keepdims=True)
    direction = direction[np.abs(direction[:, 2]) > np.sin(np.radians(16.0))][:n]
    places = _sky(direction * rng.uniform(2.0, _HALO_REACH, (n, 1)))
    feh = rng.normal(-1.9, 0.22, n)
    if kind == KINDS.index("bhb"):
        # Of one mass and nearly one luminosity: gravity rises with the fourth power of the temperature.
        teff = _uniform_in_log((7400.0, 9600.0), n, rng)
        logg = 3.15 + 3.0 * np.log10(teff / 8500.0) + rng.normal(0.0, 0.06, n)
        return _stars(places, kind, teff, logg, feh, rng.uniform(5.0, 40.0, n))
    teff = _uniform_in_log((7400.0, 9000.0), n, rng)
    logg = rng.normal(4.15, 0.10, n)
    return _stars(places, kind, teff, logg, feh, np.clip(rng.lognormal(np.log(60.0), 0.5, n), 5.0, 300.0))


def _cool(n: int, rng: np.random.Generator) -> xr.Dataset:
    """Turn-off stars and giants, which criteria of photometry are to remove."""
    giant = np.arange(n) < n // 2
    teff = np.where(giant, rng.uniform(5000.0, 5400.0, n), rng.uniform(5800.0, 6900.0, n))
    logg = np.where(giant, rng.uniform(2.3, 3.2, n), rng.uniform(4.0, 4.4, n))
    return _stars(draw_disc_places(n, rng), 3, teff, logg, rng.normal(-0.1, 0.2, n), np.full(n, 10.0))


def _uniform_in_log(limits: tuple[float, float], n: int, rng: np.random.Generator) -> NDArray[np.float64]:
    return np.asarray(np.exp(rng.uniform(np.log(limits[0]), np.log(limits[1]), n)))


def _stars(places: xr.Dataset, kind: int, *labels: NDArray[np.float64]) -> xr.Dataset:
    columns = dict(zip(("teff", "logg", "feh", "vsini"), labels, strict=True))
    out = places.rename(distance="true_distance").assign({name: (STAR, v) for name, v in columns.items()})
    return out.assign(kind=(STAR, np.full(out.sizes[STAR], kind)))


def _photometry(stars: xr.Dataset, rng: np.random.Generator) -> xr.Dataset:
    """Apparent magnitudes of Gaia and 2MASS, reddened and with errors."""
    n = stars.sizes[STAR]
    teff, logg, kind = (stars[name].values for name in ("teff", "logg", "kind"))
    g_ks, j_h, m_ks = (np.interp(teff, _DWARFS[0], column) for column in _DWARFS[1:])
    giant = (kind == KINDS.index("cool")) & (logg < 3.5)
    g_ks, j_h, m_ks = (np.where(giant, g, d) for g, d in zip(_GIANT, (g_ks, j_h, m_ks), strict=True))
    # At one temperature a star of less gravity is larger; one of the horizontal branch has half the mass.
    m_ks = m_ks - np.where(giant, 0.0, 2.5 * (_ZERO_AGE_LOGG - logg))
    m_ks += np.where(kind == KINDS.index("bhb"), 1.2, 0.0)
    dust = np.where((kind == 1) | (kind == 2), 0.1, rng.exponential(0.8, n))
    ks = m_ks + 5.0 * np.log10(stars["true_distance"].values * 100.0) + _KS * dust
    h = ks + 0.3 * j_h
    magnitudes = {"ks": ks, "h": h, "j": h + j_h + _J_H * dust, "phot_g_mean_mag": ks + g_ks + _G_KS * dust}
    attrs = {"units": "mag"}
    return xr.Dataset({name: (STAR, m + rng.normal(0.0, 0.02, n), attrs) for name, m in magnitudes.items()})


def _sky(place: NDArray[np.float64]) -> xr.Dataset:
    """Equatorial coordinates and distances of Galactic Cartesian places, seen from the Sun, shape (star, 3) [kpc]."""
    x, y, z = (place @ _TO_EQUATORIAL.T).T
    distance = np.sqrt(x**2 + y**2 + z**2)
    units = {"units": "degree"}
    return xr.Dataset(
        {
            "ra": (STAR, np.degrees(np.arctan2(y, x)) % 360.0, units),
            "dec": (STAR, np.degrees(np.arcsin(z / distance)), units),
            "distance": (STAR, distance, {"units": "kpc"}),
        }
    )


def _galactic(places: xr.Dataset) -> NDArray[np.float64]:
    """Inverse of `_sky`, shape (3, star) [kpc]."""
    ra, dec = np.radians(places["ra"].values), np.radians(places["dec"].values)
    toward = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)])
    return np.asarray(_TO_EQUATORIAL.T @ (toward * places["distance"].values))
