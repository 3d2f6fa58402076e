"""What people and machines said, made fit to be kept and shown."""


def fit(text: str, most: int) -> str:
    """`text` on one line of at most `most` characters, which every database and terminal takes."""
    kept = "".join(sign if sign.isprintable() else " " for sign in text)
    line = " ".join(kept.encode("utf-8", "replace").decode().split())
    return line if len(line) <= most else f"{line[: most - 1]}…"
