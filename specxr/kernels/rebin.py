"""Flux-conserving change of pixels."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray


def rebin(flux: torch.Tensor, edges_in: NDArray[np.float64], edges_out: NDArray[np.float64]) -> torch.Tensor:
    """Mean flux density in new pixels, such that the integral over wavelength is conserved.

    Parameters
    ----------
    flux : Tensor, shape (..., pixel_in)
        Flux density, constant across each input pixel.
    edges_in : ndarray, shape (pixel_in + 1,)
        Edges of the input pixels [Angstrom], increasing.
    edges_out : ndarray, shape (pixel_out + 1,)
        Edges of the output pixels [Angstrom], increasing, inside the input's; same medium.

    Returns
    -------
    Tensor, shape (..., pixel_out)
        Rebinned flux, of the type and on the device of `flux`.

    Notes
    -----
    The flux is integrated cumulatively over the input pixels, interpolated linearly at the output edges,
    differenced and divided by the output pixel's width (PyLASP paper, section 2.2, step 3).
    """
    if flux.shape[-1] != len(edges_in) - 1:
        raise ValueError(
            f"{flux.shape[-1]} pixels of flux came with {len(edges_in)} edges; n pixels have n + 1 edges; "
            "pass the edges of the pixels, not their centres."
        )
    if not (edges_in[0] <= edges_out[0] and edges_out[-1] <= edges_in[-1]):
        raise ValueError(
            f"The output pixels span {edges_out[0]:.2f}-{edges_out[-1]:.2f} Angstrom, the input only "
            f"{edges_in[0]:.2f}-{edges_in[-1]:.2f}; the output must lie inside the input; cut it."
        )
    pixel = np.searchsorted(edges_in, edges_out, side="right") - 1
    pixel = np.minimum(pixel, len(edges_in) - 2)  # the last edge belongs to the last pixel

    def tensor(array: NDArray[np.float64]) -> torch.Tensor:
        return torch.as_tensor(array, dtype=torch.float64, device=flux.device)

    # Differences of a cumulative sum lose digits that float32 does not have.
    wide = flux.to(torch.float64)
    below = torch.cumsum(wide * tensor(np.diff(edges_in)), dim=-1)
    below = torch.nn.functional.pad(below[..., :-1], (1, 0))
    index = torch.as_tensor(pixel, device=flux.device)
    integral = below[..., index] + wide[..., index] * tensor(edges_out - edges_in[pixel])
    return (torch.diff(integral, dim=-1) / tensor(np.diff(edges_out))).to(flux.dtype)
