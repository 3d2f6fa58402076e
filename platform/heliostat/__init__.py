"""Heliostat: raw text in, a served and quantized language model out, on one Ray cluster."""

__version__ = "0.1.0"
