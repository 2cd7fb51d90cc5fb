"""The command line: parse and call. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

import signal
from types import FrameType
from typing import Any

import typer
from typer.core import TyperGroup

from specxr.cli.cubes import info, ingest
from specxr.cli.demo import demo
from specxr.cli.inference import calibrate, infer
from specxr.cli.labels import compare, export, report
from specxr.cli.models import models, train
from specxr.cli.plot import plot
from specxr.cli.runs import runs


class _OneLineErrors(TyperGroup):
    """Print errors that the user can correct, and a Ctrl-C, as one line on stderr; other errors are not hidden."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError) as error:
            typer.echo(f"specxr: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from error
        except MemoryError as error:
            typer.echo(
                f"specxr: the memory is used up ({' '.join(str(error).split()) or 'no room for more'}); more of it is "
                "required. Raise the limit of the process (ulimit -v, -d), or use a machine with more memory.",
                err=True,
            )
            raise typer.Exit(1) from error
        except KeyboardInterrupt as error:
            typer.echo("specxr: interrupted.", err=True)
            raise typer.Exit(130) from error


app = typer.Typer(
    cls=_OneLineErrors,
    help="Stellar labels from survey spectra: array-native, chunked, on CPUs or GPUs.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
for command in (demo, ingest, info, train, infer, calibrate, report, export, compare, runs, plot):
    app.command()(command)
app.add_typer(models, name="models")


def main() -> None:
    """Entry point of the program ``specxr``."""
    # A batch system that ends a job is told as much as a Ctrl-C: what is done, and how to go on.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    app(prog_name="specxr")


def _stop(number: int, frame: FrameType | None) -> None:
    """Stop in good order; who asks a second time does not want to wait for it, and ends the process at once."""
    for known in (signal.SIGINT, signal.SIGTERM):
        signal.signal(known, signal.SIG_DFL)
    raise KeyboardInterrupt
