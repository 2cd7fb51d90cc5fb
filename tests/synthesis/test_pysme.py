"""What PySME is given; PySME itself lives in an environment of its own (docs/methods/training.md)."""

from __future__ import annotations

from importlib.util import find_spec

import numpy as np
import pytest

from specxr.synthesis.pysme import PySMESpectra, read_atmosphere

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
        assert (model.electrons < model.pressure / (1.380649e-16 * model.temperature)).all()
        # Gas pressure carries what lies above, but for what radiation and turbulence do.
        weight = 10.0**model.logg * model.column
        np.testing.assert_allclose(model.pressure[20:] / weight[20:], 1.0, atol=0.15)


@pytest.mark.skipif(find_spec("pysme") is not None, reason="PySME is installed")
def test_where_pysme_is_missing_the_way_to_get_it_is_told():
    with pytest.raises(ImportError, match="environment of its own"):
        PySMESpectra([], [], np.arange(5000.0, 5100.0))


@pytest.mark.skipif(
    find_spec("pysme") is None, reason="PySME is not installed: it wants an environment of its own"
)
def test_magnesium_deepens_its_lines_and_only_these(shared):
    folder = shared / "synthesis"
    generator = PySMESpectra(
        [read_atmosphere(folder / "at12_aaaaa_t08250g4.00.atm")],
        [folder / "moogatom05000.gz"],
        np.arange(5160.0, 5190.0, 0.05),
        ("teff", "logg", "mg_fe"),
    )
    plain, rich = generator.spectra(np.array([[8250.0, 4.0, 0.0], [8250.0, 4.0, 0.5]]))
    deeper = plain - rich
    centre = 0.5 * (generator.edges[1:] + generator.edges[:-1])
    at_triplet = np.min(np.abs(centre[:, None] - [5167.32, 5172.68, 5183.60]), axis=1) < 1.0
    assert deeper[at_triplet].max() > 0.03
    assert np.abs(deeper[~at_triplet]).max() < 0.02
