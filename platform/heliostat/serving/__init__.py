"""The serving room: an OpenAI-compatible endpoint for a model or a quantized artifact, on Ray Serve."""
