"""Looks at requests and answers: rules, a classifier, redaction, and a queue for people to decide."""
