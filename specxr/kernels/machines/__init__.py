"""The machines with which SLAM learns a pixel: support vector regression and kernel ridge regression."""
