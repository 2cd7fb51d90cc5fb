"""Wide binaries whose two stars must have the same metallicity (M-dwarf paper, section 4.3.1)."""

from __future__ import annotations

import numpy as np
import pandas as pd


def components(labels: pd.DataFrame, pairs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Give the labels of primaries and of secondaries as two tables, for `specxr.compare` with ``on="pair"``.

    Parameters
    ----------
    labels : DataFrame
        One row for each spectrum, with ``source_id``; of several spectra of a star, the one with the best ``snr`` (or
        the first, where there is no such column) counts.
    pairs : DataFrame
        ``source_id1`` and ``source_id2``; see `specxr.calibration.wide_binaries.m_m_pairs`.

    Returns
    -------
    primaries, secondaries : DataFrame
        Rows of `labels` with the column ``pair``, for the pairs of which both stars have labels.

    Raises
    ------
    ValueError
        No pair has both.
    """
    if "snr" in labels:
        labels = labels.sort_values("snr", ascending=False, kind="stable")
    labels = labels.drop_duplicates("source_id").set_index("source_id")
    first, second = pairs["source_id1"], pairs["source_id2"]
    both = (first.isin(labels.index) & second.isin(labels.index)).to_numpy()
    if not both.any():
        raise ValueError(
            f"none of {len(pairs)} pairs has labels of both stars; one at least is required. Check the identifiers."
        )
    number = np.flatnonzero(both)
    one, two = (labels.loc[side[both]].reset_index().assign(pair=number) for side in (first, second))
    return one, two
