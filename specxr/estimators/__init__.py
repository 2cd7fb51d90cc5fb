"""Estimators: a block of spectra in, labels out; they know tensors and arrays, never xarray."""
