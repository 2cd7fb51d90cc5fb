"""Print how fast LASP fits, beside another checkout if one is given, and where the time of an evaluation goes.

    python tests/benchmarks/lasp.py [--beside FOLDER] [--shared ../shared] [--quick] [--small]

Simulated spectra: 4200-5700 A on LAMOST's grid, S/N 50, 1 % of the pixels hit by something to clean; "cool" from the
embedded emulator at 4600-7400 K, "uniform" from ELODIE at 4500-12000 K; "real" are the spectra of LAMOST DR10. Each
row is a process of its own, so that its peak memory is its own; rows of both checkouts follow one another. Times are
CPU seconds of one thread, the best of three for up to 1,200 stars.
"""

import argparse
import itertools
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

import specxr

# The helpers of the checkout that is measured.
sys.path.insert(0, str(Path(specxr.__file__).parents[1] / "tests"))
from support.simulated import GRID, block_of, spectra

from specxr import LASP
from specxr.estimators.base import Block

ELODIE = "data/elodie/elodie32_flux_tgm_4199_5700.fits"
# kind, solver, stars
ROWS = [
    *(("cool", "lm", n) for n in (1, 25, 1000, 10000)),
    ("uniform", "lm", 1000),
    ("real", "lm", 1177),
    ("cool", "adam", 25),
    ("cool", "curve_fit", 25),
]


def uniform(shared: Path, n: int) -> np.ndarray:
    """Spectra of ELODIE's emulator, uniform in temperature."""
    rng = np.random.default_rng(7)
    prepared = LASP(shared / ELODIE).prepare(GRID)
    labels = (np.log(rng.uniform(4500, 12000, n)), rng.uniform(3.6, 4.8, n), rng.uniform(-1, 0.3, n))
    parameters = np.column_stack((rng.uniform(-3, 3, n), rng.uniform(0.9, 1.6, n), *labels))
    template = prepared.model.template(torch.from_numpy(parameters)).numpy()[:, : prepared.n_pixel]
    flux = np.ones((n, len(GRID.wavelength)))
    flux[:, prepared.pixels] = 300 * template * (1 + rng.normal(0, 1 / 50, template.shape))
    return flux


def real(shared: Path, n: int) -> Block:
    """Spectra of LAMOST DR10."""
    from specxr.readers.lamost_lrs import GRID as LAMOST
    from specxr.readers.lamost_lrs import read_spectrum

    files = sorted((shared / "data/lamost_dr10/fits").glob("*.fits*"))[:n]
    found = [read_spectrum(file) for file in files]
    return Block(LAMOST, *(np.stack([getattr(s, name) for s in found]) for name in ("flux", "ivar", "mask")))


def block_for(kind: str, n_star: int, shared: Path) -> Block:
    if kind == "real":
        return real(shared, n_star)
    base = uniform(shared, n_star) if kind == "uniform" else spectra(min(n_star, 500), seed=1, snr=50)[0]
    flux = np.tile(base, (-(-n_star // len(base)), 1))[:n_star]
    rng = np.random.default_rng(2)
    flux = flux * rng.normal(1, 0.01, flux.shape)
    flux[rng.uniform(size=flux.shape) < 0.01] *= 1.3
    return block_of(flux)


def measure(kind: str, solver: str, n_star: int, clean: bool, dtype: str, shared: Path) -> None:
    """Print stars a second, evaluations a star, peak memory [MB]."""
    torch.set_num_threads(1)
    block = block_for(kind, n_star, shared)
    lasp = LASP("default" if kind == "cool" else shared / ELODIE, clean=clean, solver=solver, dtype=dtype)
    lasp.estimate(Block(block.grid, block.flux[:4], block.ivar[:4], block.mask[:4]))
    seconds = []
    for _ in range(10 if n_star == 1 else 3 if n_star <= 1200 and solver == "lm" else 1):
        start = time.process_time()
        out = lasp.estimate(block)
        seconds.append(time.process_time() - start)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(n_star / min(seconds), out["n_iter"].mean(), peak)


def row(folder: Path, *arguments: object) -> list[float]:
    """Run `measure` with the package of a checkout."""
    environment = os.environ | {"PYTHONPATH": str(folder.resolve())}
    command = [sys.executable, __file__, "--row", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    return [float(word) for word in done.stdout.split()]


def seconds_of(function: Callable[..., object], *arguments: object) -> float:
    """Time of one call of a compiled function, measured inside another, best of seven times a thousand."""
    import numba

    @numba.njit
    def repeat(arguments, n):  # noqa: ANN001, ANN202
        for _ in range(n):
            function(*arguments)

    repeat(arguments, 1)
    best = np.inf
    for _ in range(7):
        start = time.process_time()
        repeat(arguments, 1000)
        best = min(best, time.process_time() - start)
    return best / 1000


def profile() -> None:
    """Print the stages of one evaluation: share of its time, and of its arithmetic."""
    from specxr.kernels.compiled import fit, linear, model, shape

    forward = LASP("default").prepare(GRID).model
    compiled = forward.compiled
    emulator, basis = compiled
    space, parameters = fit.workspace_of(compiled), np.array([1.0, 1.2, np.log(5500), 4.0, -0.2])
    template, own = space.template, space.shape
    n = len(template.flux)
    flux, sqrt_weight, gradient, hessian = (
        np.ones(n),
        forward.shape.inside.numpy(),
        np.empty(5),
        np.empty((5, 5)),
    )
    fit.cost_at(compiled, parameters, flux, sqrt_weight, space)
    model.fill_derivatives(emulator, template)
    shape.fill_gradient(basis, template.derivatives, sqrt_weight, own, gradient)
    terms, taps = emulator.coefficients.shape[1], 16
    filled, half = len(own.factor), basis.even.shape[1]
    rows = len(basis.even) + len(basis.odd)
    margin = (template.at_rest.shape[1] - n) // 2
    table, at_rest, value = emulator.coefficients[0], template.at_rest, template.kernel[0]
    slopes, single = emulator.slopes[0], template.single
    shift = (at_rest[0], margin, value, -6, taps, template.flux)
    shift_single = (single[0], margin, template.single_kernel[0], -6, taps, template.derivatives[0])
    stages = {
        "emulator": (
            seconds_of(model._combine, template.factors, table, at_rest, margin)
            + seconds_of(model._combine, template.single_factors, slopes, single, margin),
            2 * 4 * terms * n,
        ),
        "convolution": (
            seconds_of(model.add_taps, *shift) + 5 * seconds_of(model.add_taps, *shift_single),
            2 * 6 * taps * n,
        ),
        "moments": (
            seconds_of(shape._sums, basis, own.folded, own.sums)
            + 3 * seconds_of(shape._fold, own.template, basis.n_pixel, own.folded[0, 0], own.folded[1, 0]),
            2 * 3 * rows * half,
        ),
        "factorisation": (
            seconds_of(shape._normal_matrix, basis, own)
            + seconds_of(linear.factorise, own.factor, own.inverse),
            filled**3 // 3,
        ),
        "polynomial": (seconds_of(shape._polynomial, basis, own.coefficients, own), 2 * rows * half),
        "projection": (
            seconds_of(shape.fill_gradient, basis, template.derivatives, sqrt_weight, own, gradient)
            + seconds_of(shape.fill_hessian, basis, own, hessian),
            2 * 5 * rows * half + 2 * 20 * n + 5 * filled**2,
        ),
    }
    whole = (
        seconds_of(fit.cost_at, compiled, parameters, flux, sqrt_weight, space)
        + seconds_of(model.fill_derivatives, emulator, template)
        + stages["projection"][0]
    )
    arithmetic = sum(count for _, count in stages.values())
    stages["terms, kernel, solutions, rest"] = (whole - sum(t for t, _ in stages.values()), 0)
    print(f"\none evaluation: {1e6 * whole:.0f} us, {arithmetic / 1e6:.2f} million operations")
    print("stage                            time  arithmetic")
    for name, (spent, count) in stages.items():
        print(f"{name:30s} {spent / whole:6.0%} {count / arithmetic:11.0%}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--beside", type=Path, help="another checkout of this package")
    parser.add_argument("--shared", type=Path, default=Path(os.environ.get("SPECXR_SHARED", "../shared")))
    parser.add_argument("--quick", action="store_true", help="no 10,000 stars, double precision only")
    parser.add_argument("--row", nargs=6, help=argparse.SUPPRESS)
    parser.add_argument("--small", action="store_true", help="one row of few stars, in this process")
    options = parser.parse_args(argv)
    if options.small:
        options.row = ("cool", "lm", "8", "True", "float64", ".")
    if options.row:
        kind, solver, n_star, clean, dtype, shared = options.row
        measure(kind, solver, int(n_star), clean == "True", dtype, Path(shared))
        return
    load = ", ".join(f"{x:.1f}" for x in os.getloadavg())
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread, load {load}")
    print("stars   solver    pixels   dtype     stars   stars/s   ms/star  evals  peak [MB]   beside  times")
    here, shared = Path(__file__).parents[2], options.shared.resolve()
    for (kind, solver, n_star), clean, dtype in itertools.product(
        ROWS, (False, True), ("float64", "float32")
    ):
        if dtype == "float32" and (solver != "lm" or kind != "cool" or options.quick):
            continue  # scipy's steps are too small for single precision
        if options.quick and n_star > 2000:
            continue
        arguments = (kind, solver, n_star, clean, dtype, shared)
        rate, evaluations, peak = row(here, *arguments)
        text = (
            f"{kind:7s} {solver:9s} {'Clean' if clean else 'No Clean':8s} {dtype:7s} {n_star:7,d} {rate:9,.0f}"
            f" {1e3 / rate:9.3f} {evaluations:6.1f} {peak:10,.0f}"
        )
        if options.beside:
            other = row(options.beside, *arguments)[0]
            text += f" {other:8,.0f} {rate / other:6.2f}"
        print(text, flush=True)
    profile()


if __name__ == "__main__":
    main()
