"""Emulators: labels in, flux out."""

from specxr.emulators.files import default, open_emulator, read_safetensors, write_safetensors
from specxr.emulators.polynomial import GridEmulator, PolynomialEmulator

__all__ = [
    "GridEmulator",
    "PolynomialEmulator",
    "default",
    "open_emulator",
    "read_safetensors",
    "write_safetensors",
]
