"""The report of a bulk run: one HTML file that needs no other, from the ledger, the labels and a sample of spectra."""

from __future__ import annotations

import base64
import io
import os
import platform
from collections import Counter
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from dask.utils import format_bytes, format_time
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from matplotlib.figure import Figure
from numpy.typing import NDArray

from specxr.content import check_writable, whole_file
from specxr.cubes.store import open_labels
from specxr.plotting.bulk import plot_distributions, plot_residuals, plot_results, plot_throughput
from specxr.plotting.kiel import plot_kiel
from specxr.runs.ledger import QUARANTINED, BlockRecord, Ledger
from specxr.runs.residuals import Given, NoResiduals, sample_residuals
from specxr.runs.run import Run
from specxr.vocabulary import LABELS, STAR, Result

_PACKAGES = ("specxr", "numpy", "scipy", "torch", "xarray", "zarr", "dask", "distributed")
_READ = 1_000_000  # stars whose labels are in memory at a time
_DRAWN = 20_000  # stars in the Kiel diagram; with more, the points hide one another
_SLOWEST = 10
_TEMPLATES = Environment(
    loader=FileSystemLoader(Path(__file__).parent),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def report(
    path: str | os.PathLike[str],
    name: str,
    out: str | os.PathLike[str],
    *,
    estimator: Given = None,
    overwrite: bool = True,
) -> None:
    """Write the report of a bulk run, finished or not, as a web page.

    Parameters
    ----------
    path : path-like
        Path or URL of the cube.
    name : str
        Name of a run that `specxr.run` made.
    out : path-like
        HTML file of the report.
    estimator : Estimator or path-like, optional
        Estimator of the run, or where its emulator or model file is now. A sample of the stars is fitted with it again,
        to draw their residuals. Without it the estimator is rebuilt from the provenance of the run.
    overwrite : bool, optional
        Whether a file of this name is replaced.

    Raises
    ------
    FileNotFoundError
        There is no ledger of this run, or no folder for the report.
    FileExistsError
        The file exists, and `overwrite` is false.
    """
    check_writable(out, overwrite)
    run = Run.at(path, name)
    ledger = run.read_ledger()
    labels = open_labels(path, name)
    result = labels["result"].values
    table = _converged_labels(labels)
    sections = {
        "title": f"{name} of {os.path.basename(os.fspath(path).rstrip('/'))}",
        "path": os.fspath(path),
        "states": Counter(block.state for block in ledger.blocks),
        "ledger": ledger,
        "tiles": _tiles(ledger, int((result == Result.CONVERGED).sum())),
        "throughput": _throughput(ledger),
        "kiel": _kiel(table),
        "results": _results(result),
        "distributions": None if table.empty else _png(plot_distributions(table)),
        "n_converged": len(table),
        "residuals": _residuals(run, ledger, np.flatnonzero(result == Result.CONVERGED), estimator),
        "failed": [block for block in ledger.blocks if block.error or block.state == QUARANTINED],
        "slowest": [_row(block) for block in sorted(ledger.done, key=lambda b: -b.seconds)[:_SLOWEST]],
        "options": _options(ledger),
        "versions": _versions(ledger),
    }
    page = _TEMPLATES.get_template("report.html").render(sections)
    with whole_file(out, overwrite) as draft:
        draft.write_text(page, encoding="utf-8")


def _converged_labels(labels: xr.Dataset) -> pd.DataFrame:
    """Labels of the stars that converged; of every second, third ... star where all would not fit into memory."""
    names = [name for label in LABELS for name in (label, f"{label}_err") if name in labels]
    step = -(-labels.sizes[STAR] // _READ)
    values = labels[[*names, "result"]].drop_vars(labels.coords, errors="ignore")
    values = values.isel({STAR: slice(None, None, step)}).compute()
    converged = values["result"].values == Result.CONVERGED
    return pd.DataFrame({name: values[name].values[converged] for name in names})


def _tiles(ledger: Ledger, n_converged: int) -> dict[str, str]:
    """The numbers at the top of the page, by their names."""
    done = ledger.done
    fitted = sum(block.n_stars for block in done)
    elapsed = max((b.finished for b in done), default=0.0) - min((b.started for b in done), default=0.0)
    busy = sum(block.seconds for block in done)
    read, written = (sum(getattr(b, name) for b in done) for name in ("bytes_read", "bytes_written"))
    return {
        "stars fitted": f"{fitted:,} of {ledger.header.n_stars:,}",
        "converged": f"{n_converged / fitted:.2%}" if fitted else "-",
        "from the first block to the last": format_time(elapsed).strip(),
        "stars per second": f"{fitted / elapsed:,.0f}" if elapsed else "-",
        "workers": f"{len({block.worker for block in done}):,}",
        "time spent in fits": f"{sum(b.fit_seconds for b in done) / busy:.1%}" if busy else "-",
        "read and written": f"{format_bytes(read)}, {format_bytes(written)}",
        "largest memory of a worker": format_bytes(max((b.peak_memory for b in done), default=0)),
    }


def _throughput(ledger: Ledger) -> str | None:
    if not ledger.done:
        return None
    begin, end, stars = zip(*((b.started, b.finished, b.n_stars) for b in ledger.done), strict=True)
    return _png(plot_throughput(begin, end, stars))


def _kiel(table: pd.DataFrame) -> str | None:
    if not {"teff", "logg", "feh"} <= {*table.columns} or table.empty:
        return None
    shown = table.iloc[:: -(-len(table) // _DRAWN)]
    return _png(plot_kiel(shown, title=f"{len(shown):,} of the converged stars").figure)


def _results(result: NDArray[np.uint8]) -> dict[str, Any]:
    codes, numbers = np.unique(result, return_counts=True)
    counts = {Result(code).name.lower(): int(n) for code, n in zip(codes, numbers, strict=True)}
    advice = {Result(code).name.lower().replace("_", " "): Result(code).advice for code in codes}
    return {"figure": _png(plot_results(counts)), "advice": advice}


def _residuals(run: Run, ledger: Ledger, converged: NDArray[np.int64], estimator: Given) -> dict[str, Any]:
    try:
        sample = sample_residuals(run, ledger.header, converged, estimator)
    except NoResiduals as reason:
        return {"figure": None, "reason": str(reason)}
    figure = plot_residuals(sample.wavelength, sample.values, sample.medium)
    return {"figure": _png(figure), "n_stars": len(sample.values), "refitted": sample.refitted}


def _row(block: BlockRecord) -> dict[str, str]:
    """One line of the table of the slowest blocks, by the heads of its columns."""
    return {
        "block": str(block.index),
        "stars": f"{block.star_start:,}-{block.star_stop - 1:,}",
        "time": format_time(block.seconds).strip(),
        "stars/s": f"{block.n_stars / block.seconds:,.0f}" if block.seconds else "-",
        "read": format_time(block.read_seconds).strip(),
        "fit": format_time(block.fit_seconds).strip(),
        "write": format_time(block.write_seconds).strip(),
        "attempts": str(block.attempts),
        "memory": format_bytes(block.peak_memory),
        "worker": block.worker,
    }


def _options(ledger: Ledger) -> Mapping[str, Any]:
    header = ledger.header
    start = {"labels to start from": header.start} if header.start else {}
    return {
        "estimator": header.estimator,
        **header.options,
        **start,
        "fingerprint": header.estimator_fingerprint,
    }


def _versions(ledger: Ledger) -> Mapping[str, str]:
    return {
        "specxr that began the run": ledger.header.specxr_version,
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "system": platform.platform(),
    }


def _png(figure: Any) -> str:
    """A figure as an address that holds its content, for the page to need no other file."""
    assert isinstance(figure, Figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
