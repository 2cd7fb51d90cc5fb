"""Labels as tables, one row a star: from a run, from and to csv, parquet and FITS."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from specxr.vocabulary import DIAGNOSTICS, DISTRUST, IDENTITY, LABELS, STAR, Result

SUFFIXES = (".csv", ".parquet", ".fits")


def label_table(labels: xr.Dataset) -> pd.DataFrame:
    """Labels of a run as a table.

    Parameters
    ----------
    labels : Dataset
        What `specxr.infer` or `specxr.open_labels` gives; computed here where it is lazy.

    Returns
    -------
    DataFrame
        One row a star: ``obsid``, ``ra``, ``dec``, each label [units of the vocabulary] and its error,
        ``chi2``, ``n_good``, ``n_iter``, ``result`` (the name of its code) and ``flags``; and ``recommended`` where
        the run made both checks (``clean`` and ``two_stage``): the fit converged and nothing speaks against it.
    """
    names = [name for label in LABELS for name in (label, f"{label}_err")]
    columns = [name for name in (*IDENTITY, *names, *DIAGNOSTICS) if name in labels.variables]
    # All in one computation: one at a time would fit the stars once for each column.
    values = labels[columns].reset_coords().compute()
    table = pd.DataFrame({name: values[name].values for name in columns if values[name].dims == (STAR,)})
    checked = all(labels.attrs.get(check) in (True, "true") for check in ("clean", "two_stage"))
    if checked and {"result", "flags"} <= set(table):
        converged = table["result"] == int(Result.CONVERGED)
        table["recommended"] = converged & ((table["flags"] & int(DISTRUST)) == 0)
    if "result" in table:
        table["result"] = [Result(code).name.lower() for code in table["result"]]
    return table


def read_table(source: str | Path) -> pd.DataFrame:
    """Read a table of labels.

    Parameters
    ----------
    source : str or Path
        A file ending in .csv, .parquet or .fits, or a run of a cube as ``CUBE.zarr::run``.
    """
    cube, separator, run = str(source).partition("::")
    if separator:
        from specxr.cubes.store import open_labels

        return label_table(open_labels(cube, run))
    path = Path(source)
    suffix = _suffix(path)
    if not path.is_file():
        raise FileNotFoundError(f"there is no file '{path}'. Check the path of the table.")
    if suffix == ".csv":
        return pd.read_csv(path)
    if suffix == ".parquet":
        return pd.read_parquet(path)
    from astropy.table import Table

    table = Table.read(path, format="fits")
    table.convert_bytestring_to_unicode()
    # Columns of vectors (covariances, spectra) have no place in a DataFrame.
    return table[[name for name in table.colnames if table[name].ndim == 1]].to_pandas()


def write_table(table: pd.DataFrame, path: str | Path, overwrite: bool = False) -> None:
    """Write a table of labels, complete or not at all, in full precision.

    Parameters
    ----------
    table : DataFrame
    path : str or Path
        Its suffix chooses the format: .csv, .parquet or .fits.
    overwrite : bool, optional
        Replace a file that is there.
    """
    check_output(path, overwrite)
    path = Path(path)
    # In the same folder, because only within a file system is a replacement atomic.
    with tempfile.TemporaryDirectory(prefix=f".{path.name}-", dir=path.parent) as folder:
        partial = Path(folder) / path.name
        _write(table, partial)
        os.replace(partial, path)


def check_output(path: str | Path, overwrite: bool = False) -> None:
    """Raise before anything is computed where `write_table` would refuse this path."""
    path = Path(path)
    _suffix(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder '{path.parent}' for {path.name}. Make it, or choose another."
        )
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(
            f"the folder '{path.parent}' cannot be written to. Choose another for {path.name}."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"'{path}' is there already. Choose another name, or overwrite it (--overwrite)."
        )


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix not in SUFFIXES:
        raise ValueError(
            f"'{path}' ends in '{path.suffix}'; a table ends in {', '.join(SUFFIXES)}. Choose one of these."
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
            if label is not None and label.units != "dex":  # which FITS does not know
                columns[name].unit = label.units
        columns.write(path, format="fits")


def _fits_values(column: pd.Series) -> np.ndarray:
    # FITS has fixed-length strings, pandas has none.
    return column.to_numpy() if column.dtype.kind in "iufb" else column.to_numpy(dtype="str")
