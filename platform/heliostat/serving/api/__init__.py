"""OpenAI's API: what requests and responses look like, and how one becomes the other. Knows no Ray."""
