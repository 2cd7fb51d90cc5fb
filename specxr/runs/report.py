"""The report of a bulk run: one HTML file that needs nothing else, from the ledger, the labels and a few spectra."""

from __future__ import annotations

import base64
import io
import os
import platform
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from html import escape
from importlib.metadata import version
from pathlib import Path
from string import Template
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from numpy.typing import NDArray

from specxr.cubes.store import open_cube, open_labels
from specxr.estimators.base import Estimator
from specxr.inference import infer
from specxr.plotting.bulk import plot_distributions, plot_residuals, plot_results, plot_throughput
from specxr.plotting.kiel import plot_kiel
from specxr.runs import ledger
from specxr.runs.ledger import DONE, QUARANTINED, BlockRecord, Ledger
from specxr.vocabulary import LABELS, STAR, Result

_PACKAGES = ("specxr", "numpy", "scipy", "torch", "xarray", "zarr", "dask", "distributed")
_READ = 1_000_000  # stars whose labels are in memory
_DRAWN = 20_000  # stars in the Kiel diagram: more hide each other
_REFITTED = 128  # stars whose residuals are shown
_SLOWEST = 10
_PAGE = Path(__file__).with_name("report.html")


def write_report(
    path: str | os.PathLike[str],
    run: str,
    out: str | os.PathLike[str],
    estimator: Estimator | None = None,
) -> None:
    """Write the report of a bulk run, finished or not.

    Parameters
    ----------
    path : path-like
        The cube.
    run : str
        Name of a run that `specxr.run` made.
    out : path-like
        An HTML file; replaced where it exists.
    estimator : Estimator, optional
        What the run was made with. A sample of the stars is fitted with it again, to draw their residuals; without
        it, or if it is another than the run's, there is no such figure.
    """
    book = ledger.read(path, run)
    labels = open_labels(path, run)
    result = labels["result"].values
    table = _converged_labels(labels)
    residuals = _residuals(path, np.flatnonzero(result == Result.CONVERGED), book, estimator)
    page = Template(_PAGE.read_text(encoding="utf-8")).substitute(
        title=escape(f"{run} of {os.path.basename(os.fspath(path).rstrip('/'))}"),
        path=escape(os.fspath(path)),
        state=_state(book),
        tiles=_tiles(book, int((result == Result.CONVERGED).sum())),
        throughput=_throughput(book),
        results=_results(result),
        kiel=_kiel(table),
        distributions=_distributions(table),
        residuals=residuals,
        failed=_failed(book),
        slowest=_slowest(book),
        options=_pairs({"estimator": book.header.estimator, **book.header.options,
                        "fingerprint": book.header.estimator_fingerprint}),
        versions=_versions(book),
    )  # fmt: skip
    _replace(Path(out), page)


def _converged_labels(labels: xr.Dataset) -> pd.DataFrame:
    """Labels of the stars that converged; of every so many only, where all would not fit into memory."""
    names = [name for label in LABELS for name in (label, f"{label}_err") if name in labels]
    step = -(-labels.sizes[STAR] // _READ)
    values = labels[[*names, "result"]].drop_vars(labels.coords, errors="ignore")
    values = values.isel({STAR: slice(None, None, step)}).compute()
    converged = values["result"].values == Result.CONVERGED
    return pd.DataFrame({name: values[name].values[converged] for name in names})


def _state(book: Ledger) -> str:
    states = Counter(block.state for block in book.blocks)
    if states[DONE] == len(book.blocks):
        return '<span class="good">complete</span>'
    parts = ", ".join(f"{n:,} {state}" for state, n in states.items())
    return f'<span class="bad">not complete: {escape(parts)} of {len(book.blocks):,} blocks</span>'


def _tiles(book: Ledger, n_converged: int) -> str:
    done = [block for block in book.blocks if block.state == DONE]
    fitted = sum(block.n_stars for block in done)
    elapsed = max((b.finished for b in done), default=0.0) - min((b.started for b in done), default=0.0)
    busy = sum(block.seconds for block in done)
    tiles = {
        "stars fitted": f"{fitted:,} of {book.header.n_stars:,}",
        "converged": f"{n_converged / fitted:.2%}" if fitted else "-",
        "first to last block": _duration(elapsed),
        "stars a second": f"{fitted / elapsed:,.0f}" if elapsed else "-",
        "workers": f"{len({block.worker for block in done}):,}",
        "time spent fitting": f"{sum(b.fit_seconds for b in done) / busy:.1%}" if busy else "-",
        "read and written": f"{_size(sum(b.bytes_read for b in done))}, {_size(sum(b.bytes_written for b in done))}",
        "peak memory of a worker": _size(max((b.peak_memory for b in done), default=0)),
    }
    return "".join(
        f"<div><b>{escape(value)}</b><span>{escape(name)}</span></div>" for name, value in tiles.items()
    )


def _throughput(book: Ledger) -> str:
    done = [block for block in book.blocks if block.state == DONE]
    if not done:
        return "<p>No block is done yet.</p>"
    begin, end, stars = zip(*((b.started, b.finished, b.n_stars) for b in done), strict=True)
    return _image(plot_throughput(begin, end, stars), "throughput over time")


def _results(result: NDArray[Any]) -> str:
    codes, numbers = np.unique(result, return_counts=True)
    counts = {Result(code).name.lower(): int(n) for code, n in zip(codes, numbers, strict=True)}
    advice = ((Result(code).name.lower().replace("_", " "), Result(code).advice) for code in codes)
    return _image(plot_results(counts), "result codes") + _table(("", ""), advice)


def _kiel(table: pd.DataFrame) -> str:
    if not {"teff", "logg", "feh"} <= {*table.columns} or table.empty:
        return "<p>No star has converged labels for a Kiel diagram.</p>"
    shown = table.iloc[:: -(-len(table) // _DRAWN)]
    title = f"{len(shown):,} of the converged stars"
    return _image(plot_kiel(shown, title=title).figure, "Kiel diagram")


def _distributions(table: pd.DataFrame) -> str:
    if table.empty:
        return "<p>No star converged.</p>"
    return _image(plot_distributions(table), "label distributions") + f"<p>{len(table):,} stars.</p>"


def _residuals(
    path: str | os.PathLike[str], stars: NDArray[np.int64], book: Ledger, estimator: Estimator | None
) -> str:
    """Residuals of a sample, fitted again: a bulk run keeps labels, not models."""
    if estimator is None or estimator.fingerprint != book.header.estimator_fingerprint:
        given = "not given" if estimator is None else f"another one ({estimator.fingerprint})"
        return (
            f"<p>Not drawn: a sample of the stars must be fitted again with the estimator of the run "
            f"({escape(book.header.estimator_fingerprint)}), which was {escape(given)}. Give the emulator of the run: "
            "<code>specxr report --emulator</code>.</p>"
        )
    if not len(stars):
        return "<p>Not drawn: no star converged.</p>"
    chosen = stars[np.linspace(0, len(stars) - 1, min(_REFITTED, len(stars))).astype(int)]
    spectra = open_cube(path).isel({STAR: np.unique(chosen)}).load()
    fit = infer(spectra, estimator, spectra=True)
    flux = spectra["flux"].where(fit["used"] != 0)
    residual = (flux - fit["model"]) / flux.median("wavelength")
    figure = plot_residuals(
        spectra["wavelength"].values, residual.values, str(spectra["wavelength"].attrs["medium"])
    )
    n_stars = spectra.sizes[STAR]
    note = f"<p>{n_stars} converged stars, evenly from the cube, fitted again; in units of their median flux.</p>"
    return _image(figure, "residual by wavelength") + note


def _failed(book: Ledger) -> str:
    failed = [block for block in book.blocks if block.error or block.state == QUARANTINED]
    if not failed:
        return "<p>None.</p>"
    return "".join(
        f"<details><summary>block {b.index}: stars {b.star_start:,}-{b.star_stop - 1:,}, {escape(b.state)} after "
        f"{b.attempts} attempts on {escape(b.worker)}: {escape(b.error.strip().rpartition(chr(10))[2])}</summary>"
        f"<pre>{escape(b.error)}</pre></details>"
        for b in failed
    )


def _slowest(book: Ledger) -> str:
    done = sorted((b for b in book.blocks if b.state == DONE), key=lambda b: -b.seconds)[:_SLOWEST]
    heads = (
        "block",
        "stars",
        "seconds",
        "stars/s",
        "read [s]",
        "fit [s]",
        "write [s]",
        "attempts",
        "peak",
        "worker",
    )
    return _table(heads, (_row(block) for block in done))


def _row(b: BlockRecord) -> tuple[str, ...]:
    times = (b.read_seconds, b.fit_seconds, b.write_seconds)
    rate = f"{b.n_stars / b.seconds:,.0f}" if b.seconds else "-"
    return (
        str(b.index), f"{b.star_start:,}-{b.star_stop - 1:,}", f"{b.seconds:.2f}", rate,
        *(f"{t:.2f}" for t in times), str(b.attempts), _size(b.peak_memory), b.worker,
    )  # fmt: skip


def _versions(book: Ledger) -> str:
    versions = {
        "specxr of the run": book.header.specxr_version,
        "python": platform.python_version(),
        **{name: version(name) for name in _PACKAGES},
        "system": platform.platform(),
    }
    return _pairs(versions)


def _pairs(values: Mapping[str, Any]) -> str:
    return _table(("", ""), ((name, str(value)) for name, value in values.items()))


def _table(heads: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _image(figure: Any, name: str) -> str:
    assert isinstance(figure, Figure)
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=150)
    data = base64.b64encode(content.getvalue()).decode()
    return f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'


def _duration(seconds: float) -> str:
    for size, unit in ((86400.0, "d"), (3600.0, "h"), (60.0, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.3g} {unit}"
        n /= 1000
    return f"{n:.3g} TB"


def _replace(out: Path, page: str) -> None:
    """Write a file, complete or not at all."""
    if not out.parent.is_dir():
        raise FileNotFoundError(
            f"there is no folder '{out.parent}' for {out.name}. Make it, or choose another."
        )
    with tempfile.TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as folder:
        partial = Path(folder) / out.name
        partial.write_text(page, encoding="utf-8")
        os.replace(partial, out)
