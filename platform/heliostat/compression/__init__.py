"""Compression: smaller models for faster engines, let through only when they still read as well."""
