"""Versions: numbers and aliases for artifacts, where they came from, what became of them, and what may go."""
