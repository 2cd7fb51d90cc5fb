"""The command line: parse and call. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from specxr.cli.cubes import info, ingest
from specxr.cli.demo import demo
from specxr.cli.inference import calibrate, infer
from specxr.cli.labels import compare, export, report
from specxr.cli.models import models, train


class _OneLineErrors(TyperGroup):
    """Print errors that the user can correct as one line on stderr, with exit code 1; other errors are not hidden."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            typer.echo(f"specxr: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from error


app = typer.Typer(
    cls=_OneLineErrors,
    help="Stellar labels from survey spectra: array-native, chunked, on CPUs or GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, ingest, info, train, infer, calibrate, report, export, compare):
    app.command()(command)
app.add_typer(models, name="models")


def main() -> None:
    """Entry point of the program ``specxr``."""
    app(prog_name="specxr")
