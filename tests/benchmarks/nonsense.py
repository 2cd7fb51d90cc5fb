"""Print which share of spectra that are no normal star comes out as recommended, and which share of good ones is lost.

    python tests/benchmarks/nonsense.py [--emulator FILE] [--shared ../shared]

LASP runs with both checks. The spectra are noise, curves, stars that were cut up, mixed or degraded, galaxies, quasars,
and templates of stars outside the emulator (`tests/support/nonsense.py`); at most 2 % of each should be recommended.
Good stars are those of DR10 with S/N_g of 20 and more for which nothing but the judgement of their spectra speaks
against the labels, and whose labels agree with the official ones within three errors; the thresholds were chosen on
the half of them with even places, and the other half is printed as well.
"""

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from astropy.io import fits

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import grid_of
from specxr.estimators.base import Block
from specxr.estimators.lasp.floors import floors
from specxr.vocabulary import DISTRUST, Flag, recommended

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.nonsense import galaxies, noise, quasars, spoilt, with_noise

ELODIE = "elodie/elodie32_flux_tgm_4199_5700.fits"
PIXELS = slice(468, 1968)  # of LAMOST's grid, about 4121 to 5821 Angstrom
LABELS = ("teff", "logg", "feh")
# What the fit itself says; all other flags judge the spectrum.
OF_THE_FIT = (
    Flag.EDGE_OF_GRID | Flag.NEGATIVE_SHAPE | Flag.FEW_PIXELS | Flag.CLEAN_DISAGREES | Flag.STAGES_DISAGREE
)


def survey(files: Sequence[Path]) -> tuple[xr.Dataset, Block]:
    """Spectra of a survey in the window of LASP."""
    with tempfile.TemporaryDirectory() as folder:
        ingest("lamost-lrs", files, Path(folder) / "cube.zarr")
        cube = specxr.open_cube(Path(folder) / "cube.zarr").isel(wavelength=PIXELS).load()
    return cube, Block(grid_of(cube), cube.flux.values, cube.ivar.values, cube.mask.values)


def rows(block: Block, chosen: np.ndarray) -> Block:
    return replace(block, **{name: getattr(block, name)[chosen] for name in ("flux", "ivar", "mask")})


def official(shared: Path, small: bool) -> tuple[Block, pd.DataFrame]:
    """Spectra of DR10 with their official labels."""
    files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))
    cube, block = survey(files[:: 40 if small else 1])
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[cube.obsid.values]
    return block, table.reset_index()


def templates(shared: Path, block: Block) -> Iterator[tuple[str, Block]]:
    """Composite spectra of stars that no emulator here reaches, with noise of S/N 10 to 100."""
    rng = np.random.default_rng(5)
    sources = []
    with fits.open(shared / "templates/spEigenStar-53724.fits") as file:
        header, flux = file[0].header, file[0].data
        names = [header[f"NAME{i}"].strip() for i in range(len(flux))]
        sources.append((names, header["COEFF0"] + 1e-4 * np.arange(flux.shape[1]), flux))
    hammer = np.load(shared / "mdwarfs/pyhammer_templates.npz")
    sources.append((list(hammer["name"]), hammer["loglam"], np.nan_to_num(hammer["flux"])))
    kinds = {
        "white dwarfs": lambda name: "WD" in name,
        "carbon stars": lambda name: name in ("Carbon", "Carbon_lines"),
        "L and T dwarfs": lambda name: name[0] in "LT",
        "M3 to M9 dwarfs": lambda name: name[0] == "M" and name[1] in "3456789",
    }
    for kind, chosen in kinds.items():
        spectra = [
            np.interp(np.log10(block.grid.wavelength), wavelength, row)
            for names, wavelength, flux in sources
            for name, row in zip(names, flux, strict=True)
            if chosen(name)
        ]
        repeated = np.repeat(np.array(spectra), 5, axis=0)
        yield kind, with_noise(block.grid, repeated, rng.uniform(10, 100, len(repeated)), rng)


def nonsense(shared: Path, block: Block, table: pd.DataFrame, n: int) -> Iterator[tuple[str, Block]]:
    """All sets by their names."""
    yield from noise(block.grid, n).items()
    bright = np.flatnonzero((table.snrg > 30).to_numpy())
    chosen = np.random.default_rng(3).permutation(bright)[: 2 * n]
    yield from spoilt(rows(block, chosen)).items()
    cool = rows(block, np.flatnonzero(((table.snrg > 40) & (table.type != "A")).to_numpy()))
    yield "galaxies with emission", galaxies(cool, n)
    yield "galaxies without emission", galaxies(cool, n, 1, emission=False)
    yield "quasars", quasars(block.grid, n)
    yield from templates(shared, block)
    cube, plate = survey(sorted((shared / "lamost_dr7_plate/fits").glob("*.fits.gz")))
    yield "galaxies and unknowns of a plate", rows(plate, np.flatnonzero(cube.object_class.values != "STAR"))


def good_stars(out: dict[str, np.ndarray], table: pd.DataFrame) -> np.ndarray:
    """Stars that a user would not want to lose."""
    mine = np.stack([out[name] for name in LABELS], axis=1)
    error = np.stack([out[f"{name}_err"] for name in LABELS], axis=1)
    floor = floors(LABELS, torch.from_numpy(np.nan_to_num(out["teff"]))).numpy()
    away = np.abs(mine - table[list(LABELS)].to_numpy()) / np.sqrt(error**2 + 2 * floor**2)
    fitted = (out["result"] == 0) & ((out["flags"] & int(OF_THE_FIT)) == 0)
    return fitted & (away < 3).all(axis=1) & (table.snrg >= 20).to_numpy()


def by_signal(out: dict[str, np.ndarray], table: pd.DataFrame) -> None:
    """Print the share of recommended stars, and how far they and the others are from the official labels."""
    good = recommended(out["result"], out["flags"])
    away = {name: np.abs(out[name] - table[name].to_numpy()) for name in LABELS}
    print("\ntype, S/N_g, number, recommended; median |ours - official| of these and of the others")
    for kind in "GFA":
        for low, high in ((20, 40), (40, 80), (80, 150), (150, 300)):
            inside = ((table.type == kind) & table.snrg.between(low, high)).to_numpy()
            fitted = inside & np.isfinite(out["teff"])
            shown = "  ".join(
                f"{name} {np.median(away[name][fitted & good]):.3g} / {np.median(away[name][fitted & ~good]):.3g}"
                for name in LABELS
                if (fitted & good).any() and (fitted & ~good).any()
            )
            if inside.any():
                print(f"  {kind} {low:3d}-{high:3d} {inside.sum():4d} {good[inside].mean():6.1%}  {shown}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")))
    parser.add_argument("--emulator", help="file of an emulator, or default; that of ELODIE")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    torch.set_num_threads(1)
    block, table = official(shared, options.small)
    lasp = specxr.LASP(options.emulator or shared / ELODIE, clean=True, two_stage=True)
    out = lasp.estimate(block)
    good, lost = good_stars(out, table), ~recommended(out["result"], out["flags"])
    even = np.arange(len(table)) % 2 == 0
    print("good stars: number, lost, by half and type")
    for name, part in (("even places", even), ("odd places", ~even), *((k, table.type == k) for k in "GFA")):
        chosen = good & np.asarray(part)
        print(f"  {name:12s} {chosen.sum():5d} {lost[chosen].mean():6.1%}  {reasons(out, chosen)}")
    by_signal(out, table)
    print("\nset, number, recommended, and the flags of those that converged")
    for name, spectra in nonsense(shared, block, table, 4 if options.small else 100):
        out = lasp.estimate(spectra)
        share = recommended(out["result"], out["flags"]).mean()
        print(
            f"  {name:34s} {len(spectra.flux):4d} {share:6.1%}  {reasons(out, out['result'] == 0)}",
            flush=True,
        )


def reasons(out: dict[str, np.ndarray], stars: np.ndarray) -> str:
    """How many of these stars have each flag that speaks against them."""
    counts = {flag: int(((out["flags"][stars] & int(flag)) > 0).sum()) for flag in Flag if flag & DISTRUST}
    return ", ".join(f"{flag.name.lower()} {count}" for flag, count in counts.items() if count)


if __name__ == "__main__":
    main()
