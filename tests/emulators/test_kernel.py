"""The kernel emulator against sums written out, automatic differentiation, and itself at other places of a block."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specxr.emulators.kernel import KernelEmulator

BOUNDS = {"teff": (4500.0, 7500.0), "logg": (3.0, 5.0), "feh": (-1.5, 0.5)}


def emulator(n_star=37, n_pixel=45, seed=0, dtype=torch.float64):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    gamma = torch.tensor([0.1, 1.0, 10.0], dtype=torch.float64)[torch.arange(n_pixel) % 3]
    centre = torch.tensor([np.log(5800.0), 4.0, -0.5], dtype=torch.float64)
    unit = torch.tensor([0.15, 0.5, 0.6], dtype=torch.float64)
    record = torch.ones(n_pixel, dtype=torch.float64)
    made = KernelEmulator(
        BOUNDS, centre, unit, draw(n_star, 3), draw(n_star, n_pixel), draw(n_pixel), gamma, *[record] * 4
    )
    return made.to(dtype, "cpu")


def labels(n, seed=1):
    lower, upper = torch.tensor(list(BOUNDS.values()), dtype=torch.float64).T
    return lower + (upper - lower) * torch.rand(
        (n, 3), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def written_out(machine, star):
    """Flux of one star by the formula, as a function that can be differentiated."""
    scaled = (torch.cat((star[:1].log(), star[1:])) - machine.centre) / machine.unit
    distance = (machine.training - scaled).square().sum(1)
    kernels = torch.exp(-machine.gamma * distance[:, None])
    return (machine.dual * kernels).sum(0) + machine.intercept


def test_flux_and_derivatives_are_those_of_the_formula():
    machine, stars = emulator(), labels(5)
    flux, derivatives = machine.flux_and_derivatives(stars)
    assert flux.shape == (5, 48)
    assert derivatives.shape == (5, 3, 48)
    assert torch.isfinite(flux).all()
    torch.testing.assert_close(machine.flux(stars), flux, rtol=1e-12, atol=1e-12)
    for i, star in enumerate(stars):
        torch.testing.assert_close(flux[i, :45], written_out(machine, star))
        wanted = torch.func.jacrev(lambda star: written_out(machine, star))(star)
        # Sums are taken in single precision where it is enough.
        torch.testing.assert_close(
            derivatives[i, :, :45].to(wanted), wanted.T, rtol=0, atol=2e-6 * float(wanted.abs().max())
        )


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@settings(max_examples=20)
@given(order=st.permutations(range(64)))
def test_a_star_is_the_same_to_the_bit_wherever_it_stands(dtype, order):
    machine, stars = emulator(dtype=dtype), labels(64).to(dtype)
    flux, derivatives = machine.flux_and_derivatives(stars)
    again = machine.flux_and_derivatives(stars[list(order)])
    assert torch.equal(flux[list(order)], again[0])
    assert torch.equal(derivatives[list(order)], again[1])
    assert torch.equal(machine.flux(stars)[list(order)], machine.flux(stars[list(order)]))


def test_its_arrays_make_it_again():
    machine, stars = emulator(), labels(4)
    again = KernelEmulator.from_arrays(machine.arrays(), BOUNDS)
    assert again.labels == ("teff", "logg", "feh")
    assert torch.equal(machine.flux_and_derivatives(stars)[0], again.flux_and_derivatives(stars)[0])


def test_single_precision_is_close():
    stars = labels(16)
    wanted, _ = emulator().flux_and_derivatives(stars)
    found, _ = emulator(dtype=torch.float32).flux_and_derivatives(stars.float())
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=1e-3)
