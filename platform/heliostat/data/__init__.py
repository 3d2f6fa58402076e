"""The data room: documents from files or docstrings become a packed, tokenized dataset with a receipt."""
