"""What a run minimises. An objective is one file: its loss over a batch, and how it counts."""
