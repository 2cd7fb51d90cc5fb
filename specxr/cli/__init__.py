"""The command line: parse and call. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

import typer
from typer.core import TyperGroup

from specxr.cli.commands import compare, export, info, ingest, report
from specxr.cli.demo import demo
from specxr.cli.inference import calibrate, infer
from specxr.cli.models import models, train


class _OneLineErrors(TyperGroup):
    """What the user can put right is said in one line on stderr, with exit code 1; what we broke is not hidden."""

    def invoke(self, ctx):
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
