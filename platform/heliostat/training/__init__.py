"""The training room: objectives, adapters, layouts and the worker loop (Ray Train and DeepSpeed)."""
