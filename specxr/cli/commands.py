"""The commands that work on a cube."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specxr.cli.progress import progress_bar

Cube = Annotated[
    str, typer.Argument(metavar="CUBE.zarr", help="A cube that `specxr ingest` made, a path or s3://...")
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Run = Annotated[str, typer.Option("--name", help="Name of the run.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="As many as there are cores, if not given.", show_default=False)
]

QUARANTINE = 3  # exit code of a run that ended with blocks in quarantine


def ingest(
    survey: Annotated[str, typer.Argument(help="Whose spectra they are, such as lamost-lrs.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILES_OR_FOLDERS...", help="Searched through if folders.")
    ],
    out: Annotated[str, typer.Option(metavar="CUBE.zarr", help="Where the cube goes, a path or s3://...")],
    overwrite: Overwrite = False,
    append: Annotated[bool, typer.Option("--append", help="Add the stars to the cube.")] = False,
    replace_duplicates: Annotated[
        bool, typer.Option("--replace-duplicates", help="Of files with one obsid keep the last.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out files whose obsid is in the cube.")
    ] = False,
    workers: Workers = None,
) -> None:
    """Read spectra of a survey into a cube. Unreadable files are listed, and do not stop the others."""
    from specxr.cubes.ingestion import ingest as read_files

    if append and overwrite:
        raise ValueError(
            "--append and --overwrite were both given; one of them at most is required. Leave one out."
        )
    with progress_bar("reading", "files") as (bar, task):
        report = read_files(
            survey,
            files,
            out,
            mode="append" if append else "overwrite" if overwrite else "create",
            duplicates="keep_last" if replace_duplicates else "refuse",
            existing="skip" if skip_existing else "refuse",
            workers=workers,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )
    for path, reason in report.failures:
        typer.echo(f"{path}: {reason}", err=True)
    for old, new in report.replaced:
        typer.echo(f"{old}: replaced by {new}, which has the same obsid", err=True)
    skipped = f"{len(report.skipped):,} stars that were there already, " if report.skipped else ""
    typer.echo(
        f"{report.n_written:,} stars {'added to' if append else 'in'} {report.path}, {skipped}"
        f"{len(report.failures):,} files without a spectrum, {report.seconds:.1f} s"
    )


def info(cube: Cube) -> None:
    """Show what is in a cube: its size, its grid, its runs, and how the fits of each ended."""
    from specxr.cubes.layout import describe_layout, layout_of, star_bytes
    from specxr.cubes.locations import size_of
    from specxr.cubes.store import list_runs, open_cube, open_group, open_labels
    from specxr.vocabulary import Result

    spectra = open_cube(cube)
    runs = list_runs(cube)
    wavelength = spectra["wavelength"]
    console = Console()
    grid = Table(box=None, show_header=False)
    rows = {
        "cube": str(cube),
        "survey": spectra.attrs.get("survey", "not said"),
        "stars": f"{spectra.sizes['star']:,}",
        "pixels": f"{wavelength.size:,}",
        "wavelength": f"{wavelength.values[0]:.1f}-{wavelength.values[-1]:.1f} Angstrom, {wavelength.attrs['medium']}",
        "sampling": f"{wavelength.attrs['sampling']}, step {wavelength.attrs['step']:g}",
        "stored": describe_layout(layout_of(open_group(cube)), star_bytes(spectra)),
        "on disk": f"{size_of(cube) / 1e6:,.1f} MB",
        "in memory": f"{spectra.nbytes / 1e6:,.1f} MB",
    }
    for name, value in rows.items():
        grid.add_row(name, value)
    console.print(grid)
    if not runs:
        console.print("no labels yet: `specxr infer` makes them")
        return
    labels = {run: open_labels(cube, run) for run in runs}
    counts = {run: _result_counts(labels[run]["result"].values) for run in runs}
    seen = [result for result in Result if any(counts[run][result] for run in runs)]
    table = Table("run", "estimator", *(result.name.lower() for result in seen), box=box.SIMPLE)
    for run in runs:
        estimator = str(labels[run].attrs.get("estimator", ""))
        ending = "" if labels[run].attrs.get("complete", True) else " (not complete)"
        table.add_row(run + ending, estimator, *(f"{counts[run][result]:,}" for result in seen))
    console.print(table)


def report(
    cube: Cube,
    out: Annotated[
        Path, typer.Option(metavar="REPORT.html", help="The page; it needs no other file.")
    ] = Path("report.html"),
    name: Run = "lasp",
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Where the emulator or the model file of the run is now, if it was moved.",
            show_default=False,
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Write a web page about a run: pace, results, labels, residuals, versions, slow and failed blocks."""
    from specxr.runs.report import report as write_report

    write_report(cube, name, out, estimator=model, overwrite=overwrite)
    typer.echo(f"report in {out}")


def export(
    cube: Cube,
    out: Annotated[
        Path, typer.Option(metavar="LABELS.{csv,parquet,fits}", help="The suffix chooses the format.")
    ],
    name: Run = "lasp",
    overwrite: Overwrite = False,
) -> None:
    """Write the labels of a run as a table, one row a star."""
    from specxr.cubes.store import open_labels
    from specxr.cubes.tables import check_output, label_table, write_table

    check_output(out, overwrite)
    table = label_table(open_labels(cube, name))
    write_table(table, out, overwrite=overwrite)
    typer.echo(f"{len(table):,} stars in {out}")


def compare(
    a: Annotated[
        str, typer.Argument(metavar="A", help="A table (.csv, .parquet, .fits), or a run: CUBE.zarr::NAME.")
    ],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise.")],
    on: Annotated[str, typer.Option(help="Column that says which star a row is.")] = "obsid",
    figure: Annotated[
        Path | None, typer.Option(help="Draw the comparison to this file (.png, .pdf).")
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Compare two tables of labels, star by star: statistics of A minus B."""
    from specxr.cubes.tables import read_table
    from specxr.validation.comparison import compare as compare_tables

    if figure is not None:
        _check_figure(figure, overwrite)
    tables = read_table(a), read_table(b)
    statistics = compare_tables(*tables, on=on)
    Console().print(_statistics_table(statistics))
    if figure is not None:
        from specxr.plotting import plot_comparison, save_figure

        save_figure(plot_comparison(*tables, on=on, names=("A", "B")), figure)
        typer.echo(f"figure in {figure}")


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


def _check_figure(path: Path, overwrite: bool) -> None:
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(
            f"'{path}' ends in '{path.suffix}'; a figure ends in .png, .pdf or .svg. Choose one of these."
        )
    if not path.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder '{path.parent}' for {path.name}. Make it, or choose another."
        )
    if path.exists() and not overwrite:
        raise FileExistsError(
            f"'{path}' is there already. Choose another name, or replace it with --overwrite."
        )


def _result_counts(codes: Any) -> dict[Any, int]:
    from specxr.vocabulary import Result

    return {result: int((codes == result).sum()) for result in Result}
