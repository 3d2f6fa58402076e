"""From the gateway to engines in other processes and back: JSON lines over TCP, so that a token costs
little.
"""
