"""Print how long PySME takes for a spectrum, and what the lines that are left out would change at R = 1800.

    python tests/benchmarks/line_selection.py

PySME is required, in an environment of its own (docs/methods/training.md). Times are those of the processor.
"""

import argparse
import sys
import time
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter1d

from specxr.spectra.line_spread import FWHM_TO_SIGMA
from specxr.synthesis.atmospheres import read_atmosphere
from specxr.synthesis.pysme import PySMESpectra

sys.path.insert(0, str(Path(__file__).parent))
from real_stars import SHARED  # noqa: E402

FOLDER = SHARED.parent / "synthesis"
MODELS = ("t08250g4.00", "t10250g5.00")
STARS = ((8250.0, 4.0), (10250.0, 5.0), (9000.0, 3.5))
STEP = 0.5e-4 * np.log(10.0)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--window", nargs=2, type=float, default=(4400.0, 4600.0), help="[Angstrom, air]")
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    if not FOLDER.exists() or find_spec("pysme") is None:
        raise SystemExit(
            "PySME or the shared data are absent; both are required. See docs/methods/training.md."
        )
    low, high = np.log((4400.0, 4430.0) if options.small else options.window)
    models = [read_atmosphere(FOLDER / f"at12_aaaaa_{name}.atm") for name in MODELS]
    edges = np.exp(np.arange(low, high, STEP))
    print("| Teff [K] | log g | weakest line | time [s] | rms, largest difference |\n|" + " --- |" * 5)
    for star in STARS[:1] if options.small else STARS:
        found = []
        for weakest in (1e-4, 1e-2):
            generator = PySMESpectra(
                models, sorted(FOLDER.glob("moogatom*.gz")), edges, ("teff", "logg"), weakest
            )
            begin = time.process_time()
            flux = generator.spectra(np.array([star]))[0]
            seconds = time.process_time() - begin
            found.append(gaussian_filter1d(flux, FWHM_TO_SIGMA / 1800.0 / STEP))
            away = (found[-1] - found[0])[20:-20]
            change = f"{np.sqrt(np.mean(away**2)):.5f}, {np.abs(away).max():.5f}"
            print(f"| {star[0]:.0f} | {star[1]} | {weakest:g} | {seconds:.1f} | {change} |", flush=True)


if __name__ == "__main__":
    main()
