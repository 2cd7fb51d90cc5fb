"""Print the gradient of [Fe/H] of Cepheids and open clusters, and what weights, scatter, errors and cuts change.

    python tests/benchmarks/tracers.py [--out tracers.png]

Cepheids of Genovali et al. (2014, table 4) and Luck (2018, tables 1 and 7), open clusters of OCCAM (Donor et al. 2020).
The Cepheids' tables have no errors of [Fe/H]: 0.10 dex are taken, which Genovali et al. give as typical.
"""

import argparse
import os
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table, join
from matplotlib.figure import Figure

from specxr.galaxy import fit_gradient
from specxr.plotting import plot_radial_gradient, save_figure
from specxr.published.hot_stars import CEPHEID_SLOPE, GRADIENT_SELECTION

CATALOGUES = Path(os.environ.get("SPECXR_SHARED", "../shared")) / "data" / "catalogues"
FEH_ERROR = 0.10
Columns = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def tracers() -> dict[str, Columns]:
    """Radius, [Fe/H] and the errors of both; rows without one of them are left out."""
    warnings.simplefilter("ignore")  # of these old files: units and null values that FITS does not know
    genovali = Table.read(CATALOGUES / "cepheids" / "genovali2014_tab4.fit", hdu=1)
    luck = join(
        *(Table.read(CATALOGUES / "cepheids" / f"luck2018_tab{n}.fit", hdu=1) for n in (1, 7)), keys="Name"
    )
    occam = Table.read(CATALOGUES / "occam_cluster-DR16.fits", hdu=1)
    occam = occam[occam["QUAL"] >= 1]
    # The radius of a Cepheid of Luck, at the three distances of his table, is known as well as they agree.
    plx = np.abs(column(luck, "dmax") - column(luck, "dmin")) / 2000.0
    return {
        "Cepheids, Genovali et al. (2014)": known(
            column(genovali, "Rgal") / 1e3,
            column(genovali, "__Fe_H_"),
            FEH_ERROR,
            column(genovali, "e_Rgal") / 1e3,
        ),
        "Cepheids, Luck (2018)": known(column(luck, "RG-BJ"), column(luck, "__Fe_H_"), FEH_ERROR, plx),
        "open clusters, OCCAM DR16": known(
            column(occam, "R_GC_CG"), column(occam, "FE_H"), np.maximum(column(occam, "FE_H_ERR"), 0.01), 0.2
        ),
    }


def column(table: Table, name: str) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(table[name]).astype("f8"), np.nan)


def known(*columns: object) -> Columns:
    arrays = np.broadcast_arrays(*(np.asarray(c, "f8") for c in columns))
    there = np.isfinite(sum(arrays)) & (arrays[0] > 0) & (arrays[0] < 30)
    return tuple(array[there] for array in arrays)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, help="figure that is written")
    parser.add_argument("--small", action="store_true", help="the same: it takes some seconds")
    options = parser.parse_args(argv)
    if not CATALOGUES.exists():
        raise SystemExit(f"{CATALOGUES} is absent; catalogues of tracers are required. Set SPECXR_SHARED.")
    stars = tracers()
    drawn = Figure(figsize=(6.4, 9.6), layout="constrained")
    for ax, (name, (r, y, e, dr)) in zip(
        drawn.subplots(len(stars), 1, sharex=True), stars.items(), strict=True
    ):
        inside = (r > GRADIENT_SELECTION.radius[0]) & (r < GRADIENT_SELECTION.radius[1])
        plain = np.polyfit(r, y, 1)[0]
        weighted = np.polyfit(r, y, 1, w=1.0 / e)[0]
        fits = {
            "errors and intrinsic scatter": fit_gradient(r, y, e, outliers=False),
            "and errors of the radius": fit_gradient(r, y, e, dr, outliers=False),
            "and outliers": fit_gradient(r, y, e, dr),
            "of these 6-15 kpc": fit_gradient(r[inside], y[inside], e[inside], dr[inside]),
            "broken": fit_gradient(r, y, e, dr, broken=True),
        }
        print(f"\n{name}: {len(r)} tracers, {r.min():.1f}-{r.max():.1f} kpc; slopes in dex/kpc")
        print(f"  {'no weights':30s} {plain:+.4f}\n  {'weights of the errors':30s} {weighted:+.4f}")
        for title, fit in fits.items():
            v, s = fit.values, fit.errors
            print(
                f"  {title:30s} {v['slope']:+.4f} +- {s['slope']:.4f}; scatter {v['scatter']:.3f}, outliers "
                f"{v.get('outliers', 0):.1%}, correlation of slope and zero point at 8 kpc {correlation(fit):+.2f}"
            )
        broken, straight = fits["broken"], fits["and outliers"]
        print(
            f"  break at {broken.values['break_radius']:.1f} +- {broken.errors['break_radius']:.1f} kpc, outer slope "
            f"{broken.values['outer_slope']:+.4f} +- {broken.errors['outer_slope']:.4f}; BIC of straight minus "
            f"broken {straight.bic - broken.bic:+.1f}"
        )
        plot_radial_gradient(r, y, {"straight": straight, "broken": broken}, ax=ax)
        ax.set_title(f"{name}, {len(r)}", fontsize="medium", loc="left")
        ax.set_xlim(4.0, 19.0)
    paper = GRADIENT_SELECTION
    print(
        f"\npublished: Cepheids {CEPHEID_SLOPE[0]:+.3f} +- {CEPHEID_SLOPE[1]:.3f}, hot stars {paper.slope:+.3f} +- "
        f"{paper.slope_err:.3f}"
    )
    if options.out is not None:
        save_figure(drawn, options.out)


def correlation(fit: object) -> float:
    c = fit.covariance
    return float(c[0, 1] / np.sqrt(c[0, 0] * c[1, 1]))


if __name__ == "__main__":
    main()
