"""Base models: importing, safety checks, loading, scoring. torch and transformers only inside functions."""
