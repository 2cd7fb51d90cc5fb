"""Small files of SDSS, BOSS, DESI and APOGEE, in the layouts of the surveys, for tests."""

import numpy as np
from astropy.io import fits

from specxr.vocabulary import SPEED_OF_LIGHT

ARMS = {"B": (0, 2751), "R": (2700, 5026), "Z": (4900, 7781)}  # pixels of DESI's lattice


def table(name, **columns):
    """A table of one row for each value; lower rank arrays are repeated."""
    formats = {"f": "E", "i": "J", "u": "J"}
    made = []
    for column, values in columns.items():
        values = np.asarray(values)
        if values.dtype.kind in "OU":
            form = f"{max(len(str(v)) for v in np.ravel(values)) or 1}A"
            values = values.astype(str)
        else:
            form = {"int64": "K", "float64": "D"}.get(values.dtype.name, formats.get(values.dtype.kind))
            if values.ndim > 1:
                form = f"{values[0].size}{form}"
        dim = str(values.shape[:0:-1]).replace(" ", "") if values.ndim > 2 else None
        made.append(fits.Column(column, form, array=values, dim=dim))
    return fits.BinTableHDU.from_columns(made, name=name)


def write_spec(
    path,
    *,
    first=35600,
    n_pixels=4500,
    flux=None,
    ivar=None,
    and_mask=0,
    or_mask=0,
    wdisp=1.0,
    hdus=(),
    **row,
):
    """A spec-lite file of BOSS; `hdus` are appended, and `row` changes the row of targets."""
    flux = 100 + np.arange(n_pixels) / 100 if flux is None else flux
    n_pixels = len(flux)
    ones = np.ones(n_pixels)
    coadd = table(
        "COADD",
        flux=np.float32(flux),
        loglam=np.float32((first + np.arange(n_pixels)) * 1e-4),
        ivar=np.float32(ones if ivar is None else ivar),
        and_mask=np.int32(and_mask * np.ones(n_pixels, "i4")),
        or_mask=np.int32(or_mask * np.ones(n_pixels, "i4")),
        wdisp=np.float32(wdisp * ones),
        sky=np.float32(0 * ones),
        model=np.float32(flux),
    )
    target = {
        "PLATE": 3586,
        "MJD": 55181,
        "FIBERID": 500,
        "PLUG_RA": 6.7,
        "PLUG_DEC": 0.01,
        "CLASS": "STAR",
        "SUBCLASS": "G1V",
        "Z": -1e-4,
        "ZWARNING": 0,
        "SN_MEDIAN_ALL": 55.0,
    } | row
    target = {name: value for name, value in target.items() if value is not None}
    columns = {name: np.array([value]) for name, value in target.items()}
    primary = fits.PrimaryHDU()
    primary.header.update({"TELESCOP": "SDSS 2.5-M", "VACUUM": True, "HELIO_RV": 29.5, "RUN2D": "v5_10_0"})
    fits.HDUList([primary, coadd, table("SPALL", **columns), *hdus]).writeto(path, checksum=False)
    return path


def exposure_hdu(number, camera, flux_of, seed=0):
    """One camera of one exposure, on pixels of its own; the wavelengths of second cameras decrease."""
    low, high, n = (3.5515, 3.8050, 2300) if camera.startswith("B") else (3.7650, 4.0100, 2900)
    loglam = np.linspace(low, high, n) + 2e-5 * np.sin(np.linspace(0, 3, n))
    flux = flux_of(10**loglam)
    flux = flux + np.random.default_rng(seed).normal(0, 1, n)
    if camera.endswith("2"):
        loglam, flux = loglam[::-1], flux[::-1]
    hdu = table(
        f"{camera}-{number:08d}-00000001-00000002",
        flux=np.float32(flux),
        loglam=np.float32(loglam),
        ivar=np.ones(n, "f4"),
        mask=np.zeros(n, "i4"),
        wdisp=np.ones(n, "f4"),
        sky=np.zeros(n, "f4"),
        calib=np.ones(n, "f4"),
    )
    hdu.header.update({"EXPOSURE": number, "MJD": 55181, "EXPTIME": 900.0, "HELIO_RV": 29.4})
    return hdu


def write_desi(
    path, targets=(39627866878511337, 616088619186127404), flux_of=None, *, arms="BRZ", sigma=0.7, **extra
):
    """A coadd of DESI; `flux_of` gives the flux of a star at wavelengths, `sigma` [Angstrom] the width of its lines."""
    n_stars = len(targets)
    flux_of = flux_of or (lambda star, wavelength: 10.0 * (star + 1) + wavelength / 1000)
    fibermap = {
        "TARGETID": np.array(targets, "i8"),
        "COADD_FIBERSTATUS": np.zeros(n_stars, "i4"),
        "TARGET_RA": np.linspace(10, 20, n_stars),
        "TARGET_DEC": np.linspace(-5, 5, n_stars),
        "OBJTYPE": np.array(["TGT"] * n_stars),
        "REF_ID": np.arange(n_stars) + 2**62,
        "REF_CAT": np.array(["G2"] * n_stars),
        "COADD_NUMEXP": np.full(n_stars, 2, "i2").astype("i4"),
        "PARALLAX": np.zeros(n_stars, "f4"),
        "SV3_DESI_TARGET": np.full(n_stars, 5, "i8"),
    }
    fibermap |= {name: values for name, values in extra.items() if name.isupper()}
    hdus = [fits.PrimaryHDU(), table("FIBERMAP", **fibermap)]
    hdus[0].header.update({"SURVEY": "sv3", "PROGRAM": "dark"})
    ivar = extra.get("ivar", 1.0)
    offsets = np.arange(5, -6, -1)
    profile = np.exp(-0.5 * (offsets * 0.8 / sigma) ** 2)
    for arm in arms:
        wavelength = 3600 + 0.8 * np.arange(*ARMS[arm])
        shape = (n_stars, wavelength.size)
        flux = np.array([flux_of(star, wavelength) for star in range(n_stars)])
        resolution = np.broadcast_to((profile / profile.sum())[:, None], (n_stars, 11, wavelength.size))
        for name, data in {
            "WAVELENGTH": wavelength,
            "FLUX": np.float32(flux),
            "IVAR": np.float32(ivar * np.ones(shape)),
            "MASK": np.zeros(shape, "u4"),
            "RESOLUTION": np.float32(extra.get("resolution", resolution)),
        }.items():
            hdus.append(fits.ImageHDU(data, name=f"{arm}_{name}"))
    fits.HDUList(hdus).writeto(path, checksum=extra.get("checksum", True))
    return path


def write_apstar(path, n_visits=2, flux=None, mask=None, name="2M17334253-1654573", **cards):
    """An apStar file; rows are the two combinations and the visits, or one row for one visit."""
    n_rows = 1 if n_visits == 1 else n_visits + 2
    shape = (n_rows, 8575)
    flux = np.arange(n_rows)[:, None] * 1000 + np.arange(8575.0) + 1 if flux is None else flux
    error = np.full(shape, 2.0)
    error[:, :100] = 1e10
    flux = np.array(flux)
    flux[:, :100] = 0
    mask = np.zeros(shape, "i2") if mask is None else mask
    arrays = [np.float32(flux), np.float32(error), np.int16(mask)]
    if n_rows == 1:
        arrays = [array[0] for array in arrays]
    hdus = fits.HDUList([fits.PrimaryHDU(), *(fits.ImageHDU(array) for array in arrays)])
    header = hdus[0].header
    header.update(
        {"OBJID": name, "RA": 263.4, "DEC": -16.9, "NVISITS": n_visits, "VHELIO": -72.95, "SNR": 186.0}
    )
    header.update({"STARFLAG": 0})
    for visit in range(1, n_visits + 1):
        header[f"SFILE{visit}"] = f"apVisit-r6-6896-{56375 + visit}-242.fits"
        header[f"VHELIO{visit}"], header[f"SNRVIS{visit}"], header[f"FLAG{visit}"] = -72.0 - visit, 100.0, 512
    header.update(cards)
    for hdu in hdus:
        hdu.header.update({"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1, "CTYPE1": "LOG-LINEAR"})
    hdus.writeto(path)
    return path


def write_aspcapstar(path, name="2M17334253-1654573", table_name=None, **row):
    """An aspcapStar file with labels."""
    flux, error = np.ones(8575, "f4"), np.full(8575, 0.01, "f4")
    flux[:100] = error[:100] = 0
    raw = np.array([4000, 1.5, 0.3, -0.2, 0.1, 0.2, 0.05, 0.5, 0], "f4")
    calibrated = np.array([4050, 1.4, 0.3, -0.25, 0.1, -9999, 0.05, 0.5, 0], "f4")
    columns = {
        "APOGEE_ID": np.array([table_name or name]),
        "FPARAM": raw[None],
        "PARAM": calibrated[None],
        "PARAM_COV": np.diag(np.array([2500, 0.01, 0.01, 0.0004, 0.01, 0.01, 0.0001, 0, 0], "f4"))[None],
        "ASPCAPFLAG": np.array([-(2**31) + 8], "i4"),
        "STARFLAG": np.array([512], "i4"),
    } | row
    hdus = [fits.PrimaryHDU(), *(fits.ImageHDU(array) for array in (flux, error, flux)), table("", **columns)]
    hdus[0].header.update(
        {"OBJ": name, "RA": 263.4, "DEC": -16.9, "VHELIO": 10.0, "SNR": 100.0, "NVISITS": 2}
    )
    for hdu in hdus[:4]:
        hdu.header.update({"CRVAL1": 4.179, "CDELT1": 6e-6, "CRPIX1": 1})
    fits.HDUList(hdus).writeto(path)
    return path


def desi_width(sigma, wavelength):
    """Width [km/s] of lines of `sigma` [Angstrom]."""
    return sigma / wavelength * SPEED_OF_LIGHT
