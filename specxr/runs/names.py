"""The runs of a cube, renamed and deleted."""

from __future__ import annotations

from contextlib import ExitStack

from specxr.cubes.locations import PathLike, exists, join, move_store, remove_store, reported
from specxr.cubes.lock import hold
from specxr.runs.run import Run


def rename_run(path: PathLike, name: str, new: str) -> None:
    """Give a run of a cube another name; a run that is not complete goes on under it.

    Parameters
    ----------
    path : path-like
        The cube.
    name, new : str
        Its name, and the new one.

    Raises
    ------
    FileNotFoundError, FileExistsError
        There is no such run, or one of the new name.
    BlockingIOError
        Another process writes one of them.
    """
    run, other = _existing(path, name), Run.at(path, new)
    place = join(other.path, "labels", new)
    with ExitStack() as locks, reported(path):
        for lock in sorted({run.lock, other.lock}):
            locks.enter_context(hold(path, lock))
        if exists(place):
            raise FileExistsError(
                f"{path} has labels '{new}' already; another name is required. Choose one, or delete those first."
            )
        move_store(join(run.path, "labels", name), place)


def delete_run(path: PathLike, name: str) -> None:
    """Delete a run of a cube: its labels, its model spectra and its ledger. The spectra stay.

    Raises
    ------
    FileNotFoundError
        There is no such run.
    BlockingIOError
        Another process writes it.
    """
    run = _existing(path, name)
    with hold(path, run.lock), reported(path):
        remove_store(join(run.path, "labels", name))


def _existing(path: PathLike, name: str) -> Run:
    run = Run.at(path, name)
    if not run.exists and not exists(join(run.path, "labels", name)):
        raise FileNotFoundError(
            f"{path} has no labels '{name}' (runs: {', '.join(run.names()) or 'none'}); the name of a run is required. "
            "Choose one of these."
        )
    return run
