"""Print how LASP compares with the official labels of LAMOST DR10 and the published ones of 15 stars.

    python tests/benchmarks/official.py [--clean] [--emulator default] [--shared ../shared]

For the A stars it also prints the fraction of fits that ended at a lower cost than with the official labels: there,
radial velocity, line width and shape are fitted while Teff, logg and [Fe/H] are held at the official values. The
emulator is ELODIE's, unless another one is given (`default` is the embedded one); with another one the 15 published
stars are left out, because their labels belong to ELODIE's emulator.
"""

import argparse
import itertools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.schema import grid_of
from specxr.estimators.base import Block
from specxr.estimators.lasp.forward import FEH, LN_TEFF, LOGG
from specxr.kernels.least_squares import LANES, levenberg_marquardt
from specxr.validation import robust_scatter
from specxr.vocabulary import Result

LABELS = ("teff", "logg", "feh")
ELODIE = "elodie/elodie32_flux_tgm_4199_5700.fits"
# Types and ranges of the official Teff [K] by which the embedded emulator is judged.
MARKS = (("G", 0, np.inf), ("F", 0, np.inf), ("A", 7500, 9500), ("A", 9500, np.inf))


def cost_at(lasp: specxr.LASP, block: Block, labels: np.ndarray) -> np.ndarray:
    """Lowest cost with Teff, logg and [Fe/H] held, shape (star,)."""
    prepared = lasp.prepare(block.grid)
    observed = lasp.observe(block)
    start = prepared.coarse.starts(observed.flux, observed.sqrt_weight)[0][:, 0]
    start[:, LN_TEFF] = torch.from_numpy(np.log(labels[:, 0]))
    start[:, LOGG], start[:, FEH] = torch.from_numpy(labels[:, 1]), torch.from_numpy(labels[:, 2])
    lower, upper = (bound.repeat(len(labels), 1) for bound in (prepared.lower, prepared.upper))
    lower[:, LN_TEFF:] = upper[:, LN_TEFF:] = start[:, LN_TEFF:]
    fit = levenberg_marquardt(
        lambda p, star: prepared.model.linearise(p, observed.flux[star], observed.sqrt_weight[star]),
        torch.arange(len(labels)),
        start,
        lower,
        upper,
        lanes=LANES["cpu"],
    )
    return fit.cost.numpy()


def spread(difference: np.ndarray) -> str:
    return f"{np.median(difference):+9.3f} +-{robust_scatter(difference):8.3f}"


def official(lasp: specxr.LASP, cube, table: pd.DataFrame) -> None:
    labels = specxr.infer(cube, lasp)[[*LABELS, "chi2", "result"]].to_dataframe().reset_index(drop=True)
    difference = labels[list(LABELS)] - table[list(LABELS)]
    print(
        f"\n{'Clean' if lasp.clean else 'No Clean'}, ours - official, median +- 1.48 MAD, by type and S/N_g"
    )
    for kind, (low, high) in itertools.product(
        "GFA", ((50, np.inf), (10, 30), (30, 60), (60, 120), (120, np.inf))
    ):
        rows = (
            (table.type == kind) & (table.snrg > low) & (table.snrg <= high) & labels.teff.notna()
        ).to_numpy()
        if not rows.any():
            continue
        shown = "  ".join(f"{name} {spread(difference[name][rows])}" for name in LABELS)
        print(f"  {kind} {low:4d}-{high:3.0f} {rows.sum():4d}  {shown}")
    good = (labels.result == Result.CONVERGED).to_numpy()
    print("\nThe same at S/N_g > 50, of fits that converged")
    for kind, low, high in MARKS:
        rows = (table.type == kind) & (table.snrg > 50) & table.teff.between(low, high, "left") & good
        if rows.any():
            shown = "  ".join(f"{name} {spread(difference[name][rows])}" for name in LABELS)
            print(f"  {kind} {low:5.0f}-{high:5.0f} K {rows.sum():4d}  {shown}")
    print(f"  converged: {good.mean():.1%} of {len(good)}, {good[table.snrg > 50].mean():.1%} at S/N_g > 50")
    block = Block(grid_of(cube), cube.flux.values, cube.ivar.values, cube.mask.values)
    held = cost_at(lasp, block, table[list(LABELS)].to_numpy(float))
    print("\nA stars by official Teff: N, Teff, beyond 300 K, lower cost than at the official labels")
    for low in (6000, 7000, 8000, 9000, 10000, 11000, 12000):
        high = low + 1000 if low < 12000 else np.inf
        rows = (
            (table.type == "A") & (table.teff >= low) & (table.teff < high) & labels.teff.notna()
        ).to_numpy()
        if rows.any():
            far = (abs(difference.teff[rows]) > 300).mean()
            lower = (labels.chi2[rows] < held[rows]).mean()
            print(f"  {low:6d} K {rows.sum():4d} {spread(difference.teff[rows])}   {far:6.1%}   {lower:6.1%}")


def published(lasp: specxr.LASP, cube, shared: Path) -> None:
    labels = specxr.infer(cube, lasp).compute()
    stages = np.load(shared / "pylasp/reference_stages.npz")
    row = {Path(str(name)).stem: i for i, name in enumerate(stages["ID"])}
    reference = stages["cl_out" if lasp.clean else "nc_out"][
        [row[Path(str(name)).stem] for name in cube.file.values]
    ]
    print("\nWhole path (FITS, native vacuum pixels) - published, 15 stars: median, std, largest")
    for i, name in enumerate(("rv", *LABELS)):
        difference = labels[name].values - reference[:, i]
        print(
            f"  {name:5s} {np.median(difference):9.4f} {difference.std():9.4f} {abs(difference).max():9.4f}"
        )


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = os.environ.get("SPECXR_SHARED", "../shared")
    parser.add_argument("--shared", type=Path, default=Path(default))
    parser.add_argument("--clean", action="store_true")
    parser.add_argument("--emulator", help="a file, or default for the embedded one; ELODIE's if not given")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    lasp = specxr.LASP(options.emulator or shared / ELODIE, clean=options.clean)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder)
        files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))
        report = ingest("lamost-lrs", files[:: 100 if options.small else 1], path / "dr10.zarr")
        print(f"{report.n_written} spectra ingested in {report.seconds:.1f} s")
        cube = specxr.open_cube(path / "dr10.zarr")
        table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[cube.obsid.values]
        official(lasp, cube, table.reset_index())
        if options.emulator:
            return
        files = sorted((shared / "pylasp/fits").glob("*.fits*"))
        ingest("lamost-lrs", files[: 3 if options.small else None], path / "pylasp.zarr")
        published(lasp, specxr.open_cube(path / "pylasp.zarr"), shared)


if __name__ == "__main__":
    main()
