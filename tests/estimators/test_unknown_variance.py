"""Inverse variance: absent or NaN is unknown, 0 is a pixel that is not to be used."""

import dataclasses

import numpy as np
import pytest
from support import zoo
from support.trained import training_cube

import specxr
from specxr.cubes.schema import make_cube
from specxr.runs.run import Run
from specxr.spectra.grid import Grid
from specxr.spectra.normalisation import Normalisation
from specxr.transforms import degrade
from specxr.vocabulary import MaskBit, Result

FEW = slice(0, 3)


@pytest.fixture(scope="module")
def known():
    block = zoo.rows(zoo.member("lasp").block, FEW)
    return make_cube(block.flux, np.ones_like(block.flux), block.grid, mask=block.mask)


@pytest.fixture(scope="module")
def labels(known):
    return specxr.infer(known, specxr.LASP())


def same(left, right):
    for name in set(right.data_vars) - {
        "reduced_chi2",
        "flags",
    }:  # these two judge by the noise where it is known
        np.testing.assert_array_equal(left[name], right[name], err_msg=name)


@pytest.mark.parametrize("lazy", [False, True])
def test_a_fit_that_does_not_weigh_asks_for_none(known, labels, lazy, tmp_path):
    unknown = known.drop_vars("ivar")
    if lazy:
        specxr.write_cube(unknown, tmp_path / "cube.zarr", star_chunk=2)
        unknown = specxr.open_cube(tmp_path / "cube.zarr")
        assert "ivar" not in unknown
        read = Run(tmp_path / "cube.zarr", "any").read_spectra("ivar", slice(1, 3))
        assert np.isnan(read).all()
        assert read.shape == (2, known.sizes["wavelength"])
    same(specxr.infer(unknown, specxr.LASP()).compute(), labels)
    same(specxr.infer(known.assign(ivar=known.ivar * np.nan), specxr.LASP()), labels)


def test_zero_says_that_a_pixel_is_not_to_be_used(known, labels):
    ivar = known.ivar.copy()
    ivar[0] = 0.0
    ivar[1, 500:520] = 0.0
    ivar[1, 520:540] = -1.0
    found = specxr.infer(known.assign(ivar=ivar), specxr.LASP())
    assert found.result[0] == Result.TOO_FEW_PIXELS
    assert found.n_good[1] == labels.n_good[1] - 40
    same(found.isel(star=[2]), labels.isel(star=[2]))


@pytest.mark.parametrize("name", ["lasp weighted", "payne", "hybrid"])
def test_a_fit_that_weighs_refuses_a_cube_without_any(name):
    member = zoo.member(name)
    attrs = {"normalisation": member.block.grid.normalisation} if member.block.grid.normalisation else {}
    cube = make_cube(member.block.flux, None, member.block.grid, attrs=attrs)
    with pytest.raises(ValueError, match=r"has no variable 'ivar'; .* weighs .* required\. Add it"):
        specxr.infer(cube, member.estimator)


@pytest.mark.parametrize("name", ["lasp weighted", "payne", "slam"])
def test_a_fit_that_weighs_leaves_out_what_is_unknown(name):
    member = zoo.member(name)
    few = zoo.rows(member.block, FEW)
    here = (slice(None), slice(150, 170))
    ivar, mask = few.ivar.copy(), few.mask.copy()
    ivar[here] = np.nan
    mask[here] |= int(MaskBit.BAD_FLUX)
    found = member.estimator.estimate(dataclasses.replace(few, ivar=ivar))
    for key, wanted in member.estimator.estimate(dataclasses.replace(few, mask=mask)).items():
        np.testing.assert_array_equal(found[key], wanted, err_msg=key)


def test_transforms_keep_it_unknown():
    cube = training_cube(4).drop_attrs(deep=False)
    cube = cube.assign(rv=("star", [10.0, -20.0, 0.0, 35.0]))
    plain = cube.assign(ivar=cube.ivar * 0 + 100)
    partly = plain.assign(ivar=plain.ivar.where(np.arange(cube.sizes["wavelength"]) % 50 != 7))
    grid = Grid(np.arange(4950.0, 5200.0), "vacuum", "linear", 1.0)
    for change in (
        lambda c: specxr.normalise(c, Normalisation(100.0)),
        specxr.to_rest,
        lambda c: specxr.resample(c, grid),
    ):
        wanted, some, none = change(plain), change(partly), change(plain.drop_vars("ivar"))
        np.testing.assert_array_equal(none.flux, wanted.flux)
        np.testing.assert_array_equal(some.flux, wanted.flux)
        np.testing.assert_array_equal(none["mask"], wanted["mask"])
        used = wanted.ivar.values > 0
        assert np.isnan(none.ivar.values[used]).all()
        assert not none.ivar.values[~used].any()
        lost = np.isnan(some.ivar.values)
        assert 0.01 < lost.mean() < 0.2
        np.testing.assert_allclose(some.ivar.values[~lost], wanted.ivar.values[~lost], rtol=0.3)


def test_who_cannot_do_without_it_says_so():
    cube = training_cube(30).drop_vars("ivar")
    for use in (lambda: degrade(cube, 20.0), lambda: specxr.train(cube, specxr.Payne())):
        with pytest.raises(ValueError, match=r"has no variable 'ivar'; .* required\. Add it"):
            use()
