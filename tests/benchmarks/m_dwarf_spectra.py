"""Print the labels that SLAM, trained on templates of M dwarfs, gives real ones, and why their [Fe/H] is too high.

    python tests/benchmarks/m_dwarf_spectra.py [--out m_dwarf_stars]

SLAM learns teff and [Fe/H] from spectra between PyHammer's composites (S/N 100, 5600-7350 A) and is applied to real M
dwarfs: those of MILES, whose labels Mann et al. (2015) or Marfil et al. (2021, in the table of CARMENES) have measured,
and those of SDSS, Bochanski et al. (2007) and LAMOST, whose types are known. The experiments are: composites that are
injected; each composite without itself in the training; the lines of MILES as sharp as they are; other windows and
pseudo-continua; and indices of TiO and CaH, for which no model is needed. A figure shows model and data.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr
from matplotlib.figure import Figure

import specxr
from specxr.kernels.refraction import air_to_vacuum
from specxr.plotting import save_figure
from specxr.plotting.style import DATA, VERMILION, tidy
from specxr.readers.registry import open_reader, read_files
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis import DwarfTemplates
from specxr.synthesis.dwarf_templates import TEFF_OF_TYPE
from specxr.synthesis.m_dwarf_survey import main_sequence_logg
from specxr.transforms import select

DATA_FOLDER = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
CATALOGUES = DATA_FOLDER / "catalogues" / "mdwarfs"
COMPOSITES = DATA_FOLDER / "mdwarfs" / "pyhammer_templates.npz"
GIANTS = DATA_FOLDER / "stelib" / "stelib_v3.2_all.npz"
WINDOW, SCALE = (5600.0, 7350.0), 300.0
# M dwarfs of MILES in the catalogue of Gliese. The spectrum of HD147379B has the bands of the primary, an M0 dwarf.
GLIESE = {
    "HD036395": "205", "HD079211": "338B", "HD088230": "380", "HD095735": "411", "BD+442051A": "412A",
    "HD118100": "517", "HD131976": "570B", "HD157881": "673", "HD173740": "725B", "HD200779": "818",
    "G156-031": "866", "G171-010": "905",
}  # fmt: skip


def known_labels() -> dict[str, tuple[float, float]]:
    """Teff and [Fe/H] by the number of Gliese: those of Mann et al., else those of the table of CARMENES."""
    carmenes = pd.read_csv(CATALOGUES / "carmenes_ix_full_table.csv.gz", low_memory=False)
    mann = pd.read_csv(CATALOGUES / "mann15.stars.csv.gz")
    found = {}
    for table, number, names in (
        (carmenes, carmenes["GJ"], ["Teff_K", "Fe_H"]),
        (mann, mann["CNS3"].str.replace("Gl|GJ", "", regex=True), ["Teff", "[Fe/H]"]),
    ):
        rows = zip(
            number.astype(str).str.replace(" ", ""), *(table[n].astype(float) for n in names), strict=True
        )
        found |= {gj: (teff, feh) for gj, teff, feh in rows if np.isfinite(feh)}
    return found


def train(templates: DwarfTemplates, n: int, window=WINDOW, scale=SCALE) -> specxr.SLAM:
    rng = np.random.default_rng(0)
    # [Fe/H] beyond +0.5 is extrapolated: a label that is too high must not hide at the end of the range.
    teff, feh = rng.uniform(2700, 4400, n), rng.uniform(-1.0, 1.0, n)
    logg = main_sequence_logg(teff)
    flux = templates.flux(teff, feh, logg, logg)
    noise = np.median(flux, axis=1, keepdims=True) / 100.0
    cube = specxr.make_cube(
        flux + noise * rng.normal(size=flux.shape), np.broadcast_to(noise**-2, flux.shape), templates.grid,
        stars={"teff": teff, "feh": feh},
    )  # fmt: skip
    cube = specxr.normalise(select(cube, wavelength=window), Normalisation(scale))
    return specxr.train(cube, specxr.SLAM(loss="squared", c=(10.0, 100.0), gamma=(0.03, 0.1)))


def infer(slam: specxr.SLAM, cube: xr.Dataset, window=WINDOW, spectra: bool = False) -> xr.Dataset:
    return specxr.infer(select(cube, wavelength=window), slam, spectra=spectra).load()


def cube_of(flux: np.ndarray, grid: Grid) -> xr.Dataset:
    """Spectra without errors, which are given S/N 100."""
    good = np.isfinite(flux) & (flux > 0)
    level = np.array([np.median(row[ok]) for row, ok in zip(flux, good, strict=True)])[:, None]
    return specxr.make_cube(np.where(good, flux, 0.0), np.where(good, (100.0 / level) ** 2, 0.0), grid)


def miles(grid: Grid, sharp: bool = False) -> tuple[xr.Dataset, list[str]]:
    """M dwarfs of MILES on the pixels, and with the lines, of the composites."""
    with np.load(DATA_FOLDER / "miles" / "miles_v9.1.npz") as file:
        chosen = [int(np.flatnonzero(file["name"] == name)[0]) for name in GLIESE if name in file["name"]]
        names = [str(file["name"][i]) for i in chosen]
        wave, flux = file["wave_air"].astype("f8"), file["flux"][chosen].astype("f8")
    lines = grid.line_spread if sharp else LineSpread.tabulated(wave[[0, -1]], wave[[0, -1]] / 2.5)
    own = Grid(wave, "air", "linear", 0.9, lines)
    # Blueward, the lines of MILES are broader than those of the composites.
    target = Grid(grid.wavelength[grid.wavelength > 5300.0], "vacuum", "log10", 1e-4, grid.line_spread)
    return specxr.resample(cube_of(flux, own), target), names


def others(grid: Grid) -> tuple[xr.Dataset, list[str], list[float]]:
    """Composites of SDSS by Bochanski et al., and stars of SDSS and LAMOST, with the temperatures of their types."""
    flux, names, teff = [], [], []
    with np.load(DATA_FOLDER / "mdwarfs" / "m_dwarf_subdwarf_standards.npz") as file:
        for name, values in zip(file["name"], file["flux"].astype("f8"), strict=True):
            if name.endswith("bochanski2007") and f"{name[0]}{name[1]}" in TEFF_OF_TYPE:
                good = np.isfinite(values) & (values > 0)
                flux.append(np.interp(grid.wavelength, file["wave"][good], values[good], 0.0, 0.0))
                names.append(str(name))
    for survey, folder in (("boss", "mdwarfs/sdss"), ("lamost-lrs", "lamost_mdwarfs")):
        for block in read_files(survey, sorted((DATA_FOLDER / folder).glob("spec-*"))):
            for i, source in enumerate(block.sources):
                kind = str(block.stars["subclass"][i])[:2]
                if kind in TEFF_OF_TYPE:
                    bad = (block.ivar[i] == 0) | (block.flux[i] <= 0)
                    own = open_reader(survey).grid.wavelength
                    values = np.interp(grid.wavelength, own, block.flux[i].astype("f8"), 0.0, 0.0)
                    values[np.interp(grid.wavelength, own, bad.astype("f8")) > 0.01] = np.nan
                    flux.append(values)
                    names.append(f"{kind} {source.name.split('.')[0]}")
    teff = [TEFF_OF_TYPE[name[:2]] for name in names]
    return cube_of(np.array(flux), grid), names, teff


def without_itself(small: bool) -> None:
    """Each composite inferred by a model that has learnt it, and by one that has not."""
    with np.load(COMPOSITES) as file:
        arrays = dict(file)
    kinds = [str(name).split("_") for name in arrays["name"]]
    used = [
        i for i, kind in enumerate(kinds)
        if kind[0] in TEFF_OF_TYPE and kind[0][0] == "M" and kind[-1] == "Dwarf" and abs(float(kind[1])) < 0.6
    ]  # fmt: skip
    used = used[:1] if small else used
    rows = []
    for i in used:
        keep = np.arange(len(kinds)) != i
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "composites.npz"
            np.savez(path, **{n: v if n == "loglam" else v[keep] for n, v in arrays.items()})
            templates = DwarfTemplates.read(path, GIANTS)
        grid = templates.grid
        out = infer(train(templates, 250), cube_of(arrays["flux"][i][None].astype("f8"), grid))
        rows.append((kinds[i][0], float(kinds[i][1]), float(out["teff"][0]), float(out["feh"][0])))
    table = pd.DataFrame(rows, columns=["type", "named", "teff", "feh"])
    away = table["feh"] - table["named"]
    early = table["type"].isin(["M0", "M1", "M2"])
    for name, part in (("M0 to M2", early), ("M3 to M7", ~early)):
        if part.any():
            rms = float(np.sqrt((away[part] ** 2).mean()))
            print(
                f"composites {name} without themselves: {part.sum()}, mean {away[part].mean():+.2f}, rms {rms:.2f}"
            )


def indices(flux: np.ndarray, wavelength: np.ndarray) -> tuple[float, float, float, float]:
    """CaH2, CaH3 and TiO5, and zeta (Lepine et al. 2013), which is lower for metal-poor stars."""

    def mean(low: float, high: float) -> float:
        low, high = air_to_vacuum(np.array([low, high]))
        return float(np.nanmean(flux[(wavelength > low) & (wavelength < high)]))

    level = mean(7042, 7046)
    cah2, cah3, tio5 = mean(6814, 6846) / level, mean(6960, 6990) / level, mean(7126, 7135) / level
    x = cah2 + cah3
    return cah2, cah3, tio5, (1 - tio5) / (1 - (0.622 - 1.906 * x + 2.211 * x**2 - 0.588 * x**3))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("m_dwarf_stars"))
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    if not COMPOSITES.is_file():
        raise SystemExit(f"{COMPOSITES} is absent; templates and spectra are required. Set SPECXR_SHARED.")
    torch.set_num_threads(1)
    n = 150 if options.small else 600
    templates = DwarfTemplates.read(COMPOSITES, GIANTS)
    grid = Grid(templates.grid.wavelength, "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))
    slam = train(templates, n)

    teff, feh = (v.ravel() for v in np.meshgrid([2900.0, 3300.0, 3700.0, 4100.0], [-0.5, 0.0, 0.5]))
    logg = main_sequence_logg(teff)
    out = infer(slam, cube_of(templates.flux(teff, feh, logg, logg), grid))
    print(
        f"injected: largest error {abs(out['teff'] - teff).max():.0f} K, {abs(out['feh'] - feh).max():.2f} dex"
    )
    without_itself(options.small)

    cube, names = miles(grid)
    known = known_labels()
    truth = np.array([known.get(GLIESE[name], (np.nan, np.nan)) for name in names])
    found = infer(slam, cube)
    print("\nstar of MILES     teff (known)   [Fe/H] (known)   rv     CaH2  CaH3  TiO5  zeta")
    for i, name in enumerate(names):
        row = indices(cube["flux"].values[i], cube["wavelength"].values)
        print(
            f"{name:12s} {float(found['teff'][i]):10.0f} ({truth[i, 0]:4.0f}) {float(found['feh'][i]):+9.2f} "
            f"({truth[i, 1]:+.2f}) {float(found['rv'][i]):8.1f}   "
            + "  ".join(f"{value:.2f}" for value in row)
        )
    print_differences(found, truth, "as above")
    if not options.small:
        print_differences(infer(slam, miles(grid, sharp=True)[0]), truth, "lines as sharp as they are")
        for window, scale in ((WINDOW, 100.0), (WINDOW, 800.0), ((5600, 6500), 300.0), ((6450, 7350), 300.0)):
            again = infer(train(templates, n, window, scale), cube, window)
            print_differences(again, truth, f"{window[0]:.0f}-{window[1]:.0f} A, spline {scale:.0f} A")

    print("\ncomposite          CaH2  CaH3  TiO5  zeta")
    with np.load(COMPOSITES) as file:
        for name, flux in zip(file["name"], file["flux"].astype("f8"), strict=True):
            if name[:2] in ("M2", "M5") and name.endswith("Dwarf"):
                row = indices(flux, 10.0 ** file["loglam"])
                print(f"{name:16s}  " + "  ".join(f"{value:.2f}" for value in row))

    cube, names, teff = others(grid)
    found = infer(slam, cube, spectra=True)
    print("\nother stars                            teff (type)   [Fe/H]    rv [km/s]  result")
    for i, name in enumerate(names):
        result = specxr.vocabulary.Result(int(found["result"][i])).name.lower()
        print(
            f"{name:36s} {float(found['teff'][i]):6.0f} ({teff[i]:4.0f}) {float(found['feh'][i]):+9.2f} "
            f"{float(found['rv'][i]):10.1f}  {result}"
        )
    if not options.small:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(select(cube, wavelength=WINDOW), found, names, options.out / "real_spectra.png")


def print_differences(found: xr.Dataset, truth: np.ndarray, what: str) -> None:
    """Inferred minus known, for all stars and after the mean of those with even places is taken away."""
    teff, feh = found["teff"].values - truth[:, 0], found["feh"].values - truth[:, 1]
    inside = np.isfinite(feh) & (found["feh"].values < 0.98)
    even = inside & (np.arange(len(feh)) % 2 == 0)
    left = feh[inside & ~even] - feh[even].mean()
    print(
        f"{what:32s} {inside.sum()} stars: [Fe/H] {np.median(feh[inside]):+.2f} +- {feh[inside].std(ddof=1):.2f}; odd "
        f"stars less the mean of even ones {left.mean():+.2f}, rms {np.sqrt((left**2).mean()):.2f}; teff "
        f"{np.median(teff[inside]):+.0f} +- {teff[inside].std(ddof=1):.0f} K"
    )


def draw(cube: xr.Dataset, found: xr.Dataset, names: list[str], path: Path) -> None:
    figure = Figure(figsize=(9.0, 12.0), layout="constrained")
    for ax, i in zip(figure.subplots(8, 1, sharex=True), range(len(names) - 8, len(names)), strict=True):
        flux, model, used = cube["flux"].values[i], found["model"].values[i], cube["ivar"].values[i] > 0
        scale = np.median(flux[used])
        ax.plot(cube["wavelength"], np.where(used, flux, np.nan) / scale, color=DATA, lw=0.6)
        ax.plot(cube["wavelength"], model / scale, color=VERMILION, lw=0.9)
        labels = f"{float(found['teff'][i]):.0f} K, [Fe/H] {float(found['feh'][i]):+.2f} on the scale of the templates"
        ax.set_title(f"{names[i]}: {labels}", fontsize="small", loc="left")
        ax.set_ylim(0.0, 1.1 * np.nanpercentile(np.where(used, flux, np.nan) / scale, 99.5))
        tidy(ax)
    ax.set_xlabel("vacuum wavelength [Angstrom]")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
