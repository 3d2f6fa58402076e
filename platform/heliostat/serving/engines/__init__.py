"""Engines: token ids in, token ids out. `interface.py` says what every engine offers."""
