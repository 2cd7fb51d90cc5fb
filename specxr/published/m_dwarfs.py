"""Qiu et al. 2025: SLAM for the M dwarfs of SDSS-V/BOSS, calibrated on wide binaries ("the M-dwarf paper").

The text at hand was read by a machine from a scan, and some exponents are damaged. Those of equations 6 to 8 follow
from what the paper says in words, see `MDwarfErrors`. Those of equation 11 do not, see `FEH_TREND`.
"""

from __future__ import annotations

from dataclasses import dataclass

from specxr.published.paper import Paper, Residual
from specxr.spectra.normalisation import Normalisation

M_DWARF_PAPER = Paper(
    title="Stellar Parameters of BOSS M dwarfs in SDSS-V DR19",
    citation="Qiu, D., et al. 2025",
    arxiv="2511.20005",
)

# Table 1: ranges of the training set, and those in which labels may be used [K, dex].
M_DWARF_TRAINING_RANGES = {"feh": (-1.0, 0.5), "teff": (2900.0, 4200.0), "logg": (4.4, 5.1)}
M_DWARF_USABLE_RANGES = {"feh": (-0.6, 0.5), "teff": (3100.0, 3900.0), "logg": (4.45, 4.95)}


@dataclass(frozen=True)
class MDwarfTraining:
    """The training of SLAM (sections 2.4 and 3.1, equations 1 and 2).

    Attributes
    ----------
    folds : int
        Parts of the training set for cross-validation, k.
    n_train, n_test : int
        Stars that are learnt and stars that are kept for the test.
    """

    folds: int = 10
    n_train: int = 870
    n_test: int = 250


@dataclass(frozen=True)
class MDwarfErrors:
    """Errors as a function of the signal-to-noise ratio (section 4.2, Fig. 5): a + b / SNR^c, with a = 0.

    The exponents of teff and logg can be read as 0.47 and 0.13; that of [Fe/H] cannot. The paper states errors of 0.19
    dex, 132 K and 0.10 dex twice: at S/N 15 (section 4.2) and at S/N 10 (section 6). Only S/N 10 agrees with the
    exponents that can be read (388.88 / 10^0.47 = 131.8), and it gives 0.25 for [Fe/H].

    Attributes
    ----------
    stars_per_bin : int
        Least number of test stars in a bin of S/N.
    amplitude : dict of str to float
        b of equations 6 to 8 [K, dex].
    exponent : dict of str to float
        c of equations 6 to 8.
    snr : dict of str to (float, float)
        Range of S/N that the fits cover.
    typical : dict of str to float
        Errors at S/N 10 [K, dex].
    """

    stars_per_bin: int
    amplitude: dict[str, float]
    exponent: dict[str, float]
    snr: dict[str, tuple[float, float]]
    typical: dict[str, float]


@dataclass(frozen=True)
class MDwarfSelection:
    """Which stars are M dwarfs (section 2.2), and which pairs are used (section 2.3).

    Attributes
    ----------
    faintest_giant : float
        The absolute magnitude M_G0 of a dwarf is larger [mag].
    above, below : (float, float)
        Slope and intercept of lines in BP-RP (dereddened); M_G0 is less than the first and more than the second [mag].
    ruwe : float
        The renormalised unit weight error of Gaia is less, for both stars of a pair.
    feh_error : float
        The error of [Fe/H] of the F, G or K star is less [dex].
    chance_alignment : float
        R_chance_align of El-Badry et al. (2021) is less.
    """

    faintest_giant: float = 6.0
    above: tuple[float, float] = (3.75, 7.50)
    below: tuple[float, float] = (3.28, 0.10)
    ruwe: float = 1.4
    feh_error: float = 0.2
    chance_alignment: float = 0.1


M_DWARF_TRAINING = MDwarfTraining()
M_DWARF_SELECTION = MDwarfSelection()
M_DWARF_ERRORS = MDwarfErrors(
    stars_per_bin=20,
    amplitude={"feh": 0.34, "teff": 388.88, "logg": 0.13},
    exponent={"feh": 0.25, "teff": 0.47, "logg": 0.13},
    snr={"feh": (2.3, 19.2), "teff": (2.3, 19.2), "logg": (2.3, 19.3)},
    typical={"feh": 0.19, "teff": 132.0, "logg": 0.1},
)


@dataclass(frozen=True)
class FehTrend:
    """[Fe/H] of LAMOST's F, G and K dwarfs against their temperature (equation 11, after Niu et al. 2023).

    The offset is amplitude (teff / pivot)^p - floor, with one exponent p below the pivot and another above. The signs
    and decimal points of the exponents are lost in the text at hand (it has "125" and a digit below, "2404" above), so
    they are measured on wide binaries of two such dwarfs, see `specxr.calibration.wide_binaries`.

    Attributes
    ----------
    amplitude, floor : float
        [dex].
    pivot : float
        [K].
    teff : (float, float)
        Range of the model [K].
    """

    amplitude: float = 0.358
    floor: float = 0.4
    pivot: float = 5281.4
    teff: tuple[float, float] = (4000.0, 7000.0)


FEH_TREND = FehTrend()

# Section 2.3: numbers of wide binaries of an F, G or K star with an M dwarf, and of two M dwarfs.
N_FGK_M_BINARIES, N_M_M_BINARIES = 1120, 256

# Table 2: SLAM minus others [K, dex]. Section 4.3 prints those of Du (teff) and Mann (logg) without the minus sign.
M_DWARF_RESIDUALS: dict[str, dict[str, Residual]] = {
    "test set": {"feh": Residual(0.03, 0.25), "teff": Residual(11.0, 168.0), "logg": Residual(0.0, 0.10)},
    "M+M binaries": {"feh": Residual(-0.01, 0.11)},
    "Birky et al. 2020": {"feh": Residual(-0.06, 0.16), "teff": Residual(-27.0, 92.0)},
    "Behmard et al. 2025": {"feh": Residual(0.02, 0.14)},
    "Du et al. 2024": {"teff": Residual(-34.0, 65.0), "logg": Residual(-0.01, 0.07)},
    "Mann et al. 2015, 2016": {"teff": Residual(-146.0, 45.0)},
    "Mann et al. 2016, 2019": {"logg": Residual(-0.04, 0.09)},
}

# Equation 10: [Fe/H] of SLAM minus that of ASPCAP DR19 is a polynomial of x = teff / 1000 K and y = [Fe/H] of ASPCAP.
# Keys are the powers of x and y.
ASPCAP_CORRECTION = {
    (2, 0): -0.427, (0, 2): -0.158, (1, 1): 0.431, (1, 0): 2.767, (0, 1): -2.156, (0, 0): -4.405,
}  # fmt: skip
# Section 5: least S/N of APOGEE and of BOSS, and least [Fe/H] of SLAM [dex], of the stars that it was fitted to.
ASPCAP_CORRECTION_SNR = {"apogee": 20.0, "boss": 10.0}
ASPCAP_CORRECTION_FEH = -0.6

# Table 4: names of the survey's columns for labels of the vocabulary, each with its error. `FeHniu` is [Fe/H] of a
# model that learnt metallicities corrected as in Niu et al. (2023).
SLAM_COLUMNS = {
    "teff": ("Teff", "e_Teff"), "logg": ("logg", "e_logg"), "alpha_m": ("alphaM", "e_alphaM"),
    "feh": ("FeH", "e_FeH"), "feh_niu": ("FeHniu", "eFeHniu"),
}  # fmt: skip


def m_dwarf_normalisation(scale: float = 100.0) -> Normalisation:
    """Give the smoothing-spline pseudo-continuum of section 3.1, whose scale [Angstrom] the paper does not give."""
    return Normalisation(scale)
