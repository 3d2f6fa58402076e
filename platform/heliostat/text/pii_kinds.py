"""The names of what `pii` finds. Apart from it, so that a config can be read without compiling its forms."""

from typing import Literal, get_args

Kind = Literal["email", "ip", "phone", "credit_card", "iban", "national_id", "secret"]
KINDS: tuple[Kind, ...] = get_args(Kind)
REGIONS = ("CN", "US", "GB", "ES", "DE", "FR")
"""The countries (ISO 3166) whose national ids are known."""
