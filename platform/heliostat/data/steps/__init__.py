"""The cleaning steps over one document: a file a family, each with its configs and pure functions."""
