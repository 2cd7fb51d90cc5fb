"""Draw how the cost of LASP's fit depends on Teff and logg for ten A stars of LAMOST DR10.

    python recipes/a_star_cost_maps.py [--shared ../shared] [--out docs/images/a_star_cost_maps.png]

At each point of the map [Fe/H], radial velocity, line width and shape are fitted. The recipe prints the lowest cost
from each of LASP's starts, and the cost where the official labels are held. Expected time: three minutes on one core;
`--small` takes some seconds. The only file that is written is `--out`.
"""

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.colors import BoundaryNorm
from matplotlib.figure import Figure

from specxr import LASP
from specxr.estimators.base import Block
from specxr.estimators.lasp.fit import Fitter
from specxr.estimators.lasp.forward import LN_TEFF, LOGG
from specxr.estimators.lasp.prepare import Prepared
from specxr.estimators.lasp.solvers import solve_lm
from specxr.estimators.observe import Observed
from specxr.kernels.least_squares import LANES, levenberg_marquardt
from specxr.readers.lamost_lrs import GRID, read_spectrum


@dataclass(frozen=True)
class Map:
    """Number of stars, and temperatures [K] and gravities of the map.

    The stars lie between 6,300 and 11,500 K and have S/N_g > 60. Ten of them show maps with one minimum and with two,
    and the boundaries of the emulator at 7000 and 9000 K.
    """

    n_stars: int
    teff: np.ndarray
    logg: np.ndarray


LARGE = Map(10, np.geomspace(6000, 13000, 60), np.linspace(2.4, 5.2, 24))
SMALL = Map(2, np.geomspace(6000, 13000, 5), np.linspace(2.4, 5.2, 3))


def choose(table: pd.DataFrame, n_stars: int) -> pd.DataFrame:
    """A stars spread evenly over the official temperatures."""
    bright = table[(table.type == "A") & (table.snrg > 60) & table.teff.between(6300, 11500)].sort_values(
        "teff"
    )
    return bright.iloc[np.linspace(0, len(bright) - 1, n_stars).round().astype(int)].reset_index(drop=True)


def held_cost(
    prepared: Prepared, observed: Observed, star: torch.Tensor, labels: torch.Tensor, n_held: int
) -> torch.Tensor:
    """Lowest cost with the first ``n_held`` of (ln Teff, logg, [Fe/H]) held; labels of shape (job, 3)."""
    start = prepared.coarse.starts(observed.flux, observed.sqrt_weight)[0][star, 0]
    start[:, LN_TEFF:] = labels
    lower, upper = (bound.repeat(len(star), 1) for bound in (prepared.lower, prepared.upper))
    held = slice(LN_TEFF, LN_TEFF + n_held)
    lower[:, held] = upper[:, held] = start[:, held]
    return levenberg_marquardt(
        lambda p, s: prepared.model.linearise(p, observed.flux[s], observed.sqrt_weight[s]),
        star,
        start,
        lower,
        upper,
        lanes=LANES["cpu"],
        rtol=1e-4,
    ).cost


def cost_maps(prepared: Prepared, observed: Observed, points_of: Map) -> np.ndarray:
    """Cost on the map, shape (star, logg, teff): the lower of two starts in [Fe/H]."""
    teff, logg = np.meshgrid(np.log(points_of.teff), points_of.logg)
    points = torch.from_numpy(np.column_stack([teff.ravel(), logg.ravel()]))
    n_star, n_point = len(observed.flux), len(points)
    star = torch.arange(n_star).repeat_interleave(n_point)
    costs = []
    for feh in (-1.0, 0.0):
        labels = torch.column_stack([points, torch.full((n_point,), feh, dtype=points.dtype)]).repeat(
            n_star, 1
        )
        costs.append(held_cost(prepared, observed, star, labels, 2))
    return torch.minimum(*costs).reshape(n_star, *teff.shape).numpy()


def draw(
    size: Map, table: pd.DataFrame, maps: np.ndarray, ends: list[np.ndarray], best: pd.DataFrame
) -> Figure:
    figure = Figure(figsize=(15, 6.4), layout="constrained")
    axes = figure.subplots(2, size.n_stars // 2, sharex=True, sharey=True).ravel()
    levels = [0, 0.002, 0.01, 0.03, 0.1, 0.3, 1, 3]
    norm = BoundaryNorm(levels, 256, extend="max")
    for i, ax in enumerate(axes):
        excess = maps[i] / best.chi2[i] - 1
        shown = ax.contourf(
            size.teff, size.logg, excess, levels=levels, norm=norm, cmap="cividis_r", extend="max"
        )
        for boundary in (7000, 9000):
            ax.axvline(boundary, color="0.5", linewidth=0.8, linestyle=":")
        ax.plot(ends[i][:, 0], ends[i][:, 1], "o", ms=5, mfc="none", mec="white", label="ends of the starts")
        ax.plot(best.teff[i], best.logg[i], "*", ms=11, color="#d55e00", mec="white", label="lowest cost")
        ax.plot(table.teff[i], table.logg[i], "P", ms=8, color="#009e73", mec="white", label="official")
        ax.set_title(f"{table.obsid[i]}, S/N {table.snrg[i]:.0f}", fontsize=9)
        ax.set_xscale("log")
        ax.set_xticks([6000, 7000, 8000, 9000, 10000, 12000], labels=["6", "7", "8", "9", "10", "12"])
        ax.minorticks_off()
        ax.set_xlim(size.teff[0], size.teff[-1])
        ax.set_ylim(size.logg[-1], size.logg[0])
    axes[0].legend(fontsize=7, loc="lower right")
    figure.supxlabel("Teff [1000 K]")
    figure.supylabel("log g [dex]")
    figure.colorbar(shown, ax=axes, label="cost / lowest cost - 1", pad=0.01)
    return figure


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    default = Path(os.environ.get("SPECXR_SHARED", "../shared"))
    parser.add_argument("--shared", type=Path, default=default, help="folder of shared data (%(default)s)")
    parser.add_argument(
        "--out", type=Path, default=Path("docs/images/a_star_cost_maps.png"), help="figure (%(default)s)"
    )
    parser.add_argument("--small", action="store_true", help="two stars and a coarse map, in seconds")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    shared = options.shared / "data"
    if not shared.exists():
        raise SystemExit(
            f"{shared} is absent; the shared data are required. Set SPECXR_SHARED or give --shared."
        )
    size = SMALL if options.small else LARGE
    table = choose(pd.read_csv(shared / "lamost_dr10/labels.csv"), size.n_stars)
    spectra = [read_spectrum(shared / "lamost_dr10/fits" / name) for name in table.file]
    block = Block(GRID, *(np.stack([getattr(s, name) for s in spectra]) for name in ("flux", "ivar", "mask")))
    lasp = LASP(shared / "elodie/elodie32_flux_tgm_4199_5700.fits")
    prepared = lasp.prepare(GRID)
    observed = lasp.observe(block)
    best = pd.DataFrame({k: v for k, v in lasp.estimate(block).items() if v.ndim == 1})
    official = torch.from_numpy(np.column_stack([np.log(table.teff), table.logg, table.feh]))
    held = held_cost(prepared, observed, torch.arange(size.n_stars), official, 3).numpy()

    starts, tried = prepared.coarse.starts(observed.flux, observed.sqrt_weight)
    fitter = Fitter(prepared, solve_lm, LANES["cpu"])
    ends = []
    print(
        "   official            ours                cost at the official labels / ours; where single starts end"
    )
    for i in range(size.n_stars):
        used = starts[i][tried[i]]
        jobs = fitter.solve(observed.flux, observed.sqrt_weight, torch.full((len(used),), i), used, 1e-6)
        end = jobs.parameters.numpy()
        ends.append(np.column_stack([np.exp(end[:, LN_TEFF]), end[:, LOGG]]))
        shown = ", ".join(
            f"{t:.0f} ({c:.3f})" for t, c in zip(ends[-1][:, 0], jobs.cost / best.chi2[i], strict=True)
        )
        print(
            f"  {table.teff[i]:6.0f} {table.logg[i]:5.2f} {table.feh[i]:5.2f}   {best.teff[i]:6.0f} {best.logg[i]:5.2f}"
            f" {best.feh[i]:5.2f}   {held[i] / best.chi2[i]:6.3f}   {shown}"
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    draw(size, table, cost_maps(prepared, observed, size), ends, best).savefig(options.out, dpi=80)
    print(f"drawn: {options.out}")


if __name__ == "__main__":
    main()
