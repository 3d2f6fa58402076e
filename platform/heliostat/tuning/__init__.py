"""Tuning: many training runs, the best of which is kept."""
