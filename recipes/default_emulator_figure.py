"""Draw how LASP with three emulators differs from the official labels of LAMOST DR10.

    python recipes/default_emulator_figure.py --out docs/images

The emulators are the Cannon models that were embedded first, the embedded one, and ELODIE's. All files are in the
folder that the environment variable SPECXR_SHARED names. Expected time: one minute on one core; `--small` takes some
seconds.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table
from specxr.emulators import default, open_emulator

sys.path.insert(0, str(Path(__file__).parent))
from cannon_line_strengths import ELODIE, LABELS, SHARED, cannon  # noqa: E402

LIMITS = {"teff": (-700, 700), "logg": (-0.9, 0.9), "feh": (-0.7, 0.4)}
NAMES = {"teff": "Teff [K]", "logg": "log g", "feh": "[Fe/H]"}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", type=Path, default=Path("figures"), help="folder for the figure (%(default)s)")
    add("--small", action="store_true", help="a run with few stars that only shows that the recipe works")
    options = parser.parse_args(argv)
    if not SHARED.is_dir():
        raise SystemExit(f"{SHARED} is absent; the shared data are required. Set SPECXR_SHARED.")
    torch.set_num_threads(1)
    emulators = {
        "Cannon (embedded first)": cannon(4000.0, 1e-4 / 3),
        "MILES (embedded)": default(),
        "ELODIE": open_emulator(ELODIE),
    }
    folder = SHARED / "lamost_dr10"
    files = sorted((folder / "fits").glob("*.fits.gz"))[:: 20 if options.small else 1]
    with TemporaryDirectory() as temporary:
        path = Path(temporary) / "dr10.zarr"
        ingest("lamost-lrs", files, path, workers=1)
        cube = specxr.open_cube(path).load()
    table = pd.read_csv(folder / "labels.csv").set_index("obsid").loc[cube["obsid"].values]
    figure = Figure(figsize=(9.0, 5.2), layout="constrained")
    axes = figure.subplots(3, 3, sharex=True, sharey="row")
    for column, (name, emulator) in zip(axes.T, emulators.items(), strict=True):
        found = label_table(specxr.infer(cube, specxr.LASP(emulator)))
        good = (found["result"] == "converged").to_numpy() & (table["snrg"] > 50).to_numpy()
        teff = table["teff"].to_numpy()[good]
        for ax, label in zip(column, LABELS, strict=True):
            difference = (found[label].to_numpy() - table[label].to_numpy())[good]
            ax.axhline(0.0, color="0.6", lw=0.8)
            ax.scatter(teff, difference, s=2, alpha=0.6)
            borders = np.geomspace(4500, 12500, 13)
            bins = np.digitize(teff, borders)
            middle = [
                np.median(difference[bins == i]) if np.sum(bins == i) > 4 else np.nan for i in range(1, 13)
            ]
            ax.plot(np.sqrt(borders[1:] * borders[:-1]), middle, color="C3", lw=1.5)
            ax.set(ylim=LIMITS[label], xscale="log", xlim=(4300, 13000))
            ax.set_xticks([5000, 7000, 10000], ["5000", "7000", "10000"])
            ax.minorticks_off()
        column[0].set_title(name, fontsize=10)
        column[-1].set_xlabel("official Teff [K]")
    for ax, label in zip(axes[:, 0], LABELS, strict=True):
        ax.set_ylabel(f"{NAMES[label]}, ours - official", fontsize=8)
    options.out.mkdir(parents=True, exist_ok=True)
    figure.savefig(options.out / "default_emulator_dr10.png", dpi=100)
    print(f"{options.out / 'default_emulator_dr10.png'}: {len(table)} stars")


if __name__ == "__main__":
    main()
