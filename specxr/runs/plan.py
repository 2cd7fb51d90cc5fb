"""What a run has to do: compares what is asked for with what the ledger says is done."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from importlib.metadata import version
from typing import Any
from uuid import uuid4

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from specxr.cubes.labels import check_aligned, open_labels_group
from specxr.cubes.schema import grid_of
from specxr.cubes.store import list_runs, open_group, write_unit
from specxr.estimators.base import Estimator
from specxr.runs import ledger
from specxr.runs.ledger import BlockRecord, Header
from specxr.vocabulary import SPECTRA, START


def plan(
    path: str,
    name: str,
    cube: xr.Dataset,
    estimator: Estimator,
    start: str | None,
    spectra: bool,
    overwrite: bool,
) -> tuple[Header, list[BlockRecord], bool]:
    """Decide what is to be done; changes nothing.

    Returns
    -------
    Header, list of BlockRecord, bool
        Of the ledger as it is to be; of all blocks; whether the run begins, rather than continues.

    Raises
    ------
    ValueError
        The run was begun with another estimator or other stars, or the cube has misaligned chunks.
    FileExistsError
        There are labels of this name that no run made.
    """
    obsid = np.asarray(cube["obsid"].values)
    root = open_group(path, "r")
    header = Header(
        token=uuid4().hex,
        estimator=type(estimator).__name__,
        estimator_fingerprint=estimator.fingerprint
        + (f" from {start}" if start else "")
        + (" with spectra" if spectra else ""),
        options={
            **estimator.provenance,
            **({"start_run": start} if start else {}),
            **({"spectra": True} if spectra else {}),
        },
        grid_fingerprint=grid_of(cube).fingerprint,
        n_stars=len(obsid),
        stars_per_block=write_unit(root[SPECTRA[0]]),
        specxr_version=version("specxr"),
    )
    check_aligned(root, header.stars_per_block)
    if start is not None:
        _check_start(path, name, start, header.n_stars)
    begun = None if overwrite or name not in list_runs(path) else ledger.read_header(path, name)
    if begun is None and name in list_runs(path) and not overwrite:
        # Of a run that was killed while it was declared there are no labels yet.
        if root[f"labels/{name}"].attrs.get("complete") is not False:
            raise FileExistsError(
                f"{path} has labels '{name}' that no run made; a run continues only what a run began. Choose another "
                "name, or replace them with overwrite=True (--overwrite)."
            )
    known = [] if begun is None else _known(path, name, begun, header, obsid)
    if begun is not None:
        header = replace(header, token=begun.token, stars_per_block=begun.stars_per_block)
    return header, _records(header, obsid, known), begun is None


def _check_start(path: str, name: str, start: str, n_stars: int) -> None:
    """Labels to begin with must be there for all stars, and be no part of the run that begins with them."""
    runs = [run for run in list_runs(path) if run != name]
    if start not in runs:
        raise ValueError(
            f"run '{name}' of {path} was to begin with the labels '{start}'; another run of this cube is required"
            f" ({', '.join(runs) or 'there is none'}). Name one of these, or leave the start out."
        )
    labels = open_labels_group(path, start)
    missing = [label for label in START if label not in labels]
    if missing or labels[START[0]].shape[0] < n_stars:
        raise ValueError(
            f"the labels '{start}' of {path} have {'no ' + ', '.join(missing) if missing else 'too few stars'};"
            f" {', '.join(START)} of all {n_stars:,} stars are required. Complete that run, or begin without it."
        )


def _known(path: str, name: str, begun: Header, now: Header, obsid: NDArray[np.int64]) -> list[BlockRecord]:
    """Records of the blocks that are done, if the run was begun with the same estimator and the same stars."""
    refusal = f"run '{name}' of {path} was begun with "
    advice = (
        "Continue with what it was begun with, choose another name, or start anew with overwrite=True "
        "(--overwrite)."
    )
    if begun.estimator_fingerprint != now.estimator_fingerprint:
        differing = sorted(
            key
            for key in {*begun.options, *now.options}
            if begun.options.get(key) != _as_stored(now.options.get(key))
        )
        changes = ", ".join(
            f"{key} {begun.options.get(key)!r} (now {now.options.get(key)!r})" for key in differing
        )
        raise ValueError(
            f"{refusal}{changes or 'another estimator'}; the same estimator is required. {advice}"
        )
    if begun.grid_fingerprint != now.grid_fingerprint:
        raise ValueError(f"{refusal}other wavelengths; the same cube is required. {advice}")
    if begun.n_stars > now.n_stars:
        raise ValueError(
            f"{refusal}{begun.n_stars:,} stars, the cube has {now.n_stars:,}; a cube may only grow. {advice}"
        )
    known = [record for record in ledger.read(path, name).blocks if record.state == ledger.DONE]
    for record in known:
        if record.fingerprint != _fingerprint(begun, obsid, record):
            raise ValueError(
                f"{refusal}other stars {record.star_start:,} to {record.star_stop:,}: their obsid has changed since; "
                f"the same stars in the same order are required. {advice}"
            )
    return known


def _records(header: Header, obsid: NDArray[np.int64], known: Iterable[BlockRecord]) -> list[BlockRecord]:
    """Records of all blocks: those that are done as they are, others as if never tried.

    A last block that has grown since it was done is fitted again, whole: its chunk has one writer.
    """
    done = {(record.star_start, record.star_stop): record for record in known}
    records = []
    for index, stars in enumerate(ledger.blocks_of(header.n_stars, header.stars_per_block)):
        fresh = BlockRecord(index, *stars)
        records.append(done.get(stars) or replace(fresh, fingerprint=_fingerprint(header, obsid, fresh)))
    return records


def _fingerprint(header: Header, obsid: NDArray[np.int64], record: BlockRecord) -> str:
    stars = obsid[record.star_start : record.star_stop]
    return ledger.block_fingerprint(header.estimator_fingerprint, header.grid_fingerprint, stars)


def _as_stored(value: Any) -> Any:
    """JSON has lists only."""
    return list(value) if isinstance(value, tuple) else value
