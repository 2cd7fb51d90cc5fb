"""Print how relations of M dwarfs, and published metallicities of M dwarfs, agree with one another.

    python tests/benchmarks/m_dwarfs.py

Relations: masses, radii and temperatures of the stars of Mann et al. (2015) and Schweitzer et al. (2019).
Metallicities: the calibration of ASPCAP fitted to the stars of Birky et al. (2020), and these stars in the table of
CARMENES.
`m_dwarf_spectra.py` does the same for labels of real spectra.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from specxr.calibration import FehCorrection
from specxr.galaxy import absolute_magnitude, mann_mass, mann_radius, mann_teff
from specxr.published.m_dwarfs import ASPCAP_CORRECTION
from specxr.validation import robust_scatter

DATA_FOLDER = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
CATALOGUES = DATA_FOLDER / "catalogues" / "mdwarfs"


def relations() -> None:
    mann = pd.read_csv(CATALOGUES / "mann15.stars.csv.gz")
    flux = mann["Fbol"] * 1e-8 / 5.670374e-5
    parsec = mann["R"] * 6.957e10 * np.sqrt(mann["Teff"].astype(float) ** 4 / flux) / 3.0856776e18
    m_ks = (mann["Ksmag"] - 5.0 * np.log10(parsec / 10.0)).to_numpy()
    teff = mann_teff(mann["BPmag"] - mann["RPmag"], mann["Jmag"] - mann["Hmag"]).value
    stars = pd.read_csv(CATALOGUES / "carmenes_ix_full_table.csv.gz", low_memory=False)
    both = pd.read_csv(CATALOGUES / "schweitzer19.csv.gz").merge(stars, on="Karmn", suffixes=("_s", ""))
    other = absolute_magnitude(both["Ks_mag"], both["eKs_mag"], both["parallax"], both["parallax_error"])[0]
    rows = {
        "radius, Mann 2015 [%]": 100 * (mann_radius(m_ks).value / mann["R"] - 1),
        "mass, Mann 2015, models [%]": 100 * (mann_mass(m_ks).value / mann["M0"] - 1),
        "mass, Schweitzer 2019, by M_Ks [%]": 100 * (mann_mass(other).value / both["MassMMKs"] - 1),
        "radius, Schweitzer 2019 [%]": 100 * (mann_radius(other).value / both["Rad"] - 1),
        "teff, Mann 2015 [K]": teff - mann["Teff"],
    }
    print("relation minus table                      n    median      std   1.48 MAD")
    for name, values in rows.items():
        known = values.dropna()
        print(
            f"{name:38s} {len(known):4d} {known.median():9.2f} {known.std():8.2f} {robust_scatter(known):10.2f}"
        )


def aspcap() -> None:
    table = pd.read_csv(CATALOGUES / "Table6_safe_sample.csv.gz").replace(-9999.0, np.nan)
    teff, feh, reference = (table[name].to_numpy() for name in ("TEFF_APOGEE", "M_H_APOGEE", "FE_H"))
    fitted, published = FehCorrection.fit(teff, feh, reference), FehCorrection.published()
    print(
        f"\nASPCAP, {fitted.n_star} stars of Birky et al. (2020), {fitted.teff[0]:.0f}-{fitted.teff[1]:.0f} K"
    )
    print("power of (x, y):  " + "  ".join(f"{power}" for power in ASPCAP_CORRECTION))
    for name, correction in (("fitted", fitted), ("published", published)):
        print(f"{name:16s}  " + "  ".join(f"{correction.coefficients[p]:+6.3f}" for p in ASPCAP_CORRECTION))
    known = np.isfinite(fitted(teff, feh)) & np.isfinite(reference)
    for name, value in (("none", 0.0), ("fitted", fitted(teff, feh)), ("published", published(teff, feh))):
        left = (reference - feh - value)[known]
        print(f"correction {name:10s} reference - ASPCAP: {np.median(left):+.3f} +- {np.std(left):.3f} dex")


def catalogues() -> None:
    birky = pd.read_csv(CATALOGUES / "Table6_safe_sample.csv.gz").replace(-9999.0, np.nan)
    stars = pd.read_csv(CATALOGUES / "carmenes_ix_full_table.csv.gz", low_memory=False)
    # The identifiers of Gaia in the table of Birky et al. have lost their last digits.
    both = birky.assign(name=birky["APOGEE_ID"].str.removeprefix("2M")).merge(
        stars.assign(name=stars["2MASS_id"].astype(str).str.removeprefix("J")), on="name"
    )
    for what, away in (("[Fe/H]", both["FE_H"] - both["Fe_H"]), ("teff", both["TEFF"] - both["Teff_K"])):
        known = away.astype(float).dropna()
        print(
            f"Birky et al. - CARMENES, {what}: {len(known)} stars, {known.median():+.3g} +- {known.std():.3g}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--small", action="store_true", help="the same: it takes seconds")
    parser.parse_args(argv)
    if not CATALOGUES.is_dir():
        raise SystemExit(
            f"{CATALOGUES} is absent; published tables and spectra are required. Set SPECXR_SHARED."
        )
    relations()
    aspcap()
    catalogues()


if __name__ == "__main__":
    main()
