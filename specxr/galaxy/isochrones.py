"""Isochrones in the colour-magnitude diagram of Gaia, from tables of PARSEC."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

_COLUMNS = {"MH": "feh", "logAge": "log_age", "Mini": "mass", "Gmag": "m_g", "G_BPmag": "bp", "G_RPmag": "rp"}
_KIEL = {"logTe": "log_teff", "logg": "logg", "label": "stage"}


def read_parsec(path: str | Path, log_age: float | None = None) -> pd.DataFrame:
    """Read a table of PARSEC isochrones with photometry of Gaia.

    Parameters
    ----------
    path : str or Path
        Text file of the web form http://stev.oapd.inaf.it/cmd, whose last line of comment names the columns.
    log_age : float, optional
        Logarithm of the age [yr] that is kept (to 0.01); the M-dwarf paper takes 9.5. All ages by default.

    Returns
    -------
    DataFrame
        ``feh`` ([M/H], dex), ``log_age``, ``mass`` (initial, solar), ``m_g`` and ``bp_rp`` [mag]; and where the table
        has them ``teff`` [K], ``logg`` [dex] and ``stage``, which is 4 to 6 while helium burns in the core.

    Raises
    ------
    ValueError
        A column is missing, or no isochrone has this age.
    """
    heads = [line for line in Path(path).read_text().splitlines() if line.startswith("#")]
    names = heads[-1].lstrip("# ").split() if heads else []
    # Newer releases of the form give the bands of Gaia EDR3 the same names.
    missing = [name for name in _COLUMNS if name not in names]
    if missing:
        raise ValueError(
            f"{path} has no column {', '.join(missing)} (it has {', '.join(names) or 'no line of names'}); a table of "
            "PARSEC with the photometry of Gaia is required. Choose the photometric system of Gaia in its form."
        )
    columns = _COLUMNS | {name: new for name, new in _KIEL.items() if name in names}
    table = pd.read_csv(path, sep=r"\s+", comment="#", names=names)[list(columns)].rename(columns=columns)
    table["bp_rp"] = table.pop("bp") - table.pop("rp")
    if "log_teff" in table:
        table["teff"] = 10.0 ** table.pop("log_teff")
    if log_age is not None:
        table = table[(table["log_age"] - log_age).abs() < 0.01]
        if table.empty:
            raise ValueError(
                f"{path} has no isochrone of log(age) {log_age:g}; one is required. Give one of its ages."
            )
    return table.reset_index(drop=True)
