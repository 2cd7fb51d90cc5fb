"""Fits of an emulator that was trained: The Payne, SLAM and the hybrid of two estimators."""
