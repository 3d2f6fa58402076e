"""Letters that look like others, for `folding`. Chosen by hand after Unicode's confusables.txt (UTS #39).

A letter and its capital fold to the same Latin letter, so that folding goes with ignoring case. Letters with
accents, full-width, mathematical and circled forms are not here: NFKD knows them.
"""

_PAIRS = {
    # Cyrillic
    "аА": "aA", "вВ": "bB", "сС": "cC", "ԁԀ": "dD", "еЕ": "eE", "ҽҼ": "eE", "һҺ": "hH", "нН": "hH",
    "іІ": "iI", "ӏӀ": "lL", "јЈ": "jJ", "кК": "kK", "мМ": "mM", "оО": "oO", "рР": "pP", "ԛԚ": "qQ",
    "ѕЅ": "sS", "тТ": "tT", "ѵѴ": "vV", "ԝԜ": "wW", "хХ": "xX", "уУ": "yY", "үҮ": "yY", "ԍԌ": "gG",
    # Greek
    "αΑ": "aA", "βΒ": "bB", "εΕ": "eE", "ζΖ": "zZ", "ηΗ": "hH", "ιΙ": "iI", "κΚ": "kK", "μΜ": "mM",
    "νΝ": "nN", "οΟ": "oO", "ρΡ": "pP", "τΤ": "tT", "υΥ": "yY", "χΧ": "xX", "ϲϹ": "cC", "ωΩ": "wW",
    # Latin letters that do not decompose
    "øØ": "oO", "đĐ": "dD", "ðÐ": "dD", "łŁ": "lL", "ħĦ": "hH", "ŧŦ": "tT", "ɨƗ": "iI", "ɵƟ": "oO",
    "ƀɃ": "bB", "ɑⱭ": "aA", "ɛƐ": "eE", "ɡƓ": "gG", "ɩƖ": "iI", "ŋŊ": "nN", "ɯƜ": "wW", "ꞵꞴ": "bB",
    # Armenian
    "օՕ": "oO", "սՍ": "uU", "հՀ": "hH", "ոՈ": "nN", "զԶ": "qQ", "ցՑ": "gG",
    # Cherokee
    "ꭺᎪ": "aA", "ꮃᎳ": "wW", "ꮪᏚ": "sS", "ꭼᎬ": "eE", "ꭻᎫ": "jJ", "ꮇᎷ": "mM", "ꮋᎻ": "hH", "ꮓᏃ": "zZ",
}  # fmt: skip
_SINGLE = {
    "ı": "i", "ȷ": "j", "ʟ": "l", "ᴀ": "a", "ʙ": "b", "ᴄ": "c", "ᴅ": "d", "ᴇ": "e", "ꜰ": "f", "ɢ": "g",
    "ʜ": "h", "ɪ": "i", "ᴊ": "j", "ᴋ": "k", "ᴍ": "m", "ɴ": "n", "ᴏ": "o", "ᴘ": "p", "ꞯ": "q", "ʀ": "r",
    "ꜱ": "s", "ᴛ": "t", "ᴜ": "u", "ᴠ": "v", "ᴡ": "w", "ʏ": "y", "ᴢ": "z", "ß": "ss", "ẞ": "SS", "æ": "ae",
    "Æ": "AE", "œ": "oe", "Œ": "OE", "ς": "s", "’": "'", "‘": "'", "‚": "'", "“": '"', "”": '"', "„": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "−": "-", "⁄": "/", "∕": "/", "∣": "|", "ǀ": "l",
    "ا": "l", "٠": "0", "۰": "0", "ⵏ": "l", "ꓲ": "l",
}  # fmt: skip

LOOKALIKES: dict[str, str] = {
    seen: meant for pair, latin in _PAIRS.items() for seen, meant in zip(pair, latin, strict=True)
} | _SINGLE
"""What each such character is read as."""
LOOKALIKES |= {chr(0x1F1E6 + number): chr(ord("a") + number) for number in range(26)}  # flags' letters
LOOKALIKES |= {
    chr(start + number): chr(ord("A") + number)
    for start in (0x1F130, 0x1F150, 0x1F170)
    for number in range(26)
}  # squared, and circled and squared in black

_WRITTEN, _MEANT = "013457@$", "oieastas"
_DIGITS_AS_LETTERS = bytes.maketrans(_WRITTEN.encode(), _MEANT.encode())


def digits_as_letters(text: str) -> str:
    """The text, as long as before, with letters for the digits and signs that people write for them."""
    if text.isascii():
        return text.encode().translate(_DIGITS_AS_LETTERS).decode()
    for written, meant in zip(_WRITTEN, _MEANT, strict=True):
        text = text.replace(written, meant)
    return text
