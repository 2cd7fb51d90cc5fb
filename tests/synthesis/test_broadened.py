"""Spectra of broadened coefficients are those of an emulator that is broadened star by star, and shifted."""

import numpy as np
import pytest
from support.trained import GRID

from specxr.emulators import default
from specxr.synthesis.broadened import BroadenedEmulator
from specxr.synthesis.generators import EmulatorSpectra
from specxr.synthesis.instrument import Instrument
from specxr.vocabulary import SPEED_OF_LIGHT

LABELS = {
    "teff": np.array([4500.0, 5800.0, 9000.0]),
    "logg": np.array([2.5, 4.4, 4.0]),
    "feh": np.array([-1, 0, 0.2]),
}


def test_coefficients_are_broadened_like_spectra():
    instrument = Instrument(GRID)
    cube = BroadenedEmulator(default(), instrument).cube(LABELS, np.zeros(3))
    fine = EmulatorSpectra(default(), instrument.edges)
    expected = instrument.observe(
        fine.spectra(np.stack(list(LABELS.values()), axis=1)), np.zeros(3), fine.resolving_power
    )
    np.testing.assert_allclose(cube.flux.values, expected.numpy(), rtol=1e-3)
    assert float((cube.flux * np.sqrt(cube.ivar)).median()) == pytest.approx(1000, rel=0.01)
    np.testing.assert_array_equal(cube.teff, LABELS["teff"])


def test_a_velocity_of_whole_pixels_is_a_shift():
    source = BroadenedEmulator(default(), Instrument(GRID))
    pixel = SPEED_OF_LIGHT * np.expm1(GRID.ln_step)
    rest, moving = (source.cube(LABELS, np.full(3, rv)).flux.values for rv in (0.0, 3 * pixel))
    np.testing.assert_allclose(moving[:, 30:-30], rest[:, 27:-33], rtol=2e-4)
