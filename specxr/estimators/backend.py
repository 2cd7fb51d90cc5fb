"""Where and how precisely an estimator computes, and the checks that all estimators make of their options."""

from __future__ import annotations

from collections.abc import Collection

import torch

from specxr.kernels.least_squares import LANES

DTYPES = {"float64": torch.float64, "float32": torch.float32}


def check_choice(name: str, value: object, allowed: Collection[str]) -> None:
    """Raise ``ValueError`` unless an option has one of the values that are allowed."""
    if value not in allowed:
        raise ValueError(
            f"{name} {value!r} is not known; one of {list(allowed)} is required. Choose one of these."
        )


def check_backend(device: str, dtype: str, precisions: Collection[str] = tuple(DTYPES)) -> None:
    """Raise ``ValueError`` unless torch can compute on this device, and this precision is one of those allowed."""
    check_choice("dtype", dtype, precisions)
    kind = device.partition(":")[0]
    if kind not in LANES:
        raise ValueError(f"device {device!r} is not known; one of {list(LANES)} is required. Use 'cpu'.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            f"device {device!r} was requested, and torch finds no GPU; one is required. Use device='cpu', or install a "
            "CUDA build of torch on a machine with a GPU."
        )
