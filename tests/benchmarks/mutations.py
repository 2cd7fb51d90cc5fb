"""Damaged files of each survey: none may crash a reader, keep it busy, or give a spectrum at another place.

PYTHONPATH=tests python tests/benchmarks/mutations.py --n 5000
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

from astropy.io import fits
from support.mutations import try_files

FILES = {
    "boss": "boss/spec-3586-55181-0500.fits",
    "sdss": "mdwarfs/sdss/spec-0618-52049-0372.fits",
    "boss-exposures": "mdwarfs/sdss/spec-4068-55445-0924.fits",
    "desi": "desi/coadd-sv3-dark-26065.fits",
    "apogee": "apogee/apStar-r6-2M17334253-1654573.fits",
    "apogee-visits": "apogee/apStar-r6-2M17334253-1654573.fits",
    "aspcap": "apogee/aspcapStar-r6-l30e.2-2M03441583+3159367.fits",
    "lamost-lrs": "lamost_mdwarfs/spec-55863-M31_011N40_B1_sp08-025.fits.gz",
}


def _small(file: Path, survey: str, folder: Path) -> Path:
    """The file as it is, or what a spec-lite file has of a full one: its exposures are most of its size."""
    if survey not in ("boss", "sdss"):
        return file
    lite = folder / f"lite-{file.name}"
    with fits.open(file) as hdus:
        fits.HDUList(hdus[:4]).writeto(lite)
    return lite


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=5000, help="number of damaged files of each survey")
    parser.add_argument("surveys", nargs="*", default=list(FILES))
    parser.add_argument("--small", action="store_true", help="a run of seconds that only shows that it works")
    options = parser.parse_args(argv)
    n = 3 if options.small else options.n
    data = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data"
    print("| survey | read | refused | complaints | longest [s] |\n| --- | --- | --- | --- | --- |")
    for survey in options.surveys:
        with tempfile.TemporaryDirectory() as folder:
            file = _small(data / FILES[survey], survey, Path(folder))
            read, refused, complaints, longest = try_files(survey, file, Path(folder), n)
        print(f"| {survey} | {read} | {refused} | {len(complaints)} | {longest:.2f} |", flush=True)
        for complaint in complaints[:10]:
            print("   ", complaint)


if __name__ == "__main__":
    main()
