"""Print which share of labels lies within their errors: 68 % is right. And the floors that errors lack.

    python tests/benchmarks/error_coverage.py [--shared ../shared]

It uses repeat visits of LAMOST DR8, simulated spectra of S/N 10 to 200 whose labels are known, and the official labels
of LAMOST DR10 at S/N_g > 20 for the floors of hot stars; LASP, Clean. Of a pair of visits the difference is compared
with both errors in quadrature. The floors are those of `specxr/estimators/lasp/floors.py`.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import specxr
from specxr.calibration.floors import measure_floor, pairs
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import grid_of
from specxr.estimators.base import Block
from specxr.estimators.lasp.floors import floors
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import SPEED_OF_LIGHT

LABELS = ("rv", "teff", "logg", "feh")
COLD = ((4000, 5500), (5500, 6200), (6200, 7000))
HOT = ((7000, 7800), (7800, 8800), (8800, 10000), (10000, 14000))


def shown(difference: np.ndarray, variance: np.ndarray, floor: np.ndarray) -> str:
    """Share within the errors without and with floors, of shape (star, label)."""
    size = np.abs(difference)
    cells = []
    for i, name in enumerate(LABELS):
        without = (size[:, i] <= np.sqrt(variance[:, i])).mean()
        with_floor = (size[:, i] <= np.sqrt(variance[:, i] + floor[:, i])).mean()
        cells.append(f"{name} {without:4.0%} / {with_floor:4.0%}")
    return "  ".join(cells)


def columns(labels: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, errors and floors, shape (star, label)."""
    value = np.stack([labels[name] for name in LABELS], axis=1)
    error = np.stack([labels[f"{name}_err"] for name in LABELS], axis=1)
    return value, error, floors(LABELS, torch.from_numpy(np.nan_to_num(labels["teff"]))).numpy()


def fitted(lasp: specxr.LASP, files: Sequence[Path]) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Identifiers and labels of the stars of LAMOST files."""
    with tempfile.TemporaryDirectory() as folder:
        ingest("lamost-lrs", files, Path(folder) / "cube.zarr")
        cube = specxr.open_cube(Path(folder) / "cube.zarr").load()
    block = Block(grid_of(cube), cube.flux.values, cube.ivar.values, cube.mask.values)
    return cube.obsid.values, lasp.estimate(block)


def repeats(lasp: specxr.LASP, shared: Path, small: bool) -> None:
    groups = pd.read_csv(shared / "lamost_dr8_repeats/groups.csv").drop_duplicates("combined_obsid")
    groups = groups.set_index("combined_obsid")
    files = sorted((shared / "lamost_dr8_repeats/fits").glob("*.fits*"))
    obsid, labels = fitted(lasp, files[: 24 if small else None])
    known = np.isin(obsid, groups.index) & (labels["result"] == 0)
    group = groups.GroupID.reindex(obsid[known]).to_numpy()
    value, error, floor = (column[known] for column in columns(labels))
    first, second = pairs(group)
    mean = 0.5 * (value[first, 1] + value[second, 1])
    print(
        "\nRepeat visits: pairs, share within the errors without / with floors, and the floors measured here"
    )
    for low, high in (*COLD, (4000, 7000)):
        inside = (mean >= low) & (mean < high)
        a, b = first[inside], second[inside]
        if not len(a):
            continue
        parts = value[a] - value[b], error[a] ** 2 + error[b] ** 2, floor[a] ** 2 + floor[b] ** 2
        visits, pair = np.concatenate((a, b)), np.tile(np.arange(len(a)), 2)
        lacking = [measure_floor(value[visits, i], error[visits, i], pair) for i in range(len(LABELS))]
        print(
            f"  {low:5d}-{high:5d} K {len(a):4d}  {shown(*parts)}   floors "
            + " ".join(f"{x:.3g}" for x in lacking)
        )


def official(lasp: specxr.LASP, shared: Path, small: bool) -> None:
    files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))
    obsid, labels = fitted(lasp, files[:: 40 if small else 1])
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[obsid]
    value, error, _ = columns(labels)
    print("\nOfficial labels of hot stars: number, floors of Teff, log g, [Fe/H] that a difference lacks")
    for low, high in HOT:
        inside = (
            (labels["result"] == 0)
            & (table.snrg.to_numpy() > 20)
            & (value[:, 1] >= low)
            & (value[:, 1] < high)
        )
        if inside.sum() < 2:
            continue
        lacking = []
        for i, name in enumerate(LABELS[1:], start=1):
            away = value[inside, i] - table[name].to_numpy()[inside]
            both = np.concatenate((away - np.median(away), np.zeros(inside.sum())))
            pair = np.tile(np.arange(inside.sum()), 2)
            lacking.append(measure_floor(both, np.tile(error[inside, i], 2), pair))
        print(f"  {low:5d}-{high:5d} K {inside.sum():4d}  " + " ".join(f"{x:.3g}" for x in lacking))


def simulated(lasp: specxr.LASP, n: int) -> None:
    """Spectra of the emulator itself, with a smooth shape and white noise."""
    rng = np.random.default_rng(1)
    grid = Grid(
        10.0 ** (np.arange(36200, 37600) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0)
    )
    prepared = lasp.prepare(grid)
    print("\nSimulated: S/N, number, share within the errors without / with floors")
    for teff in ((4600, 5500), (5500, 7000), (7000, 9000)):
        p = np.column_stack(
            (
                rng.uniform(-2, 2, n),
                rng.uniform(0.95, 1.2, n),
                np.log(rng.uniform(*teff, n)),
                rng.uniform(3.6, 4.6, n),
                rng.uniform(-0.8, 0.3, n),
            )
        )
        template = prepared.model.template(torch.from_numpy(p)).numpy()[:, : prepared.n_pixel]
        flux = np.ones((n, len(grid.wavelength)))
        truth = np.column_stack(
            (SPEED_OF_LIGHT * np.expm1(prepared.ln_step * p[:, 0]), np.exp(p[:, 2]), p[:, 3], p[:, 4])
        )
        for snr in (10, 20, 50, 100, 200):
            slope = 1 + rng.uniform(-0.3, 0.3, (n, 1)) * np.linspace(-1, 1, prepared.n_pixel)
            noisy = template * slope
            level = np.median(noisy, axis=1, keepdims=True)
            flux[:, prepared.pixels] = noisy + level / snr * rng.normal(size=noisy.shape)
            mask = np.zeros(flux.shape, "u2")
            ivar = np.repeat((snr / level) ** 2, flux.shape[1], axis=1)
            labels = lasp.estimate(Block(grid, flux.astype("f4"), ivar.astype("f4"), mask))
            ok = labels["result"] == 0
            value, error, floor = (column[ok] for column in columns(labels))
            parts = shown(value - truth[ok], error**2, floor**2)
            print(f"  {teff[0]:5d}-{teff[1]:5d} K S/N {snr:3d} {ok.sum():4d}  {parts}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")))
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    torch.set_num_threads(1)
    lasp = specxr.LASP(shared / "elodie/elodie32_flux_tgm_4199_5700.fits", clean=True)
    simulated(lasp, 4 if options.small else 100)
    repeats(lasp, shared, options.small)
    official(lasp, shared, options.small)


if __name__ == "__main__":
    main()
