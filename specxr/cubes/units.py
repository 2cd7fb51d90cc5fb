"""Units of arrays that a user gives: lengths become Angstrom, and what is no length is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

_ANGSTROM: dict[str, float] = {
    **dict.fromkeys(("angstrom", "angstroms", "ångström", "å", "\N{ANGSTROM SIGN}", "a", "aa"), 1.0),
    **dict.fromkeys(("pm", "picometer"), 1e-2),
    **dict.fromkeys(("nm", "nanometer", "nanometers", "nanometre"), 1e1),
    **dict.fromkeys(("um", "\N{MICRO SIGN}m", "\N{GREEK SMALL LETTER MU}m"), 1e4),
    **dict.fromkeys(("micron", "microns", "micrometer", "micrometers", "micrometre"), 1e4),
    **dict.fromkeys(("mm", "millimeter"), 1e7),
    **dict.fromkeys(("cm", "centimeter"), 1e8),
    **dict.fromkeys(("m", "meter", "metre"), 1e10),
}


def angstroms_in(units: object) -> float:
    """Length of a unit [Angstrom]; no unit at all is Angstrom.

    Raises
    ------
    ValueError
        It is no length that is known here.
    """
    text = str(units or "angstrom").strip()
    for name in (text, text.lower()):
        if name in _ANGSTROM:
            return _ANGSTROM[name]
    raise ValueError(
        f"the units of wavelength are {text!r}; a length is required, such as Angstrom, nm or micron. Convert the "
        "wavelengths to Angstrom, and set wavelength.attrs['units'] = 'Angstrom'."
    )


def in_angstrom(wavelength: Any) -> Any:
    """Wavelengths in Angstrom, from an astropy Quantity or a variable of xarray with the attribute ``units``."""
    if isinstance(wavelength, xr.DataArray | xr.Variable):
        values = wavelength.data
        if is_quantity(values):
            return in_angstrom(values)
        return np.asarray(values, dtype="f8") * angstroms_in(wavelength.attrs.get("units"))
    return in_units(wavelength, "Angstrom", "wavelength")


def in_units(values: Any, units: Any, name: str) -> Any:
    """Numbers of an astropy Quantity in some units; whatever is no Quantity is returned as it is.

    Raises
    ------
    ValueError
        The Quantity cannot be converted.
    """
    if not is_quantity(values):
        return values
    try:
        return values.to_value(units)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"{name} is given in {str(values.unit)!r}; units that can be converted to {str(units)!r} are required. "
            "Give it in such units."
        ) from error


def is_quantity(values: Any) -> bool:
    """Whether these are numbers with units, as astropy has them; astropy itself need not be imported for that."""
    return hasattr(values, "unit") and hasattr(values, "to_value")
