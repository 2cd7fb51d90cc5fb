"""The cube of spectra: its schema, and the Zarr stores in which it and its labels lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from specxr.cubes.specutils_bridge import from_specutils, to_specutils

__all__ = ["from_specutils", "to_specutils"]  # noqa: F822


def __getattr__(name: str) -> Any:
    if name in __all__:
        from specxr.cubes import specutils_bridge

        return getattr(specutils_bridge, name)
    raise AttributeError(f"module 'specxr.cubes' has no attribute {name!r}")
