"""Labels as tables, one row for each star: from a run, from and to csv, parquet and FITS."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from specxr.content import check_writable, whole_file
from specxr.cubes.integers import with_integers
from specxr.vocabulary import DIAGNOSTICS, IDENTITY, LABEL, LABELS, STAR, Result, recommended

SUFFIXES = (".csv", ".parquet", ".fits")


def label_table(labels: xr.Dataset) -> pd.DataFrame:
    """Labels of a run as a table.

    Parameters
    ----------
    labels : Dataset
        Labels of `specxr.infer` or `specxr.open_labels`; they are computed here where they are lazy.

    Returns
    -------
    DataFrame
        One row for each star: ``obsid``, ``ra``, ``dec``, each label [units of the vocabulary] and its error,
        ``chi2``, ``n_good``, ``n_iter``, ``result`` (the name of its code) and ``flags``. The column ``limits`` names
        the labels at an end of their range, such as ``vsini<`` for an upper limit. The column ``recommended`` says
        that the fit converged and that no flag speaks against it; of LASP only runs with both checks (``clean`` and
        ``two_stage``) have it.
    """
    labels = with_integers(labels)
    names = [name for label in LABELS for name in (label, f"{label}_err")]
    columns = [name for name in (*IDENTITY, *names, *DIAGNOSTICS, "limit") if name in labels.variables]
    # One computation for all columns, since one for each would fit the stars again and again.
    values = labels[columns].reset_coords().compute()
    table = pd.DataFrame({name: values[name].values for name in columns if values[name].dims == (STAR,)})
    if "limit" in values.data_vars:
        table["limits"] = _limits(values)
    # A method without these checks, such as The Payne, has nothing to wait for.
    made = [labels.attrs[check] for check in ("clean", "two_stage") if check in labels.attrs]
    if all(check in (True, "true") for check in made) and {"result", "flags"} <= set(table):
        table["recommended"] = recommended(table["result"], table["flags"])
    if "result" in table:
        table["result"] = [Result(code).name.lower() for code in table["result"]]
    return table


def _limits(labels: xr.Dataset) -> pd.Series:
    """Names of the labels of each star that lie at an end of their range, with < or > for what is known of them."""
    text = pd.Series("", index=range(labels.sizes[STAR]))
    for name, limit in zip(labels[LABEL].values, labels["limit"].values.T, strict=True):
        for sign, mark in ((-1, "<"), (1, ">")):
            text[limit == sign] += f" {name}{mark}"
    return text.str.strip()


def read_table(source: str | Path) -> pd.DataFrame:
    """Read a table of labels.

    Parameters
    ----------
    source : str or Path
        File ending in .csv, .parquet or .fits, or a run of a cube as ``CUBE.zarr::run``.

    Returns
    -------
    DataFrame

    Raises
    ------
    FileNotFoundError, ValueError
        There is no such file or run, or the suffix is none of these.
    """
    cube, separator, run = str(source).partition("::")
    if separator:
        from specxr.cubes.store import open_labels

        return label_table(open_labels(cube, run))
    path = Path(source)
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(
            f"the file '{path}' does not exist; a table is required. Check the path of the table."
        )
    if suffix == ".csv":
        return pd.read_csv(path)
    if suffix == ".parquet":
        return pd.read_parquet(path)
    from astropy.table import Table

    table = Table.read(path, format="fits")
    table.convert_bytestring_to_unicode()
    # A DataFrame has no place for columns of vectors (covariances, spectra).
    return table[[name for name in table.colnames if table[name].ndim == 1]].to_pandas()


def write_table(table: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a table of labels, complete or not at all, in full precision.

    Parameters
    ----------
    table : DataFrame
        Table with one row for each star, such as `label_table` gives.
    path : str or Path
        File whose suffix chooses the format: .csv, .parquet or .fits.
    overwrite : bool, optional
        Whether a file of this name is replaced.

    Raises
    ------
    ValueError, FileNotFoundError, PermissionError, FileExistsError
        The suffix is none of these, or the file cannot be written or exists.
    """
    _suffix(Path(path))
    with whole_file(path, overwrite) as draft:
        _write(table, draft)


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Raise, before anything is computed, where `write_table` would refuse this path."""
    _suffix(Path(path))
    check_writable(path, overwrite)


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"'{path}' ends in '{path.suffix}'; one of {', '.join(SUFFIXES)} is required, which choose the format of a "
            "table. Choose one of these."
        )
    return suffix


def _write(table: pd.DataFrame, path: Path) -> None:
    suffix = _suffix(path)
    if suffix == ".csv":
        table.to_csv(path, index=False)
    elif suffix == ".parquet":
        table.to_parquet(path, index=False)
    else:
        from astropy.table import Table

        columns = Table({name: _fits_values(table[name]) for name in table.columns})
        for name in columns.colnames:
            label = LABELS.get(name.removesuffix("_err"))
            if label is not None and label.units != "dex":  # a unit that FITS does not know
                columns[name].unit = label.units
        columns.write(path, format="fits")


def _fits_values(column: pd.Series) -> NDArray[Any]:
    # Strings of FITS have a fixed length, those of pandas do not.
    return np.asarray(column.to_numpy() if column.dtype.kind in "iufb" else column.to_numpy(dtype="str"))
