"""The network emulator against torch's own layers and automatic differentiation."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from specxr.emulators.network import ACTIVATIONS, NetworkEmulator

BOUNDS = {"teff": (4000.0, 9000.0), "logg": (1.0, 5.0), "feh": (-2.0, 0.5), "vsini": (0.0, 300.0)}


def network(activation="silu", hidden=(24, 40), seed=0, n_pixel=48):
    generator = torch.Generator().manual_seed(seed)
    sizes = (len(BOUNDS), *hidden, n_pixel)
    shapes = list(zip(sizes[:-1], sizes[1:], strict=True))
    low, high = np.array(list(BOUNDS.values())).T
    low[0], high[0] = np.log(low[0]), np.log(high[0])
    return NetworkEmulator(
        BOUNDS,
        activation,
        torch.tensor((low + high) / 2),
        torch.tensor((high - low) / 3.4),
        tuple(torch.randn(s, generator=generator, dtype=torch.float64) / s[0] ** 0.5 for s in shapes),
        tuple(torch.randn(s[1], generator=generator, dtype=torch.float64) for s in shapes),
    )


def draw(n, seed=0):
    low, high = torch.tensor(list(BOUNDS.values()), dtype=torch.float64).mT
    return low + (high - low) * torch.rand(
        (n, 4), generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


@pytest.mark.parametrize(
    ("activation", "layer"), [("silu", torch.nn.SiLU()), ("sigmoid", torch.nn.Sigmoid())]
)
def test_flux_is_that_of_torch_layers(activation, layer):
    emulator, labels = network(activation), draw(10)
    layers = []
    for weight, bias in zip(emulator.weights, emulator.biases, strict=True):
        linear = torch.nn.Linear(*weight.shape, dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight.mT, bias
        layers += [linear, layer]
    logarithmic = labels.clone()
    logarithmic[:, 0] = logarithmic[:, 0].log()
    wanted = torch.nn.Sequential(*layers[:-1])((logarithmic - emulator.centre) / emulator.unit)
    torch.testing.assert_close(
        emulator.flux_and_derivatives(labels)[0], wanted.detach(), rtol=1e-12, atol=1e-12
    )
    torch.testing.assert_close(emulator.flux(labels), wanted.detach(), rtol=1e-12, atol=1e-12)


@settings(max_examples=20)
@given(
    activation=st.sampled_from(sorted(ACTIVATIONS)),
    seed=st.integers(0, 999),
    hidden=st.lists(st.integers(1, 50), min_size=1, max_size=3),
)
def test_derivatives_are_those_of_automatic_differentiation(activation, seed, hidden):
    emulator, labels = network(activation, tuple(hidden), seed), draw(3, seed)
    _, derivatives = emulator.flux_and_derivatives(labels)
    for star in range(3):
        wanted = torch.autograd.functional.jacobian(
            lambda x: emulator.flux_and_derivatives(x[None])[0][0], labels[star], vectorize=True
        )
        largest = wanted.mT.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
        # The last layer is multiplied in single precision.
        torch.testing.assert_close(
            derivatives.double()[star] / largest, wanted.mT / largest, rtol=0, atol=2e-5
        )


@settings(max_examples=20)
@given(data=st.data())
def test_a_star_is_the_same_to_the_bit_wherever_it_stands(data):
    emulator, labels = network(hidden=(96, 96)), draw(64)
    flux, derivatives = emulator.flux_and_derivatives(labels)
    order = data.draw(st.permutations(range(64)))
    assert torch.equal(emulator.flux(labels[order]), emulator.flux(labels)[order])
    moved = emulator.flux_and_derivatives(labels[order])
    assert torch.equal(moved[0], flux[order])
    assert torch.equal(moved[1], derivatives[order])


def test_a_label_that_is_no_number_stays_in_its_star():
    emulator, labels = network(), draw(5)
    labels[2, 1] = torch.nan
    flux, derivatives = emulator.flux_and_derivatives(labels)
    others = [0, 1, 3, 4]
    assert torch.isnan(flux[2]).all()
    assert torch.isfinite(flux[others]).all()
    assert torch.isfinite(derivatives[others]).all()


@pytest.mark.parametrize("activation", sorted(ACTIVATIONS))
def test_arrays_hold_all_of_it(activation):
    emulator, labels = network(activation), draw(7)
    again = NetworkEmulator.from_arrays(emulator.arrays(), BOUNDS)
    assert again.labels == emulator.labels
    for found, wanted in zip(
        again.flux_and_derivatives(labels), emulator.flux_and_derivatives(labels), strict=True
    ):
        assert torch.equal(found, wanted)


def test_single_precision():
    emulator, labels = network(), draw(20)
    single = emulator.to(torch.float32, "cpu").flux_and_derivatives(labels.float())
    assert single[0].dtype == torch.float32
    torch.testing.assert_close(
        single[0].double(), emulator.flux_and_derivatives(labels)[0], rtol=1e-4, atol=1e-5
    )
