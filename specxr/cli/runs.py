"""The command that lists, renames and deletes the runs of a cube, and the lines that say what each run is."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from specxr.cli.options import Cube

# Attributes of labels that are no options of their estimator, or are told apart from these.
_ABOUT = {
    "estimator", "estimator_version", "emulator", "emulator_source", "emulator_fingerprint", "fingerprint", "model",
    "specxr_version", "complete", "date", "errors", "calibration",
}  # fmt: skip
_LONGEST = 40  # characters of an option that are shown


def runs(
    cube: Cube,
    rename: Annotated[
        tuple[str, str] | None,
        typer.Option("--rename", metavar="OLD NEW", help="Give a run another name.", show_default=False),
    ] = None,
    delete: Annotated[
        list[str] | None,
        typer.Option("--delete", metavar="RUN", help="Delete a run and its labels; repeatable."),
    ] = None,
) -> None:
    """List the runs of a cube, with their methods and results; rename or delete them."""
    from specxr.cubes.locations import readable
    from specxr.runs.names import delete_run, rename_run

    if rename is not None:
        rename_run(cube, *rename)
        typer.echo(f"{cube}::{rename[0]} is now {cube}::{rename[1]}")
    for name in delete or ():
        delete_run(cube, name)
        typer.echo(f"{cube}::{name} is deleted")
    if rename is None and not delete:
        with readable(cube):
            show_runs(cube)


def show_runs(cube: str) -> None:
    """Print what each run of a cube is: its method, date and options, and how its fits ended."""
    from specxr.cubes.store import list_runs, open_labels

    names = list_runs(cube)
    for name in names:
        for line in _lines(name, open_labels(cube, name)):
            typer.echo(line)
    if not names:
        typer.echo("no labels yet; `specxr infer` makes them")


def _lines(name: str, labels: Any) -> list[str]:
    from textwrap import wrap

    attrs = labels.attrs
    words = [str(attrs.get("estimator", "labels of another program"))]
    if emulator := attrs.get("emulator"):
        words.append(f"emulator {emulator} ({str(attrs.get('emulator_fingerprint', ''))[:8]})")
    if model := attrs.get("model"):
        words.append(f"model {model}")
    words += [str(attrs["date"])] if "date" in attrs else []
    words += [f"specxr {attrs['specxr_version']}"] if "specxr_version" in attrs else []
    ending = "" if attrs.get("complete", True) else " (not complete)"
    options = ", ".join(f"{key}={_shown(value)}" for key, value in attrs.items() if key not in _ABOUT)
    lines = [f"{name}{ending}: {', '.join(words)}"]
    if options:
        lines.append(f"options: {options}")
    lines.append(_results(labels))
    return [
        part
        for first, line in enumerate(lines)
        for part in wrap(
            line, 79, initial_indent="  " if first else "", subsequent_indent="    ", break_long_words=False
        )
    ]


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _results(labels: Any) -> str:
    """How many stars ended with each result, and their share of the stars that were fitted."""
    import numpy as np

    from specxr.vocabulary import Result

    if "result" not in labels:
        return f"{labels.sizes['star']:,} stars"
    counts = {
        Result(code): int(n) for code, n in zip(*np.unique(labels["result"], return_counts=True), strict=True)
    }
    waiting = counts.pop(Result.NOT_FITTED, 0)
    fitted = sum(counts.values())
    shares = [f"{n:,} {result.name.lower()} ({n / fitted:.1%})" for result, n in counts.items()]
    shares += [f"{waiting:,} not_fitted"] if waiting else []
    return f"{fitted:,} stars fitted: {', '.join(shares)}" if fitted else f"{waiting:,} stars: none is fitted"
