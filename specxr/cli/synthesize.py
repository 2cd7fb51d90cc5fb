"""The command that makes a training set from a source of spectra and a design of labels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from specxr.cli.options import Overwrite


def synthesize(
    out: Annotated[str, typer.Option(metavar="CUBE.zarr", help="Path or s3://... of the new cube.")],
    stars: Annotated[int, typer.Option(min=1, help="Number of stars.")] = 2000,
    label: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=LOW:HIGH",
            help="Range of a label, evenly filled; by default the whole range of the source. vsini=5:400 makes the "
            "stars rotate. Repeatable.",
            show_default=False,
        ),
    ] = None,
    emulator: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="The polynomial emulator that gives the spectra.")
    ] = "default",
    like: Annotated[
        str | None,
        typer.Option(
            metavar="CUBE.zarr",
            help="A cube whose pixels and line spread the spectra get; those of LAMOST if not given.",
            show_default=False,
        ),
    ] = None,
    power: Annotated[
        float | None,
        typer.Option(help="Resolving power; that of the cube, or 1800, if not given.", show_default=False),
    ] = None,
    snr: Annotated[float, typer.Option(help="Signal-to-noise ratio per pixel.")] = 1000.0,
    normalise: Annotated[
        bool, typer.Option("--normalise/--raw", help="Divide by the pseudo-continuum of the hot-star paper.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the labels and of the noise.")] = 0,
    overwrite: Overwrite = False,
) -> None:
    """Make a training set: spectra with known labels, as a survey would see them, from an emulator."""
    from dataclasses import replace

    import specxr
    from specxr.emulators import open_emulator
    from specxr.published import hot_star_normalisation
    from specxr.synthesis import EmulatorSpectra, Instrument, make_training_set
    from specxr.synthesis.designs import draw

    source = open_emulator(emulator)
    grid = _pixels(like, source.edges[[0, -1]], source.medium)
    if power is not None or grid.line_spread is None:
        grid = replace(grid, line_spread=specxr.LineSpread.constant(power or 1800.0))
    labels = draw(_ranges(label, dict(source.bounds)), stars, seed)
    recipe = hot_star_normalisation(grid.medium) if normalise else None
    cube = make_training_set(labels, EmulatorSpectra(source), Instrument(grid), recipe, snr=snr, seed=seed)
    specxr.write_cube(cube, out, overwrite=overwrite)
    typer.echo(f"{stars:,} stars with {', '.join(labels)}, {grid.wavelength.size:,} pixels, in {out}")
    typer.echo(f"next: specxr train {out} --out payne.safetensors")


def _pixels(like: str | None, ends: Any, medium: str) -> Any:
    """Pixels of the survey that the emulator covers, with room for the broadening of the lines."""
    import numpy as np

    from specxr.cubes.schema import grid_of
    from specxr.cubes.store import open_cube
    from specxr.kernels.refraction import convert_medium
    from specxr.readers.lamost_lrs import GRID

    grid = GRID if like is None else grid_of(open_cube(like))
    first, last = convert_medium(np.asarray(ends, "f8"), medium, grid.medium)
    inside = np.flatnonzero((grid.wavelength > 1.005 * first) & (grid.wavelength < last / 1.005))
    if inside.size < 2:
        raise ValueError(
            f"the emulator reaches from {first:.0f} to {last:.0f} Angstrom, the pixels from {grid.wavelength[0]:.0f} "
            f"to {grid.wavelength[-1]:.0f}; common wavelengths are required. Choose another emulator or cube."
        )
    return grid[inside[0] : inside[-1] + 1]


def _ranges(given: list[str] | None, bounds: dict[str, tuple[float, float]]) -> dict[str, Any]:
    """Distributions of the labels: ranges of the emulator, and those that were given in their place."""
    from specxr.synthesis.designs import Uniform

    ranges = dict(bounds)
    for item in given or ():
        name, _, text = item.partition("=")
        try:
            low, high = (float(part) for part in text.split(":"))
        except ValueError:
            low, high = 1.0, 0.0
        if name not in {*bounds, "vsini"} or not low < high:
            raise ValueError(
                f"--label was given as {item!r}; NAME=LOW:HIGH with a label of the emulator ({', '.join(bounds)}) or "
                "vsini is required. For example --label teff=8000:12000."
            )
        lowest, highest = bounds.get(name, (0.0, high))
        if low < lowest or high > highest:
            raise ValueError(
                f"--label {item} reaches beyond the emulator, which is good for {lowest:g} to {highest:g}; a range "
                "inside is required. Make it narrower."
            )
        ranges[name] = (low, high)
    return {name: Uniform(low, high) for name, (low, high) in ranges.items()}
