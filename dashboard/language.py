"""Which language to speak: the first of those asked for that we have, else English."""

LANGUAGES = {"en": "English", "zh": "中文"}


def best_language(*asked: str | None) -> str:
    """The first known language in any of `asked`: codes like zh, zh-CN, or an Accept-Language header."""
    for words in asked:
        for word in (words or "").split(","):
            code = word.partition(";")[0].strip().lower().partition("-")[0]
            if code in LANGUAGES:
                return code
    return "en"
