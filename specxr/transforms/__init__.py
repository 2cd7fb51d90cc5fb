"""Cube in, cube out: each transform is lazy where the cube is, and leaves its input as it was."""

from specxr.transforms.normalise import normalise
from specxr.transforms.rest_frame import to_rest

__all__ = ["normalise", "to_rest"]
