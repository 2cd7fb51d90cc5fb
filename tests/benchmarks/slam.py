"""Print how fast SLAM trains compared with scikit-learn, how fast it fits labels, and its labels with either loss.

    python tests/benchmarks/slam.py [--stars 2000 5000] [--snr 100] [--pixels 128] [--reference 6]

Spectra are the embedded emulator's at 7000-15000 K, 4200-5700 A on LAMOST's grid (1,327 pixels) at R = 1800, with
noise. The four labels, teff, logg, feh and vsini, and the hyperparameters, 9 points and 5 folds, are those of
Sun et al. 2025. Times are processor seconds of one thread. Both programs train a sample of pixels, spread over the
spectrum; what is done once for all pixels (decompositions) is timed apart, and the rest
extrapolated to 1,327 pixels. Each row is a process of its own, so that its peak memory is its own.
"""

import argparse
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import dask
import numpy as np
import sklearn
import torch
from sklearn.svm import SVR

sys.path.insert(0, str(Path(__file__).parents[1]))
from support.trained import observed

from specxr import SLAM
from specxr.emulators import default
from specxr.emulators.network import scaled_inputs
from specxr.kernels.machines.rbf import Kernel
from specxr.kernels.machines.selection import Point, cross_validate, folds_of, train_machines
from specxr.kernels.machines.svr import Batched
from specxr.published.hot_stars import VSINI
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.training_set import TrainingSet
from specxr.synthesis.designs import Uniform, draw
from specxr.synthesis.generators import EmulatorSpectra
from specxr.synthesis.training_set import Instrument, make_training_set
from specxr.training import training_set

N_PIXEL = 1327
GAMMA, C, EPSILON, FOLDS = (0.1, 1.0, 10.0), (0.1, 1.0, 10.0), 0.05, 5


LABELS = {
    "teff": Uniform(7000, 15000),
    "logg": Uniform(3.5, 4.8),
    "feh": Uniform(-1.0, 0.4),
    "vsini": VSINI,
}
GRID = Grid(
    10.0 ** (36233e-4 + 1e-4 * np.arange(N_PIXEL)), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0)
)


def spectra(n: int, seed: int, snr: float) -> TrainingSet:
    with dask.config.set(scheduler="sync"):
        cube = make_training_set(
            draw(LABELS, n, seed),
            EmulatorSpectra(default()),
            Instrument(GRID),
            None,
            snr=snr,
            seed=seed,
        ).load()
    return training_set(cube.assign_attrs(normalisation=""))


class Timed(Batched):
    """The solver; it adds up the time of what it does once for all pixels."""

    once = 0.0

    def __init__(self, kernel: Kernel, c: float) -> None:
        start = time.process_time()
        super().__init__(kernel, c)
        Timed.once += time.process_time() - start


def ours(labels: torch.Tensor, flux: torch.Tensor) -> tuple[float, float, torch.Tensor, list[Point]]:
    """Seconds once for all pixels, seconds a pixel, and the chosen points."""
    points = [Point(gamma, c, EPSILON) for gamma, c in product(GAMMA, C)]
    usable, fold = torch.ones(flux.shape, dtype=torch.bool), folds_of(len(labels), FOLDS, 0)
    start = time.process_time()
    kernels = {gamma: Kernel.of(labels, gamma) for gamma in GAMMA}
    decompositions = time.process_time() - start
    mse, _ = cross_validate(kernels, flux, usable, points, fold, Timed, lambda *told: None)
    chosen = mse.argmin(0)
    train_machines(kernels, flux, usable, points, chosen, Timed)
    once = decompositions + Timed.once
    return once, (time.process_time() - start - once) / flux.shape[1], chosen, points


def theirs(labels: np.ndarray, flux: np.ndarray, point: Point) -> float:
    """Seconds of scikit-learn for one pixel: every point and fold, then all stars at the chosen point."""
    fold = folds_of(len(labels), FOLDS, 0).numpy()
    start = time.process_time()
    for gamma, c in product(GAMMA, C):
        for k in range(FOLDS):
            machine = SVR(C=c, gamma=gamma, epsilon=EPSILON).fit(labels[fold != k], flux[fold != k])
            np.mean((machine.predict(labels[fold == k]) - flux[fold == k]) ** 2)
    SVR(C=point.c, gamma=point.gamma, epsilon=point.epsilon).fit(labels, flux)
    return time.process_time() - start


def row_train(n: int, snr: float, n_sample: int, n_reference: int) -> None:
    training = spectra(n, 0, snr)
    labels, _ = scaled_inputs(
        torch.from_numpy(training.label_array), tuple(LABELS), torch.zeros(1), torch.ones(1)
    )
    labels = (labels - labels.mean(0)) / labels.std(0)
    sample = np.linspace(0, N_PIXEL - 1, n_sample).round().astype(int)
    flux = training.flux[:, sample].astype("f8")
    flux = (flux - flux.mean(0)) / flux.std(0)
    once, each, chosen, points = ours(labels, torch.from_numpy(flux))
    pixels = np.linspace(0, n_sample - 1, n_reference).round().astype(int)
    reference = np.mean([theirs(labels.numpy(), flux[:, p], points[chosen[p]]) for p in pixels])
    total, other = once + each * N_PIXEL, reference * N_PIXEL
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{n:6,d} {snr:6g} {once:8.1f} {1e3 * each:9.1f} {total:9.0f} {1e3 * reference:10,.0f} {other:10,.0f}"
        f" {other / total:7.1f} {peak:9,.0f}"
    )


def row_labels(snr: float, name: str, n: int = 1000, n_held: int = 500) -> None:
    options = {
        "epsilon": {},
        "squared": {
            "loss": "squared",
            "c": (1.0, 10.0, 100.0, 1e3, 1e4),
            "gamma": (0.01, 0.03, 0.1, 0.3, 1.0),
        },
        "epsilon, wide": {"c": (1.0, 10.0), "gamma": (0.01, 0.03, 0.1, 0.3)},
    }[name]
    training, held = spectra(n, 0, snr), spectra(n_held, 1, 1e5)
    block = observed(held, 100)
    start = time.process_time()
    slam = SLAM(**options).fit(training)
    fitting = time.process_time() - start
    slam.estimate(block)
    start = time.process_time()
    out = slam.estimate(block)
    rate = n_held / (time.process_time() - start)
    ended = out["result"] == 0
    scatter = []
    for label in LABELS:
        difference = (out[label] - held.labels[label])[ended]
        scatter.append(f"{difference.mean():8.3g} {difference.std():7.3g}")
    print(f"{name:14s} {snr:6g} {fitting:8.1f} {rate:8.0f} {ended.mean():6.1%} " + " ".join(scatter))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", nargs="+", type=int, default=[2000, 5000])
    parser.add_argument("--snr", nargs="+", type=float, default=[100.0])
    parser.add_argument("--pixels", type=int, default=128)
    parser.add_argument("--reference", type=int, default=6)
    parser.add_argument("--row", nargs="+", help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    if options.small:
        row_train(60, 100.0, 4, 1)
        row_labels(100.0, "squared", n=80, n_held=10)
        return
    if options.row and options.row[0] == "train":
        row_train(int(options.row[1]), float(options.row[2]), options.pixels, options.reference)
        return
    if options.row:
        row_labels(float(options.row[1]), options.row[2])
        return

    def run(*row: object) -> None:
        command = [sys.executable, __file__, "--pixels", options.pixels, "--reference", options.reference]
        done = subprocess.run(map(str, [*command, "--row", *row]), check=True, capture_output=True, text=True)
        print(done.stdout, end="", flush=True)

    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread;", end=" ")
    print(f"scikit-learn {sklearn.__version__} on {options.reference} of {options.pixels} pixels")
    print(" stars    S/N once [s]  ms/pixel 1327 [s]  sklearn ms 1327 px [s]  times   peak MB")
    for n, snr in product(options.stars, options.snr):
        run("train", n, snr)
    print("\n1,000 training stars; 500 others at S/N 100: mean and standard deviation of inferred less true")
    print("loss         S/N learnt  train s  stars/s  ended  " + " ".join(f"{name:>16s}" for name in LABELS))
    for snr, name in product(options.snr, ("epsilon", "epsilon, wide", "squared")):
        run("labels", snr, name)


if __name__ == "__main__":
    main()
