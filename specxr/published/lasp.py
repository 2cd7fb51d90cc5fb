"""Liang et al. 2025: LASP in Python, its settings, and the agreement with LASP in IDL (LASP-MPfit).

The defaults of `specxr.LASP` and of its kernels are these settings; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass

from specxr.published.paper import Paper

LASP_PAPER = Paper(
    title="Scalable Stellar Parameter Inference Using Python-based LASP: From CPU Optimization to GPU Acceleration",
    citation="Liang, J.-C., et al. 2025",
)
PYLASP_CODE_DOI = "10.12149/101679"
PYLASP_DESI_CATALOGUE_DOI = "10.12149/101675"


@dataclass(frozen=True)
class LaspSettings:
    """What is fitted (sections 2.2 and 3.3).

    Attributes
    ----------
    window : (float, float)
        First and last wavelength [Angstrom, air] (section 3.3, step 1).
    n_pixel : int
        Pixels of LAMOST in the window.
    degree : int
        Degree of the shape polynomial (section 2.2, step 5).
    quantile, quantile_desi : float
        Quantile of the flux that divides it, for LAMOST and for DESI (section 3.3, step 2).
    log_step : float
        Step in log10 of the wavelength to which DESI's spectra are brought (section 4.4).
    """

    window: tuple[float, float] = (4200.0, 5700.0)
    n_pixel: int = 1327
    degree: int = 50
    quantile: float = 0.5
    quantile_desi: float = 0.75
    log_step: float = 1e-4


@dataclass(frozen=True)
class CleanSettings:
    """How outlying pixels are found (section 2.2, step 6).

    Attributes
    ----------
    thresholds : tuple of float
        Thresholds [standard deviations]; the first that leaves out no more than `largest_fraction` is taken.
    largest_fraction : float
    neighbour : float
        Threshold of the pixels beside an outlier [standard deviations].
    growth : int
        Most rounds in which outliers grow.
    shift_first, shift_later : float
        Share of the gradient of the flux that a residual may have, in the first round and later.
    """

    thresholds: tuple[float, ...] = (3.0, 4.0, 5.0, 7.0)
    largest_fraction: float = 0.03
    neighbour: float = 2.0
    growth: int = 20
    shift_first: float = 0.5
    shift_later: float = 0.2


@dataclass(frozen=True)
class AdamSettings:
    """The optimiser LASP-Adam-GPU (section 2.2, step 8).

    Attributes
    ----------
    learning_rate : float
        For parameters that are scaled to [-1, 1].
    steps : int
        Most steps.
    patience : int
        Steps over which the loss must change by less than `loss_change`, or rise, for the fit to end.
    loss_change : float
    clean_every, clean_rounds : int
        Steps between two rounds of cleaning, and most rounds.
    """

    learning_rate: float = 0.1
    steps: int = 5000
    patience: int = 50
    loss_change: float = 1e-5
    clean_every: int = 30
    clean_rounds: int = 11


LASP_SETTINGS = LaspSettings()
CLEAN_SETTINGS = CleanSettings()
ADAM_SETTINGS = AdamSettings()

# Ranges of the ELODIE library 3.2 [K, dex] (section 3.1), and temperatures [K] where the emulator changes its
# polynomial (section 2.2, step 2).
ELODIE_RANGES = {"teff": (3100.0, 59000.0), "logg": (0.0, 5.0), "feh": (-2.8, 1.0)}
ELODIE_REGIMES = (4000.0, 4550.0, 7000.0, 9000.0)
ELODIE_RESOLVING_POWER = 10000.0

# Where fits begin without a guess: teff [K], logg and feh [dex] (section 4.2.2). The second is recommended for Adam.
FIXED_START = (5000.0, 3.0, -0.5)
HOT_START = (7500.0, 3.0, -0.5)
# Labels that differ by more than this depend on the start [km/s, K, dex] (section 4.2.2).
START_TOLERANCES = {"rv": 1.0, "teff": 100.0, "logg": 0.1, "feh": 0.1}


@dataclass(frozen=True)
class ProgramResult:
    """One program and one rule for outlying pixels.

    Attributes
    ----------
    solver : str
        Name of the solver in `specxr.LASP`.
    clean : bool
    scatter : dict of str to float
        Standard deviation of the labels minus those of LASP-MPfit, differences beyond 5 sigma left out (Fig. 2,
        section 4.2.1) [km/s, K, dex].
    n_matched : int
        Stars that both programs fit (Table 3).
    n_outlier : dict of str to int
        Stars whose label differs by more than 5 sigma (Table 3).
    start_dependent : dict of str to float
        Share of the stars whose labels depend on the start by more than `START_TOLERANCES` (section 4.2.2); for Adam
        those above 8,000 K.
    """

    solver: str
    clean: bool
    scatter: dict[str, float]
    n_matched: int
    n_outlier: dict[str, int]
    start_dependent: dict[str, float]


LASP_RESULTS = (
    ProgramResult(
        solver="curve_fit", clean=False, n_matched=171_713,
        scatter={"rv": 0.04, "teff": 4.0, "logg": 0.005, "feh": 0.003},
        n_outlier={"rv": 32, "teff": 63, "logg": 88, "feh": 73},
        start_dependent={"rv": 0.0009, "teff": 0.0011, "logg": 0.0010, "feh": 0.0011},
    ),
    ProgramResult(
        solver="adam", clean=False, n_matched=172_246,
        scatter={"rv": 0.37, "teff": 10.0, "logg": 0.01, "feh": 0.006},
        n_outlier={"rv": 78, "teff": 205, "logg": 294, "feh": 277},
        start_dependent={"teff": 0.76, "logg": 0.80, "feh": 0.78},
    ),
    ProgramResult(
        solver="curve_fit", clean=True, n_matched=171_618,
        scatter={"rv": 0.04, "teff": 5.0, "logg": 0.005, "feh": 0.003},
        n_outlier={"rv": 234, "teff": 27, "logg": 417, "feh": 228},
        start_dependent={"rv": 0.0013, "teff": 0.0010, "logg": 0.0017, "feh": 0.0008},
    ),
    ProgramResult(
        solver="adam", clean=True, n_matched=172_238,
        scatter={"rv": 1.12, "teff": 24.0, "logg": 0.03, "feh": 0.02},
        n_outlier={"rv": 60, "teff": 113, "logg": 601, "feh": 465},
        start_dependent={"teff": 0.65, "logg": 0.68, "feh": 0.66},
    ),
)  # fmt: skip

# Hours for ten million spectra by program and machine, No Clean and Clean (section 4.1); None where none is given.
HOURS_FOR_TEN_MILLION: dict[tuple[str, str], tuple[float, float | None]] = {
    ("mpfit", "Ryzen 9 7945HX"): (84.0, None),
    ("curve_fit", "Ryzen 9 7945HX"): (48.0, 63.0),
    ("adam", "Ryzen 9 7945HX"): (134.0, None),
    ("adam", "RTX 4060"): (26.0, 76.0),
    ("adam", "RTX 3090"): (8.0, 23.0),
    ("adam", "A100"): (7.0, 19.0),
}

# Repeat visits (section 4.3): relative change of S/N_g that is allowed within a star, and scatter of the radial
# velocity that formal errors leave out [km/s].
REPEAT_SNR_CHANGE = 0.1
REPEAT_RV_EXCESS = 1.5
