"""Estimators and cubes for tests of bulk runs: quick, exact, and faulty where a star says so."""

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from specxr.cube import make_cube
from specxr.estimators.base import Grid, Output
from specxr.store import write_cube
from specxr.vocabulary import Result, result_attrs

GRID = Grid(10.0 ** ((36990 + np.arange(20)) * 1e-4), "vacuum", "log10", 1e-4, 1800.0)

# A star whose first pixel has one of these values does that to whoever fits it.
RAISE, KILL, KILL_ONCE = -1.0, -2.0, -3.0


@dataclass(frozen=True)
class Mean:
    """Mean flux as teff; a log has a line for each block that was fitted."""

    log: str = ""
    scale: float = 1.0
    device: str = "cpu"

    labels = ("teff", "logg")
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

    def estimate(self, block):
        self._suffer(block.flux[:, 0])
        if self.log:
            with open(self.log, "a") as log:
                log.write(f"{block.flux[0, 1]:.0f} {len(block.flux)}\n")
        teff = self.scale * block.flux.mean(1, dtype="f8")
        return {
            "teff": teff,
            "covariance": np.einsum("s,ij->sij", teff, [[1.0, 0.1], [0.1, 2.0]]),
            "n_good": (block.mask == 0).sum(1, dtype="i4"),
            "result": np.where(teff > 50, Result.CONVERGED, Result.OUT_OF_BOUNDS).astype("u1"),
        }

    def _suffer(self, first):
        if (first == RAISE).any():
            raise ArithmeticError("this star cannot be borne")
        once = Path(self.log).with_name("killed once") if self.log else None
        if (first == KILL).any() or ((first == KILL_ONCE).any() and not once.exists()):
            if once:
                once.touch()
            os.kill(os.getpid(), signal.SIGKILL)


def fake_cube(n_stars=40, first_obsid=1000):
    """Stars whose second pixel is their number."""
    rng = np.random.default_rng(20261120)
    flux = rng.normal(100, 30, (10_000, 20))[first_obsid - 1000 :][:n_stars]
    flux[:, 1] = np.arange(n_stars) + first_obsid - 1000
    obsid = first_obsid + np.arange(n_stars)
    return make_cube(flux, np.ones_like(flux), np.zeros(flux.shape, "u1"), GRID, obsid=obsid)


def write_fake_cube(path, n_stars=40, star_chunk=5, faults=None):
    """Write a cube; `faults` maps stars to what they do."""
    cube = fake_cube(n_stars)
    for star, fault in (faults or {}).items():
        cube.flux[star, 0] = fault
    write_cube(cube, path, star_chunk=star_chunk)
    return path
