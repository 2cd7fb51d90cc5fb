"""Print how well and how fast regressors answer: real stars split by star, simulations, masks, spectra that are none.

    python tests/benchmarks/regressors.py dr10 [--splits 5] [--members 2] [--epochs 100] [--shared ../shared]
    python tests/benchmarks/regressors.py simulated [--stars 20000]
    python tests/benchmarks/regressors.py nonsense --model FILE
    python tests/benchmarks/regressors.py repeats --model FILE [--stars 10000]

Of the stars of LAMOST DR10 with S/N_g > 10, 70 % are learnt and 30 % are held out. Simulations are those of the
embedded emulator, 3,800 to 7,250 Angstrom, 4,000 to 12,000 K, [Fe/H] -2 to 0.4, at velocities up to 150 km/s and S/N of
10 to 100. Scatter is 1.48 MAD, times are processor seconds of one thread. Spectra that are none are those of
`tests/benchmarks/nonsense.py`, for a model that `dr10 --out FILE` has written.
"""

import argparse
import os
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import torch
import xarray as xr

import specxr
from specxr import Regressor
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import grid_of
from specxr.emulators import default
from specxr.estimators.base import Block
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.synthesis.broadened import BroadenedEmulator
from specxr.synthesis.designs import Uniform, draw
from specxr.synthesis.instrument import Instrument
from specxr.training import train
from specxr.validation.comparison import robust_scatter
from specxr.validation.protocol import evaluate, hold_out_stars, pooled, residual_statistics, same_star
from specxr.vocabulary import DISTRUST, Flag, MaskBit

LABELS = ("teff", "logg", "feh")
OF_THE_SPECTRUM = int(Flag.POOR_FIT | Flag.NO_LINES | Flag.LOW_COVERAGE)
JUDGED = OF_THE_SPECTRUM | int(Flag.LOW_SNR | Flag.FEW_PIXELS)


def block_of(cube: xr.Dataset) -> Block:
    return Block(grid_of(cube), cube.flux.values, cube.ivar.values, cube["mask"].values)


def dr10(shared: Path, step: int) -> tuple[xr.Dataset, pd.DataFrame]:
    """Spectra of DR10 with S/N_g > 10 and their official labels."""
    files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))[::step]
    with tempfile.TemporaryDirectory() as folder:
        ingest("lamost-lrs", files, Path(folder) / "cube.zarr")
        cube = specxr.open_cube(Path(folder) / "cube.zarr").load()
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[cube.obsid.values]
    cube = cube.assign({name: ("star", table[name].to_numpy()) for name in LABELS})
    bright = (table.snrg > 10).to_numpy()
    return cube.isel(star=bright), table[bright].reset_index()


def on_real_stars(options: argparse.Namespace) -> None:
    """Tables of DR10, and what becomes of the held-out stars of the last split with masks."""
    cube, table = dr10(options.shared, 8 if options.small else 1)
    star = same_star(table.ra, table.dec)
    kept: list[Regressor] = []

    def dense(learnt: xr.Dataset) -> Regressor:
        kept.append(train(learnt, Regressor(members=options.members, epochs=options.epochs), LABELS))
        return kept[-1]

    evaluations = []
    for split in range(options.splits):
        held = hold_out_stars(star, 0.3, split)
        evaluations.append(evaluate(cube, {"dense": dense}, held, LABELS, classes=table.type, snr=table.snrg))
        print(f"split {split}", flush=True)
        show(residual_statistics(evaluations[-1], LABELS, snr=(50, np.inf)))
    one = pooled(evaluations)
    print(one.times.to_string(index=False))
    for snr in ((50.0, np.inf), (10.0, np.inf), (10.0, 30.0), (30.0, 80.0), (80.0, np.inf)):
        print(f"S/N_g {snr[0]:g} to {snr[1]:g}, all splits")
        show(residual_statistics(one, LABELS, snr=snr))
    for name, out in one.predicted.items():
        flags = out["flags"].to_numpy()
        shares = {"of the spectrum": OF_THE_SPECTRUM, "any": int(DISTRUST)}
        print(name, {key: f"{((flags & bits) > 0).mean():.1%}" for key, bits in shares.items()})
    if options.out:
        kept[-1].save(options.out, overwrite=True)
    others = cube.isel(star=held)
    masked(kept[-1], block_of(others), table[held])


def show(statistics: pd.DataFrame) -> None:
    """One line for each method and class."""
    for (method, kind), rows in statistics.groupby(["method", "class"], sort=False):
        rows = rows.set_index("label")
        cells = [f"{rows['scatter'][n]:.3g} ({rows['sigma'][n]:.3g})" for n in LABELS]
        cover = [f"{rows['within_68'][n]:.2f}/{rows['within_95'][n]:.2f}" for n in LABELS]
        print(
            f"  {method:13s} {kind:4s} n={rows['n'].iloc[0]:5d}  {' / '.join(cells)}   {' '.join(cover)}",
            flush=True,
        )


def masked(regressor: Regressor, block: Block, table: pd.DataFrame) -> None:
    """Scatter with pixels taken away, over the scatter without, and flags of a gap of 1,000 Angstrom."""
    rng, wavelength = np.random.default_rng(0), block.grid.wavelength
    plain = regressor.estimate(block)
    good = (table.snrg > 30).to_numpy()
    scatter = {n: robust_scatter((plain[n] - table[n].to_numpy())[good]) for n in LABELS}
    for share, width in ((0.02, 20.0), (0.1, 50.0), (None, 1000.0)):
        mask = block.mask.copy()
        number = 1 if share is None else round(share * (wavelength[-1] - wavelength[0]) / width)
        for row in mask:
            for first in rng.uniform(4000, wavelength[-1] - width - 300, number):
                row[(wavelength >= first) & (wavelength < first + width)] |= int(MaskBit.BAD_ALWAYS)
        out = regressor.estimate(replace(block, mask=mask))
        ratio = [robust_scatter((out[n] - table[n].to_numpy())[good]) / scatter[n] for n in LABELS]
        flagged = ((out["flags"] & int(Flag.LOW_COVERAGE)) > 0).mean()
        print(
            f"masked {share} in {width:g} A: {np.round(ratio, 2)} of the scatter, low_coverage {flagged:.1%}"
        )


def simulated_cube(n: int, seed: int) -> xr.Dataset:
    """Spectra without noise, and the time that they take."""
    index = np.arange(35798, 38604)
    grid = Grid(10.0 ** (index * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))
    source = BroadenedEmulator(default(), Instrument(grid))
    box = {"teff": Uniform(4000, 12000), "logg": Uniform(2.0, 5.0), "feh": Uniform(-2.0, 0.4)}
    start = time.process_time()
    cube = source.cube(draw(box, n, seed), np.random.default_rng(seed).uniform(-150, 150, n))
    print(f"{n / (time.process_time() - start):,.0f} spectra simulated in a processor second", flush=True)
    return cube


def on_simulations(options: argparse.Namespace) -> None:
    """F and G stars of S/N 10 to 100, for each number of training spectra."""
    cube, test = simulated_cube(options.stars, 0), simulated_cube(1000 if not options.small else 60, 1)
    rng = np.random.default_rng(2)
    snr = np.exp(rng.uniform(np.log(10), np.log(100), test.sizes["star"]))[:, None]
    level = np.median(test.flux.values, axis=1, keepdims=True)
    flux = test.flux.values + level / snr * rng.normal(size=test.flux.shape)
    block = Block(
        grid_of(test),
        flux.astype("f4"),
        np.broadcast_to((snr / level) ** 2, flux.shape).astype("f4"),
        test["mask"].values,
    )
    methods = {"ridge": Regressor(network="ridge"), "kernel_ridge": Regressor(network="kernel_ridge")}
    if options.epochs:
        methods["dense"] = Regressor(members=options.members, epochs=options.epochs, batch=64)
    for name, method in methods.items():
        start = time.process_time()
        fitted = train(cube, replace(method, snr=(10.0, 100.0), max_shift=0), LABELS)
        middle = time.process_time()
        out = fitted.estimate(block)
        end = time.process_time()
        print(f"{name}: {middle - start:.0f} s, {len(flux) / (end - middle):,.0f} stars/s")
        for low, high, text in ((4000, 12000, "all"), (5300, 7300, "F and G")):
            chosen = test.teff.values > low
            chosen &= test.teff.values < high
            away = [(out[n] - test[n].values)[chosen] for n in LABELS]
            inside = [
                np.mean(np.abs(d) <= out[f"{n}_err"][chosen]) for n, d in zip(LABELS, away, strict=True)
            ]
            print(
                f"  {text}: {[float(f'{robust_scatter(d):.3g}') for d in away]}, within errors {np.round(inside, 2)}"
            )
        print(f"  flagged by the spectrum: {((out['flags'] & OF_THE_SPECTRUM) > 0).mean():.1%}", flush=True)
        if options.out and name == "dense":
            fitted.save(options.out, overwrite=True)


def on_nonsense(options: argparse.Namespace) -> None:
    """Shares of spectra that are no star, or at a wrong velocity, that are flagged."""
    sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    import nonsense as sets
    from support.nonsense import shifted

    sets.PIXELS = slice(None)
    regressor = specxr.open_estimator(options.model)
    block, table = sets.official(options.shared, options.small)
    found = list(sets.nonsense(options.shared, block, table, 100))
    bright = sets.rows(block, np.flatnonzero((table.snrg > 30).to_numpy())[::5])
    found += [
        (f"{velocity:+.0f} km/s", shifted(bright, velocity)) for velocity in (-1000.0, 500.0, 1000.0, 2000.0)
    ]
    half = np.arange(block.flux.shape[1]) < block.flux.shape[1] // 2
    turned = {
        k: np.where(half, getattr(bright, k)[:, ::-1], getattr(bright, k)) for k in ("flux", "ivar", "mask")
    }
    found.append(("half reversed", replace(bright, **turned)))
    for name, spectra in found:
        out = regressor.estimate(spectra)
        answered = out["result"] == 0
        shares = [np.mean(~answered | ((out["flags"] & bits) > 0)) for bits in (JUDGED, int(DISTRUST))]
        print(
            f"{name:34s} {len(answered):4d}  flagged by the spectrum {shares[0]:6.1%}, by any {shares[1]:6.1%}",
            flush=True,
        )


def on_repeats(options: argparse.Namespace) -> None:
    """Differences of two visits of one star against their errors, and the rate of a bulk run on one core."""
    regressor = specxr.open_estimator(options.model)
    groups = pd.read_csv(options.shared / "lamost_dr8_repeats/groups.csv").drop_duplicates("combined_obsid")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "cube.zarr"
        ingest("lamost-lrs", sorted((options.shared / "lamost_dr8_repeats/fits").glob("*.fits*")), path)
        cube = specxr.open_cube(path).load()
        out = regressor.estimate(block_of(cube))
        group = groups.set_index("combined_obsid").GroupID.reindex(cube.obsid.values).to_numpy()
        usable = np.isfinite(group) & (out["result"] == 0) & ((out["flags"] & JUDGED) == 0)
        pairs = [np.flatnonzero(usable & (group == one))[:2] for one in np.unique(group[usable])]
        first, second = np.array([pair for pair in pairs if len(pair) == 2]).T
        for name in LABELS:
            away = out[name][first] - out[name][second]
            error = np.hypot(out[f"{name}_err"][first], out[f"{name}_err"][second])
            shown = f"scatter / sqrt 2 {robust_scatter(away) / np.sqrt(2):.3g}"
            shown += f", error {np.median(error) / np.sqrt(2):.3g}"
            print(f"{name}: {len(away)} pairs, {shown}, within errors {np.mean(np.abs(away) <= error):.2f}")
        times = -(-options.stars // cube.sizes["star"])
        many = xr.concat([cube] * times, "star").isel(star=slice(0, options.stars))
        many = many.assign_coords(obsid=("star", np.arange(options.stars))).drop_encoding()
        specxr.write_cube(many, Path(folder) / "many.zarr")
        many = specxr.open_cube(Path(folder) / "many.zarr")
        start = time.process_time()
        with dask.config.set(scheduler="synchronous"):
            specxr.infer(many, regressor).compute()
        print(f"{options.stars / (time.process_time() - start):,.0f} stars/s, read, inferred, in one process")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "part", nargs="?", default="dr10", choices=("dr10", "simulated", "nonsense", "repeats")
    )
    parser.add_argument("--model", type=Path, help="a dense model of DR10")
    parser.add_argument(
        "--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
    )
    parser.add_argument("--splits", type=int, default=5)
    parser.add_argument("--members", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--stars", type=int, default=20_000)
    parser.add_argument("--out", type=Path, help="where the last dense model goes")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.small:
        options.stars, options.splits, options.members, options.epochs = 300, 1, 1, 2
    if options.part == "simulated" or options.small:
        on_simulations(options)
    if options.part == "nonsense":
        on_nonsense(options)
    if options.part == "repeats":
        on_repeats(options)
    if options.part == "dr10":
        if not options.shared.exists():
            raise SystemExit(f"{options.shared} is absent; the shared data are required. Set SPECXR_SHARED.")
        on_real_stars(options)


if __name__ == "__main__":
    main()
