"""The commands that make a cube and show what is in it."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from specxr.cli.options import Cube, Overwrite, Workers
from specxr.cli.progress import progress_bar
from specxr.cli.runs import show_runs

_MEND = (
    "Restore spectra from a copy or with `specxr ingest --overwrite`; call `specxr infer` again for labels."
)


def ingest(
    survey: Annotated[str, typer.Argument(help="Name of the survey, such as lamost-lrs.")],
    files: Annotated[
        list[Path],
        typer.Argument(metavar="FILES_OR_FOLDERS...", help="Files of spectra, and folders of such files."),
    ],
    out: Annotated[str, typer.Option(metavar="CUBE.zarr", help="Path or s3://... of the new cube.")],
    overwrite: Overwrite = False,
    append: Annotated[bool, typer.Option("--append", help="Add the stars to a cube that exists.")] = False,
    replace_duplicates: Annotated[
        bool, typer.Option("--replace-duplicates", help="Keep the last of several files with the same obsid.")
    ] = False,
    skip_existing: Annotated[
        bool, typer.Option("--skip-existing", help="Leave out stars whose obsid is in the cube already.")
    ] = False,
    max_file_size: Annotated[
        float | None,
        typer.Option(metavar="MB", help="Size of the largest file that is read.", show_default=False),
    ] = None,
    workers: Workers = None,
    format: Annotated[
        str | None, typer.Option("--format", help="Format of files of the survey specutils, such as ASCII.")
    ] = None,
    medium: Annotated[
        str | None, typer.Option("--medium", help="vacuum or air: wavelengths of the survey specutils.")
    ] = None,
    log_step: Annotated[
        float | None,
        typer.Option("--log-step", help="Step in log10(Angstrom) of a grid for the survey specutils."),
    ] = None,
) -> None:
    """Read the spectra of a survey into a cube. Files that cannot be read are listed, and the others are read."""
    from specxr.cubes.ingestion import ingest as read_files
    from specxr.readers.registry import open_reader

    if append and overwrite:
        raise ValueError(
            "--append and --overwrite were both given; one of them at most is required. Leave one out."
        )
    if survey == "specutils":
        report = _read_specutils(files, out, format, medium, log_step, append, overwrite)
    elif format or medium or log_step:
        raise ValueError(
            f"--format, --medium or --log-step was given for the survey {survey!r}; they belong to the survey "
            "specutils. Leave them out, or ingest the files as specutils."
        )
    else:
        reader = open_reader(survey)
        if max_file_size is not None:
            reader = replace(reader, max_bytes=int(1e6 * max_file_size))  # type: ignore[type-var]
        with progress_bar("reading", "files") as (bar, task):
            report = read_files(
                survey if max_file_size is None else reader,
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
    for remark, n_files in Counter(remark for _, remark in report.remarks).items():
        example = next(path for path, known in report.remarks if known == remark)
        typer.echo(f"{n_files:,} files, such as {example}: {remark}", err=True)
    for old, new in report.replaced:
        typer.echo(f"{old}: replaced by {new}, which has the same obsid", err=True)
    skipped = f"{len(report.skipped):,} stars that were there already, " if report.skipped else ""
    typer.echo(
        f"{report.n_written:,} stars {'added to' if append else 'in'} {report.path}, {skipped}"
        f"{len(report.failures):,} files without a spectrum, {report.seconds:.1f} s"
    )


def _read_specutils(
    files: list[Path],
    out: str,
    format: str | None,
    medium: str | None,
    log_step: float | None,
    append: bool,
    overwrite: bool,
) -> Any:
    from specxr.cubes.specutils_bridge import ingest_specutils

    if format is None or medium is None or append:
        raise ValueError(
            f"the survey specutils was called with --format {format} and --medium {medium}"
            f"{' and --append' if append else ''}; a format, a medium and a new cube are required. For example "
            "--format ASCII --medium air."
        )
    return ingest_specutils(files, out, format=format, medium=medium, log_step=log_step, overwrite=overwrite)


def info(
    cube: Cube,
    check: Annotated[
        bool, typer.Option("--check", help="Read every chunk, and list what is lost or damaged.")
    ] = False,
) -> None:
    """Show what is in a cube: its size, its wavelengths, its runs, and how the fits of each run ended."""
    from specxr.cubes.locations import readable

    with readable(cube):
        if check:
            _check(cube)
        _show(cube)


def _show(cube: str) -> None:
    """Print what is in a cube."""
    from specxr.cubes.store import open_cube

    Console().print(_cube_table(cube, open_cube(cube)))
    typer.echo()
    show_runs(cube)


def _check(cube: str) -> None:
    """List lost and damaged chunks of the spectra and of all labels; with any, the command ends here."""
    from specxr.cubes.group import open_group
    from specxr.cubes.integrity import damaged_chunks
    from specxr.cubes.store import list_runs

    root, runs = open_group(cube), list_runs(cube)
    groups = [root, *(root.require_group(f"labels/{run}") for run in runs)]
    found = 0
    for group in groups:
        for damage in damaged_chunks(group):
            typer.echo(str(damage), err=True)
            found += 1
    for run in runs:
        for stars in _lost_stars(cube, run):
            typer.echo(f"labels '{run}' of the stars {stars} are lost or damaged", err=True)
            found += 1
    if found:
        raise ValueError(f"{found:,} chunks of {cube} are lost or damaged (above); none is required. {_MEND}")
    typer.echo("every chunk is there and has its checksum")


def _lost_stars(cube: str, name: str) -> list[str]:
    """Stars whose labels the ledger of a run that is not complete has, and the store has not."""
    from specxr.runs.run import Run

    run = Run.at(cube, name)
    if run.labels.attrs.get("complete") or run.read_header() is None:
        return []
    return [f"{block.star_start} to {block.star_stop - 1}" for block in run.damaged(run.read_ledger().done)]


def _cube_table(path: str, cube: Any) -> Table:
    from dask.utils import format_bytes

    from specxr.cubes.group import open_group
    from specxr.cubes.layout import describe_layout, layout_of, star_bytes
    from specxr.cubes.locations import size_of

    wavelength = cube["wavelength"]
    first, last = wavelength.values[[0, -1]]
    rows = {
        "cube": path,
        "survey": cube.attrs.get("survey", "not known"),
        "stars": f"{cube.sizes['star']:,}",
        "pixels": f"{wavelength.size:,}",
        "wavelength": f"{first:.1f}-{last:.1f} Angstrom, {wavelength.attrs['medium']}",
        "sampling": f"{wavelength.attrs['sampling']}, step {wavelength.attrs['step']:g}",
        "stored": describe_layout(layout_of(open_group(path)), star_bytes(cube)),
        "on disk": format_bytes(size_of(path)),
        "in memory": format_bytes(cube.nbytes),
    }
    table = Table(box=None, show_header=False)
    for name, value in rows.items():
        table.add_row(name, escape(str(value)))
    return table
