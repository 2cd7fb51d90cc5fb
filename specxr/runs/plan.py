"""What a run has to do: the request of this call, compared with what the ledger says is done."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
import zarr
from numpy.typing import ArrayLike, NDArray

from specxr.cubes.choice import chosen_stars
from specxr.cubes.labels import check_aligned
from specxr.cubes.schema import grid_of
from specxr.cubes.store import write_unit
from specxr.estimators.base import Estimator
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord, Header
from specxr.runs.run import Run
from specxr.vocabulary import SPECTRA, STAR, START

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What a run has to do.

    Parameters
    ----------
    header : Header
        Header of the ledger as the run will leave it.
    records : list of BlockRecord
        Records of all blocks: those that are done as they are, the others as if they had never been tried.
    begins : bool
        Whether the run begins, rather than continues.
    lost : sequence of BlockRecord
        Records of the blocks that were done, and whose labels are lost or damaged since.
    chosen : ndarray of bool, shape (star,), optional
        The stars that are fitted; None where all are.
    """

    header: Header
    records: list[BlockRecord]
    begins: bool
    lost: Sequence[BlockRecord] = ()
    chosen: NDArray[np.bool_] | None = None

    @property
    def waiting(self) -> list[BlockRecord]:
        """Records of the blocks that are to be fitted."""
        return [record for record in self.records if record.state != ledger.DONE]


@dataclass(frozen=True)
class _Stars:
    """Identity of the stars of a cube, and which of them are fitted."""

    obsid: NDArray[np.int64]
    chosen: NDArray[np.bool_] | None

    def fingerprint(self, header: Header, record: BlockRecord) -> str:
        """Content hash of what decides the labels of a block."""
        stars = slice(record.star_start, record.star_stop)
        chosen = None if self.chosen is None else self.chosen[stars]
        return ledger.block_fingerprint(
            header.estimator_fingerprint, header.grid_fingerprint, self.obsid[stars], chosen
        )


def plan(
    run: Run,
    cube: xr.Dataset,
    estimator: Estimator,
    *,
    start: str | None = None,
    stars: ArrayLike | None = None,
    spectra: bool = False,
    overwrite: bool = False,
) -> Plan:
    """Decide what a run has to do; nothing is changed.

    Parameters
    ----------
    run : Run
        The run, which may have begun already.
    cube : Dataset
        The cube of the run.
    estimator : Estimator
        Estimator of the labels.
    start : str or None
        Name of the run whose labels the fits start from.
    stars : array_like, optional
        The stars to fit: a boolean for each star of the cube, or obsids; all by default.
    spectra : bool
        Whether the model spectra are written as well.
    overwrite : bool
        Whether a run of this name is replaced.

    Raises
    ------
    ValueError
        The run was begun with another estimator or other stars, no star is chosen, the start lacks labels, or the
        chunks of the cube are not aligned.
    FileExistsError
        There are labels of this name that no run made.
    """
    chosen = None if stars is None else chosen_stars(cube, stars)
    if chosen is not None and not chosen.any():
        raise ValueError(
            f"none of the {chosen.size:,} stars is chosen; at least one is required. Choose other stars."
        )
    identity = _Stars(np.asarray(cube["obsid"].values), chosen)
    header = _header(run, cube, estimator, start, spectra)
    check_aligned(run.cube, header.stars_per_block)
    if start is not None:
        _check_start(run, start, header.n_stars)
    begun = None if overwrite or not run.exists else run.read_header()
    if begun is None:
        _check_no_labels(run, overwrite)
        return Plan(header, _records(header, identity, []), begins=True, chosen=chosen)
    done = _done(run, begun, header, identity)
    lost = run.damaged(done)
    for record in lost:
        _LOG.info(
            "labels of the stars %d to %d are lost or damaged ...", record.star_start, record.star_stop - 1
        )
        done.remove(record)
    header = replace(header, token=begun.token, stars_per_block=begun.stars_per_block)
    return Plan(header, _records(header, identity, done), begins=False, lost=lost, chosen=chosen)


def _header(run: Run, cube: xr.Dataset, estimator: Estimator, start: str | None, spectra: bool) -> Header:
    flux = run.cube[SPECTRA[0]]
    assert isinstance(flux, zarr.Array)
    return Header(
        token=uuid4().hex,
        estimator=type(estimator).__name__,
        estimator_fingerprint=ledger.run_fingerprint(estimator.fingerprint, start or "", spectra),
        options=dict(estimator.provenance),
        grid_fingerprint=grid_of(cube).fingerprint,
        n_stars=cube.sizes[STAR],
        stars_per_block=write_unit(flux),
        specxr_version=version("specxr"),
        start=start or "",
        spectra=spectra,
    )


def _check_no_labels(run: Run, overwrite: bool) -> None:
    if overwrite or not run.exists:
        return
    if run.labels.attrs.get("complete") is False:
        if not run.has_labels:  # a run that was killed while its variables were declared
            return
        raise FileExistsError(
            f"{run} is not complete, and its ledger, which says what is done, is lost or damaged; without it every "
            f"star would be fitted again. Restore {run.path}/labels/{run.name}/ledger from a copy, begin the run anew "
            "with overwrite=True (--overwrite), or choose another name."
        )
    raise FileExistsError(
        f"{run.path} has labels '{run.name}' that no run made; a run continues only what a run began. Choose another "
        "name, or replace them with overwrite=True (--overwrite)."
    )


def _check_start(run: Run, start: str, n_stars: int) -> None:
    """Check that the labels to start from cover all stars, and do not belong to the run that starts from them."""
    names = [name for name in run.names() if name != run.name]
    if start not in names:
        raise ValueError(
            f"{run} was to start from the labels '{start}', which are not there; another run of this cube is required "
            f"({', '.join(names) or 'there is none'}). Name one of these, or leave the start out."
        )
    labels = run.beside(start).labels
    arrays = {name: labels[name] for name in START if name in labels}
    missing = [name for name in START if name not in arrays]
    if missing or any(array.shape[0] < n_stars for array in arrays.values() if isinstance(array, zarr.Array)):
        raise ValueError(
            f"the labels '{start}' of {run.path} have {'no ' + ', '.join(missing) if missing else 'too few stars'};"
            f" {', '.join(START)} of all {n_stars:,} stars are required. Complete that run, or leave the start out."
        )


def _done(run: Run, begun: Header, now: Header, stars: _Stars) -> list[BlockRecord]:
    """Records of the blocks that are done, if the run was begun with the same estimator and the same stars."""
    refusal = f"{run} was begun with "
    advice = (
        "Continue with what it was begun with, choose another name, or replace the run with overwrite=True "
        "(--overwrite)."
    )
    if begun.estimator_fingerprint != now.estimator_fingerprint:
        differences = _differences(begun, now) or "another estimator"
        raise ValueError(f"{refusal}{differences}; the same estimator is required. {advice}")
    if begun.grid_fingerprint != now.grid_fingerprint:
        raise ValueError(f"{refusal}other wavelengths; the same cube is required. {advice}")
    if begun.n_stars > now.n_stars:
        raise ValueError(
            f"{refusal}{begun.n_stars:,} stars, the cube has {now.n_stars:,}; a cube may only grow. {advice}"
        )
    done = run.read_ledger().done
    for record in done:
        if record.fingerprint != stars.fingerprint(begun, record):
            raise ValueError(
                f"{refusal}other stars {record.star_start:,} to {record.star_stop:,}: their obsid, or the choice of "
                f"stars (--where, --obsid), has changed since; the same stars in the same order are required. {advice}"
            )
    return done


def _differences(begun: Header, now: Header) -> str:
    """Options of the two calls that differ, with both values."""
    before, after = (
        {**header.options, "start_run": header.start or None, "spectra": header.spectra}
        for header in (begun, now)
    )
    names = sorted(
        name for name in {*before, *after} if _as_stored(before.get(name)) != _as_stored(after.get(name))
    )
    return ", ".join(f"{name} {before.get(name)!r} (now {after.get(name)!r})" for name in names)


def _as_stored(value: Any) -> Any:
    """Value of an option as JSON gives it back, which has lists only."""
    return list(value) if isinstance(value, tuple) else value


def _records(header: Header, stars: _Stars, done: Iterable[BlockRecord]) -> list[BlockRecord]:
    """Records of all blocks: those that are done as they are, the others as if they had never been tried.

    A last block that has grown since it was done is fitted again as a whole, because its chunk has one writer.
    """
    kept = {(record.star_start, record.star_stop): record for record in done}
    return [
        kept.get((block.star_start, block.star_stop))
        or replace(block, fingerprint=stars.fingerprint(header, block))
        for block in header.blocks
    ]
