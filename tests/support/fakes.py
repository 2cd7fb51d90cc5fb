"""Estimators and cubes for tests of bulk runs: quick, exact, and faulty where a star says so."""

import itertools
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from distributed import WorkerPlugin
from zarr.storage import LocalStore

from specxr.cubes.schema import make_cube
from specxr.cubes.store import write_cube
from specxr.estimators.base import Output
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.vocabulary import Result, result_attrs

GRID = Grid(10.0 ** ((36990 + np.arange(20)) * 1e-4), "vacuum", "log10", 1e-4, LineSpread.constant(1800.0))

# A star whose first pixel has one of these values does that to whoever fits it.
RAISE, KILL, KILL_ONCE, HOG_ONCE = -1.0, -2.0, -3.0, -4.0


@dataclass(frozen=True)
class Mean:
    """Mean flux as teff, to which inputs are added; a log has a line for each block that was fitted."""

    log: str = ""
    scale: float = 1.0
    device: str = "cpu"
    inputs: tuple[str, ...] = ()

    labels = ("teff", "logg")
    weighted = False
    outputs = (
        Output("teff", ("star",), "float64", {"units": "K"}),
        Output("covariance", ("star", "label", "label_"), "float64"),
        Output("n_good", ("star",), "int32"),
        Output("result", ("star",), "uint8", result_attrs()),
    )

    @property
    def fingerprint(self):
        return f"mean {self.scale} {self.device}"

    @property
    def provenance(self):
        return {"estimator": "Mean", "scale": self.scale, "window": [1.0, 2.0]}

    def check(self, grid):
        if grid.medium != "vacuum":
            raise ValueError("the cube is in air; vacuum is required.")

    def estimate(self, block, spectra=False):
        self._suffer(block.flux[:, 0])
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{block.flux[0, 1]:.0f} {len(block.flux)}\n")
        teff = self.scale * block.flux.mean(1, dtype="f8")
        for name in self.inputs:
            teff += block.inputs.get(name, 0.0)
        model = {"model": np.broadcast_to(teff[:, None], block.flux.shape).astype("f4"),
                 "used": (block.mask == 0).astype("u1")}  # fmt: skip
        return (model if spectra else {}) | {
            "teff": teff,
            "covariance": np.einsum("s,ij->sij", teff, [[1.0, 0.1], [0.1, 2.0]]),
            "n_good": (block.mask == 0).sum(1, dtype="i4"),
            "result": np.where(teff > 50, Result.CONVERGED, Result.OUT_OF_BOUNDS).astype("u1"),
        }

    def _suffer(self, first):
        if (first == RAISE).any():
            raise ArithmeticError("this star cannot be fitted")
        if (first == KILL).any() or ((first == KILL_ONCE).any() and self._first_time()):
            os.kill(os.getpid(), signal.SIGKILL)
        if (first == HOG_ONCE).any() and self._first_time():
            hoard = np.ones(120_000_000)  # 960 MB, until the nanny ends this process
            threading.Event().wait()
            del hoard

    def _first_time(self):
        if not self.log:
            return False
        once = Path(self.log).with_name("done once")
        try:
            once.touch(exist_ok=False)
        except FileExistsError:
            return False
        return True


class KillWhileWriting(WorkerPlugin):
    """Kill the worker at a random one of its writes: before, in the middle or after; so many times in all.

    `folder` has an empty file for each kill.
    """

    def __init__(self, folder, kills, seed):
        self.folder, self.kills, self.seed = folder, kills, seed

    def setup(self, worker):
        killed = len(os.listdir(self.folder))
        rng = np.random.default_rng((self.seed, killed, os.getpid()))
        fatal, phase = rng.integers(1, 12), rng.choice(["before", "in the middle", "after"])
        writes = itertools.count(1)
        write = LocalStore._set

        async def write_or_die(store, key, value, **kwargs):
            dies = next(writes) == fatal and self._claim()
            if dies and phase == "in the middle":
                path = (store.root / key).with_suffix(".half.partial")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(value.to_bytes()[: len(value) // 2])
            if dies and phase != "after":
                os.kill(os.getpid(), signal.SIGKILL)
            await write(store, key, value, **kwargs)
            if dies:
                os.kill(os.getpid(), signal.SIGKILL)

        LocalStore._set = write_or_die

    def _claim(self):
        for kill in range(self.kills):
            try:
                Path(self.folder, str(kill)).touch(exist_ok=False)
            except FileExistsError:
                continue
            return True
        return False


def fake_cube(n_stars=40, first_obsid=1000, **stars):
    """Stars whose second pixel is their number; `stars` are further variables of each star."""
    rng = np.random.default_rng(20261120)
    flux = rng.normal(100, 30, (10_000, 20))[first_obsid - 1000 :][:n_stars]
    flux[:, 1] = np.arange(n_stars) + first_obsid - 1000
    obsid = first_obsid + np.arange(n_stars)
    return make_cube(flux, np.ones_like(flux), GRID, obsid=obsid, stars=stars)


def write_fake_cube(path, n_stars=40, star_chunk=5, faults=None, **stars):
    """Write a cube; `faults` maps stars to what they do."""
    cube = fake_cube(n_stars, **stars)
    for star, fault in (faults or {}).items():
        cube.flux[star, 0] = fault
    write_cube(cube, path, star_chunk=star_chunk)
    return path
