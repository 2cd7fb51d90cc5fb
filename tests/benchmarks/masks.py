"""Print what the survey's own mask bits do to labels: LASP with some of them left out, against the official labels.

    python tests/benchmarks/masks.py [--shared ../shared]

In files of LAMOST, pixels with these bits have the inverse variance 0 as well, and would be left out by that; it is
made unknown here, so that the bits alone decide. Each choice is made twice, for the spectra of even and of odd obsid:
what holds in one half only is chance.
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

import specxr
from specxr.cubes.ingestion import ingest
from specxr.validation import robust_scatter
from specxr.vocabulary import LEFT_OUT, MaskBit, Result

LABELS = ("teff", "logg", "feh")
CHOICES = {
    "neither": LEFT_OUT & ~(MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE),
    "BAD_ALWAYS": (LEFT_OUT | MaskBit.BAD_ALWAYS) & ~MaskBit.BAD_ONCE,
    "BAD_ALWAYS and BAD_ONCE": LEFT_OUT | MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE,
}


def groups(table: pd.DataFrame) -> dict[str, np.ndarray]:
    """Stars by type, S/N and half."""
    half = table.index.to_numpy() % 2
    warm, bright = table.type.isin(["G", "F"]).to_numpy(), (table.snrg > 50).to_numpy()
    return {
        f"{kind} {snr} {name}": (warm == is_warm) & (bright == is_bright) & (half == number)
        for kind, is_warm in (("G, F", True), ("A", False))
        for snr, is_bright in (("S/N > 50", True), ("S/N < 50", False))
        for name, number in (("even", 0), ("odd", 1))
    }


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
    with tempfile.TemporaryDirectory() as folder:
        files = sorted((shared / "lamost_dr10/fits").glob("*.fits.gz"))
        ingest("lamost-lrs", files[:: 200 if options.small else 1], Path(folder, "dr10.zarr"))
        cube = specxr.open_cube(Path(folder, "dr10.zarr")).compute()
    inside = (cube.wavelength > 4200) & (cube.wavelength < 5700)
    own = (cube.mask & int(MaskBit.BAD_ALWAYS | MaskBit.BAD_ONCE)) > 0
    for bit in (MaskBit.BAD_ALWAYS, MaskBit.BAD_ONCE):
        has = (cube.mask & int(bit)) > 0
        zero, spectra = (cube.ivar == 0).where(has), (has & inside).any("wavelength")
        print(
            f"{bit.name}: {float(has.mean()):.2%} of all pixels, {float(zero.mean()):.2%} of which have the inverse "
            f"variance 0; in the window, {int(spectra.sum())} of {spectra.size} spectra"
        )
    cube = cube.assign(
        ivar=cube.ivar.where(~own),
        mask=cube.mask.where(~own, cube.mask & ~np.uint16(MaskBit.NO_IVAR)).astype("u2"),
    )
    cube = cube.isel(
        star=np.flatnonzero((own & inside).any("wavelength"))
    )  # to the others it makes no difference
    table = pd.read_csv(shared / "lamost_dr10/labels.csv").set_index("obsid").loc[cube.obsid.values]
    emulator = shared / "elodie/elodie32_flux_tgm_4199_5700.fits"
    found = {
        name: specxr.infer(cube, specxr.LASP(emulator, mask_bits=int(bits))) for name, bits in CHOICES.items()
    }
    print("\nours - official, median +- 1.48 MAD, of the stars that converge with every choice")
    print(f"| stars | left out | N | converged | {' | '.join(LABELS)} | mean pixels |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    good = np.all([labels.result.values == Result.CONVERGED for labels in found.values()], axis=0)
    for stars, chosen in groups(table).items():
        both = chosen & good
        if not both.any():
            continue
        for name, labels in found.items():
            converged = (labels.result.values[chosen] == Result.CONVERGED).mean()
            offsets = []
            for label in LABELS:
                difference = labels[label].values[both] - table[label].to_numpy()[both]
                offsets.append(f"{np.median(difference):+.3f} +- {robust_scatter(difference):.3f}")
            pixels = labels.n_good.values[both].mean()
            print(
                f"| {stars} | {name} | {chosen.sum()} | {converged:.1%} | {' | '.join(offsets)} | {pixels:.0f} |"
            )


if __name__ == "__main__":
    main()
