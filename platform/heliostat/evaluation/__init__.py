"""Evaluation: how good models are on held-out documents."""
