"""LASP: labels by fitting an empirical emulator of stellar spectra.

Liang et al. (2025), Wu et al. (2011); the forward model is in ``forward``, the fit in ``kernels.least_squares``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from specxr.content import short_fingerprint
from specxr.emulators import open_emulator
from specxr.emulators.polynomial import PolynomialEmulator
from specxr.estimators.backend import DTYPES, check_backend, check_choice
from specxr.estimators.base import Block, Output
from specxr.estimators.lasp.fit import Fit, Fitter
from specxr.estimators.lasp.forward import LN_TEFF, N_PARAMETERS
from specxr.estimators.lasp.labels import infer_labels, radial_velocity
from specxr.estimators.lasp.lines import instrument_width
from specxr.estimators.lasp.normalise import needed_pixels, observe_block
from specxr.estimators.lasp.prepare import Prepared, fit_window, prepare
from specxr.estimators.lasp.solvers import SINGLE_START, SOLVERS
from specxr.estimators.observe import Observed
from specxr.estimators.outputs import assemble, model_spectra, outputs_of
from specxr.estimators.quality import Judge, Quality
from specxr.kernels.compiled.ready import make_ready
from specxr.kernels.least_squares import LANES
from specxr.spectra.grid import Grid
from specxr.spectra.line_spread import LineSpread
from specxr.spectra.pixels import bits_of, names_of_bits
from specxr.vocabulary import LEFT_OUT, START, START_INPUTS, Flag

# Changes whenever the labels of the same options and emulator may change.
_CODE_VERSION = "4"
# Error of the emulator at high S/N, as a share of the flux (docs/methods/lasp.md).
_MODEL_ERROR = 0.009


@dataclass(frozen=True)
class LASP:
    """Radial velocity, Teff, logg, [Fe/H] and line broadening of each star.

    The model is an emulator's spectrum, shifted and broadened by a Gaussian and multiplied by a polynomial; it is
    fitted to the flux divided by a quantile of it.

    Parameters
    ----------
    emulator : str, Path or PolynomialEmulator
        A file (ULySS TGM ``.fits``, or ``.safetensors``), or "default" for the embedded one.
    clean : bool
        Reject outlying pixels and fit again until they no longer change (Clean); otherwise only masked pixels are
        left out (No Clean).
    two_stage : bool
        Also divide the flux by the fitted shape and fit again, the official pipeline's second stage, and flag the
        stars whose labels then differ by more than their errors. The labels are those of the first stage.
    solver : {"lm", "adam", "curve_fit"}
        "lm" is a batched Levenberg-Marquardt with variable projection, "adam" the optimiser of the paper, "curve_fit"
        that of scipy, one star at a time. The last two begin at `start` or at the best template; the first tries
        several starts and keeps the lowest cost.
    start : tuple of float, optional
        Teff [K], logg and [Fe/H] with which the fits begin.
    window : tuple of float
        First and last wavelength of the fit [Angstrom], in the emulator's medium.
    degree : int
        Degree of the shape polynomial.
    vsini : bool
        Fit v sin i [km/s] (Gray's profile, limb darkening 0.6) on top of the instrument's Gaussian, in place of one
        Gaussian for both.
    line_spread : LineSpread, optional
        Line spread of the spectra, used with `vsini`; the cube's, if it is not given.
    quantile : float
        Quantile of the flux by which the flux is divided.
    weighted : bool
        Weigh pixels by their inverse variance. Errors are then those that the variances imply; otherwise they are
        scaled by the residuals.
    mask_bits : int or str
        Bits of the mask that leave a pixel out, or their names with commas between them, such as "sky,bad_always".
        "missing", "no_ivar" and "bad_flux" always do (docs/reference/masks.md).
    device : str
        "cpu" or "cuda".
    dtype : {"float64", "float32"}
        Precision of the arithmetic; the Jacobian is in single precision in both cases.

    References
    ----------
    Liang, J.-C., et al. 2025, Scalable Stellar Parameter Inference Using Python-based LASP, sections 2.1-2.2.
    Wu, Y., et al. 2011, Research in Astronomy and Astrophysics, 11, 924.

    Examples
    --------
    >>> import specxr
    >>> lasp = specxr.LASP("default")
    >>> lasp.labels
    ('rv', 'teff', 'logg', 'feh', 'sigma')
    """

    emulator: str | Path | PolynomialEmulator = "default"
    clean: bool = False
    two_stage: bool = False
    solver: str = "lm"
    start: tuple[float, float, float] | None = None
    window: tuple[float, float] = (4200.0, 5700.0)
    degree: int = 50
    vsini: bool = False
    line_spread: LineSpread | None = None
    quantile: float = 0.5
    weighted: bool = False
    mask_bits: int | str = int(LEFT_OUT)
    device: str = "cpu"
    dtype: str = "float64"

    def __post_init__(self) -> None:
        if not isinstance(self.emulator, PolynomialEmulator):
            object.__setattr__(self, "emulator", open_emulator(self.emulator))
        object.__setattr__(self, "window", (float(self.window[0]), float(self.window[1])))
        if self.start is not None:
            object.__setattr__(self, "start", tuple(float(value) for value in self.start))
        object.__setattr__(self, "mask_bits", bits_of(self.mask_bits))
        _check_options(self)

    @property
    def labels(self) -> tuple[str, ...]:
        """What it infers."""
        return ("rv", "teff", "logg", "feh", "vsini" if self.vsini else "sigma")

    @property
    def inputs(self) -> tuple[str, ...]:
        """Labels that the fits may begin with."""
        return START_INPUTS

    @property
    def outputs(self) -> tuple[Output, ...]:
        """Every variable of a block."""
        chi2 = "chi-squared over the pixels used"
        if not self.weighted:
            chi2 = "sum of squared residuals of flux / median(flux) over the pixels used"
        return outputs_of(self.labels, chi2)

    @property
    def _emulator(self) -> PolynomialEmulator:
        assert isinstance(self.emulator, PolynomialEmulator)
        return self.emulator

    @classmethod
    def from_provenance(cls, provenance: Mapping[str, Any], **options: Any) -> Self:
        """Build the estimator that has this provenance; `options` replace what it says."""
        source = options.pop("emulator", provenance["emulator_source"])
        if not source:
            raise ValueError(
                f"the emulator {provenance['emulator']!r} of these labels was not opened from a file; a file is "
                "required to open it again. Give the emulator: open_estimator(provenance, emulator=...)."
            )
        known = {f.name: provenance[f.name] for f in fields(cls) if f.name in provenance}
        if known.get("line_spread") is not None:
            known["line_spread"] = LineSpread.from_json(json.dumps(known["line_spread"]))
        return cls(**{**known, **options, "emulator": source})

    @property
    def provenance(self) -> dict[str, Any]:
        """Options and the emulator that produced the labels."""
        return {
            "estimator": "LASP",
            "estimator_version": _CODE_VERSION,
            "emulator": self._emulator.name,
            "emulator_source": self._emulator.source or "",
            "emulator_fingerprint": self._emulator.fingerprint,
            "clean": self.clean,
            "two_stage": self.two_stage,
            "solver": self.solver,
            "start": self.start,
            "window": list(self.window),
            "degree": self.degree,
            "vsini": self.vsini,
            "line_spread": None if self.line_spread is None else json.loads(self.line_spread.to_json()),
            "quantile": self.quantile,
            "weighted": self.weighted,
            "mask_bits": names_of_bits(bits_of(self.mask_bits)),
            "device": self.device,
            "dtype": self.dtype,
            "errors": "inverse of J^T J"
            + ("" if self.weighted else ", scaled by the mean squared residual over n_good - 5"),
        }

    @property
    def fingerprint(self) -> str:
        """Content hash of options, emulator and code version."""
        return short_fingerprint({**self.provenance, "emulator_source": ""})

    def check(self, grid: Grid) -> None:
        """Raise before anything is computed where this grid cannot be fitted.

        On a CPU the fit is compiled as well, unless this machine has compiled it before: so it is ready before the
        workers of a bulk run start.

        Raises
        ------
        ValueError
            The grid is not logarithmic, leaves too few pixels in the window, or is not covered by the emulator.
        """
        pixels = fit_window(grid, self._emulator, self.window)
        n_pixel = pixels.stop - pixels.start
        needed = needed_pixels(self.degree)
        if n_pixel <= needed:
            raise ValueError(
                f"{n_pixel} pixels of the cube, which covers {grid.described}, lie in the window {self.window[0]:g}-"
                f"{self.window[1]:g} A ({self._emulator.medium}); more than {needed} are required, two for"
                f" each coefficient of a polynomial of degree {self.degree} and for each of {N_PARAMETERS} labels."
                " Widen `window`, or lower `degree`."
            )
        self._emulator.check_coverage(grid[pixels].edges, grid.medium)
        if self.vsini:
            instrument_width(self._emulator, grid[pixels], self.line_spread or grid.line_spread)
        if self.device == "cpu":
            make_ready(self.solver, self.clean)

    def estimate(self, block: Block, spectra: bool = False) -> dict[str, NDArray[Any]]:
        """Fit every star of a block; see ``outputs`` for what comes back."""
        prepared, observed = self.prepare(block.grid), self.observe(block)
        fitter = Fitter(prepared, SOLVERS[self.solver], LANES[prepared.lower.device.type])
        starts, tried = self._starts(block, prepared, observed)
        first = fit = fitter.from_starts(observed, starts, tried)
        if self.clean:
            fit = fitter.clean(observed, first)
        rivals = {}
        if self.clean:
            rivals[Flag.CLEAN_DISAGREES] = first
        if self.two_stage:
            rivals[Flag.STAGES_DISAGREE] = fitter.second_stage(observed, fit)
        quality = self._judge(block, observed, fitter, fit)
        out = assemble(self.labels, observed, infer_labels(prepared, fit, rivals, quality, self.weighted))
        if not spectra:
            return out

        def model(index: Tensor) -> Tensor:
            return fitter.models(observed, fit, index)[1]

        return out | model_spectra(block, observed, fit.sqrt_weight > 0, model, fitter.lanes)

    def observe(self, block: Block) -> Observed:
        """Cut, normalise and weigh the spectra of a block."""
        return observe_block(
            block,
            self.prepare(block.grid),
            bits_of(self.mask_bits),
            degree=self.degree,
            quantile=self.quantile,
            weighted=self.weighted,
        )

    def _judge(self, block: Block, observed: Observed, fitter: Fitter, fit: Fit) -> Quality:
        """What the residuals say of the fits."""
        prepared = fitter.prepared
        padding = (0, observed.flux.shape[1] - prepared.n_pixel)

        def spectra(index: Tensor) -> tuple[Tensor, ...]:
            polynomial, model = fitter.models(observed, fit, index)
            ivar = torch.from_numpy(block.ivar[observed.star[index.cpu().numpy()], prepared.pixels])
            known = torch.nn.functional.pad(ivar.to(index.device) * observed.scale[index].square(), padding)
            variance = torch.where(known > 0, 1.0 / known, torch.nan)
            used, usable = fit.sqrt_weight[index] > 0, observed.sqrt_weight[index] > 0
            return observed.flux[index], model, polynomial, used, usable, variance

        judge = Judge(prepared.grid, _MODEL_ERROR, self.degree + 1 + N_PARAMETERS)
        return judge(spectra, radial_velocity(prepared, fit))

    def _starts(self, block: Block, prepared: Prepared, observed: Observed) -> tuple[Tensor, Tensor]:
        """Starts of each star, shapes (fitted, start, 5) and (fitted, start): templates, then what was given."""
        starts, tried = prepared.coarse.starts(observed.flux, observed.sqrt_weight)
        given = self._given(block, observed, starts[:, 0])
        if self.solver in SINGLE_START:
            starts, tried = starts[:, :1], tried[:, :1]
            if given is not None:
                known = torch.isfinite(given).all(dim=1)[:, None]
                starts = torch.where(known, given, starts[:, 0])[:, None]
        elif given is not None:
            starts = torch.cat((starts, given[:, None]), dim=1)
            tried = torch.cat((tried, torch.isfinite(given).all(dim=1)[:, None]), dim=1)
        return starts, tried

    def _given(self, block: Block, observed: Observed, best: Tensor) -> Tensor | None:
        """Starts from outside, shape (fitted, 5), with the velocity and width of the best template."""
        if all(name in block.inputs for name in START_INPUTS):
            given = np.stack([np.asarray(block.inputs[name], "f8") for name in START_INPUTS], axis=1)
            labels = torch.from_numpy(given[observed.star]).to(best.device, best.dtype)
        elif self.start is not None:
            labels = best.new_tensor(self.start).expand(len(best), 3)
        else:
            return None
        labels = torch.cat((labels[:, :1].log(), labels[:, 1:]), dim=1)
        return torch.cat((best[:, :LN_TEFF], labels), dim=1)

    def prepare(self, grid: Grid) -> Prepared:
        """Bring the emulator to a grid; kept for the next block."""
        self.check(grid)
        return prepare(
            self._emulator,
            grid,
            self.window,
            self.degree,
            self.vsini,
            self.line_spread or grid.line_spread,
            DTYPES[self.dtype],
            torch.device(self.device),
        )


def _check_options(lasp: LASP) -> None:
    check_choice("solver", lasp.solver, SOLVERS)
    check_backend(lasp.device, lasp.dtype)
    if not lasp.window[0] < lasp.window[1]:
        raise ValueError(
            f"window {lasp.window} is empty; a first wavelength below the last one is required. Give it as (first,"
            " last) in Angstrom."
        )
    if lasp.line_spread is not None and not isinstance(lasp.line_spread, LineSpread):
        raise ValueError(
            f"line_spread is {lasp.line_spread!r}; a LineSpread is required. Use"
            " LineSpread.constant(resolving_power), or set it on the cube."
        )
    if lasp.degree < 0:
        raise ValueError(f"degree is {lasp.degree}; 0 or more is required. Choose a degree, 50 as published.")
    if not 0 < lasp.quantile < 1:
        raise ValueError(f"quantile is {lasp.quantile}; between 0 and 1 is required. Use 0.5 as published.")
    if lasp.start is not None:
        for name, value in zip(START, lasp.start, strict=True):
            low, high = lasp._emulator.bounds[name]
            if not low <= value <= high:
                raise ValueError(
                    f"start has {name} = {value:g}; {low:g} to {high:g}, the emulator's bounds, are required."
                    " Choose a start within them."
                )
