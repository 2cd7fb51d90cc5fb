"""Which stars of a cube are meant: booleans, obsids, a list in a file, or a condition on their variables."""

from __future__ import annotations

import ast
from collections.abc import Hashable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.tables import SUFFIXES, read_table
from specxr.vocabulary import STAR

_SHOWN = 12  # names in a message


def places_of(cube: xr.Dataset, stars: ArrayLike) -> NDArray[np.int64]:
    """Places in a cube of stars that are chosen by booleans or by obsids.

    Parameters
    ----------
    cube : Dataset
    stars : array_like
        A boolean for each star, shape (star,); or obsids, in the order in which the stars are to come.

    Raises
    ------
    ValueError
        The shape or the type is another one, or an obsid is not in the cube or names several stars.
    """
    n_stars, chosen = cube.sizes[STAR], np.asarray(stars)
    if chosen.dtype.kind == "b":
        if chosen.shape != (n_stars,):
            raise ValueError(
                f"the choice of stars has shape {chosen.shape}; ({n_stars},) is required, one boolean for each star. "
                "Make it from variables of this cube."
            )
        return np.flatnonzero(chosen)
    if chosen.ndim != 1 or (chosen.size and chosen.dtype.kind not in "iu"):
        raise ValueError(
            f"the choice of stars has dtype {chosen.dtype} and shape {chosen.shape}; booleans for each star, or a list "
            "of integer obsids, are required. For places in the cube, use cube.isel(star=...)."
        )
    obsid = cube["obsid"].values
    order = np.argsort(obsid, kind="stable")
    first, stop = (np.searchsorted(obsid, chosen, side=side, sorter=order) for side in ("left", "right"))
    lost, twice = chosen[stop == first], chosen[stop - first > 1]
    if lost.size or twice.size:
        raise ValueError(
            f"{lost.size} obsids are not in the cube and {twice.size} are there more than once (the first: "
            f"{(lost if lost.size else twice)[0]}); obsids that name one star are required. Correct the list."
        )
    return np.asarray(order[first], dtype=np.int64)


def chosen_stars(cube: xr.Dataset, stars: ArrayLike) -> NDArray[np.bool_]:
    """A boolean for each star of a cube, of stars that are chosen by booleans or by obsids; see `places_of`."""
    chosen = np.zeros(cube.sizes[STAR], dtype=bool)
    chosen[places_of(cube, stars)] = True
    return chosen


def where(variables: Mapping[Hashable, Any], condition: str) -> NDArray[np.bool_]:
    """Stars that meet a condition.

    Parameters
    ----------
    variables : Dataset, DataFrame or mapping
        Values of each star by name; only those that the condition names are read.
    condition : str
        An expression such as ``"snr_g > 10 and subclass == 'A0'"``, as `pandas.DataFrame.query` takes it. A comparison
        with NaN is false.

    Returns
    -------
    ndarray of bool, shape (star,)

    Raises
    ------
    ValueError
        It is no expression, it names something that is not there, or it is not true or false for each star.
    """
    required = (
        "a condition on variables of the stars, such as \"snr_g > 10 and subclass == 'A0'\", is required"
    )
    try:
        tree = ast.parse(condition.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        reason = error.msg if isinstance(error, SyntaxError) else error
        raise ValueError(
            f"the condition {condition!r} cannot be read ({reason}); {required}. Correct it."
        ) from None
    names = sorted({node.id for node in ast.walk(tree) if isinstance(node, ast.Name)})
    table = pd.DataFrame({name: _values(variables, name, condition) for name in names})
    try:
        found = np.asarray(table.eval(condition.strip(), engine="python"))
    except Exception as error:  # whatever pandas makes of an expression that somebody typed
        raise ValueError(
            f"the condition {condition!r} cannot be applied ({' '.join(str(error).split())}); {required}. Compare "
            "numbers with numbers, and text with text in quotes."
        ) from error
    if found.dtype != bool or found.shape != (len(table),):
        raise ValueError(
            f"the condition {condition!r} is {found.dtype} of shape {found.shape}; {required}. Compare a variable with "
            "something: ==, <, >, in."
        )
    return found


def _values(variables: Mapping[Hashable, Any], name: str, condition: str) -> NDArray[Any]:
    known = [str(key) for key, value in variables.items() if np.ndim(value) == 1]
    if isinstance(variables, xr.Dataset):
        known = [str(key) for key, value in variables.variables.items() if value.dims == (STAR,)]
    if name not in known:
        alike = get_close_matches(name, known, n=_SHOWN) or sorted(known)[:_SHOWN]
        raise ValueError(
            f"the condition {condition!r} names '{name}'; a variable of the stars is required, such as "
            f"{', '.join(alike) or 'none'}. Correct the name, and put text in quotes."
        )
    return np.asarray(variables[name])


def read_obsids(path: str | Path) -> NDArray[np.int64]:
    """Read a list of obsids: a text with one in each line, or a table with a column ``obsid``.

    Raises
    ------
    ValueError, FileNotFoundError
        The file is not there, or is no such list.
    """
    required = "a text with one integer in each line, or a table with the column obsid, is required"
    if Path(path).suffix.lower() in SUFFIXES:
        table = read_table(path)
        if "obsid" not in table:
            raise ValueError(
                f"{path} has the columns {', '.join(map(str, table))}; {required}. Rename the column of the obsids."
            )
        return np.asarray(table["obsid"], dtype=np.int64)
    try:
        lines = Path(path).read_text().splitlines()
        return np.array(
            [int(words[0]) for line in lines if (words := line.partition("#")[0].split())], np.int64
        )
    except (ValueError, OverflowError) as error:  # UnicodeDecodeError is one
        raise ValueError(f"{path} is no list of obsids ({error}); {required}. Correct the file.") from error
