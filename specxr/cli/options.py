"""Options that several commands share, and the options of estimators: ``-o key=value``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Cube = Annotated[
    str,
    typer.Argument(metavar="CUBE.zarr", help="Path or s3://... of a cube, which `specxr ingest` makes."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
RunName = Annotated[str, typer.Option("--name", help="Name of the run.")]
Workers = Annotated[
    int | None,
    typer.Option(min=1, help="Number of processes; by default one for each core.", show_default=False),
]

Where = Annotated[
    str | None,
    typer.Option(
        metavar="CONDITION",
        help="Only stars that meet a condition on their variables, such as \"snr_g > 10 and subclass == 'A0'\".",
        show_default=False,
    ),
]
ObsidFile = Annotated[
    Path | None,
    typer.Option(
        "--obsid",
        metavar="FILE",
        help="Only stars of a list: a text with one obsid in each line, or a table with that column.",
        show_default=False,
    ),
]

QUARANTINE = 3  # exit code of a run that ended with blocks in quarantine

Options = Annotated[
    list[str] | None,
    typer.Option(
        "-o",
        "--option",
        metavar="KEY[=VALUE]",
        help="An option of the estimator, such as `-o clean` or `-o window=4200,5700`; repeatable.",
        show_default=False,
    ),
]


def chosen(cube: Any, where: str | None, obsid: Path | None, variables: Any = None) -> Any:
    """A boolean for each star of a cube, from --where and --obsid; None where neither is given.

    The condition may name what is in `variables`, by default the variables of the cube.
    """
    import numpy as np

    from specxr.cubes import choice

    if where is None and obsid is None:
        return None
    stars = np.ones(cube.sizes["star"], dtype=bool)
    if where is not None:
        stars &= choice.where(cube if variables is None else variables, where)
    if obsid is not None:
        stars &= choice.chosen_stars(cube, choice.read_obsids(obsid))
    if not stars.any():
        raise ValueError(
            f"none of the {stars.size:,} stars meets {where or obsid}; at least one is required. Choose other stars."
        )
    return stars


def parse_options(items: Sequence[str] | None) -> dict[str, Any]:
    """Options by name; one without a value is true.

    A value is JSON where it can be read so, and a tuple where it is a list of JSON values with commas between them;
    any other value is the text as it stands.
    """
    options: dict[str, Any] = {}
    for item in items or ():
        name, equals, text = item.partition("=")
        name = name.strip().replace("-", "_")
        if not name.isidentifier():
            raise ValueError(
                f"the option {item!r} has no name; -o KEY=VALUE is required. For example -o degree=50."
            )
        if name in options:
            raise ValueError(
                f"the option {name} was given twice; each once is required. Leave one of them out."
            )
        options[name] = _value(text) if equals else True
    return options


def _value(text: str) -> Any:
    for candidate in (text, f"[{text.strip().removesuffix(',')}]"):
        try:
            value = json.loads(candidate)
        except json.JSONDecodeError:
            continue
        return tuple(value) if isinstance(value, list) else value
    return text
