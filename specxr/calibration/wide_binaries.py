"""Wide binaries: which pairs may lend the labels of one star to the other (M-dwarf paper, section 2.3 and appendix)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares

from specxr.cubes.tables import read_table
from specxr.published.m_dwarfs import FEH_TREND, M_DWARF_SELECTION, FehTrend, MDwarfSelection
from specxr.vocabulary import STAR

PAIR_COLUMNS = ("source_id1", "source_id2", "R_chance_align", "ruwe1", "ruwe2")
_OPTIONAL = ("alpha_m", "alpha_m_err")
_LEAST_PAIRS = 20  # to measure two exponents


def read_binaries(source: str | Path | pd.DataFrame) -> pd.DataFrame:
    """Read a catalogue of wide binaries, and check it.

    Parameters
    ----------
    source : str, Path or DataFrame
        Table in the columns of El-Badry et al. (2021): ``source_id1``, ``source_id2`` (integers of Gaia),
        ``R_chance_align``, ``ruwe1`` and ``ruwe2``; others are kept. See `specxr.cubes.tables.read_table` for files.

    Returns
    -------
    DataFrame
        One row for each pair. Pairs without two stars (an identifier that is 0, negative or missing) and further rows
        of the same two stars are left out; ``attrs["incomplete"]`` and ``attrs["repeated"]`` count them.

    Raises
    ------
    ValueError
        A column is missing, or identifiers are floating-point numbers, which cannot hold them.
    """
    table = source if isinstance(source, pd.DataFrame) else read_table(source)
    missing = [name for name in PAIR_COLUMNS if name not in table]
    if missing:
        raise ValueError(
            f"the catalogue of binaries has no column {', '.join(missing)} (it has "
            f"{', '.join(map(str, table.columns))}); {', '.join(PAIR_COLUMNS)} are required, as in El-Badry et al. "
            "(2021). Rename its columns."
        )
    first, second = (identifiers(table[name], name) for name in ("source_id1", "source_id2"))
    complete = (first > 0) & (second > 0) & (first != second)
    table = table.assign(source_id1=first, source_id2=second)[complete]
    both = np.sort(table[["source_id1", "source_id2"]].to_numpy(), axis=1)
    twice = pd.DataFrame(both).duplicated().to_numpy()
    out = table[~twice].reset_index(drop=True)
    out.attrs |= {"incomplete": int((~complete).sum()), "repeated": int(twice.sum())}
    return out


def identifiers(values: ArrayLike, name: str = "source_id") -> NDArray[np.int64]:
    """Give identifiers of Gaia as integers, 0 where there is none.

    Parameters
    ----------
    values : array_like, shape (star,)
        Integers, or strings of digits.
    name : str, optional
        Name of the column, for the message.

    Raises
    ------
    ValueError
        They are floating-point numbers, which hold 16 digits of the 19, or text that is no integer.
    """
    column = pd.Series(values)
    if column.dtype.kind == "f":
        raise ValueError(
            f"{name} is a column of floating-point numbers; integers are required, because an identifier of Gaia has "
            "up to 19 digits and a floating-point number keeps 16: other stars would be found. Read the column as text "
            "or as int64 from the source, e.g. pandas.read_csv(path, dtype={...: 'Int64'})."
        )
    if column.dtype.kind not in "iu":
        text = column.astype("string").str.strip().fillna("0").replace("", "0")
        wrong = ~text.str.fullmatch(r"-?\d+")
        if wrong.any():
            raise ValueError(
                f"{name} has {int(wrong.sum())} values that are no integers, the first '{text[wrong].iloc[0]}'; "
                "identifiers of Gaia, written as digits, are required. Correct them, or leave them empty."
            )
        column = text.astype("int64")
    return cast("NDArray[np.int64]", column.to_numpy().astype("int64"))


def fgk_m_pairs(
    binaries: pd.DataFrame,
    fgk: pd.DataFrame,
    m_dwarfs: ArrayLike,
    limits: MDwarfSelection = M_DWARF_SELECTION,
) -> pd.DataFrame:
    """Select pairs of an F, G or K dwarf of known metallicity and an M dwarf.

    Parameters
    ----------
    binaries : DataFrame
        From `read_binaries`. Which of the two stars is the M dwarf does not matter.
    fgk : DataFrame
        One row for each F, G or K dwarf: ``source_id``, ``teff`` [K], ``feh`` and ``feh_err`` [dex], and, where it is
        known, ``alpha_m`` and ``alpha_m_err`` [dex].
    m_dwarfs : array_like of int, shape (star,)
        Identifiers of candidate M dwarfs, of those with spectra.
    limits : MDwarfSelection, optional
        Limits of the quality cuts; those of the paper by default.

    Returns
    -------
    DataFrame
        One row for each pair: ``source_id`` of the M dwarf, ``companion``, and ``teff_fgk`` and the other columns of
        `fgk` for the companion. Rows are sorted by ``source_id``. An M dwarf with two such companions takes the one
        whose [Fe/H] has the smaller error.
    """
    known = ["companion", "teff", "feh", "feh_err", *(name for name in _OPTIONAL if name in fgk)]
    labels = fgk.assign(companion=identifiers(fgk["source_id"]))[known]
    labels = labels.sort_values("feh_err").drop_duplicates("companion")
    dwarfs = np.unique(identifiers(m_dwarfs))
    good = binaries[_reliable(binaries, limits)]
    sides = [
        pd.DataFrame({"source_id": good[f"source_id{m}"], "companion": good[f"source_id{other}"]})
        for m, other in ((2, 1), (1, 2))
    ]
    pairs = pd.concat(sides).merge(labels, on="companion").rename(columns={"teff": "teff_fgk"})
    pairs = pairs[pairs["source_id"].isin(dwarfs) & ~pairs["companion"].isin(dwarfs)]
    pairs = pairs[(pairs["feh_err"] < limits.feh_error) & np.isfinite(pairs["feh"])]
    best = pairs.sort_values(["source_id", "feh_err"]).drop_duplicates("source_id")
    return best.reset_index(drop=True)


def m_m_pairs(
    binaries: pd.DataFrame, m_dwarfs: ArrayLike, limits: MDwarfSelection = M_DWARF_SELECTION
) -> pd.DataFrame:
    """Select pairs of two M dwarfs, with ``source_id1`` and ``source_id2``; parameters as in `fgk_m_pairs`."""
    dwarfs = np.unique(identifiers(m_dwarfs))
    both = binaries["source_id1"].isin(dwarfs) & binaries["source_id2"].isin(dwarfs)
    chosen = binaries.loc[both & _reliable(binaries, limits), ["source_id1", "source_id2"]]
    return chosen.reset_index(drop=True)


def with_companion_labels(cube: xr.Dataset, pairs: pd.DataFrame) -> xr.Dataset:
    """Join labels to spectra by the identifier of the star.

    Parameters
    ----------
    cube : Dataset
        Spectra with ``source_id`` along ``star``; a star may have several.
    pairs : DataFrame
        One row for each star: ``source_id``, and columns that become variables of the cube, such as those of
        `fgk_m_pairs`.

    Returns
    -------
    Dataset
        The spectra whose star is in the table, in their order in the cube, with these variables.

    Raises
    ------
    ValueError
        The cube has no ``source_id``, a star has several rows, or no star is in both.
    """
    if "source_id" not in cube.variables:
        raise ValueError(
            f"the cube has no variable 'source_id'; the identifiers of Gaia along '{STAR}' are required, by which "
            f"labels are joined. Set them: cube['source_id'] = ('{STAR}', identifiers)."
        )
    own = identifiers(cube["source_id"].values)
    table = pairs.assign(source_id=identifiers(pairs["source_id"]))
    if table["source_id"].duplicated().any():
        raise ValueError(
            f"{int(table['source_id'].duplicated().sum())} rows of the table repeat a source_id; one row for each star "
            "is required. Drop the repeats."
        )
    table = table.set_index("source_id")
    chosen = np.flatnonzero(np.isin(own, table.index.to_numpy()))
    if not len(chosen):
        raise ValueError(
            f"none of {len(own)} spectra is of one of the {len(table)} stars of the table; common stars are required. "
            "Check that both have identifiers of the same data release of Gaia."
        )
    rows = table.loc[own[chosen]]
    return cube.isel({STAR: chosen}).assign({name: (STAR, rows[name].to_numpy()) for name in rows.columns})


def split_pairs(pair: ArrayLike, shares: Sequence[float], seed: int = 0) -> tuple[NDArray[np.int64], ...]:
    """Split spectra at random by pairs, so that no pair is in two parts.

    Parameters
    ----------
    pair : array_like, shape (spectrum,)
        Identifier of the pair (or of the M dwarf) of each spectrum.
    shares : sequence of float
        Share of the pairs in each part, such as 870 and 250; their sum stands for all pairs.
    seed : int, optional

    Returns
    -------
    tuple of ndarray
        Indices of the spectra of each part.
    """
    known, member = np.unique(np.asarray(pair), return_inverse=True)
    if len(known) < len(shares):
        raise ValueError(
            f"there are {len(known)} pairs for {len(shares)} parts; one pair at least in each is required. Add pairs."
        )
    order = np.random.default_rng(seed).permutation(len(known))
    ends = np.round(np.cumsum(shares) / np.sum(shares) * len(known)).astype(int)
    part = np.empty(len(known), dtype=np.int64)
    part[order] = np.searchsorted(ends, np.arange(len(known)), side="right")
    return tuple(np.flatnonzero(part[member] == i) for i in range(len(shares)))


def feh_offset(
    teff: ArrayLike, exponents: tuple[float, float], trend: FehTrend = FEH_TREND
) -> NDArray[np.float64]:
    """Offset of [Fe/H] of F, G and K dwarfs that depends on temperature (M-dwarf paper, equation 11).

    Parameters
    ----------
    teff : array_like, shape (star,)
        Temperatures of LAMOST [K].
    exponents : (float, float)
        Exponents below and above the pivot, see `measure_feh_trend`.
    trend : FehTrend, optional
        The other numbers.

    Returns
    -------
    ndarray, shape (star,)
        Offset [dex], to be subtracted from [Fe/H]; NaN outside the range of the model.
    """
    teff = np.asarray(teff, "f8")
    with np.errstate(invalid="ignore"):
        ratio = np.where((teff >= trend.teff[0]) & (teff <= trend.teff[1]), teff / trend.pivot, np.nan)
        power = np.where(ratio < 1.0, exponents[0], exponents[1])
    return np.asarray(trend.amplitude * ratio**power - trend.floor)


def measure_feh_trend(
    teff: ArrayLike, feh: ArrayLike, trend: FehTrend = FEH_TREND
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Measure the exponents of `feh_offset` on wide binaries of two F, G or K dwarfs, whose [Fe/H] are the same.

    Parameters
    ----------
    teff, feh : array_like, shape (pair, 2)
        Temperature [K] and [Fe/H] of both stars.
    trend : FehTrend, optional

    Returns
    -------
    exponents, errors : (float, float)
        Below and above the pivot, and their standard errors. With them the difference of the corrected [Fe/H] no
        longer depends on temperature. Few discordant pairs count little.

    Raises
    ------
    ValueError
        There are too few pairs in the range of the model.
    """
    warm, metal = np.asarray(teff, "f8"), np.asarray(feh, "f8")
    inside = ((warm >= trend.teff[0]) & (warm <= trend.teff[1]) & np.isfinite(metal)).all(axis=1)
    if inside.sum() < _LEAST_PAIRS:
        raise ValueError(
            f"{inside.sum()} pairs have both temperatures in {trend.teff[0]:g}-{trend.teff[1]:g} K and both [Fe/H]; at "
            f"least {_LEAST_PAIRS} are required to measure a trend. Add pairs of two F, G or K dwarfs."
        )
    warm, metal = warm[inside], metal[inside]

    def departure(exponents: NDArray[np.float64]) -> NDArray[np.float64]:
        corrected = metal - feh_offset(warm, (exponents[0], exponents[1]), trend)
        return np.asarray(corrected[:, 0] - corrected[:, 1])

    best = least_squares(departure, (0.0, 0.0), loss="soft_l1", f_scale=0.1)
    left = departure(best.x)
    variance = (1.4826 * np.median(np.abs(left - np.median(left)))) ** 2
    errors = np.sqrt(np.diag(np.linalg.pinv(best.jac.T @ best.jac)) * variance)
    return (float(best.x[0]), float(best.x[1])), (float(errors[0]), float(errors[1]))


def _reliable(binaries: pd.DataFrame, limits: MDwarfSelection) -> pd.Series:
    sure = binaries["R_chance_align"] < limits.chance_alignment
    return cast("pd.Series", sure & (binaries["ruwe1"] < limits.ruwe) & (binaries["ruwe2"] < limits.ruwe))
