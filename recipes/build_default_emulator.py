"""Make the embedded emulator from stars of the MILES library, and measure it on stars that were left out.

    python recipes/build_default_emulator.py
    python recipes/build_default_emulator.py --check

The recipe reads the MILES library, the ELODIE emulator and the LAMOST DR10 spectra with their official labels in the
folder that the environment variable SPECXR_SHARED names, unless options say otherwise. The library is version 9.1
(http://miles.iac.es) as an .npz file with the arrays name, sptype, teff_logg_feh (star, 3), wave_air [Angstrom] and
flux (star, wavelength). With ``--check`` it makes
nothing: it measures the embedded emulator on LAMOST DR10, and ``--out`` has no effect. Expected time: five minutes on
one core; ``--small`` takes some seconds. docs/design/emulators.md gives the reasons for each step.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table
from specxr.emulators import PolynomialEmulator, default, write_safetensors

sys.path.insert(0, str(Path(__file__).parent))
from default_emulator.fit import Form, Regime, cubic  # noqa: E402
from default_emulator.library import LABELS, WINDOW, Library, fit_labels, read_library  # noqa: E402
from default_emulator.making import make  # noqa: E402

SHARED = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
DATA = Path(specxr.__file__).parent / "data"

REGIMES = (
    Regime((2900.0, 4900.0), (3.58, 2.5, -0.2), (0.08, 2.0, 1.0), ridge=1e-4),
    Regime((4000.0, 9000.0), (3.76, 3.5, -0.3), (0.15, 1.5, 1.0), ridge=1e-5),
    Regime((6500.0, 30000.0), (4.0, 3.8, 0.0), (0.2, 0.8, 0.7), ridge=1e-4),
)
KNOTS = ((4000.0, 4550.0), (7000.0, 9000.0))
BOUNDS = {"teff": (3100.0, 30000.0), "logg": (-0.25, 5.5), "feh": (-2.5, 0.8)}

# Monomials (a, b, c) of (log10 teff, logg, feh) that are added to the full cubic.
STEEPER = ((4, 0, 0), (5, 0, 0))
TERMS = {
    "cubic": (),
    "+ t^4, t^5": STEEPER,
    "+ t^3 f, t^2 f^2": (*STEEPER, (3, 0, 1), (2, 0, 2)),
    "+ t^3 g, t^2 g^2, t^6": (*STEEPER, (3, 0, 1), (2, 0, 2), (3, 1, 0), (2, 2, 0), (6, 0, 0)),
}
FOLDS = 6
JUDGED = (3000, 4000, 4500, 5000, 6000, 7000, 8000)  # K; bins of the stars that decide about the terms
BINS = (*JUDGED, 9500, 12000, 40000)
TOLERANCE = 1.05  # the fewest terms are taken whose scatter is at most the least one times this

SCALE = (
    "LASP with ELODIE 3.2, the scale of LAMOST's official labels, at 3,900-9,500 K, where MILES' stars were fitted "
    "with it; MILES' own labels elsewhere"
)
LICENCE = "BSD-3-Clause, with the citations in default_emulator.LICENSE"
CITATION = (
    "Sanchez-Blazquez et al. 2006, MNRAS 371, 703; Falcon-Barroso et al. 2011, A&A 532, A95; "
    "Cenarro et al. 2007, MNRAS 374, 664; Wu et al. 2011, A&A 525, A71"
)
# Groups of LAMOST's stars: spectral type, and range of the official Teff [K].
TYPES = {
    "G": ("G", 0.0, np.inf),
    "F": ("F", 0.0, np.inf),
    "A 7,500-9,500 K": ("A", 7500.0, 9500.0),
    "A > 9,500 K": ("A", 9500.0, np.inf),
}


def main(argv: Sequence[str] | None = None) -> None:
    options = _options(argv)
    torch.set_num_threads(1)
    if options.check:
        print(official(default(), options.dr10, options.small))
        return
    library = read_library(options.miles, options.elodie, every=5 if options.small else 1)
    census(library)
    form, found = choose_terms(
        library, {"cubic": ()} if options.small else TERMS, 2 if options.small else FOLDS
    )
    errors = held_out(library, form, found)
    made = make(library, form, np.arange(len(library.labels)))
    made = replace(
        made,
        citation=CITATION,
        licence=LICENCE,
        label_scale=f"{SCALE}; {made.label_scale} of MILES v9.1",
        accuracy=official(made, options.dr10, options.small),
        errors=errors,
    )
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / "default_emulator.safetensors"
    write_safetensors(made, path)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, fingerprint {made.fingerprint[:16]}")
    if not options.small:
        difference = np.abs(made.coefficients - default().coefficients).max()
        print(f"largest difference of a coefficient from the embedded emulator: {difference:.1e}")


def census(library: Library) -> None:
    """Print how many stars there are in regions of which the library has few."""
    teff, logg, feh = library.labels[library.weight > 0].T
    dwarf = logg > 3.8
    regions = {
        "below 3,500 K": teff < 3500,
        "dwarfs below 4,000 K": dwarf & (teff < 4000),
        "6,500-8,000 K": (teff > 6500) & (teff < 8000),
        "above 9,500 K": teff > 9500,
        "above 20,000 K": teff > 20000,
        "dwarfs of [Fe/H] < -1.5": dwarf & (feh < -1.5),
        "dwarfs of [Fe/H] > 0.3": dwarf & (feh > 0.3),
        "[Fe/H] < -1 above 10,000 K": (feh < -1.0) & (teff > 10000),
    }
    print("stars: " + ", ".join(f"{inside.sum()} {name}" for name, inside in regions.items()))


def choose_terms(
    library: Library, terms: dict[str, tuple[tuple[int, int, int], ...]], folds: int
) -> tuple[Form, NDArray[np.float64]]:
    """Choose the fewest terms with which labels of held-out stars scatter about as little as with the best terms.

    Returns
    -------
    form : Form
    found : ndarray, shape (star, 3)
        The labels of the held-out stars with these terms.
    """
    print("\nterms: held-out stars of 3,000-8,000 K, scatter of Teff [K], logg, [Fe/H]; their geometric mean")
    tried = []
    for name, extra in terms.items():
        form = Form(REGIMES, KNOTS, cubic(*extra), BOUNDS)
        found = predict_held_out(library, form, folds)
        rows = [
            scatter(found[inside] - library.labels[inside]) for inside in bins(library.labels[:, 0], JUDGED)
        ]
        score = float(np.exp(np.mean(np.log(rows))))
        tried.append((len(form.powers), score, form, found))
        shown = " ".join(f"{value:.3f}" for value in np.mean(rows, axis=0))
        print(f"  {name:24s} {len(form.powers):3d} monomials: {shown}   {score:.4f}", flush=True)
    least = min(score for _, score, _, _ in tried)
    good = [entry for entry in tried if entry[1] <= TOLERANCE * least]
    return min(good, key=lambda entry: entry[0])[2:]


def predict_held_out(library: Library, form: Form, folds: int) -> NDArray[np.float64]:
    """Labels of each star by LASP with an emulator made without it, shape (star, 3); NaN if not converged."""
    order = np.argsort(library.labels[:, 0], kind="stable")
    fold = np.empty(len(order), dtype=int)
    fold[order] = np.arange(len(order)) % folds
    found = np.full(library.labels.shape, np.nan)
    for left_out in range(folds):
        inside = np.flatnonzero(fold == left_out)
        lasp = specxr.LASP(make(library, form, np.flatnonzero(fold != left_out)), window=WINDOW)
        found[inside] = fit_labels(lasp, library.observed_of(inside))[list(LABELS)]
    return found


def held_out(library: Library, form: Form, found: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    """Print how well held-out stars are found, by temperature; return the scatter as rows of `errors`."""
    print(
        f"\n{len(form.powers)} monomials; held-out stars: inferred minus labels on the emulator's scale | inferred "
        "minus MILES' own labels with the zero point | ELODIE minus the same\n      Teff [K]       N  conv"
    )
    rows = []
    groups = [*itertools.pairwise(BINS), (3000, 5000), (3900, 5200)]
    for low, high in groups:
        inside = (library.labels[:, 0] >= low) & (library.labels[:, 0] < high)
        converged = inside & np.isfinite(found[:, 0])
        pairs = (
            (found, library.labels),
            (found, library.independent),
            (library.elodie, library.independent),
        )
        cells = "  |  ".join(spread((a - b)[converged]) for a, b in pairs)
        print(f"  {low:6d}-{high:6d} {inside.sum():5d} {converged.sum():5d}  {cells}")
        if (low, high) in groups[:-2]:
            error = scatter(found[converged] - library.labels[converged])
            rows.append((float(low), float(high), float(converged.sum()), *map(float, error.round(4))))
    return tuple(rows)


def official(made: PolynomialEmulator, folder: Path, small: bool) -> str:
    """Print the differences from the official labels of LAMOST DR10, and return them as one line."""
    if not folder.is_dir():
        print(f"\nthere are no spectra in {folder}: nothing is measured on LAMOST DR10")
        return ""
    files = sorted((folder / "fits").glob("*.fits.gz"))[:: 20 if small else 1]
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "dr10.zarr"
        ingest("lamost-lrs", files, path, workers=1)
        found = label_table(specxr.infer(specxr.open_cube(path), specxr.LASP(made))).set_index("obsid")
    table = pd.read_csv(folder / "labels.csv").set_index("obsid").loc[found.index]
    converged = (found["result"] == "converged").to_numpy()
    print("\nLAMOST DR10, No Clean, S/N_g > 50: inferred minus official, median and 1.48 MAD")
    said = []
    for name, (kind, low, high) in TYPES.items():
        inside = (table["type"] == kind) & (table["snrg"] > 50) & table["teff"].between(low, high, "left")
        rows = inside.to_numpy() & converged
        difference = (found[list(LABELS)] - table[list(LABELS)]).to_numpy()[rows]
        print(f"  {name:16s} {rows.sum():4d}  {spread(difference)}")
        said.append(f"{name} {spread(difference, terse=True)}")
    print(f"  converged: {converged.mean():.1%} of {len(converged)}")
    return (
        "labels minus LAMOST DR10's official ones at S/N_g > 50 (Teff [K], log g, [Fe/H]; median +- 1.48 MAD): "
        f"{'; '.join(said[:-1])}; {converged.mean():.1%} converge"
    )


def bins(teff: NDArray[np.float64], borders: tuple[int, ...]) -> list[NDArray[np.bool_]]:
    return [(teff >= low) & (teff < high) for low, high in itertools.pairwise(borders)]


def scatter(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """1.48 MAD of each column, without stars that have no value."""
    return 1.4826 * np.nanmedian(np.abs(difference - np.nanmedian(difference, axis=0)), axis=0)


def spread(difference: NDArray[np.float64], terse: bool = False) -> str:
    """Median and 1.48 MAD of the three labels."""
    cells = zip(np.nanmedian(difference, axis=0), scatter(difference), (0, 3, 3), strict=True)
    if terse:  # a zero has the sign +
        rounded = ((round(m, max(d - 1, 0)) + 0.0, s, max(d - 1, 0)) for m, s, d in cells)
        return ", ".join(f"{m:+.{d}f} +- {s:.{d}f}" for m, s, d in rounded)
    return "  ".join(f"{m:+8.{d}f} +- {s:6.{d}f}" for m, s, d in cells)


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "--miles",
        type=Path,
        default=SHARED / "miles" / "miles_v9.1.npz",
        help="the MILES library (%(default)s)",
    )
    add("--elodie", type=Path, default=SHARED / "elodie" / "elodie32_flux_tgm_4199_5700.fits",
        help="the ELODIE emulator (%(default)s)")  # fmt: skip
    add("--dr10", type=Path, default=SHARED / "lamost_dr10",
        help="folder with fits/ and labels.csv, on which the emulator is measured (%(default)s)")  # fmt: skip
    add("--out", type=Path, default=DATA, help="folder for the emulator (%(default)s)")
    add("--check", action="store_true", help="only measure the embedded emulator on LAMOST DR10")
    add("--small", action="store_true", help="a run with few stars that only shows that the recipe works")
    return parser.parse_args(argv)


if __name__ == "__main__":
    main()
