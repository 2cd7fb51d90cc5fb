"""Spectra as language: a causal language model that reads a spectrum and answers with labels."""
