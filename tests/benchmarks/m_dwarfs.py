"""Print how relations of M dwarfs, and SLAM trained on templates of M dwarfs, agree with real stars.

    python tests/benchmarks/m_dwarfs.py [--out m_dwarf_stars]

Relations: masses, radii and temperatures of the stars of Mann et al. (2015) and Schweitzer et al. (2019), and the
calibration of ASPCAP's metallicities fitted to the stars of Birky et al. (2020). Spectra: SLAM learns teff and [Fe/H]
from 600 spectra between PyHammer's templates (S/N 100, 5600-7350 A) and is applied to real M stars: MILES, whose labels
are known, and SDSS and LAMOST, whose spectral types are. A figure shows model and data.
"""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from astropy.io import fits
from matplotlib.figure import Figure

import specxr
from specxr.calibration import FehCorrection
from specxr.galaxy import absolute_magnitude, mann_mass, mann_radius, mann_teff
from specxr.plotting import save_figure
from specxr.plotting.style import DATA, VERMILION, tidy
from specxr.published.m_dwarfs import ASPCAP_CORRECTION
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.normalisation import Normalisation
from specxr.synthesis import DwarfTemplates
from specxr.synthesis.dwarf_templates import TEFF_OF_TYPE
from specxr.synthesis.m_dwarf_survey import main_sequence_logg
from specxr.transforms import select
from specxr.validation import robust_scatter

DATA_FOLDER = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
CATALOGUES = DATA_FOLDER / "catalogues" / "mdwarfs"
WINDOW = (5600.0, 7350.0)
RECIPE = Normalisation(300.0)


def relations() -> None:
    mann = pd.read_csv(CATALOGUES / "mann15.stars.csv.gz")
    flux = mann["Fbol"] * 1e-8 / 5.670374e-5
    parsec = mann["R"] * 6.957e10 * np.sqrt(mann["Teff"].astype(float) ** 4 / flux) / 3.0856776e18
    m_ks = (mann["Ksmag"] - 5.0 * np.log10(parsec / 10.0)).to_numpy()
    teff = mann_teff(mann["BPmag"] - mann["RPmag"], mann["Jmag"] - mann["Hmag"]).value
    stars = pd.read_csv(CATALOGUES / "carmenes_ix_full_table.csv.gz", low_memory=False)
    both = pd.read_csv(CATALOGUES / "schweitzer19.csv.gz").merge(stars, on="Karmn", suffixes=("_s", ""))
    other = absolute_magnitude(both["Ks_mag"], both["eKs_mag"], both["parallax"], both["parallax_error"])[0]
    rows = {
        "radius, Mann 2015 [%]": 100 * (mann_radius(m_ks).value / mann["R"] - 1),
        "mass, Mann 2015, models [%]": 100 * (mann_mass(m_ks).value / mann["M0"] - 1),
        "mass, Schweitzer 2019, by M_Ks [%]": 100 * (mann_mass(other).value / both["MassMMKs"] - 1),
        "radius, Schweitzer 2019 [%]": 100 * (mann_radius(other).value / both["Rad"] - 1),
        "teff, Mann 2015 [K]": teff - mann["Teff"],
    }
    print("relation minus table                      n    median      std   1.48 MAD")
    for name, values in rows.items():
        known = values.dropna()
        print(
            f"{name:38s} {len(known):4d} {known.median():9.2f} {known.std():8.2f} {robust_scatter(known):10.2f}"
        )


def aspcap() -> None:
    table = pd.read_csv(CATALOGUES / "Table6_safe_sample.csv.gz").replace(-9999.0, np.nan)
    teff, feh, reference = (table[name].to_numpy() for name in ("TEFF_APOGEE", "M_H_APOGEE", "FE_H"))
    fitted, published = FehCorrection.fit(teff, feh, reference), FehCorrection.published()
    print(
        f"\nASPCAP, {fitted.n_star} stars of Birky et al. (2020), {fitted.teff[0]:.0f}-{fitted.teff[1]:.0f} K"
    )
    print("power of (x, y):  " + "  ".join(f"{power}" for power in ASPCAP_CORRECTION))
    for name, correction in (("fitted", fitted), ("published", published)):
        print(f"{name:16s}  " + "  ".join(f"{correction.coefficients[p]:+6.3f}" for p in ASPCAP_CORRECTION))
    known = np.isfinite(fitted(teff, feh)) & np.isfinite(reference)
    for name, value in (("none", 0.0), ("fitted", fitted(teff, feh)), ("published", published(teff, feh))):
        left = (reference - feh - value)[known]
        print(f"correction {name:10s} reference - ASPCAP: {np.median(left):+.3f} +- {np.std(left):.3f} dex")


def train(templates: DwarfTemplates, n: int) -> specxr.SLAM:
    rng = np.random.default_rng(0)
    teff, feh = rng.uniform(2750, 4400, n), rng.uniform(-1.0, 0.5, n)
    logg = main_sequence_logg(teff)
    flux = templates.flux(teff, feh, logg, logg)
    noise = np.median(flux, axis=1, keepdims=True) / 100.0
    cube = specxr.make_cube(
        flux + noise * rng.normal(size=flux.shape), np.broadcast_to(noise**-2, flux.shape), templates.grid,
        stars={"teff": teff, "feh": feh},
    )  # fmt: skip
    cube = specxr.normalise(select(cube, wavelength=WINDOW), RECIPE)
    slam = specxr.SLAM(loss="squared", c=(1.0, 10.0, 100.0, 1e3), gamma=(0.01, 0.03, 0.1, 0.3))
    return specxr.train(cube, slam)


def on_grid(
    grid: Grid, wavelength: np.ndarray, flux: np.ndarray, ivar: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pixels of one spectrum in log10 steps on the grid, 0 where it has none."""
    first = round(float(np.log10(wavelength[0] / grid.wavelength[0])) * 1e4)
    index = first + np.arange(len(wavelength))
    inside = (index >= 0) & (index < grid.wavelength.size)
    out = np.zeros((2, grid.wavelength.size))
    out[:, index[inside]] = flux[inside], ivar[inside]
    return out[0], out[1]


def sdss(grid: Grid, small: bool):
    """SDSS and LAMOST M stars on the grid, with names, types and velocities."""
    spectra, names = [], []
    for path in sorted((DATA_FOLDER / "mdwarfs" / "sdss").glob("spec-*.fits")):
        with fits.open(path) as file:
            kind = str(file[2].data["SUBCLASS"][0]).split()
            if not kind or not kind[0].startswith("M"):
                continue
            table = {name.lower(): file[1].data[name].astype("f8") for name in file[1].columns.names[:3]}
            spectra.append(on_grid(grid, 10 ** table["loglam"], table["flux"], table["ivar"]))
            names.append((path.stem, kind[0]))
    folder = DATA_FOLDER / "lamost_mdwarfs"
    for path in sorted(folder.glob("spec-*.fits.gz"))[: 1 if small else None]:
        with fits.open(path) as file:
            rows = file[0].data if file[0].data is not None else None
            if rows is None:
                table = file[1].data[0]
                wavelength, flux, ivar = (np.asarray(table[n], "f8") for n in ("WAVELENGTH", "FLUX", "IVAR"))
            else:
                flux, ivar, wavelength = (np.asarray(rows[i], "f8") for i in range(3))
            spectra.append(on_grid(grid, wavelength, flux, ivar))
            names.append((path.name.split(".")[0], file[0].header["SUBCLASS"].split()[0]))
    return spectra, names


def miles(grid: Grid):
    """M dwarfs of MILES on the grid, brought to vacuum, with their labels."""
    with np.load(DATA_FOLDER / "miles" / "miles_v9.1.npz") as file:
        labels = file["teff_logg_feh"]
        chosen = np.flatnonzero((labels[:, 0] < 4400) & (labels[:, 1] > 4))
        own = specxr.kernels.refraction.air_to_vacuum(file["wave_air"].astype("f8"))
        here = (grid.wavelength > own[0]) & (grid.wavelength < own[-1])
        spectra = []
        for flux in file["flux"][chosen].astype("f8"):
            values = np.where(here, np.interp(grid.wavelength, own, flux), 0.0)
            spectra.append((values, np.where(here, (100.0 / np.median(flux)) ** 2, 0.0)))
        return spectra, list(zip(file["name"][chosen], file["sptype"][chosen], strict=True)), labels[chosen]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("m_dwarf_stars"))
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    if not CATALOGUES.is_dir():
        raise SystemExit(
            f"{CATALOGUES} is absent; published tables and spectra are required. Set SPECXR_SHARED."
        )
    torch.set_num_threads(1)
    relations()
    aspcap()
    templates = DwarfTemplates.read(
        DATA_FOLDER / "mdwarfs" / "pyhammer_templates.npz", DATA_FOLDER / "stelib" / "stelib_v3.2_all.npz"
    )
    slam = train(templates, 120 if options.small else 600)
    grid = Grid(templates.grid.wavelength, "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))
    stars, names = sdss(grid, options.small)
    known_spectra, known_names, labels = miles(grid)
    flux, ivar = (np.array(part) for part in zip(*known_spectra, *stars, strict=True))
    cube = select(specxr.make_cube(flux, ivar, grid), wavelength=WINDOW)
    found = specxr.infer(cube, slam, spectra=True).load()
    print("\nstar                    type      teff (known)  [Fe/H] (known)    rv [km/s]  result")
    for i, (name, kind) in enumerate([*known_names, *names]):
        truth = labels[i] if i < len(labels) else (TEFF_OF_TYPE.get(kind[:2], np.nan), np.nan, np.nan)
        result = specxr.vocabulary.Result(int(found["result"][i])).name.lower()
        print(
            f"{name:22s} {kind:8s} {float(found['teff'][i]):6.0f} ({truth[0]:5.0f}) {float(found['feh'][i]):+8.2f} "
            f"({truth[2]:+5.2f}) {float(found['rv'][i]):10.1f}  {result}"
        )
    if not options.small:
        options.out.mkdir(parents=True, exist_ok=True)
        draw(cube, found, [*known_names, *names], options.out / "real_spectra.png")


def draw(cube, found, names, path: Path) -> None:
    figure = Figure(figsize=(9.0, 12.0), layout="constrained")
    for ax, i in zip(figure.subplots(8, 1, sharex=True), range(len(names) - 8, len(names)), strict=True):
        flux, model, used = cube["flux"].values[i], found["model"].values[i], cube["ivar"].values[i] > 0
        scale = np.median(flux[used])
        ax.plot(cube["wavelength"], np.where(used, flux, np.nan) / scale, color=DATA, lw=0.6)
        ax.plot(cube["wavelength"], model / scale, color=VERMILION, lw=0.9)
        text = f"{names[i][0]}, {names[i][1]}: {float(found['teff'][i]):.0f} K, [Fe/H] {float(found['feh'][i]):+.2f}"
        ax.set_title(text, fontsize="small", loc="left")
        ax.set_ylim(0.0, 1.1 * np.nanpercentile(np.where(used, flux, np.nan) / scale, 99.5))
        tidy(ax)
    ax.set_xlabel("vacuum wavelength [Angstrom]")
    save_figure(figure, path)


if __name__ == "__main__":
    main()
