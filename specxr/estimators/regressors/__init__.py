"""From spectra straight to labels: networks, kernel ridge regression, trees."""
