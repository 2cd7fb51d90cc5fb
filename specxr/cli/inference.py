"""The command that fits a cube, and the one that calibrates what came out."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from specxr.cli.commands import QUARANTINE, Cube, Overwrite, Run, Workers
from specxr.cli.models import trainable
from specxr.cli.progress import run_progress, tally


def infer(
    cube: Cube,
    estimator: Annotated[Literal["lasp", "payne", "slam"], typer.Option(help="The method.")] = "lasp",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="What `specxr train` made, for payne and slam.", show_default=False
        ),
    ] = None,
    emulator: Annotated[
        str, typer.Option(metavar="PATH|NAME", help="For lasp: a file (.fits, .safetensors), or `default`.")
    ] = "default",
    clean: Annotated[
        bool, typer.Option("--clean/--no-clean", help="For lasp: reject outlying pixels.")
    ] = False,
    two_stage: Annotated[
        bool, typer.Option("--two-stage", help="For lasp: fit again without the shape, flag what disagrees.")
    ] = False,
    solver: Annotated[
        Literal["lm", "adam", "curve_fit"], typer.Option(help="For lasp: how the fit is solved.")
    ] = "lm",
    start: Annotated[
        str | None,
        typer.Option(metavar="RUN", help="For lasp: begin with the labels of this run.", show_default=False),
    ] = None,
    vsini: Annotated[
        bool, typer.Option("--vsini", help="For lasp: fit rotation apart from the instrument.")
    ] = False,
    weighted: Annotated[
        bool, typer.Option("--weighted", help="For lasp: weigh pixels by their inverse variance.")
    ] = False,
    window: Annotated[
        tuple[float, float],
        typer.Option(metavar="FIRST LAST", help="For lasp: wavelengths of the fit [Angstrom]."),
    ] = (4200.0, 5700.0),
    name: Annotated[
        str | None, typer.Option(help="Name of the run; the method's, if not given.", show_default=False)
    ] = None,
    workers: Workers = None,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to compute.")] = "cpu",
    dtype: Annotated[
        Literal["float64", "float32"], typer.Option(help="Precision of the arithmetic.")
    ] = "float64",
    scheduler: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Of a running Dask cluster, or its scheduler file.", show_default=False
        ),
    ] = None,
    wait: Annotated[
        float, typer.Option(min=0.0, help="Seconds to wait for workers where there are none.")
    ] = 60.0,
    overwrite: Overwrite = False,
) -> None:
    """Infer labels of all stars of a cube, beside the spectra. Called again, it continues where it was stopped."""
    from specxr.cubes.store import check_run_name, open_cube
    from specxr.runs import cluster
    from specxr.runs.driver import RunStopped, run

    if workers is not None and scheduler is not None:
        raise ValueError(
            "--workers and --scheduler were both given; a cluster has its own workers. Leave one of them out."
        )
    if (model is None) != (estimator == "lasp"):
        raise ValueError(
            f"--estimator {estimator} came {'without' if model is None else 'with'} --model; payne and slam require "
            "the file that `specxr train` made, lasp takes none. Give the one that belongs to the other."
        )
    name = name or estimator
    check_run_name(name)
    open_cube(cube)
    if model is None:
        from specxr.estimators.lasp.estimator import LASP

        fitting: Any = LASP(
            emulator,
            clean=clean,
            two_stage=two_stage,
            solver=solver,
            window=window,
            vsini=vsini,
            weighted=weighted,
            device=device,
            dtype=dtype,
        )
    else:
        fitting = trainable(estimator).load(model, device=device, dtype=dtype)
    client = cluster.connect(scheduler) if scheduler else cluster.local(workers) if workers else None
    with client or nullcontext(), run_progress() as progress:
        try:
            summary = run(
                cube,
                fitting,
                name=name,
                start=start,
                client=client,
                overwrite=overwrite,
                wait=wait,
                progress=progress,
            )
        except RunStopped as error:
            typer.echo(f"specxr: {' '.join(str(error).split())}", err=True)
            raise typer.Exit(1) from error
    if summary.n_fitted:
        from specxr.runs.report import write_report

        page = Path("." if "://" in cube else cube).parent / f"{Path(cube).stem}-{name}-report.html"
        try:
            write_report(cube, name, page, fitting)
            typer.echo(f"report in {page}")
        except OSError as error:  # the labels are there all the same
            typer.echo(f"no report: {' '.join(str(error).split())}", err=True)
    _tell(summary)


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
        "have no labels. Their tracebacks are in the ledger (specxr.runs.ledger.read); the same command tries them again.",
        err=True,
    )
    raise typer.Exit(QUARANTINE)


def calibrate(
    cube: Cube,
    floor: Annotated[
        list[str],
        typer.Option(metavar="LABEL=VALUE", help="An error floor [units of the label]; repeatable."),
    ],
    out_name: Annotated[str, typer.Option("--as", metavar="RUN", help="Name of the calibrated run.")],
    name: Run = "lasp",
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
