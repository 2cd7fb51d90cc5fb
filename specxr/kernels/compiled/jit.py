"""How the kernels are compiled, and where the result is kept."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias, TypeVar, cast

import numba
from numba.core import event
from numba.core.caching import IndexDataCacheFile
from numpy.typing import NDArray

from specxr.vocabulary import Result

Array: TypeAlias = NDArray[Any]

_Function = TypeVar("_Function", bound=Callable[..., object])

_OPTIONS: dict[str, Any] = {
    "nogil": True,
    # Sums may be taken in vectors and products fused with them; what is not finite stays what it is.
    "fastmath": {"reassoc", "contract", "arcp", "nsz"},
    "error_model": "numpy",
    "no_cfunc_wrapper": True,
}


def compiled(function: _Function) -> _Function:
    """Compile when first called, for the types of the arguments; the result is kept on disk for the next process.

    It is kept in the folder of the package, or where that cannot be written in the user's cache
    (``NUMBA_CACHE_DIR`` names another folder). Where neither can be written, each process compiles again.
    """
    dispatcher: Any = numba.njit(**_OPTIONS)(function)
    _announced.add(dispatcher)
    try:
        dispatcher.enable_caching()
    except RuntimeError:
        return cast(_Function, dispatcher)
    # Numba looks at the date of the function's own file. A function also holds what it calls, and constants, from
    # other files: it is compiled again when the content of any of them changes. The hash stands in the name of the
    # file too, since a file of older code may name types that are there no more, and could then not be read.
    kept = dispatcher._cache
    index: Any = IndexDataCacheFile
    kept._cache_file = index(kept.cache_path, f"{kept._impl.filename_base}-{_content()[:12]}", _content())
    return cast(_Function, dispatcher)


def inlined(function: _Function) -> _Function:
    """Compile as a part of each compiled function that calls it.

    A callee with code of its own would be optimised once for itself and once in every caller, with sums in other
    orders, and the process would use the copy that it loads first: a star's last bits would then depend on whether the
    process has compiled the fit or has read it from disk.
    """
    dispatcher: Any = numba.njit(**_OPTIONS, forceinline=True)(function)
    return cast(_Function, dispatcher)


@cache
def _content() -> str:
    """Hash of all from which compiled functions take code or constants."""
    kernels = Path(__file__).parents[1]
    files = [*sorted(kernels.glob("*.py")), *sorted(kernels.glob("compiled/*.py"))]
    code = b"".join(file.read_bytes() for file in files)
    return hashlib.sha256(code + str(list(Result)).encode()).hexdigest()


class _Announcement(event.Listener):
    """Says, once in a process, that it will take a while."""

    def __init__(self) -> None:
        self.said = False

    def on_start(self, event: Any) -> None:
        if not self.said and event.data["dispatcher"] in _announced:
            self.said = True
            print("specxr: compiling its kernels, once on this machine (about a minute)", file=sys.stderr)

    def on_end(self, event: Any) -> None:
        pass


_announced: set[Any] = set()
_listen: Any = event.register
_listen("numba:compile", _Announcement())
