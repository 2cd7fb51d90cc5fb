"""What processes need: cores, room within the limits of this process, and a script that they can import."""

from __future__ import annotations

import ast
import math
import os
import sys
from types import FrameType

# A program that has imported everything, and fits: memory that it allocates, addresses, most of which it never uses,
# and open files. Measured with `specxr infer` and `specxr demo` of LASP, which compile its kernels the first time.
_BASE_DATA = 2.2e9
_BASE_ADDRESSES = 4e9
_BASE_FILES = 64
_FILES_OF_A_WORKER = 16


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def check_limits(n_workers: int = 0) -> None:
    """Raise ``OSError`` where the limits of this process (``ulimit``) leave no room for its libraries and files.

    Parameters
    ----------
    n_workers : int, optional
        Number of processes that it starts, which have the same limits.
    """
    files = _BASE_FILES + _FILES_OF_A_WORKER * n_workers
    needed = [
        ("RLIMIT_AS", _BASE_ADDRESSES, "-v", f"{_BASE_ADDRESSES / 1e9:g} GB of addresses"),
        ("RLIMIT_DATA", _BASE_DATA, "-d", f"{_BASE_DATA / 1e9:g} GB of memory"),
        ("RLIMIT_NOFILE", files, "-n", f"{files} open files"),
    ]
    for name, least, option, required in needed:
        limit = _limit(name)
        if limit < least:
            found = f"{limit:.0f}" if name == "RLIMIT_NOFILE" else f"{limit / 1e9:.2g} GB"
            raise OSError(
                f"the limit of this process is {found} (ulimit {option}); {required} are required. Raise the limit "
                f"with `ulimit {option}`, or with the option of the batch system."
            )


def memory_left() -> float:
    """Memory that the limits of this process (``ulimit``) allow it [bytes]; infinite where there is no limit."""
    return min(_limit("RLIMIT_AS") - _BASE_ADDRESSES + _BASE_DATA, _limit("RLIMIT_DATA"))


def _limit(name: str) -> float:
    if sys.platform == "win32":
        return math.inf
    import resource  # there is no such module on Windows

    limit, _ = resource.getrlimit(getattr(resource, name))
    return math.inf if limit == resource.RLIM_INFINITY else limit


def check_importable(what: str) -> None:
    """Raise ``RuntimeError`` where worker processes, which import the calling script, would call `what` again.

    They import the script that runs as ``__main__``. The call must therefore stand under
    ``if __name__ == "__main__":``, or in a function that is called there.

    Parameters
    ----------
    what : str
        The function that starts processes, for the message.
    """
    main = sys.modules["__main__"]
    name = getattr(main.__spec__, "name", "")
    file = getattr(main, "__file__", None)
    frame = _module_frame(vars(main))
    # Without a file (a notebook, a prompt, -c) nothing is imported, and packages that are run as programs are not.
    if frame is None or file is None or name.endswith("__main__"):
        return
    try:
        with open(file, encoding="utf-8") as script:
            statements = ast.parse(script.read()).body
    except (OSError, ValueError, SyntaxError):  # not a script, or one that has changed: no judgement
        return
    line = frame.f_lineno
    for statement in statements:
        if statement.lineno <= line <= (statement.end_lineno or line):
            if isinstance(statement, ast.If) and "__name__" in ast.unparse(statement.test):
                return
            raise RuntimeError(
                f"{file}, line {line}, calls {what} without a guard, and the worker processes import this script, so "
                f'that each would call it again; if __name__ == "__main__": is required. Put the call under it, or '
                "into a function that is called under it."
            )


def _module_frame(names: dict[str, object]) -> FrameType | None:
    """Frame of the body of a module that is running at this moment, if it is below this call."""
    frame: FrameType | None = sys._getframe()
    while frame is not None and not (frame.f_code.co_name == "<module>" and frame.f_globals is names):
        frame = frame.f_back
    return frame
