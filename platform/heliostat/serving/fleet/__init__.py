"""Which models there are, which replicas answer for them, and which of them takes a request. Knows no Ray."""
