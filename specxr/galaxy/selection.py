"""Which stars are M dwarfs, by their place in the colour-magnitude diagram (M-dwarf paper, section 2.2)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from specxr.galaxy.extinction import gaia_extinction
from specxr.published.m_dwarfs import M_DWARF_SELECTION, MDwarfSelection
from specxr.vocabulary import STAR

GAIA_COLUMNS = ("parallax", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "ruwe", "ebv")


def select_m_dwarfs(catalogue: pd.DataFrame, limits: MDwarfSelection = M_DWARF_SELECTION) -> xr.Dataset:
    """Apply the four criteria of the M-dwarf paper.

    Parameters
    ----------
    catalogue : DataFrame
        Columns of Gaia: ``parallax`` [mas], ``phot_g_mean_mag``, ``phot_bp_mean_mag``, ``phot_rp_mean_mag`` [mag] and
        ``ruwe``; and ``ebv`` [mag], the reddening, see `specxr.readers.dust.reddening`.
    limits : MDwarfSelection, optional
        Numbers of the criteria; those of the paper by default.

    Returns
    -------
    Dataset
        Along ``star``: ``m_g0``, the dereddened absolute magnitude, ``bp_rp0``, the dereddened colour, a boolean for
        each criterion (``faint``, ``no_white_dwarf``, ``main_sequence``, ``single``), and ``m_dwarf``, whether all four
        hold. The attribute ``long_name`` of each says what it is. A star without
        a finite parallax, magnitude or reddening is no candidate: its magnitude is NaN, and each criterion that cannot
        be decided is false.

    Raises
    ------
    ValueError
        A column is missing.

    Notes
    -----
    The paper says that its criterion 2 removes stars before the main sequence and criterion 3 white dwarfs. By their
    signs it is the other way round: criterion 2 removes what is faint for its colour. The names here follow the signs.
    """
    missing = [name for name in GAIA_COLUMNS if name not in catalogue]
    if missing:
        raise ValueError(
            f"the catalogue has no column {', '.join(missing)} (it has {', '.join(map(str, catalogue.columns))}); "
            f"{', '.join(GAIA_COLUMNS)} are required. Rename its columns, or set 'ebv' to 0 where there is no dust."
        )
    parallax, g, bp, rp, ruwe, ebv = (catalogue[name].to_numpy("f8") for name in GAIA_COLUMNS)
    dust = gaia_extinction(ebv, bp - rp)
    with np.errstate(invalid="ignore", divide="ignore"):
        m_g0 = np.where(
            parallax > 0, g + 5.0 * np.log10(np.where(parallax > 0, parallax, 1.0)) - 10.0, np.nan
        )
    m_g0 = m_g0 - dust.g
    bp_rp0 = (bp - dust.bp) - (rp - dust.rp)
    (a, b), (c, d) = limits.above, limits.below
    criteria = {
        "faint": (
            m_g0 > limits.faintest_giant,
            f"M_G0 > {limits.faintest_giant:g}: neither a giant nor an F, G or K dwarf",
        ),
        "no_white_dwarf": (
            m_g0 < a * bp_rp0 + b,
            f"M_G0 < {a:g} (BP-RP)_0 + {b:g}: brighter than white dwarfs of this colour",
        ),
        "main_sequence": (
            m_g0 > c * bp_rp0 + d,
            f"M_G0 > {c:g} (BP-RP)_0 + {d:g}: fainter than stars before the main sequence, and pairs",
        ),
        "single": (ruwe < limits.ruwe, f"RUWE < {limits.ruwe:g}: no sign of an unresolved companion"),
    }
    out = xr.Dataset(
        {
            "m_g0": (STAR, m_g0, {"units": "mag", "long_name": "absolute magnitude in G without extinction"}),
            "bp_rp0": (STAR, bp_rp0, {"units": "mag", "long_name": "colour BP - RP without reddening"}),
        }
    )
    for name, (holds, prose) in criteria.items():
        out[name] = (STAR, holds, {"long_name": prose})
    all_four = np.logical_and.reduce([holds for holds, _ in criteria.values()])
    out["m_dwarf"] = (STAR, all_four, {"long_name": "all four criteria hold: a candidate M dwarf"})
    return out
