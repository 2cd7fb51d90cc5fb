"""The command that draws stars."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from specxr.cli.labels import check_figure
from specxr.cli.options import Cube, ObsidFile, Overwrite, Where, chosen

_MOST = 200  # figures of one call


def plot(
    cube: Cube,
    obsid: Annotated[list[int] | None, typer.Argument(metavar="OBSID...", help="Stars to draw.")] = None,
    run: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Run whose models are drawn; the only one, or lasp, if not given."),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            metavar="FILE|FOLDER", help="A figure (.png, .pdf, .svg), or a folder for star-OBSID.png."
        ),
    ] = Path("."),
    where: Where = None,
    listed: ObsidFile = None,
    window: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Range of wavelength to draw [Angstrom].", show_default=False),
    ] = None,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Emulator or model file of the run, if it was moved.", show_default=False
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Draw stars: the spectrum, the model of a run, masks by kind, labels with errors, flags in words."""
    from specxr.cubes.locations import readable
    from specxr.cubes.store import list_runs, open_cube
    from specxr.plotting import plot_star, save_figure

    with readable(cube):
        spectra, runs = open_cube(cube), list_runs(cube)
        mask = chosen(spectra, where, listed)
        stars = [*(obsid or ()), *(() if mask is None else spectra["obsid"].values[mask].tolist())]
        files = _files(stars, out, overwrite)
        name = run or only_run(runs)
        for star, file in zip(stars, files, strict=True):
            figure = plot_star(cube, name, star, estimator=model, wavelength=window)
            save_figure(figure, file)
            typer.echo(f"figure in {file}")


def only_run(runs: list[str]) -> str | None:
    """The run that is meant where none is named."""
    if len(runs) > 1 and "lasp" not in runs:
        raise ValueError(
            f"the cube has the runs {', '.join(runs)}; one of them is required. Choose it with --run."
        )
    return None if not runs else runs[0] if len(runs) == 1 else "lasp"


def _files(stars: list[int], out: Path, overwrite: bool) -> list[Path]:
    """The file of each star."""
    if not 1 <= len(stars) <= _MOST:
        raise ValueError(
            f"{len(stars):,} stars were chosen; between 1 and {_MOST} are required. Name stars by their obsid, or "
            "choose them with --where or --obsid FILE."
        )
    if out.suffix and not out.is_dir():
        if len(stars) > 1:
            raise ValueError(
                f"{out} is one figure for {len(stars)} stars; a folder is required. Give --out FOLDER."
            )
        files = [out]
    else:
        out.mkdir(parents=True, exist_ok=True)
        files = [out / f"star-{star}.png" for star in stars]
    for file in files:
        check_figure(file, overwrite)
    return files
