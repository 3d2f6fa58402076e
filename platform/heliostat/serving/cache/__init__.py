"""Answers kept for questions that come again: the same ones, and those that say the same."""
