"""The command that fits a cube, and the one that calibrates what came out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer

from specxr.cli.options import (
    QUARANTINE,
    Cube,
    ObsidFile,
    Options,
    Overwrite,
    RunName,
    Where,
    Workers,
    chosen,
    parse_options,
)
from specxr.cli.progress import note, run_progress, tally


def infer(
    cube: Cube,
    estimator: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The method, such as lasp, or a model that was trained.")
    ] = "lasp",
    option: Options = None,
    name: Annotated[
        str | None,
        typer.Option(help="Name of the run; the name of the method if not given.", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="RUN", help="Begin the fits with the labels of this run (lasp).", show_default=False
        ),
    ] = None,
    where: Where = None,
    obsid: ObsidFile = None,
    spectra: Annotated[bool, typer.Option("--spectra", help="Write the model spectra as well.")] = False,
    workers: Workers = None,
    device: Annotated[str, typer.Option(metavar="cpu|cuda", help="The device that computes.")] = "cpu",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Address of a Dask cluster that runs already, or its scheduler file.",
            show_default=False,
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for workers where there are none.")
    ] = 60.0,
    overwrite: Overwrite = False,
) -> None:
    """Infer labels of the stars of a cube, beside the spectra. Called again, it continues where it was stopped."""
    from specxr.cubes.processes import check_limits

    check_limits(workers or 0)  # before the libraries, which fail in words of their own

    import dask

    from specxr.cubes.store import check_run_name, open_cube
    from specxr.estimators.registry import open_estimator

    if workers is not None and scheduler is not None:
        raise ValueError(
            "--workers and --scheduler were both given; a cluster has its own workers. Leave one of them out."
        )
    method = open_estimator(estimator, **{"device": device, **parse_options(option)})
    name = name or type(method).__name__.lower()
    check_run_name(name)
    stars = chosen(open_cube(cube), where, obsid)
    # Trained methods have emulators of their own, whose accuracy `specxr models info` shows.
    if about := getattr(getattr(method, "emulator", None), "about", ""):
        note(f"emulator {about}")
    settings = {"name": name, "start": start, "stars": stars, "spectra": spectra, "overwrite": overwrite}
    with dask.config.set({"specxr.wait": wait}):
        summary = _fit(cube, method, settings, workers, scheduler)
    if summary.n_fitted:
        from specxr.runs.report import report

        page = Path("." if "://" in cube else cube).parent / f"{Path(cube).stem}-{name}-report.html"
        try:
            report(cube, name, page, estimator=method)
            typer.echo(f"report in {page}")
        except OSError as error:  # the labels are there all the same
            typer.echo(f"no report: {' '.join(str(error).split())}", err=True)
    _tell(summary)


def _fit(cube: str, method: Any, settings: dict[str, Any], workers: int | None, scheduler: str | None) -> Any:
    """Run a method on a cube, with a bar that shows how far it has come; a stop is told in one line."""
    from specxr.runs import cluster
    from specxr.runs.driver import run
    from specxr.runs.summary import RunStopped

    with run_progress() as progress:
        try:
            client = cluster.connect(scheduler) if scheduler else cluster.local(workers) if workers else None
            with client or nullcontext():
                return run(cube, method, client=client, progress=progress, **settings)
        except (KeyboardInterrupt, RunStopped, OSError) as error:
            if not progress.begun and not isinstance(error, KeyboardInterrupt):
                raise  # nothing has changed
            stopped = error
    done = _reached(cube, settings["name"]) if progress.begun else "nothing was fitted"
    reason = " ".join(str(stopped).split()).rstrip(".") or "interrupted"
    typer.echo(f"specxr: {reason}. So far {done}; the same command goes on from there.", err=True)
    raise typer.Exit(130 if isinstance(stopped, KeyboardInterrupt) else 1)


def _reached(cube: str, name: str) -> str:
    """How far a run has come that was stopped, as its ledger has it."""
    from specxr.runs.run import Run

    found = Run.at(cube, name).read_ledger()
    n_done = sum(block.n_stars for block in found.done)
    return f"{n_done:,} of {found.header.n_stars:,} stars have their labels in {cube}::{name}"


def _tell(summary: Any) -> None:
    """Say how a run ended; exit with 3 where blocks are in quarantine."""
    nothing = ", nothing was left to do" if summary.n_fitted == 0 and summary.complete else ""
    typer.echo(f"{summary.path}::{summary.run}: {tally(summary.results)}{nothing}")
    if not summary.quarantined:
        return
    for block in summary.quarantined:
        reason = block.error.strip().splitlines()[-1]
        typer.echo(
            f"block {block.index}, stars {block.star_start:,} to {block.star_stop - 1:,}, failed {block.attempts} "
            f"times: {reason}",
            err=True,
        )
    typer.echo(
        f"specxr: {len(summary.quarantined)} blocks are in quarantine, {summary.n_stars - summary.n_done:,} stars "
        "have no labels. `specxr report` shows their tracebacks; the same command tries them again.",
        err=True,
    )
    raise typer.Exit(QUARANTINE)


def calibrate(
    cube: Cube,
    floor: Annotated[
        list[str],
        typer.Option(metavar="LABEL=VALUE", help="An error floor, in units of the label; repeatable."),
    ],
    out_name: Annotated[str, typer.Option("--as", metavar="RUN", help="Name of the calibrated run.")],
    name: RunName = "lasp",
    overwrite: Overwrite = False,
) -> None:
    """Add floors to the errors of a run, in quadrature, and write it as another run."""
    from specxr.calibration import calibrate as add_floors
    from specxr.cubes.store import open_labels, write_labels

    try:
        floors = {label: float(value) for label, value in (item.split("=") for item in floor)}
    except ValueError:
        raise ValueError(
            f"--floor was given as {' '.join(floor)}; LABEL=VALUE is required. For example --floor rv=1.5."
        ) from None
    write_labels(cube, add_floors(open_labels(cube, name), floors), out_name, overwrite=overwrite)
    typer.echo(f"{cube}::{out_name}: errors of {name} with floors " + ", ".join(floor))
