"""Templates of M dwarfs in small files: a band that deepens with lower temperature and higher [Fe/H], and a line."""

from __future__ import annotations

import numpy as np

from specxr.synthesis.dwarf_templates import TEFF_OF_TYPE

LOGLAM = np.arange(38300, 38800) * 1e-4  # 6760 to 7585 A
BAND = np.exp(-0.5 * ((10**LOGLAM - 7100.0) / 6.0) ** 2)
LINE = np.exp(-0.5 * ((10**LOGLAM - 6900.0) / 4.0) ** 2)
GIANTS = ("HD89758", "HD146051", "HD102212", "HD112300")


def write_templates(folder):
    """Write the composites of dwarfs, and giants that have the line weaker; give both paths."""
    kinds = [(kind, feh) for kind in TEFF_OF_TYPE for feh in (-1.0, -0.5, 0.0, 0.5)]
    names = [f"{kind}_{feh:+.1f}_Dwarf" for kind, feh in kinds] + ["M2_+1.0_Dwarf", "M3_+0.0_Giant", "M9"]
    depth = [0.3 - (TEFF_OF_TYPE[kind] - 3500) / 5000 + 0.1 * feh for kind, feh in kinds] + [0.9] * 3
    strength = [0.2 + 0.15 * feh for _, feh in kinds] + [0.2] * 3
    continuum = (10**LOGLAM / 7500.0) ** 3
    flux = continuum * (1 - np.array(depth)[:, None] * BAND - np.array(strength)[:, None] * LINE)
    dwarfs, giants = folder / "dwarfs.npz", folder / "giants.npz"
    np.savez(dwarfs, name=names, loglam=LOGLAM, flux=flux.astype("f4"), n_stacked=np.full(len(names), 10))
    air = np.arange(6700.0, 7650.0, 1.0)
    weak = 1 - 0.1 * np.exp(-0.5 * ((air - 6898.1) / 4.0) ** 2)  # 6900 A in vacuum
    np.savez(giants, name=np.array(GIANTS), wave_air=air, flux=np.tile(weak, (4, 1)).astype("f4"))
    return dwarfs, giants
