"""Transfer-learning sweeps for Weights & Biases."""

__version__ = "0.1.0"
