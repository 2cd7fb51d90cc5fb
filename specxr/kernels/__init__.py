"""Numerical kernels: torch, batch first, last axis = pixels; arrays in, arrays out."""
