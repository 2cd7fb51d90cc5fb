"""Labels of M dwarfs in the columns of the survey's catalogue (M-dwarf paper, Table 4)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from specxr.published.m_dwarfs import SLAM_COLUMNS
from specxr.vocabulary import IDENTITY


def slam_table(labels: pd.DataFrame) -> pd.DataFrame:
    """Rename labels to the columns of SDSS-V's table of SLAM.

    Parameters
    ----------
    labels : DataFrame
        One row for each star; see `specxr.label_table`.

    Returns
    -------
    DataFrame
        Identifiers (``obsid``, ``ra``, ``dec`` and ``source_id``, where they are there), then ``Teff``, ``e_Teff``,
        ``logg``, ``e_logg``, ``alphaM``, ``e_alphaM``, ``FeH``, ``e_FeH``, ``FeHniu`` and ``eFeHniu`` [K, dex], NaN
        where a label was not inferred; then ``result``, ``quality_flags`` and ``recommended``.

    Raises
    ------
    ValueError
        The table has none of these labels.
    """
    if not set(SLAM_COLUMNS) & set(labels):
        raise ValueError(
            f"the table has the columns {', '.join(map(str, labels.columns))}; one of the labels "
            f"{', '.join(SLAM_COLUMNS)} at least is required. Take labels of a run."
        )
    out = {name: labels[name] for name in (*IDENTITY, "source_id") if name in labels}
    empty = pd.Series(np.nan, index=labels.index)
    for name, (value, error) in SLAM_COLUMNS.items():
        out |= {value: labels.get(name, empty), error: labels.get(f"{name}_err", empty)}
    out |= {name: labels[name] for name in ("result", "quality_flags", "recommended") if name in labels}
    return pd.DataFrame(out)
