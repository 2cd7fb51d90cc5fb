"""Sun et al. 2025: SLAM and The Payne together for hot stars of LAMOST ("the hot-star paper")."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from specxr.kernels.refraction import convert_medium
from specxr.published.paper import Paper, Residual
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis.designs import Design, LogNormal, Uniform

HOT_STAR_PAPER = Paper(
    title="A hybrid SLAM-Payne framework for atmospheric parameter and abundance determination of early-type stars "
    "from LAMOST DR9 low-resolution spectra",
    citation="Sun, W., et al. 2025, A&A 698, A300",
    doi="10.1051/0004-6361/202554658",
)

# Core of H-alpha, which emission fills [Angstrom, air] (section 3.3).
H_ALPHA_CORE = (6552.0, 6572.0)

# Centre and half width of what interstellar matter absorbs [Angstrom, air]: the stronger diffuse bands of Hobbs et al.
# 2008, ApJ 680, 1256, which section 3.3 cites, and Na D. Ca II K stays, as the strongest metal line of an A star.
INTERSTELLAR_BANDS = (
    (4428.2, 12.0), (4501.8, 4.0), (4726.8, 4.0), (4762.6, 4.0), (4963.9, 4.0), (5404.6, 4.0), (5487.7, 4.0),
    (5508.1, 4.0), (5705.1, 4.0), (5780.5, 5.0), (5797.1, 4.0), (5849.8, 4.0), (5890.0, 4.0), (5895.9, 4.0),
    (6196.0, 4.0), (6203.1, 4.0), (6269.9, 4.0), (6283.8, 6.0), (6376.1, 4.0), (6379.3, 4.0), (6445.3, 4.0),
    (6613.6, 4.0), (6660.7, 4.0), (6699.3, 4.0), (6993.1, 4.0), (7224.0, 4.0),
)  # fmt: skip


def hot_star_normalisation(medium: str, scale: float = 100.0) -> Normalisation:
    """Give the recipe of sections 3.1 and 3.3: three rounds of spline and rejection, with excluded bands.

    Parameters
    ----------
    medium : {"vacuum", "air"}
        Medium of the wavelengths of the spectra.
    scale : float, optional
        Scale of the spline [Angstrom], which the paper does not give.

    Returns
    -------
    Normalisation
        It excludes the core of H-alpha and the interstellar bands.
    """
    bands = [(centre - half, centre + half) for centre, half in INTERSTELLAR_BANDS]
    ranges = convert_medium(np.array(sorted([*bands, H_ALPHA_CORE])), "air", medium).round(2)
    excluded = tuple((float(low), float(high)) for low, high in ranges)
    return Normalisation(scale, rounds=3, clip=3.0, window=100.0, excluded=excluded)


# The peak lies at 90 km/s, and one star in two hundred is beyond 400 (Sun et al. 2021, cited in section 3.2).
VSINI = LogNormal(90.0, 0.5, 5.0, 450.0)

# Table 1 and section 3.2: ranges of the eleven labels [K, dex, km/s], and the normal scatter that temperatures and
# gravities of isochrones are given.
HOT_STAR_DESIGN = Design(
    teff=(7000.0, 20000.0),
    logg=(0.0, 5.0),
    others={
        "feh": Uniform(-2.5, 1.0),
        "vmic": Uniform(0.0, 10.0),
        "vsini": VSINI,
        "c_fe": Uniform(-2.5, 1.0),
        "o_fe": Uniform(-1.5, 1.5),
        "s_fe": Uniform(-1.5, 1.5),
        "mg_fe": Uniform(-1.0, 1.0),
        "ca_fe": Uniform(-1.5, 1.0),
        "si_fe": Uniform(-1.5, 1.0),
    },
    scatter=(250.0, 0.25),
)

# Arms of LAMOST's spectrographs [Angstrom], in each of which the line spread is a polynomial of this degree
# (section 3.2).
LINE_SPREAD_ARMS = ((3700.0, 5800.0), (5700.0, 9100.0))
LINE_SPREAD_DEGREE = 5
# Least S/N of the F, G and K stars that it is measured on (section 3.2).
LINE_SPREAD_SNR = 100.0


@dataclass(frozen=True)
class HotStarTraining:
    """The training of SLAM and of The Payne (sections 3.2 to 3.4).

    Attributes
    ----------
    snr : float
        Signal-to-noise ratio per pixel of the training spectra.
    slam_stars : int
        Stars that SLAM learns.
    epsilon : float
        Half width of the tube of SLAM.
    c, gamma : tuple of float
        Penalties and kernel widths of SLAM that are tried.
    folds : int
        Parts of the training set for the cross-validation of SLAM.
    hidden : tuple of int
        Neurons of the hidden layers of The Payne.
    activation : str
    learning_rate : float
        That of Adam.
    validation : float
        Share of the spectra that The Payne does not learn.
    """

    snr: float = 1000.0
    slam_stars: int = 5000
    epsilon: float = 0.05
    c: tuple[float, ...] = (0.1, 1.0, 10.0)
    gamma: tuple[float, ...] = (0.1, 1.0, 10.0)
    folds: int = 5
    hidden: tuple[int, ...] = (40, 40)
    activation: str = "sigmoid"
    learning_rate: float = 1e-3
    validation: float = 0.3


HOT_STAR_TRAINING = HotStarTraining()

# Fig. 1: bins of the Kiel diagram [K, dex], and values of the S/N.
KIEL_BIN = {"teff": 1000.0, "logg": 0.5}
KIEL_SNR = (30.0, 50.0, 100.0, 250.0)

# Fig. 2: ranges of temperature [K], and mean and standard deviation of inferred minus true labels at S/N 100 [K, dex,
# km/s], without a selection in temperature; that of vmic stands in section 3.5.
RECOVERY_TEFF_EDGES = (7000.0, 9000.0, 13000.0, 17000.0)
RECOVERY_AT_SNR_100 = {
    "teff": Residual(27.26, 118.19),
    "logg": Residual(0.00, 0.04),
    "feh": Residual(-0.04, 0.07),
    "vsini": Residual(-3.11, 13.13),
    "vmic": Residual(-0.07, 0.58),
    "c_fe": Residual(-0.14, 0.48),
    "o_fe": Residual(-0.04, 0.22),
    "s_fe": Residual(-0.10, 0.37),
    "mg_fe": Residual(-0.01, 0.14),
    "ca_fe": Residual(0.04, 0.43),
    "si_fe": Residual(-0.08, 0.17),
}

# Fig. 3 and section 3.5: median scatter between repeat visits of 2,034 stars [K, dex, km/s].
REPEAT_SCATTER = {"teff": 163.0, "logg": 0.12, "feh": 0.10, "vsini": 18.8, "vmic": 0.5}

# Fig. A.1: a pixel with less normalised flux lies in the core of a line; standard deviation of model minus flux at S/N
# 1000, of all pixels and of these.
CORE_FLUX = 0.95
PIXEL_RESIDUALS = {"all": 0.0019, "core": 0.0037}

# Appendix A: changes of the labels that make the gradient spectra [K, dex, km/s], and the star of Fig. A.2.
GRADIENT_OFFSETS = {
    "teff": 200.0, "logg": 0.2, "feh": 0.2, "vmic": 4.0, "vsini": 50.0,
    "c_fe": 0.2, "o_fe": 0.2, "s_fe": 0.2, "mg_fe": 0.2, "ca_fe": 0.2, "si_fe": 0.2,
}  # fmt: skip
GRADIENT_STAR = {"teff": 12500.0, "logg": 3.5, "feh": 0.4, "vmic": 5.0, "vsini": 150.0}

# Section 4.2, Fig. 6: this paper against Xiang et al. 2022; offsets are absolute values where no sign is given.
XIANG_SCATTER = {"teff": 442.0, "feh": 0.21}
XIANG_LOGG_OFFSET = 0.11


@dataclass(frozen=True)
class GradientSelection:
    """Stars and result of the radial gradients (section 5.5, Fig. 14).

    Attributes
    ----------
    snr : float
        Least S/N in the band r.
    height : float
        Largest distance from the plane [kpc].
    feh : (float, float)
        [Fe/H] between blue horizontal branch candidates and chemically peculiar stars [dex].
    radius : (float, float)
        Galactocentric radii [kpc].
    stars_per_bin : int
    slope, slope_err : float
        Slope of [Fe/H] [dex/kpc].
    """

    snr: float = 50.0
    height: float = 0.4
    feh: tuple[float, float] = (-1.4, 0.65)
    radius: tuple[float, float] = (6.0, 15.0)
    stars_per_bin: int = 50
    slope: float = -0.070
    slope_err: float = 0.007


GRADIENT_SELECTION = GradientSelection()

# Section 5.3, Fig. 12: candidates of the blue horizontal branch have less [Fe/H] [dex], lie farther from the plane
# [degree], and have at least this S/N in the band r; their number, and the number of stars of the catalogue.
BHB_FEH, BHB_LATITUDE, BHB_SNR = -1.4, 15.0, 50.0
N_BHB, N_HOT_STARS = 3564, 315_822

# Slope of [Fe/H] of Cepheids and its error [dex/kpc] (Genovali et al. 2014), which section 5.5 compares with.
CEPHEID_SLOPE = (-0.060, 0.002)


@dataclass(frozen=True)
class HotStarSelection:
    """Stars of the paper's catalogue (sections 2, 5.1 and 5.2).

    Attributes
    ----------
    lasp_teff : float
        Least temperature of LASP, where it gives one [K].
    m_ks : float
        Faintest Ks - 5 log10(r / pc) + 5 [mag].
    oba_colours : (float, float, float)
        Slope and upper and lower intercept of J - H against G - Ks [mag] (equation 1, Zari et al. 2021).
    no_giant : (float, float)
        Slope and intercept of G against G - Ks [mag] (equation 2).
    snr : float
        Least S/N in the band r; `GradientSelection` has that of abundances.
    teff : (float, float)
        Temperatures, both left out [K].
    """

    lasp_teff: float = 7500.0
    m_ks: float = 2.5
    oba_colours: tuple[float, float, float] = (0.15, 0.05, -0.15)
    no_giant: tuple[float, float] = (2.0, 3.0)
    snr: float = 10.0
    teff: tuple[float, float] = (7100.0, 19000.0)


HOT_STAR_SELECTION = HotStarSelection()

# Section 5.3: a candidate of the blue horizontal branch has less gravity, a blue straggler more [dex].
BHB_LOGG = 3.5
# Section 4.2: slowest rotation that LAMOST's low resolution detects (Sun et al. 2019, 2021) [km/s].
VSINI_LIMIT = 120.0
