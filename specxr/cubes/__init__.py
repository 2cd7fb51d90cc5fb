"""The cube of spectra: its schema, and the Zarr stores in which it and its labels lie."""
