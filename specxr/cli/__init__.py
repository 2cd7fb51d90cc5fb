"""The command line: parse and call. Heavy imports wait until a command runs, so that ``--help`` is quick."""

from __future__ import annotations

import logging
import signal
import sys
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from specxr.cli.cubes import info, ingest
from specxr.cli.demo import demo
from specxr.cli.doctor import doctor
from specxr.cli.examples import epilog
from specxr.cli.galaxy import gradient, select
from specxr.cli.inference import calibrate, infer
from specxr.cli.labels import compare, export, report
from specxr.cli.models import models, train
from specxr.cli.plot import plot
from specxr.cli.progress import show_bars
from specxr.cli.runs import runs
from specxr.cli.synthesize import synthesize
from specxr.cli.view import view

_LOG = logging.getLogger("specxr.cli")


class _OneLineErrors(TyperGroup):
    """Print errors that the user can correct, and a Ctrl-C, as one line on stderr; other errors are not hidden."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (ValueError, OSError, ImportError) as error:
            typer.echo(f"specxr: {' '.join(str(error).split())}", err=True)
            _LOG.debug("the command failed", exc_info=True)
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
    epilog="Exit codes: 0 done; 1 an error that one line explains; 2 a wrong command line; 3 blocks of a run are in "
    "quarantine; 130 interrupted.",
    no_args_is_help=True,
    # Plain text: what is in square brackets, such as [Fe/H], stays, and 80 columns are enough.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for command in (
    demo,
    ingest,
    info,
    synthesize,
    train,
    infer,
    calibrate,
    report,
    export,
    compare,
    runs,
    plot,
    view,
    doctor,
    select,
    gradient,
):
    app.command(epilog=epilog(command.__name__))(command)
app.add_typer(models, name="models")


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"specxr {version('specxr')}")
        raise typer.Exit


@app.callback()
def options(
    context: typer.Context,
    show_version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version, and leave."
        ),
    ] = False,
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Results and errors only, no progress.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Also what the parts log, and the traceback of an error.")
    ] = False,
    log: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all that is logged to the end of a file as well."),
    ] = None,
) -> None:
    """Options of all commands stand before the command: specxr --quiet infer dr10.zarr."""
    handlers: list[logging.Handler] = []
    if verbose:
        handlers.append(logging.StreamHandler())
    if log is not None:
        handlers.append(logging.FileHandler(log))
    logger = logging.getLogger("specxr")
    for handler in handlers:
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
    if handlers:
        logger.setLevel(logging.DEBUG)
        _LOG.info("specxr %s: %s", version("specxr"), " ".join(sys.argv[1:]))
    show_bars(not quiet)

    def close() -> None:
        show_bars(True)
        for handler in handlers:
            logger.removeHandler(handler)
            handler.close()

    context.call_on_close(close)


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
