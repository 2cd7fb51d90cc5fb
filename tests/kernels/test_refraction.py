import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from specxr.kernels.refraction import air_to_vacuum, convert_medium, vacuum_to_air

# Ritz wavelengths of the NIST Atomic Spectra Database: Ca II K and H, Na I D, Ca II 8542 [Angstrom].
NIST = np.array(
    [
        (3934.777, 3933.663),
        (3969.591, 3968.468),
        (5891.583, 5889.951),
        (5897.558, 5895.924),
        (8544.438, 8542.091),
    ]
)


def test_lines_in_both_media() -> None:
    np.testing.assert_allclose(vacuum_to_air(NIST[:, 0]), NIST[:, 1], atol=1.5e-3)
    np.testing.assert_allclose(air_to_vacuum(NIST[:, 1]), NIST[:, 0], atol=1.5e-3)


def test_agrees_with_ciddor_to_ten_metres_a_second() -> None:
    vacuum = np.linspace(3000.0, 11000.0, 200)
    s2 = (1e4 / vacuum) ** 2
    ciddor = vacuum / (1.0 + 0.05792105 / (238.0185 - s2) + 0.00167917 / (57.362 - s2))
    np.testing.assert_allclose(vacuum_to_air(vacuum), ciddor, rtol=3e-8)


def test_agrees_with_the_closed_inverse_of_vald() -> None:
    air = np.linspace(3000.0, 11000.0, 200)
    s2 = (1e4 / air) ** 2
    n = 1.0 + 8.336624212083e-5 + 2.408926869968e-2 / (130.1065924522 - s2)
    n += 1.599740894897e-4 / (38.92568793293 - s2)
    np.testing.assert_allclose(air_to_vacuum(air), air * n, rtol=2e-9)


@given(st.floats(2000.0, 30000.0))
def test_round_trip(wavelength: float) -> None:
    np.testing.assert_allclose(vacuum_to_air(air_to_vacuum(wavelength)), wavelength, rtol=1e-15)
    np.testing.assert_allclose(air_to_vacuum(vacuum_to_air(wavelength)), wavelength, rtol=1e-15)


def test_convert_medium() -> None:
    np.testing.assert_array_equal(convert_medium([5000.0], "air", "air"), [5000.0])
    np.testing.assert_array_equal(convert_medium([5000.0], "vacuum", "air"), vacuum_to_air([5000.0]))
    np.testing.assert_array_equal(convert_medium([5000.0], "air", "vacuum"), air_to_vacuum([5000.0]))
    with pytest.raises(ValueError, match="water"):
        convert_medium([5000.0], "water", "air")
