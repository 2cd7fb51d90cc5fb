"""The commands of results of science: a sample of hot stars, a radial gradient."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from specxr.cli.options import Cube, Overwrite

# What each criterion of `specxr.galaxy` reads.
_CRITERIA = {
    "not_cool": ("lasp_teff",),
    "luminous": ("ks", "distance"),
    "oba_colours": ("phot_g_mean_mag", "j", "h", "ks"),
    "no_giant": ("phot_g_mean_mag", "ks"),
    "enough_signal": ("snr_r",),
    "hot": ("teff",),
}
_COLUMNS = ("distance", "phot_g_mean_mag", "j", "h", "ks", "lasp_teff")

Catalogue = Annotated[
    Path | None,
    typer.Option(
        metavar="TABLE",
        help="Table (.csv, .parquet, .fits) with distances [kpc] and photometry, which is joined with the stars.",
        show_default=False,
    ),
]
On = Annotated[
    str | None,
    typer.Option(
        help="Column that identifies a star in both; without it stars are joined by position.",
        show_default=False,
    ),
]


def select(
    cube: Cube,
    out: Annotated[
        Path, typer.Option(metavar="STARS.{csv,parquet,fits}", help="Table of the stars that are chosen.")
    ],
    catalogue: Catalogue = None,
    on: On = None,
    name: Annotated[
        str | None, typer.Option(help="Run whose labels are used as well.", show_default=False)
    ] = None,
    require: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CRITERION",
            help=f"One of {', '.join(_CRITERIA)}; repeatable. All that can be decided, by default.",
        ),
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Choose hot stars by the criteria of Sun et al. (2025), and write their table.

    The table has a column obsid, so that `specxr infer CUBE --obsid STARS.csv` fits the stars that were chosen.
    """
    import pandas as pd

    from specxr import galaxy
    from specxr.cubes.locations import readable
    from specxr.cubes.store import open_cube, open_labels
    from specxr.cubes.tables import check_output, write_table
    from specxr.vocabulary import IDENTITY, SPECTRA, STAR

    unknown = [criterion for criterion in require or () if criterion not in _CRITERIA]
    if unknown:
        raise ValueError(
            f"the criteria {', '.join(unknown)} were given; some of {', '.join(_CRITERIA)} are required. "
            "Correct the name."
        )
    check_output(out, overwrite)
    with readable(cube):
        stars = open_cube(cube).drop_vars(SPECTRA, errors="ignore").drop_dims("wavelength").reset_coords()
        if name is not None:
            labels = open_labels(cube, name).reset_coords()
            known = [v for v in labels if labels[v].dims == (STAR,) and v not in stars]
            stars = stars.assign({v: labels[v] for v in known})
        stars = stars.load()
    if catalogue is not None:
        stars = _join(stars, catalogue, on)
    table = Table("criterion", "what it asks", "stars", box=box.SIMPLE)
    held = {}
    for criterion in require or _CRITERIA:
        missing = [v for v in _CRITERIA[criterion] if v not in stars.variables]
        if missing and not require:
            table.add_row(criterion, f"not decided: the stars have no {', '.join(missing)}", "-")
            continue
        held[criterion] = getattr(galaxy, criterion)(stars)
        table.add_row(criterion, held[criterion].attrs["long_name"], f"{int(held[criterion].sum()):,}")
    if not held:
        raise ValueError(
            "no criterion can be decided with the variables of the cube; photometry, distances or labels are required. "
            "Give --catalogue, or a run with --name."
        )
    Console().print(table)
    met = pd.DataFrame({criterion: values.values for criterion, values in held.items()})
    chosen = met.all(axis=1).to_numpy()
    columns = [v for v in (*IDENTITY, *_COLUMNS, "snr_r", "teff", "logg", "feh") if v in stars]
    write_table(pd.DataFrame({v: stars[v].values for v in columns})[chosen], out, overwrite=overwrite)
    typer.echo(f"{chosen.sum():,} of {stars.sizes[STAR]:,} stars meet all {len(held)} criteria, in {out}")


def gradient(
    labels: Annotated[
        str,
        typer.Argument(metavar="LABELS", help="Labels: a table (.csv, .parquet, .fits), or CUBE.zarr::RUN."),
    ],
    label: Annotated[str, typer.Option(help="Abundance: feh, or as mg_h, the sum of mg_fe and feh.")] = "feh",
    catalogue: Catalogue = None,
    on: On = None,
    height: Annotated[float, typer.Option(help="Largest distance from the plane of the Galaxy [kpc].")] = 0.4,
    between: Annotated[tuple[float, float], typer.Option(help="Abundances that are taken [dex].")] = (
        -1.4,
        0.65,
    ),
    least: Annotated[int, typer.Option(help="Stars of a bin.")] = 50,
    sun: Annotated[float, typer.Option(help="Distance of the Sun from the centre [kpc].")] = 8.122,
    figure: Annotated[
        Path | None, typer.Option(help="Path of a figure (.png, .pdf, .svg).", show_default=False)
    ] = None,
    overwrite: Overwrite = False,
) -> None:
    """Fit the radial gradient of an abundance: a straight and a broken line, and bins.

    The table has distance [kpc] beside ra and dec, or r_gc and z; or --catalogue has the distances.
    """
    import xarray as xr

    from specxr import galaxy
    from specxr.content import check_writable
    from specxr.cubes.tables import read_table
    from specxr.vocabulary import STAR

    if figure is not None:
        check_writable(figure, overwrite)
    table = read_table(labels).rename(columns=str.lower)
    if "result" in table:
        table = table[table["result"] == "converged"]
    values, errors, open_ends = _abundance(table, label)
    stars = xr.Dataset.from_dataframe(table.reset_index(drop=True)).rename(index=STAR).reset_coords(drop=True)
    if catalogue is not None:
        stars = _join(stars, catalogue, on)
    if not {"r_gc", "z"} <= set(stars):
        stars = stars.merge(galaxy.galactic_positions(stars, galaxy.SunPlace(sun)))
    radius_err = stars["r_gc_err"].values if "r_gc_err" in stars else 0.0 * stars["r_gc"].values
    near = galaxy.near_plane(stars, height).values
    low, high = between
    used = near & ~open_ends & (values > low) & (values < high)
    typer.echo(
        f"{used.sum():,} of {len(values):,} converged stars: {(~near).sum():,} are farther than {height:g} kpc from "
        f"the plane or have no distance, {open_ends.sum():,} have a limit or no {label}"
    )
    columns = [c[used] for c in (stars["r_gc"].values, values, errors, radius_err)]
    fits = {n: galaxy.fit_gradient(*columns, broken=n == "broken", pivot=sun) for n in ("straight", "broken")}
    bins = galaxy.bin_gradient(*columns[:3], least=least)
    Console().print(_bins_table(bins))
    if (bins["joined"] > 1).any():
        typer.echo(f"{(bins['joined'] > 1).sum()} bins were joined, so that each has {least} stars")
    for title, fit in fits.items():
        parts = (f"{n} {v:+.4f} +- {fit.errors[n]:.4f}" for n, v in fit.values.items())
        typer.echo(f"{title}: {', '.join(parts)}")
    preferred = min(fits, key=lambda n: fits[n].bic)
    apart = abs(fits["straight"].bic - fits["broken"].bic)
    typer.echo(
        f"BIC prefers the {preferred} line by {apart:.1f}{'' if apart > 6 else ', which decides little'}"
    )
    if figure is not None:
        from specxr.plotting import plot_radial_gradient, save_figure

        save_figure(plot_radial_gradient(columns[0], columns[1], fits, bins, label), figure)
        typer.echo(f"figure in {figure}")


def _join(stars: Any, catalogue: Path, on: str | None) -> Any:
    """Stars with the columns of the table that they do not have, and of which `specxr.galaxy` makes use."""
    from specxr.cubes.tables import read_table
    from specxr.galaxy import join_catalogue
    from specxr.galaxy.columns import COLUMNS

    table = read_table(catalogue)
    wanted = (*COLUMNS, "lasp_teff", "r_gc_err")
    columns = [c for c in table if c in wanted and c not in stars.variables and c != on]
    joined = join_catalogue(stars, table, columns, on=on)
    typer.echo(f"{int(joined['matched'].sum()):,} of {joined['matched'].size:,} stars are in {catalogue}")
    return joined.drop_vars(["matched", "separation"], errors="ignore")


def _abundance(table: Any, label: str) -> tuple[Any, Any, Any]:
    """Values, errors, and which stars have a limit or none."""
    import numpy as np

    parts = [f"{label.removesuffix('_h')}_fe", "feh"] if label.endswith("_h") else [label]
    missing = [c for part in parts for c in (part, f"{part}_err") if c not in table]
    if missing:
        raise ValueError(
            f"the labels have no {', '.join(missing)} (their columns: {', '.join(map(str, table.columns))}); an "
            "abundance with its error is required. Choose another with --label, or give the labels of another run."
        )
    value = np.sum([table[part].to_numpy("f8") for part in parts], axis=0)
    error = np.sqrt(np.sum([table[f"{part}_err"].to_numpy("f8") ** 2 for part in parts], axis=0))
    unknown = ~np.isfinite(value) | ~(error > 0)
    if "limits" in table:
        limits = table["limits"].fillna("").astype(str)
        for part in parts:
            unknown |= limits.str.contains(f"{part}[<>]").to_numpy()
    return value, error, unknown


def _bins_table(bins: Any) -> Table:
    table = Table("R_GC [kpc]", "stars", "mean [dex]", "error", "scatter", box=box.SIMPLE)
    for column in table.columns[1:]:
        column.justify = "right"
    for _, row in bins.iterrows():
        numbers = (f"{row['value']:+.4f}", f"{row['value_err']:.4f}", f"{row['scatter']:.3f}")
        table.add_row(f"{row['lower']:g} to {row['upper']:g}", f"{row['n']:,.0f}", *numbers)
    return table
