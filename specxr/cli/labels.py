"""The commands that work with the labels of a run: a report, a table, a comparison."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specxr.cli.options import Cube, ObsidFile, Overwrite, RunName, Where, chosen


class Columns(StrEnum):
    """Columns of an exported table."""

    OWN = "own"
    SDSS = "sdss"


def report(
    cube: Cube,
    out: Annotated[
        Path, typer.Option(metavar="REPORT.html", help="Path of the page, which needs no other file.")
    ] = Path("report.html"),
    name: RunName = "lasp",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Path of the emulator or of the model file of the run, if it was moved.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a web page about a run: speed, results, labels, residuals, slow and failed blocks, versions."""
    from specxr.cubes.locations import readable
    from specxr.runs.report import report as write_report

    with readable(cube):
        write_report(cube, name, out, estimator=model, overwrite=overwrite)
    typer.echo(f"report in {out}")


def export(
    cube: Cube,
    out: Annotated[
        Path,
        typer.Option(
            metavar="TABLE",
            help="Path of the table: .fits, .parquet, .ecsv or .csv, or .hats, a folder that lsdb opens.",
        ),
    ],
    name: RunName = "lasp",
    with_: Annotated[
        str | None,
        typer.Option(
            "--with",
            metavar="A,B,...",
            help="Variables of the stars in the cube that become columns as well, such as snr_g,subclass.",
            show_default=False,
        ),
    ] = None,
    converged: Annotated[bool, typer.Option("--converged", help="Only stars whose fit converged.")] = False,
    where: Where = None,
    obsid: ObsidFile = None,
    columns: Annotated[
        Columns, typer.Option(help="Columns: specxr's own, or those of SDSS-V's table of M dwarfs.")
    ] = Columns.OWN,
    overwrite: Overwrite = False,
) -> None:
    """Write the labels of a run as a table with one row for each star, with units, descriptions and provenance.

    The condition of --where may name labels, columns of the table, and variables of the cube.
    """
    from specxr.cubes.locations import readable
    from specxr.cubes.store import open_cube, open_labels
    from specxr.cubes.tables import check_output, label_table, write_table

    if out.suffix.lower() == ".hats":
        if columns is not Columns.OWN:
            raise ValueError(
                "--columns was given for a HATS catalogue, which has specxr's own. Leave it out."
            )
        with readable(cube):
            _export_hats(cube, out, name, with_, _Choice(converged, where, obsid), overwrite)
        return
    check_output(out, overwrite)
    with readable(cube):
        labels, spectra = open_labels(cube, name), open_cube(cube)
        table = label_table(labels, _beside(spectra, with_))
        stars = chosen(spectra, where, obsid, {**_of_stars(spectra), **table})
    rows = table if stars is None else table[stars]
    rows = rows[rows["result"] == "converged"] if converged and "result" in rows else rows
    if columns is Columns.SDSS:
        from specxr.galaxy.catalogue import slam_table

        rows = slam_table(rows)
    write_table(rows, out, overwrite=overwrite)
    typer.echo(f"{len(rows):,} stars in {out}" + (f" of {len(table):,}" if len(rows) < len(table) else ""))
    if labels.attrs.get("complete", True) is False:
        waiting = int((table["result"] == "not_fitted").sum()) if "result" in table else 0
        typer.echo(
            f"the run '{name}' is not complete: {waiting:,} stars have no labels yet. `specxr infer` continues it.",
            err=True,
        )


class _Choice(NamedTuple):
    """Options that choose stars."""

    converged: bool
    where: str | None
    obsid: Path | None


def _export_hats(
    cube: str, out: Path, name: str, with_: str | None, choice: _Choice, overwrite: bool
) -> None:
    """Write a run as a HATS catalogue, block by block."""
    import numpy as np

    from specxr.cubes.hats import write_hats
    from specxr.cubes.store import open_cube, open_labels
    from specxr.vocabulary import Result

    labels, spectra = open_labels(cube, name), open_cube(cube)
    beside = _beside(spectra, with_)
    stars = chosen(spectra, choice.where, choice.obsid, {**_of_stars(spectra), **_of_stars(labels)})
    if choice.converged:
        good = labels["result"].values == Result.CONVERGED
        stars = good if stars is None else stars & good
    if stars is not None:
        places = {"star": np.flatnonzero(stars)}
        labels, beside = labels.isel(places), None if beside is None else beside.isel(places)
    written = write_hats(labels, out, beside, overwrite=overwrite)
    lost = labels.sizes["star"] - written
    typer.echo(
        f"{written:,} stars in {out}" + (f", {lost:,} without a position are left out" if lost else "")
    )


def _of_stars(cube: Any) -> dict[Any, Any]:
    return {name: variable for name, variable in cube.variables.items() if variable.dims == ("star",)}


def _beside(cube: Any, names: str | None) -> Any:
    """Variables of the stars that were asked for."""
    if not names:
        return None
    known = [str(name) for name in _of_stars(cube)]
    missing = [name for name in names.split(",") if name.strip() not in known]
    if missing:
        raise ValueError(
            f"--with names {', '.join(missing)}; variables of the stars of the cube are required: {', '.join(known)}. "
            "Correct the names."
        )
    return cube[[name.strip() for name in names.split(",") if name.strip() not in ("obsid", "ra", "dec")]]


def compare(
    a: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A table (.csv, .parquet, .fits, .ecsv), or a run: CUBE.zarr::NAME."
        ),
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Another table or run.")],
    on: Annotated[str, typer.Option(help="Column that identifies the star of a row.")] = "obsid",
    radius: Annotated[
        str | None,
        typer.Option(
            metavar="ANGLE",
            help="Join stars by ra and dec within an angle, such as '3 arcsec'.",
            show_default=False,
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="A label, such as teff, in bins of which the differences are told.", show_default=False
        ),
    ] = None,
    edges: Annotated[
        str | None,
        typer.Option(metavar="E1,E2,...", help="Edges of these bins (of equal numbers).", show_default=False),
    ] = None,
    all_stars: Annotated[bool, typer.Option("--all", help="Also stars whose fit has not converged.")] = False,
    figure: Annotated[
        Path | None, typer.Option(help="Path of a figure of the comparison (.png, .pdf, .svg).")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare two tables of labels star by star, and print statistics of A minus B."""
    from specxr.cubes.tables import read_table
    from specxr.validation.comparison import compare_by, match, statistics

    if edges is not None and by is None:
        raise ValueError(
            "--edges was given without --by; the label that bins the stars is required. Add --by teff."
        )
    limits = None if edges is None else _numbers(edges)
    if figure is not None:
        check_figure(figure, overwrite)
    tables = read_table(a), read_table(b)
    how: dict[str, Any] = {"on": on, "radius": radius, "converged": not all_stars}
    joined = match(*tables, **how)
    names = _short(a), _short(b)
    for name, n in zip(names, joined.attrs["left_out"], strict=True):
        if n:
            typer.echo(f"{name}: {n:,} stars whose fit has not converged are left out (--all takes them)")
    Console().print(_statistics_table(statistics(joined)))
    if by is not None:
        for label, rows in compare_by(*tables, by, limits, **how).groupby("label", sort=False):
            _print_bins(str(label), by, rows)
    if figure is not None:
        from specxr.plotting import plot_comparison, save_figure

        drawn = plot_comparison(*tables, names=names, **how)
        save_figure(drawn, figure)
        typer.echo(f"figure in {figure}")


def _short(source: str) -> str:
    """Name of a table in figures and messages: that of its run, or of its file."""
    path, _, run = source.partition("::")
    return run or Path(path).stem


def _statistics_table(statistics: Any) -> Table:
    from specxr.vocabulary import LABELS

    table = Table("A - B", "N", "median", "mean", "std", "1.48 MAD", "beyond 5 sigma", box=box.SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for label, row in statistics.iterrows():
        digits = 4 if LABELS[label].units == "dex" else 2
        numbers = (f"{row[name]:.{digits}f}" for name in ("median", "mean", "std", "robust_scatter"))
        name = escape(f"{label} [{LABELS[label].units}]")
        table.add_row(name, f"{row['n']:,.0f}", *numbers, f"{row['n_outliers']:,.0f}")
    return table


def _print_bins(label: str, by: str, rows: Any) -> None:
    from specxr.vocabulary import LABELS

    name, columns = escape(f"{label} [{LABELS[label].units}]"), ("median", "mean", "std", "robust_scatter")
    table = Table(f"{name}, by {by}", "N", *columns[:-1], "1.48 MAD", "beyond 5 sigma", box=box.SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    digits = 4 if LABELS[label].units == "dex" else 2
    for _, row in rows.iloc[:-1].iterrows():
        numbers = (f"{row[column]:.{digits}f}" for column in columns)
        interval = f"{row['lower']:.6g} to {row['upper']:.6g}"
        table.add_row(interval, f"{row['n']:,.0f}", *numbers, f"{row['n_outliers']:,.0f}")
    Console().print(table)
    whole = rows.iloc[-1]
    Console().print(f"{name} changes along {by} by {whole['slope']:.3g} +- {whole['slope_err']:.2g} per unit")


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) for part in text.split(",")]
    except ValueError:
        raise ValueError(
            f"the edges are {text!r}; numbers with commas between them are required. For example 7000,9000,13000."
        ) from None


def check_figure(path: Path, overwrite: bool) -> None:
    """Raise, before anything is computed, where a figure cannot be written."""
    from specxr.content import check_writable

    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(
            f"'{path}' ends in '{path.suffix}'; a figure whose name ends in .png, .pdf or .svg is required. Choose one "
            "of these."
        )
    check_writable(path, overwrite)
