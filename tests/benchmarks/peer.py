"""Print how fast PyLASP's own programs are beside LASP, on the same spectra, in the same run.

    python tests/benchmarks/peer.py FOLDER [--spectra 'FOLDER/*.fits']

FOLDER is a checkout of the public program (https://github.com/LiangJunC/PyLASP), which is not part of this package,
with its emulator at FOLDER/tgm_model/elodie32_flux_tgm.fits; without ``--spectra`` those that it comes with are fitted.
One thread, processor seconds of fits alone: reading is not counted for either program.
"""

import argparse
import contextlib
import io
import os
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from specxr import LASP
from specxr.estimators.base import Block
from specxr.readers.lamost_lrs import GRID, read_spectrum


def seconds(function: Callable[[], object]) -> float:
    start = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        function()
    return time.process_time() - start


def curve_fit(files: list[Path], emulator: str, clean: bool) -> float:
    from uly_fit.ulyss import ulyss
    from uly_read_lms.uly_spect_read_lms import uly_spect_read_lms

    options = {"public": True, "flux_median": True}
    spectra = [uly_spect_read_lms([4200], [5700], str(file), **options) for file in files]

    def fit() -> None:
        for spectrum in spectra:
            with contextlib.suppress(ValueError):  # its word for a polynomial that is not positive
                ulyss(spectrum, emulator, clean=clean, quiet=True)

    return seconds(fit)


def adam(files: list[Path], emulator: str, clean: bool) -> float:
    from data_to_pt.data_to_pt import data_to_pt
    from uly_fit.uly_fit_conv_poly_pytorch import uly_fit_conv_poly

    with tempfile.TemporaryDirectory() as folder:
        names = [file.name for file in files]
        with contextlib.redirect_stdout(io.StringIO()):
            data_to_pt(names, f"{files[0].parent}/", emulator, f"{folder}/", len(files), n_jobs=1)
        packed = str(next(Path(folder).glob("*.pt")))
        csv = str(Path(folder) / "labels.csv")
        return seconds(lambda: uly_fit_conv_poly(packed, len(files), 5000, csv, clean=clean))


def ours(block: Block, emulator: str, solver: str, clean: bool) -> float:
    lasp = LASP(emulator, solver=solver, clean=clean)
    lasp.estimate(Block(GRID, block.flux[:1], block.ivar[:1], block.mask[:1]))
    return seconds(lambda: lasp.estimate(block))


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="FOLDER", nargs="?")
    parser.add_argument("--spectra", help="LAMOST FITS files, in one folder")
    parser.add_argument("--small", action="store_true", help="the first spectrum only")
    options = parser.parse_args(argv)
    if options.folder is None:
        raise SystemExit("no FOLDER is given; a checkout of PyLASP is required. Clone it and give its path.")
    torch.set_num_threads(1)
    # Its Adam opens a file of arrays, which it has just written, in a way that newer versions of torch refuse.
    os.environ["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
    emulator = str(options.folder.resolve() / "tgm_model" / "elodie32_flux_tgm.fits")
    sys.path.insert(0, str(options.folder.resolve()))
    pattern = options.spectra or f"{options.folder}/test_data/LAMOST_spec_fits/*.fits*"
    files = sorted(Path(pattern).parent.glob(Path(pattern).name))
    if options.small:
        files = files[:1]
    spectra = [read_spectrum(file) for file in files]
    block = Block(GRID, *(np.stack([getattr(s, name) for s in spectra]) for name in ("flux", "ivar", "mask")))
    print(f"{len(files)} spectra, one thread, load {os.getloadavg()[0]:.1f}; ms a star")
    print("PyLASP     pixels     PyLASP  lm here  times  same solver here  times")
    for (name, theirs), clean in ((pair, c) for pair in PROGRAMS.items() for c in (False, True)):
        peer, lm, same = (
            1e3 * value / len(files)
            for value in (
                theirs(files, emulator, clean),
                ours(block, emulator, "lm", clean),
                ours(block, emulator, name, clean),
            )
        )
        label = "Clean" if clean else "No Clean"
        print(
            f"{name:10s} {label:8s} {peer:8.1f} {lm:8.2f} {peer / lm:6.0f} {same:17.2f} {peer / same:6.1f}",
            flush=True,
        )


PROGRAMS = {"curve_fit": curve_fit, "adam": adam}

if __name__ == "__main__":
    main()
