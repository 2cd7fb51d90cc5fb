"""What a spectrum is: its grid, its line spread, its usable pixels and how it is normalised; NumPy only."""
