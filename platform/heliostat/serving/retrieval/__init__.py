"""Collections of documents: found again by what they say, and put in front of a question."""
