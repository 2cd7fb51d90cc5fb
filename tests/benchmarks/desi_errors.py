"""Print the scatter of LASP's labels over their errors for joined spectra of DESI, whose pixels share noise.

    PYTHONPATH=tests python tests/benchmarks/desi_errors.py

Simulated stars of S/N 30 in the three arms are written as files of the survey, with new noise each time, ingested and
fitted with and without weights. 1 is right.
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from support import sky

import specxr

LABELS = ("rv", "teff", "logg", "feh")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=6)
    parser.add_argument("--noises", type=int, default=10)
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    n_stars, n_noises = (2, 2) if options.small else (options.stars, options.noises)
    labels, rng = sky.stars(n_stars), np.random.default_rng(5)
    flux = sky.ideal(labels)
    pulls: dict[bool, list[list[np.ndarray]]] = {True: [], False: []}
    for _ in range(n_noises):
        with tempfile.TemporaryDirectory() as folder:
            files, store = Path(folder) / "files", Path(folder) / "desi.zarr"
            files.mkdir()
            specxr.ingest("desi", sky.desi(files, flux, 30.0, rng), store, workers=1)
            cube = specxr.open_cube(store).load()
        for weighted, found in pulls.items():
            out = specxr.infer(cube, specxr.LASP("default", weighted=weighted)).load()
            found.append([(out[n].values - labels[n]) / out[f"{n}_err"].values for n in LABELS])
    print(
        "scatter about the mean of each star, over the error\n          "
        + "  ".join(f"{n:>5s}" for n in LABELS)
    )
    for weighted, found in pulls.items():
        scatter = np.sqrt(np.var(found, axis=0, ddof=1).mean(axis=1))
        print(f"{'weighted' if weighted else 'not':10s}" + "  ".join(f"{value:5.2f}" for value in scatter))


if __name__ == "__main__":
    main()
