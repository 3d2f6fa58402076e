"""What the words in front of a number say it is: the last thing to ask, when its digits fit.

A check digit is right by chance for one number in ten, and numbers as long as phone numbers are everywhere:
the words in front are what tells an order number from a phone number.
"""

import re

_WINDOW = 32
# What is called so belongs to nobody, though its digits may fit.
_SOMETHING_ELSE = re.compile(
    r"(?:isbn|issn|doi|arxiv|pmid|orcid|order|invoice|receipt|tracking|ticket|serial|version|revision|release|"
    r"build|commit|sha-?1|sha-?256|md5|hash|checksum|uuid|guid|sku|upc|ean|gtin|part|model|rfc|bug|issue|seed|"
    r"rng|random_state|timestamp|epoch|offset|订单|单号|编号|流水|版本|型号|序列|书号|刊号|时间戳)"
    r"[a-z]{0,6}[ _-]?(?:no|nr|id|num|number|code|号|码|号码)?s?"
    r"[\s:：#=.(\"'`]{0,4}(?:is|was|为|是)?[\s:：#=(\"'`]{0,3}$",
    re.IGNORECASE,
)
_PHONE = re.compile(
    r"(?:\b(?:tel|phones?|telephone|cellphone|mobile|fax|sms|whatsapp|hotline|telefon|telefonnummer|rufnummer|"
    r"mobil|tél|téléphone|teléfono|telefono|móvil|movil)\b"
    r"|电话|手机|热线|致电|传真|座机|联系方式|拨打|電話|手機)[^0-9\n]{0,24}$"
    r"|\b(?:call|dial|ring|reach|contact|text)\b(?:\s+(?:me|us|him|her|them|at|on|now|today))*\W{0,4}$",
    re.IGNORECASE,
)
_VERSION = re.compile(
    r"(?:version|release|revision|section|sections|chapter|§|版本|章|节)[\s:：#(]{0,3}$|[=<>~!]=\s?$",
    re.IGNORECASE,
)
_SOCIAL_SECURITY = re.compile(r"(?:\bssn|\bsocial security)[^0-9\n]{0,20}$", re.IGNORECASE)


def names_something_else(text: str, start: int) -> bool:
    """Whether the words in front of text[start] name a number that is no personal data."""
    return bool(_SOMETHING_ELSE.search(_in_front(text, start)))


def names_a_phone(text: str, start: int) -> bool:
    """Whether the words in front of text[start] announce a phone number."""
    return bool(_PHONE.search(_in_front(text, start)))


def names_a_version(text: str, start: int) -> bool:
    """Whether the words in front of text[start] announce the number of a version or a section."""
    return bool(_VERSION.search(_in_front(text, start)))


def names_social_security(text: str, start: int) -> bool:
    """Whether the words in front of text[start] announce a US social security number."""
    return bool(_SOCIAL_SECURITY.search(_in_front(text, start)))


def _in_front(text: str, start: int) -> str:
    return text[max(0, start - _WINDOW) : start]
