"""Labels of stars as a survey meets them: a main sequence, turn-off stars and giants."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

TEFF_RANGE = (4500.0, 12000.0)  # temperatures of dwarfs [K]
GIANT_FRACTION = 0.3
RED_CLUMP_FRACTION = 0.35  # share of the giants
RV_SCATTER = 60.0  # km/s

# Where the spectral types of dwarfs begin [K]: Pecaut & Mamajek 2013, ApJS 208, 9, table 5.
LOWEST_TEFF = {"K": 0.0, "G": 5270.0, "F": 5930.0, "A": 7220.0}

# Surface gravity of dwarfs that have not evolved yet, from the lower edge of isochrones of solar metallicity.
_ZERO_AGE_TEFF = (4500.0, 5000.0, 5800.0, 6500.0, 8000.0, 10000.0, 12000.0)
_ZERO_AGE_LOGG = (4.65, 4.58, 4.47, 4.33, 4.28, 4.25, 4.20)


def draw_stars(n_stars: int, rng: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Draw labels that fill the Kiel diagram as stars do.

    Parameters
    ----------
    n_stars : int
    rng : Generator

    Returns
    -------
    dict of str to ndarray, shape (star,)
        ``rv`` [km/s], ``teff`` [K], ``logg`` and ``feh`` [dex].

    Notes
    -----
    Dwarfs are uniform in log Teff, which fills the hot bins of a recovery table as well as the cool ones; above
    5200 K they evolve to a gravity that is lower by up to 0.6 dex. Giants follow Teff = 5050 - 280 (3.5 - logg) -
    250 ([Fe/H] + 0.2) with 50 K of scatter up to logg = 3.5, and from there a steep subgiant branch to the dwarfs;
    a third of them stand in the red clump at logg = 2.45.
    """
    giant = rng.random(n_stars) < GIANT_FRACTION
    dwarf_teff = np.exp(rng.uniform(np.log(TEFF_RANGE[0]), np.log(TEFF_RANGE[1]), n_stars))
    feh = _metallicity(np.where(giant, 5000.0, dwarf_teff), rng)

    evolved = 0.6 * rng.beta(1.0, 2.5, n_stars) * np.clip((dwarf_teff - 5200.0) / 1000.0, 0.0, 1.0)
    dwarf_logg = (
        np.interp(dwarf_teff, _ZERO_AGE_TEFF, _ZERO_AGE_LOGG) - evolved + rng.normal(0.0, 0.03, n_stars)
    )

    clump = rng.random(n_stars) < RED_CLUMP_FRACTION
    giant_logg = np.where(clump, rng.normal(2.45, 0.08, n_stars), rng.uniform(1.7, 3.9, n_stars))
    giant_teff = 5050.0 - 280.0 * (3.5 - giant_logg) - 250.0 * (feh + 0.2) + rng.normal(0.0, 50.0, n_stars)
    giant_teff += 2500.0 * np.maximum(giant_logg - 3.5, 0.0)

    return {
        "rv": rng.normal(0.0, RV_SCATTER, n_stars),
        "teff": np.where(giant, np.maximum(giant_teff, TEFF_RANGE[0]), dwarf_teff),
        "logg": np.where(giant, giant_logg, dwarf_logg),
        "feh": feh,
    }


def weights_of_types(teff: NDArray[np.float64], shares: Mapping[str, float]) -> NDArray[np.float64]:
    """Probabilities with which stars are to be drawn so that spectral types have given shares, shape (star,).

    Parameters
    ----------
    teff : ndarray, shape (star,)
        Temperatures [K], which stand for the types.
    shares : mapping of str to float
        Share of each type of `LOWEST_TEFF`, in any unit; 0 for those that are not named.
    """
    names, lowest = list(LOWEST_TEFF), list(LOWEST_TEFF.values())
    kind = np.searchsorted(lowest, teff, side="right") - 1
    number = np.bincount(kind, minlength=len(names))
    weight = np.array([shares.get(name, 0.0) for name in names])[kind] / number[kind]
    probabilities: NDArray[np.float64] = weight / weight.sum()
    return probabilities


def _metallicity(teff: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """[Fe/H] of a thin disc, with an older part among the cool stars and only young stars among the hot [dex]."""
    n = len(teff)
    old = rng.random(n) < 0.15
    cool = np.where(old, rng.normal(-0.9, 0.35, n), rng.normal(-0.15, 0.25, n))
    return np.clip(np.where(teff > 7000.0, rng.normal(0.0, 0.2, n), cool), -2.0, 0.4)
