"""Print what the language model's reading costs, and how well tiny models of random weights answer beside kernel ridge.

    python tests/benchmarks/language.py [--shared ../shared] [--epochs 10]

Stars of LAMOST DR10, 70 % to learn from and 30 % to test, by star. All methods see the same numbers: flux over its
maximum in pixels of 20 Angstrom, 4000-5500 Angstrom.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from sklearn.kernel_ridge import KernelRidge

sys.path.insert(0, str(Path(__file__).parents[1]))

from support.language import write_base

import specxr
from specxr import LanguageModel
from specxr.cubes.ingestion import ingest
from specxr.estimators.base import Block
from specxr.estimators.language.observing import read_block
from specxr.estimators.language.reading import Reading
from specxr.spectra.training_set import TrainingSet
from specxr.training import training_set
from specxr.validation import robust_scatter
from specxr.vocabulary import LEFT_OUT

LABELS = ("teff", "logg", "feh")
WINDOW, STEP = (4000.0, 5500.0), 20.0
VARIANTS = {
    "digits": {},
    "digits, number-token loss 0.3": {"number_token_loss": 0.3},
    "regression head": {"answer": "regression"},
}


def spectra(shared: Path, folder: Path, every: int) -> xr.Dataset:
    """Real spectra with the official labels, one of each star."""
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").drop_duplicates(["ra", "dec"])
    table = table[table.snrg > 10].iloc[::every].set_index("obsid")
    files = [shared / "lamost_dr10/fits" / name for name in table.file]
    ingest("lamost-lrs", files, folder / "dr10.zarr")
    cube = specxr.open_cube(folder / "dr10.zarr").compute()
    known = table.loc[cube.obsid.values]
    columns = {name: ("star", known[name].to_numpy()) for name in (*LABELS, "type")}
    return cube.assign(columns).assign_attrs(normalisation="")


def cost_of_reading(cube: xr.Dataset) -> None:
    """How often one pixel sets the scale, and what rounding adds to the noise."""
    good = ((cube.mask & int(LEFT_OUT)) == 0).values & (cube.ivar.values > 0)
    inside = ((cube.wavelength >= 3800) & (cube.wavelength <= 8700)).values
    flux = np.where(good & inside, cube.flux.values, np.nan)
    high = np.nanmax(flux, axis=1) / np.nanquantile(flux, 0.99, axis=1)
    noise = (
        np.nanmax(flux, axis=1)[:, None]
        * 1e-3
        / np.sqrt(12)
        * np.sqrt(np.where(good, cube.ivar.values, np.nan))
    )
    share = np.nanquantile(noise[:, inside], [0.5, 0.95])
    print(f"{len(flux)} spectra, 3800-8700 Angstrom, flagged pixels left out")
    print(
        f"maximum more than 1.5 times the 99th percentile: {np.mean(high > 1.5):.1%}, at most {high.max():.1f} times"
    )
    print(
        f"rounding to three decimals over the noise of a pixel: median {share[0]:.3f}, 95th percentile {share[1]:.2f}"
    )


def row(name: str, found: np.ndarray, cube: xr.Dataset, seconds: tuple[float, float]) -> None:
    """Print robust scatters by type."""
    cells = []
    for kind in ("G", "F", "A"):
        stars = (cube.type == kind).values
        numbers = [
            robust_scatter(found[stars, i] - cube[label].values[stars]) for i, label in enumerate(LABELS)
        ]
        cells.append(
            f"{numbers[0]:.0f} / {numbers[1]:.2f} / {numbers[2]:.2f} ({stars.sum()})" if stars.any() else ""
        )
    print(
        f"| {name} | {seconds[0]:.0f} | {len(found) / max(seconds[1], 1e-3):.0f} | {' | '.join(cells)} |",
        flush=True,
    )


def kernel_ridge(learn: TrainingSet, test: Block) -> np.ndarray:
    """Kernel ridge on the numbers that are read."""

    def numbers(block: Block) -> np.ndarray:
        return read_block(block, learn.grid, Reading(WINDOW, STEP), int(LEFT_OUT), 10).values

    x = numbers(Block(learn.grid, learn.flux, learn.ivar, learn.mask))
    centre, scale = x.mean(axis=0), x.std()
    y, unit = learn.label_array.mean(axis=0), learn.label_array.std(axis=0)
    machine = KernelRidge(alpha=1e-3, kernel="rbf", gamma=0.3 / x.shape[1])
    machine.fit((x - centre) / scale, (learn.label_array - y) / unit)
    return machine.predict((numbers(test) - centre) / scale) * unit + y


def main(argv: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    epochs = 1 if options.small else options.epochs
    with tempfile.TemporaryDirectory() as folder:
        cube = spectra(shared, Path(folder), 40 if options.small else 1)
        cost_of_reading(cube)
        held = np.random.default_rng(0).permutation(cube.sizes["star"]) < 0.3 * cube.sizes["star"]
        learn, test = cube.isel(star=~held), cube.isel(star=held)
        training = training_set(learn, LABELS)
        block = Block(training.grid, test.flux.values, test.ivar.values, test.mask.values)
        print(
            f"\n{len(training)} stars to learn from, {epochs} epochs; scatter of Teff [K] / logg / [Fe/H] (stars)"
        )
        print("| method | training, CPU s | stars/s | G | F | A |\n| --- | ---: | ---: | --- | --- | --- |")
        start = time.process_time()
        found = kernel_ridge(training, block)
        row("kernel ridge", found, test, (time.process_time() - start, np.inf))
        base = write_base(Path(folder, "base"), width=96, layers=3)
        for name, variant in VARIANTS.items():
            untrained = LanguageModel(
                base=base, tokens="numbers", window=WINDOW, step=STEP, dropout=0.0, learning_rate=1e-3,
                minibatch=16, accumulation=1, checkpointing=False, epochs=epochs, validation=0.0, batch=32,
                draws=2 if options.small else 16, **variant,
            )  # fmt: skip
            times = [time.process_time()]
            fitted = untrained.fit(training)
            times.append(time.process_time())
            labels = fitted.estimate(block)
            times.append(time.process_time())
            found = np.stack([labels[label] for label in LABELS], axis=1)
            row(name, found, test, (times[1] - times[0], times[2] - times[1]))


if __name__ == "__main__":
    main()
