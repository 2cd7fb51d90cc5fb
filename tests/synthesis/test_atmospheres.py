"""Model atmospheres: files of ATLAS, and atmospheres that are scaled from others."""

from __future__ import annotations

import numpy as np
import pytest

from specxr.synthesis.atmospheres import BOLTZMANN, Atmosphere, read_atmosphere, scale_atmosphere

HEAD = """TEFF   8250.  GRAVITY  4.0000 LTE
TITLE of no importance
READ DECK6  3 RHOX,T,P,XNE,ABROSS
 1.00000000E-03  5000.0 1.000E+01 2.000E+10-1.000E-03
 2.00000000E-03  6000.0-2.000E+01 3.000E+10 0.000E+00
 3.00000000E-03  7000.0 3.000E+01 4.000E+10 0.000E+00
PRADK 5.0000E-01
"""


def test_atmospheres_of_atlas_are_read_though_columns_touch(tmp_path):
    path = tmp_path / "model.atm"
    path.write_text(HEAD)
    model = read_atmosphere(path)
    assert (model.teff, model.logg) == (8250.0, 4.0)
    np.testing.assert_allclose(model.temperature, [5000, 6000, 7000])
    np.testing.assert_allclose(model.pressure, [10, -20, 30])
    np.testing.assert_allclose(model.electrons, [2e10, 3e10, 4e10])
    path.write_text("EFF 3\n")
    with pytest.raises(ValueError, match="as ATLAS9 and ATLAS12 write it"):
        read_atmosphere(path)


def test_an_atmosphere_that_did_not_converge_is_refused(tmp_path):
    path = tmp_path / "model.atm"
    path.write_text(HEAD.replace("3.00000000E-03", "1.50000000E-03"))
    with pytest.raises(ValueError, match="does not rise with depth"):
        read_atmosphere(path)


def test_real_atmospheres_are_gases_in_equilibrium(shared):
    for name in ("t05770g4.44", "t08250g4.00", "t10250g5.00"):
        model = read_atmosphere(shared / "synthesis" / f"at12_aaaaa_{name}.atm")
        assert len(model.column) == 80
        assert (model.electrons < model.pressure / (BOLTZMANN * model.temperature)).all()
        # Gas pressure carries what lies above, but for what radiation and turbulence do.
        weight = 10.0**model.logg * model.column
        np.testing.assert_allclose(model.pressure[20:] / weight[20:], 1.0, atol=0.15)


def gas(teff: float, logg: float, hotter: float = 1.0) -> Atmosphere:
    """A grey atmosphere whose opacity grows with its pressure, in hydrostatic equilibrium."""
    column = np.logspace(-4, 2, 60)
    pressure = 10.0**logg * column
    tau = 0.5 * KAPPA * pressure * column
    temperature = hotter * teff * (0.75 * (tau + 2.0 / 3.0)) ** 0.25
    return Atmosphere(teff, logg, column, temperature, pressure, 0.3 * pressure / (BOLTZMANN * temperature))


KAPPA = 1e-4


def opacity(model: Atmosphere):
    return KAPPA * model.pressure, 0.3 * model.pressure / (BOLTZMANN * model.temperature)


def test_a_model_scaled_to_its_own_labels_is_itself():
    model = gas(8250.0, 4.0)
    scaled = scale_atmosphere([model], 8250.0, 4.0, opacity)
    again = np.interp(np.log(scaled.column), np.log(model.column), model.temperature)
    inside = (scaled.column > model.column[1]) & (scaled.column < model.column[-2])
    assert inside.sum() > 30
    np.testing.assert_allclose(scaled.temperature[inside], again[inside], rtol=5e-3)


@pytest.mark.parametrize("logg", [3.0, 4.5])
def test_a_scaled_atmosphere_carries_its_weight(logg):
    scaled = scale_atmosphere([gas(8250.0, 4.0), gas(10250.0, 5.0)], 9000.0, logg, opacity)
    np.testing.assert_allclose(scaled.pressure, 10.0**logg * scaled.column, rtol=1e-6)
    # With an opacity in proportion to the pressure, tau = kappa g m^2 / 2 in all of these atmospheres.
    tau = 0.5 * KAPPA * 10.0**logg * scaled.column**2
    expected = 9000.0 * (0.75 * (tau + 2.0 / 3.0)) ** 0.25
    middle = (tau > 1e-3) & (tau < 30.0)
    np.testing.assert_allclose(scaled.temperature[middle], expected[middle], rtol=0.01)


def test_temperatures_lie_between_those_of_the_models_around():
    cool, hot = gas(8000.0, 4.0), gas(10000.0, 4.0, hotter=1.1)
    shapes = [
        scale_atmosphere([cool, hot], teff, 4.0, opacity).temperature[30] / teff
        for teff in (8000, 9000, 10000, 15000)
    ]
    assert shapes[0] < shapes[1] < shapes[2]
    assert shapes[3] == pytest.approx(shapes[2], rel=1e-3)
    share = np.log(9000 / 8000) / np.log(10000 / 8000)
    assert shapes[1] == pytest.approx((1 - share) * shapes[0] + share * shapes[2], rel=1e-3)


def test_what_cannot_be_scaled_is_refused():
    with pytest.raises(ValueError, match="at least one is required"):
        scale_atmosphere([], 9000.0, 4.0, opacity)
    rounds = iter(range(1000))

    def restless(model):
        kappa, electrons = opacity(model)
        return kappa * (1.0 + next(rounds) % 2), electrons

    with pytest.raises(ValueError, match="still change"):
        scale_atmosphere([gas(8250.0, 4.0)], 9000.0, 4.0, restless)
