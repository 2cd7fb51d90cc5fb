"""The hot-star paper: Sun et al. 2025."""

from __future__ import annotations

import numpy as np
import pandas as pd

from specxr.kernels.refraction import convert_medium
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis.designs import Labels, LogNormal, Uniform, draw, draw_isochrones

# Core of H-alpha, which emission fills (Sun et al. 2025, section 3.3) [Angstrom, air].
H_ALPHA_CORE = (6552.0, 6572.0)

# Centre and half width of what interstellar matter absorbs [Angstrom, air]: the stronger diffuse bands of
# Hobbs et al. 2008, ApJ 680, 1256, and Na D. Ca II K is left, the strongest metal line of an A star.
INTERSTELLAR_BANDS = (
    (4428.2, 12.0), (4501.8, 4.0), (4726.8, 4.0), (4762.6, 4.0), (4963.9, 4.0), (5404.6, 4.0), (5487.7, 4.0),
    (5508.1, 4.0), (5705.1, 4.0), (5780.5, 5.0), (5797.1, 4.0), (5849.8, 4.0), (5890.0, 4.0), (5895.9, 4.0),
    (6196.0, 4.0), (6203.1, 4.0), (6269.9, 4.0), (6283.8, 6.0), (6376.1, 4.0), (6379.3, 4.0), (6445.3, 4.0),
    (6613.6, 4.0), (6660.7, 4.0), (6699.3, 4.0), (6993.1, 4.0), (7224.0, 4.0),
)  # fmt: skip


def hot_star_normalisation(medium: str, scale: float = 100.0) -> Normalisation:
    """Three rounds of spline and rejection, H-alpha's core and interstellar bands masked (hot-star paper, 3.1, 3.3).

    `medium` is that of the spectra's wavelengths, ``"vacuum"`` or ``"air"``.
    """
    bands = [(centre - half, centre + half) for centre, half in INTERSTELLAR_BANDS]
    ranges = convert_medium(np.array(sorted([*bands, H_ALPHA_CORE])), "air", medium).round(2)
    return Normalisation(scale, rounds=3, excluded=tuple((float(low), float(high)) for low, high in ranges))


# Peak at 90 km/s, one star in two hundred beyond 400 (Sun et al. 2021, as cited in the hot-star paper, section 3.2).
VSINI = LogNormal(90.0, 0.5, 5.0, 450.0)

# Table 1 of the hot-star paper; its teff 7000-20000 K and logg 0-5 come from isochrones, see `hot_star_design`.
TABLE_1: dict[str, Uniform | LogNormal] = {
    "feh": Uniform(-2.5, 1.0),
    "vmic": Uniform(0.0, 10.0),
    "vsini": VSINI,
    "c_fe": Uniform(-2.5, 1.0),
    "o_fe": Uniform(-1.5, 1.5),
    "s_fe": Uniform(-1.5, 1.5),
    "mg_fe": Uniform(-1.0, 1.0),
    "ca_fe": Uniform(-1.5, 1.0),
    "si_fe": Uniform(-1.5, 1.0),
}
HOT_TEFF, HOT_LOGG = (7000.0, 20000.0), (0.0, 5.0)


def hot_star_design(isochrones: pd.DataFrame, n_stars: int, seed: int) -> Labels:
    """Draw the eleven labels of the paper's Table 1, in its ranges."""
    labels = draw_isochrones(isochrones, n_stars, seed, HOT_TEFF, HOT_LOGG)
    return labels | draw(TABLE_1, n_stars, seed)
