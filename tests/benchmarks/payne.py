"""Print how close The Payne's network is to spectra that it has not seen, and how fast labels are fitted with it.

    python tests/benchmarks/payne.py [--stars 5000] [--paper]

Synthetic spectra of the embedded emulator as LAMOST would see them: 4200-5700 A, R = 1800, 7000-20000 K, rotating,
normalised. Residuals are standard deviations over all pixels of spectra without noise, as in Fig. A.1 of Sun et
al. 2025: 0.19 % and, where the flux is below 0.95, 0.37 %. Times are processor seconds of one thread.
"""

import argparse
import platform
import time
from collections.abc import Sequence

import dask
import numpy as np
import torch

from specxr import Payne
from specxr.emulators import default
from specxr.estimators.base import Block
from specxr.published import hot_star_normalisation
from specxr.published.hot_stars import CORE_FLUX, HOT_STAR_TRAINING, VSINI
from specxr.synthesis.designs import Uniform, draw
from specxr.synthesis.generators import EmulatorSpectra
from specxr.synthesis.survey import GRID
from specxr.synthesis.training_set import Instrument, make_training_set
from specxr.training import training_set
from specxr.validation import robust_scatter

LABELS = {"teff": Uniform(7000, 20000), "logg": Uniform(3.0, 5.0), "feh": Uniform(-1.5, 0.5), "vsini": VSINI}
PAPER = Payne(
    hidden=HOT_STAR_TRAINING.hidden,
    activation=HOT_STAR_TRAINING.activation,
    learning_rate=HOT_STAR_TRAINING.learning_rate,
    validation=HOT_STAR_TRAINING.validation,
)


def spectra(n_star: int, seed: int, snr: float):
    first = int(np.searchsorted(GRID.wavelength, 4201.2))
    instrument = Instrument(GRID[first : first + 1327])
    cube = make_training_set(
        draw(LABELS, n_star, seed),
        EmulatorSpectra(default()),
        instrument,
        hot_star_normalisation("vacuum"),
        snr=snr,
        seed=seed,
    )
    with dask.config.set(scheduler="sync"):
        return training_set(cube.load())


def residuals(payne: Payne, held_out) -> str:
    labels = torch.from_numpy(held_out.label_array)
    flux = payne.emulator.flux_and_derivatives(labels)[0][:, : held_out.flux.shape[1]].numpy()
    residual = 100 * (flux - held_out.flux)[:, held_out.used]
    core = held_out.flux[:, held_out.used] < CORE_FLUX
    return (
        f"{residual.std():9.3f} {residual[core].std():9.3f} {np.abs(residual).mean():9.3f}"
        f" {np.abs(residual[core]).mean():9.3f}"
    )


def speed(payne: Payne, held_out, snr: float) -> str:
    rng = np.random.default_rng(3)
    flux = (held_out.flux + rng.normal(0, 1 / snr, held_out.flux.shape)).astype("f4")
    ivar = np.where(held_out.good, snr**2, 0).astype("f4")
    block = Block(held_out.grid, flux, ivar, held_out.mask)
    payne.estimate(Block(held_out.grid, flux[:64], ivar[:64], held_out.mask[:64]))
    seconds = []
    for _ in range(3):
        start = time.process_time()
        out = payne.estimate(block)
        seconds.append(time.process_time() - start)
    converged = out["result"] == 0
    scatter = []
    for name in payne.labels[1:]:
        difference = (out[name] - held_out.labels[name])[converged]
        scatter.append(f"{robust_scatter(difference):.3g}")
    rate = len(flux) / min(seconds)
    return f"{rate:9,.0f} {out['n_iter'].mean():6.1f} {converged.mean():8.1%}   {', '.join(scatter)}"


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stars", type=int, default=5000, help="training spectra")
    parser.add_argument("--paper", action="store_true", help="also the network of the paper")
    parser.add_argument("--test", type=int, default=1000, help="spectra that are not learnt")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    default_network = Payne()
    if options.small:
        options.stars, options.test = 80, 16
        default_network = Payne(hidden=(8,), max_rounds=2)
    torch.set_num_threads(1)
    print(f"{platform.processor() or platform.machine()}, torch {torch.__version__}, one thread")
    start = time.process_time()
    training, held_out = spectra(options.stars, 1, 1000.0), spectra(options.test, 2, 1e6)
    print(
        f"{options.stars:,} + {options.test:,} spectra of {held_out.flux.shape[1]} pixels: "
        f"{time.process_time() - start:.0f} s"
    )
    print("residuals [%]      std     cores   mean |r|    cores   training [s]")
    networks = {"default": default_network} | ({"paper's": PAPER} if options.paper else {})
    for name, payne in networks.items():
        start = time.process_time()
        fitted = payne.fit(training)
        seconds = time.process_time() - start
        print(f"{name:9s} {payne.hidden} {residuals(fitted, held_out)} {seconds:9.0f}", flush=True)
        networks[name] = fitted
    print("fit of 4 labels and RV at S/N 100   stars/s  evals converged   1.48 MAD: teff, logg, feh, vsini")
    for name, fitted in networks.items():
        for dtype in ("float64", "float32"):
            quick = Payne(**fitted.training_options, dtype=dtype, model=fitted.model)
            print(f"{name:9s} {dtype:24s} {speed(quick, held_out, 100.0)}", flush=True)


if __name__ == "__main__":
    main()
