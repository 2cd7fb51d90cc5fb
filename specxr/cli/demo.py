"""The command `specxr demo`: the package at work on a survey that it simulates."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specxr.cli.options import Overwrite
from specxr.cli.progress import Counted, note, progress_bar

RUN = "lasp"

# Stars of a task: few enough that two threads share a small survey evenly and the progress bar moves.
_STARS_PER_TASK = 256


def demo(
    stars: Annotated[int, typer.Option(min=1, help="Number of stars to simulate.")] = 2000,
    out: Annotated[Path, typer.Option(help="Folder for the cube, the labels and the figures.")] = Path(
        "demo"
    ),
    seed: Annotated[
        int, typer.Option(min=0, help="Seed of the random numbers; another seed gives another survey.")
    ] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Simulate a small survey, fit it, print how well the true labels are recovered, and draw figures."""
    from specxr.cubes.processes import check_limits

    check_limits()  # before the libraries, which fail in words of their own

    import pandas as pd

    from specxr.cubes.store import open_cube, open_labels, write_cube
    from specxr.cubes.tables import label_table, write_table
    from specxr.estimators.lasp.estimator import LASP
    from specxr.synthesis.survey import TRUE_LABELS, simulate_survey
    from specxr.validation.recovery import recovery_table

    start = time.perf_counter()
    out.mkdir(parents=True, exist_ok=True)
    path = out / "survey.zarr"
    write_cube(simulate_survey(stars, seed), path, overwrite=overwrite)
    typer.echo(f"simulated {stars:,} spectra like LAMOST's, S/N 20 to 200: {path}")

    lasp = LASP(clean=True, two_stage=True)
    cube = open_cube(path)
    note(f"emulator {lasp.emulator.about}")  # type: ignore[union-attr]
    _fit(path, cube, lasp)
    labels = label_table(open_labels(path, RUN))
    write_table(labels, out / "labels.csv", overwrite=True)
    truth = pd.DataFrame({name: cube[f"true_{name}"].values for name in TRUE_LABELS})

    Console().print(_recovery(recovery_table(labels, truth)))
    typer.echo(_recommended(labels["recommended"].to_numpy(), cube["snr"].values))
    _draw(out, cube, lasp, labels, truth)
    typer.echo(f"labels beside the spectra and in {out / 'labels.csv'}, figures in {out}")
    typer.echo(f"{time.perf_counter() - start:.0f} s")


def _fit(path: Path, cube: Any, lasp: Any) -> None:
    """Fit in threads of this process: a few stars do not need a cluster."""
    import dask

    from specxr.cubes.store import write_labels
    from specxr.inference import infer

    cube = cube.chunk(star=_STARS_PER_TASK)
    with progress_bar("fitting", "stars", total=cube.sizes["star"]) as (bar, task):
        labels = infer(cube, Counted(lasp, lambda n: bar.advance(task, n)))
        with dask.config.set(scheduler="threads"):
            write_labels(path, labels, RUN)


def _recovery(bins: Any) -> Table:
    """Table of bias and scatter for the terminal."""
    from specxr.vocabulary import LABELS

    names = [name for name in LABELS if f"{name}_bias" in bins]
    digits = {name: {"K": 0, "km/s": 1}.get(LABELS[name].units, 3) for name in names}
    table = Table(
        title="inferred - true: median ± 1.48 MAD of the stars that converged, by true Teff",
        box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for heading in ("Teff [K]", "stars", "conv.", *(f"{name} [{LABELS[name].units}]" for name in names)):
        table.add_column(escape(heading), justify="right", no_wrap=True)
    for n, (_, row) in enumerate(bins.iterrows(), 1):
        cells = (
            f"{row[f'{name}_bias']:+.{digits[name]}f}±{row[f'{name}_scatter']:.{digits[name]}f}"
            for name in names
        )
        stars = "all" if n == len(bins) else f"{row['lower']:.0f}-{row['upper']:.0f}"
        table.add_row(stars, f"{row['n']:,.0f}", f"{row['converged']:.1%}", *cells)
    return table


def _recommended(recommended: Any, snr: Any) -> str:
    """The share of stars that are recommended, in all and by S/N."""
    import numpy as np

    edges = np.array([0.0, 50.0, 100.0, np.inf])
    names = ("below 50", "50 to 100", "above 100")
    shares = (
        f"{recommended[inside].mean():.0%} at S/N {name}"
        for low, high, name in zip(edges, edges[1:], names, strict=False)
        if (inside := (snr >= low) & (snr < high)).any()
    )
    return (
        f"S/N {snr.min():.0f} to {snr.max():.0f}, median {np.median(snr):.0f}; "
        f"recommended: {recommended.mean():.1%} of the stars ({', '.join(shares)})"
    )


def _draw(out: Path, cube: Any, lasp: Any, labels: Any, truth: Any) -> None:
    from specxr.inference import infer
    from specxr.plotting import plot_fit, plot_kiel, plot_recovery, save_figure

    # A star like the Sun, whose spectrum has many lines, at a typical signal-to-noise ratio.
    distance = (truth["teff"] - 5500.0).abs() / 100.0 + abs(cube["snr"].values - 60.0) / 20.0
    star = int(distance.idxmin())
    spectrum = cube.isel(star=[star]).load()
    fit = infer(spectrum, lasp, spectra=True)
    drawn = plot_fit(
        spectrum["wavelength"], spectrum["flux"][0], fit["model"][0], fit["used"][0],
        title=f"simulated star {star}: {labels['teff'][star]:.0f} K, log g {labels['logg'][star]:.2f}, "
        f"[Fe/H] {labels['feh'][star]:+.2f}; S/N {float(spectrum['snr'][0]):.0f}",
        medium=spectrum["wavelength"].attrs["medium"],
    )  # fmt: skip
    save_figure(drawn, out / "fit.png", dpi=110)
    save_figure(plot_kiel(labels[labels["result"] == "converged"]), out / "kiel.png", dpi=110)
    save_figure(plot_recovery(labels, truth), out / "recovery.png", dpi=110)
