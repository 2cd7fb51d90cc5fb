"""Labels as tables, one row for each star: from a run, from and to csv, Parquet, FITS and ECSV."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from specxr.content import check_writable, whole_file
from specxr.cubes.integers import with_integers
from specxr.cubes.quantity_tables import TABLE_FORMATS, write_quantity_table
from specxr.vocabulary import DIAGNOSTICS, IDENTITY, LABEL, LABELS, STAR, Result, recommended

SUFFIXES = (".csv", *TABLE_FORMATS)


def label_table(labels: xr.Dataset, beside: xr.Dataset | None = None) -> pd.DataFrame:
    """Labels of a run as a table.

    Parameters
    ----------
    labels : Dataset
        Labels of `specxr.infer` or `specxr.open_labels`; they are computed here where they are lazy.
    beside : Dataset, optional
        Other variables of the same stars, which become columns: ``cube[["snr_g", "subclass"]]``.

    Returns
    -------
    DataFrame
        One row for each star: ``obsid``, ``ra``, ``dec`` [degree], the variables of `beside`, each label [units of the
        vocabulary] and its error, ``chi2``, ``n_good``, ``n_iter``, ``result`` (the name of its code) and
        ``quality_flags``, the variable ``flags``, whose name belongs to pandas. The column ``limits`` names the labels
        at an end of their range, such as ``vsini<`` for an upper limit. The column ``recommended`` says that the fit
        converged and that no flag speaks against it; of LASP only runs with both checks (``clean`` and ``two_stage``)
        have it. ``attrs`` has the provenance of the run, which `write_table` writes.

    Raises
    ------
    ValueError
        `beside` is of other stars, or has a variable that is not of the stars or is a label as well.
    """
    labels = with_integers(labels)
    names = [name for label in LABELS for name in (label, f"{label}_err")]
    columns = [name for name in (*IDENTITY, *names, *DIAGNOSTICS, "limit") if name in labels.variables]
    # One computation for all columns, since one for each would fit the stars again and again.
    values = labels[columns].reset_coords().compute()
    table = pd.DataFrame({name: values[name].values for name in columns if values[name].dims == (STAR,)})
    table = table.rename(columns={"flags": "quality_flags"})
    if "limit" in values.data_vars:
        table["limits"] = _limits(values)
    # A method without these checks, such as The Payne, has nothing to wait for.
    made = [labels.attrs[check] for check in ("clean", "two_stage") if check in labels.attrs]
    if all(check in (True, "true") for check in made) and {"result", "quality_flags"} <= set(table):
        table["recommended"] = recommended(table["result"], table["quality_flags"])
    if "result" in table:
        table["result"] = [Result(code).name.lower() for code in table["result"]]
    table.attrs = {
        str(name): value for name, value in labels.attrs.items() if isinstance(value, str | int | float)
    }
    return table if beside is None else _with_columns(table, beside)


def _with_columns(table: pd.DataFrame, beside: xr.Dataset) -> pd.DataFrame:
    """The table with more variables of its stars, behind their identity."""
    wrong = [
        str(name) for name, variable in beside.data_vars.items() if variable.dims != (STAR,) or name in table
    ]
    same = (
        "obsid" in beside.variables and "obsid" in table and np.array_equal(beside["obsid"], table["obsid"])
    )
    if wrong or not same:
        found = (
            f"{', '.join(wrong)} cannot be a column"
            if wrong
            else "the variables beside the labels are of other stars"
        )
        raise ValueError(
            f"{found}; variables of the same stars, in the same order, with one value for each, are required. Take "
            "them from the cube of the labels: cube[['snr_g', 'subclass']]."
        )
    identity = [name for name in IDENTITY if name in table]
    values = beside.compute()
    more = pd.DataFrame({str(name): values[name].values for name in values.data_vars})
    out = pd.concat([table[identity], more, table.drop(columns=identity)], axis="columns")
    about = {str(name): dict(variable.attrs) for name, variable in values.data_vars.items() if variable.attrs}
    out.attrs = {**table.attrs, "columns": about}
    return out


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
        File ending in .csv, .parquet, .fits or .ecsv, or a run of a cube as ``CUBE.zarr::run``.

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

    table = Table.read(path, format=TABLE_FORMATS[suffix])
    table.convert_bytestring_to_unicode()
    # A DataFrame has no place for columns of vectors (covariances, spectra).
    frame: pd.DataFrame = table[[name for name in table.colnames if table[name].ndim == 1]].to_pandas()
    frame.attrs = {name.lower(): value for name, value in table.meta.items()}
    return frame


def write_table(table: pd.DataFrame, path: str | Path, *, overwrite: bool = False) -> None:
    """Write a table of labels, complete or not at all, in full precision.

    Parameters
    ----------
    table : DataFrame
        Table with one row for each star, such as `label_table` gives.
    path : str or Path
        File whose suffix chooses the format: .csv, .parquet, .fits or .ecsv. All but .csv keep the units and the
        descriptions of the columns, the meanings of the flags, and the provenance and the date of the run, which
        astropy reads back: ``QTable.read(path)``.
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
    if _suffix(path) == ".csv":
        table.to_csv(path, index=False)
    else:
        write_quantity_table(table, path)
