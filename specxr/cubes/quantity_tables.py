"""Tables of labels as astropy has them: with units, descriptions, meanings of flags, and provenance."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specxr.content import timestamp
from specxr.readers.columns import attrs_of
from specxr.vocabulary import LABELS, Flag, Result, flag_attrs

TABLE_FORMATS = {".parquet": "parquet", ".fits": "fits", ".ecsv": "ascii.ecsv"}

_OF_TABLES: dict[str, dict[str, Any]] = {
    "limits": {"long_name": "labels at an end of their range, with < or > for what is known of them"},
    "recommended": {"long_name": "whether the fit converged and no flag speaks against it"},
    "quality_flags": {
        "long_name": "reasons for care, bits that may be set together",
        **flag_attrs(Flag, "u2"),
    },
    "result": {"long_name": "how the fit ended", "meanings": {r.name.lower(): r.advice for r in Result}},
}


def about_column(name: str) -> dict[str, Any]:
    """Attributes of a column of a table of labels: ``units``, ``long_name`` and more; none if it is not known."""
    if name in _OF_TABLES:
        return _OF_TABLES[name]
    if name in LABELS:
        return dict(LABELS[name].attrs)
    if name.endswith("_err") and name.removesuffix("_err") in LABELS:
        return dict(LABELS[name.removesuffix("_err")].error_attrs)
    return dict(attrs_of(name))


def quantity_table(table: pd.DataFrame) -> Any:
    """A table of labels as a QTable of astropy.

    Parameters
    ----------
    table : DataFrame
        Of `specxr.label_table`, whose ``attrs`` have the provenance of the run, or any other.

    Returns
    -------
    astropy.table.QTable
        The columns have units, descriptions and, of flags, their meanings. The keys of ``meta`` are in capitals, since
        the header of a FITS file knows no others.
    """
    from astropy.table import Column, QTable

    columns: Mapping[str, Mapping[str, Any]] = table.attrs.get("columns", {})
    out = QTable()
    for name in map(str, table.columns):
        about = dict(columns.get(name) or about_column(name))
        unit = _unit(about.pop("units", None))
        description = about.pop("long_name", None)
        values = Column(
            _plain(table[name]), description=description, meta={k: _as_yaml(v) for k, v in about.items()}
        )
        out[name] = values if unit is None else values * unit
        out[name].info.description = description
    meta = {"date": timestamp(), **table.attrs}
    out.meta = {name.upper(): value for name, value in meta.items() if isinstance(value, str | int | float)}
    return out


def write_quantity_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table of labels as FITS, Parquet or ECSV, with all that `quantity_table` says of it."""
    from astropy.io.fits.verify import VerifyWarning
    from astropy.utils.exceptions import AstropyWarning

    with warnings.catch_warnings():
        # FITS has no unit dex, and no long names of keys: astropy writes both in its own way, and reads them back.
        warnings.simplefilter("ignore", AstropyWarning)
        warnings.simplefilter("ignore", VerifyWarning)
        quantity_table(table).write(path, format=TABLE_FORMATS[path.suffix.lower()])


def _unit(name: str | None) -> Any:
    """Unit of a column; None for what has none, or one that astropy does not know."""
    from astropy import units as u

    if name in (None, "", "1"):
        return None
    try:
        return u.Unit(name)
    except ValueError:
        return None


def _plain(column: pd.Series) -> NDArray[Any]:
    # Strings of FITS have a fixed length, those of pandas do not.
    if column.dtype.kind in "iufb":
        return np.asarray(column.to_numpy())
    return np.asarray(column.fillna("").to_numpy(dtype="str"))


def _as_yaml(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray) else value
