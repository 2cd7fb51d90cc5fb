"""A mock of the M-dwarf paper: spectra, Gaia photometry, wide binaries and the labels of companions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.schema import make_cube
from specxr.synthesis.dwarf_templates import DwarfTemplates

FehOffset = Callable[[NDArray[np.float64], tuple[float, float]], NDArray[np.float64]]

_FIRST_ID = 1_000_000_000_000_000_000  # as long as identifiers of Gaia are
_TEFF, _FEH = (3500.0, 175.0), (-0.08, 0.22)  # mean and standard deviation [K, dex]
_LOGG, _LOGG_SLOPE, _LOGG_SCATTER = 4.72, -2.5e-4, 0.08  # at 3500 K [dex], [dex/K], [dex]
_RANGES = {"teff": (2900.0, 4200.0), "feh": (-1.0, 0.5), "logg": (4.4, 5.1)}

# Photometry with t = (teff - 3500 K) / 500 K: coefficients of 1, t, t^2 and [Fe/H], fitted to the 183 stars of Mann et
# al. (2015), and the scatter that is drawn [mag].
_PHOTOMETRY = {
    "bp_rp": (2.528, -0.849, 0.285, 0.183, 0.03),
    "m_ks": (6.236, -1.753, 0.445, -1.124, 0.12),
    "g_ks": (3.713, -0.760, 0.162, 0.419, 0.03),
    "g_rp": (1.397, -0.281, 0.0, 0.091, 0.01),
    "j_h": (0.605, 0.037, 0.0, 0.135, 0.02),
    "h_ks": (0.244, -0.061, 0.0, 0.020, 0.02),
}
# Stars that the criteria are to remove: median M_G and BP - RP, their scatter, and RUWE [mag].
_OTHERS = {
    "giant": (1.0, 1.8, 0.8, 1.0),
    "white dwarf": (13.0, 0.8, 0.6, 1.0),
    "pre-main-sequence star": (7.2, 2.6, 0.4, 1.0),
    "unresolved binary": (9.3, 2.6, 0.5, 2.5),
}


@dataclass(frozen=True)
class MockDesign:
    """How many stars a mock has, and how good its labels are.

    Parameters
    ----------
    n_fgk_m, n_m_m, n_fgk_fgk, n_other : int
        Pairs of each kind, and stars that are no M dwarfs.
    snr : (float, float)
        Least and largest S/N per pixel at the median flux; uniform in its logarithm between them.
    errors : mapping of str to float
        Standard errors of the labels of training stars [K, dex]: those of the paper, 0.19 dex, 132 K and 0.10 dex.
    feh_exponents : (float, float)
        Exponents of the offset of companions' [Fe/H] below and above its pivot.
    seed : int
    """

    n_fgk_m: int = 1120
    n_m_m: int = 256
    n_fgk_fgk: int = 1500
    n_other: int = 400
    snr: tuple[float, float] = (2.0, 60.0)
    errors: Mapping[str, float] = field(default_factory=lambda: {"teff": 132.0, "logg": 0.10, "feh": 0.19})
    feh_exponents: tuple[float, float] = (1.25, -2.4)
    seed: int = 0


@dataclass(frozen=True, eq=False)
class MDwarfMock:
    """What a user of the recipe brings as files, and the truth.

    Attributes
    ----------
    cube : Dataset
        Spectra of all M dwarfs, with ``source_id`` and ``snr``.
    gaia : DataFrame
        ``source_id``, parallax, magnitudes, RUWE, 2MASS and ``ebv`` of all stars of the cube and of others.
    binaries : DataFrame
        Pairs in the columns of El-Badry et al. (2021).
    fgk : DataFrame
        ``source_id``, ``teff``, ``feh`` and ``feh_err`` of F, G and K dwarfs.
    reference : DataFrame
        ``source_id``, ``teff``, ``logg`` and their errors for the M dwarfs (the part of APOGEE Net).
    truth : DataFrame
        ``source_id``, ``teff``, ``logg`` and ``feh`` of the M dwarfs.
    """

    cube: xr.Dataset
    gaia: pd.DataFrame
    binaries: pd.DataFrame
    fgk: pd.DataFrame
    reference: pd.DataFrame
    truth: pd.DataFrame


def main_sequence_logg(teff: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean logg of the mock's M dwarfs at a temperature [K]."""
    return _LOGG + _LOGG_SLOPE * (teff - 3500.0)


def simulate_m_dwarfs(
    templates: DwarfTemplates, offset: FehOffset, design: MockDesign | None = None
) -> MDwarfMock:
    """Simulate the data of the M-dwarf paper.

    Parameters
    ----------
    templates : DwarfTemplates
        Source of the spectra.
    offset : callable
        ``offset(teff, exponents)``: what is added to [Fe/H] of the F, G and K dwarfs, such as
        `specxr.calibration.wide_binaries.feh_offset`.
    design : MockDesign, optional

    Returns
    -------
    MDwarfMock
    """
    design = design or MockDesign()
    rng = np.random.default_rng(design.seed)
    n_pairs = design.n_fgk_m + design.n_m_m
    truth = _draw(n_pairs + design.n_m_m, rng)
    truth.loc[n_pairs:, "feh"] = truth["feh"].to_numpy()[design.n_fgk_m : n_pairs]  # secondaries of M+M
    truth.insert(0, "source_id", _FIRST_ID + np.arange(len(truth)))
    fgk, pairs_fgk = _fgk(truth["feh"].to_numpy()[: design.n_fgk_m], offset, design, rng)
    ids, primary = truth["source_id"].to_numpy(), fgk["source_id"].to_numpy()
    first = np.concatenate([primary[: design.n_fgk_m], ids[design.n_fgk_m : n_pairs], pairs_fgk[0]])
    second = np.concatenate([ids[: design.n_fgk_m], ids[n_pairs:], pairs_fgk[1]])
    binaries = pd.DataFrame({"source_id1": first, "source_id2": second})
    binaries["R_chance_align"] = rng.exponential(0.01, len(binaries))
    for side in "12":
        binaries[f"ruwe{side}"] = rng.normal(1.02, 0.05, len(binaries))
    noisy = {
        name: truth[name] + rng.normal(0.0, design.errors[name], len(truth)) for name in ("teff", "logg")
    }
    reference = pd.DataFrame({"source_id": ids, **noisy})
    for name in noisy:
        reference[f"{name}_err"] = design.errors[name]
    low, high = np.log(design.snr)
    snr = np.exp(rng.uniform(low, high, len(truth)))
    gaia = pd.concat([_photometry(truth, rng), _others(design.n_other, rng)], ignore_index=True)
    return MDwarfMock(_observe(templates, truth, snr, rng), gaia, binaries, fgk, reference, truth)


def _draw(n: int, rng: np.random.Generator) -> pd.DataFrame:
    teff = np.clip(rng.normal(*_TEFF, n), *_RANGES["teff"])
    feh = np.clip(rng.normal(*_FEH, n), *_RANGES["feh"])
    logg = np.clip(main_sequence_logg(teff) + rng.normal(0.0, _LOGG_SCATTER, n), *_RANGES["logg"])
    return pd.DataFrame({"teff": teff, "logg": logg, "feh": feh})


def _observe(
    templates: DwarfTemplates, truth: pd.DataFrame, snr: NDArray[np.float64], rng: np.random.Generator
) -> xr.Dataset:
    teff, logg, feh = (truth[name].to_numpy() for name in ("teff", "logg", "feh"))
    flux = templates.flux(teff, feh, logg, main_sequence_logg(teff)).astype("f4")
    sigma = (np.median(flux, axis=1) / snr)[:, None]
    flux += (sigma * rng.normal(size=flux.shape)).astype("f4")
    return make_cube(
        flux,
        np.broadcast_to(sigma**-2, flux.shape),
        templates.grid,
        stars={"source_id": truth["source_id"].to_numpy(), "snr": snr, "rv_survey": np.zeros(len(truth))},
        attrs={"survey": "synthetic", "history": "specxr.synthesis.simulate_m_dwarfs"},
    )


def _fgk(
    feh: NDArray[np.float64], offset: FehOffset, design: MockDesign, rng: np.random.Generator
) -> tuple[pd.DataFrame, NDArray[np.int64]]:
    """F, G and K dwarfs: companions of M dwarfs first, then pairs of two; and the identifiers of these pairs."""
    shared = np.clip(rng.normal(*_FEH, design.n_fgk_fgk), *_RANGES["feh"])
    true = np.concatenate([feh, shared, shared])
    teff = np.concatenate(
        [rng.uniform(4500, 6500, len(feh) + len(shared)), rng.uniform(4100, 5600, len(shared))]
    )
    ids = 2 * _FIRST_ID + np.arange(len(true))
    error = design.errors["feh"]
    measured = true + offset(teff, design.feh_exponents) + rng.normal(0.0, error, len(true))
    table = pd.DataFrame({"source_id": ids, "teff": teff, "feh": measured, "feh_err": error})
    return table, np.stack([ids[len(feh) : len(feh) + len(shared)], ids[len(feh) + len(shared) :]])


def _photometry(truth: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    t, feh = (truth["teff"].to_numpy() - 3500.0) / 500.0, truth["feh"].to_numpy()
    c = {
        name: a + b * t + d * t**2 + e * feh + rng.normal(0.0, scatter, len(t))
        for name, (a, b, d, e, scatter) in _PHOTOMETRY.items()
    }
    m_g = c["m_ks"] + c["g_ks"]
    return _gaia(truth["source_id"].to_numpy(), m_g, c, np.full(len(t), 1.02), rng)


def _others(n: int, rng: np.random.Generator) -> pd.DataFrame:
    kind = rng.choice(list(_OTHERS), n)
    m_g, colour, scatter, ruwe = np.array([_OTHERS[name] for name in kind]).T.reshape(4, n)
    colours = {"bp_rp": colour + scatter * rng.normal(size=n) * 0.3, "g_rp": 0.5 * colour}
    colours |= {name: np.full(n, np.nan) for name in ("g_ks", "j_h", "h_ks")}
    return _gaia(3 * _FIRST_ID + np.arange(n), m_g + scatter * rng.normal(size=n), colours, ruwe, rng)


def _gaia(
    ids: NDArray[np.int64],
    m_g: NDArray[np.float64],
    colours: Mapping[str, NDArray[np.float64]],
    ruwe: NDArray[np.float64],
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Apparent magnitudes without extinction, at distances of 20-250 pc."""
    parallax = 1000.0 / rng.uniform(20.0, 250.0, len(ids))
    g = m_g - 5.0 * np.log10(parallax / 100.0)
    ks = g - colours["g_ks"]
    return pd.DataFrame(
        {
            "source_id": ids,
            "parallax": parallax,
            "parallax_error": 0.03,
            "phot_g_mean_mag": g,
            "phot_bp_mean_mag": g - colours["g_rp"] + colours["bp_rp"],
            "phot_rp_mean_mag": g - colours["g_rp"],
            "ruwe": ruwe + np.abs(rng.normal(0.0, 0.08, len(ids))),
            "ebv": 0.0,
            "j": ks + colours["h_ks"] + colours["j_h"],
            "h": ks + colours["h_ks"],
            "ks": ks,
        }
    )
