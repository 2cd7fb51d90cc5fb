"""Print formal errors of LASP beside the scatter between repeat visits of LAMOST DR8, and the floors that join them.

python tests/benchmarks/repeats.py [--shared ../shared]
"""

import argparse
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

import specxr
from specxr.cubes.ingestion import ingest
from specxr.cubes.tables import label_table
from specxr.validation.repeats import repeat_table


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
    groups = pd.read_csv(shared / "lamost_dr8_repeats/groups.csv").drop_duplicates("combined_obsid")
    group = groups.set_index("combined_obsid").GroupID
    snr = groups.set_index("combined_obsid").combined_snrg
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "repeats.zarr"
        files = sorted((shared / "lamost_dr8_repeats/fits").glob("*.fits*"))
        ingest("lamost-lrs", files[: 12 if options.small else None], path)
        for clean in (False, True):
            lasp = specxr.LASP(shared / "elodie/elodie32_flux_tgm_4199_5700.fits", clean=clean)
            table = label_table(specxr.infer(specxr.open_cube(path), lasp))
            table = table[(table.result == "converged") & table.obsid.isin(group.index)]
            rows = repeat_table(table, group.loc[table.obsid], snr.loc[table.obsid])
            print(f"\n{'Clean' if clean else 'No Clean'}: formal error / repeat scatter / floor, by S/N_g")
            for row in rows.itertuples():
                shown = "  ".join(
                    f"{name} {getattr(row, name + '_formal'):.3f} / {getattr(row, name + '_repeat'):.3f}"
                    f" / {getattr(row, name + '_floor'):.3f}"
                    for name in ("rv", "teff", "logg", "feh")
                )
                print(f"  {row.lower:4.0f}-{row.upper:3.0f} {row.n:4d} pairs  {shown}")


if __name__ == "__main__":
    main()
