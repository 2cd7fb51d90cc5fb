"""Cube in, cube out: each transform is lazy where the cube is, and leaves its input as it was."""

from specxr.transforms.coadd import coadd
from specxr.transforms.degrade import degrade
from specxr.transforms.normalise import normalise
from specxr.transforms.resample import resample
from specxr.transforms.rest_frame import to_rest
from specxr.transforms.select import select

__all__ = ["coadd", "degrade", "normalise", "resample", "select", "to_rest"]
