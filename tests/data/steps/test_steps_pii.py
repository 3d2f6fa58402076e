"""The step for personal data: results, reasons and notes, and its precision and recall on planted finds."""

import hashlib
import json
import random
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timedelta

import phonenumbers
import pytest
from pydantic import ValidationError

from heliostat.data.documents import Document
from heliostat.data.steps.interface import Refusal
from heliostat.data.steps.pii import PiiStep, make_pii
from heliostat.text.pii_kinds import KINDS


def text(content: str, **metadata) -> Document:
    return Document("u", "file", 1, "d", content, metadata=metadata)


def chat(question: str, answer: str) -> Document:
    messages = ({"role": "user", "content": question}, {"role": "assistant", "content": answer})
    return Document("u", "file", 1, "d", messages=messages)


@pytest.mark.parametrize(
    ("step", "document", "contents", "places"),
    [
        (
            {},
            text("ask a@b.org at 8.8.8.8"),
            ["ask [EMAIL] at [IP]"],
            [["email", 0, 4, 11], ["ip", 0, 15, 22]],
        ),
        (
            {},
            chat("写信给a@b.org。", "好的，a@b.org"),
            ["写信给[EMAIL]。", "好的，[EMAIL]"],
            [["email", 0, 3, 10], ["email", 1, 3, 10]],
        ),
        ({"find": ("ip",)}, text("a@b.org, 1.1.1.1"), ["a@b.org, [IP]"], [["ip", 0, 9, 16]]),
        ({"action": "mask"}, chat("q", "to a@b.org"), ["q", "to *@*.***"], [["email", 1, 3, 10]]),
        (
            {"find": ("phone",), "action": "mask"},
            text("电话：010-62345678"),
            ["电话：***-****5678"],
            [["phone", 0, 3, 15]],
        ),
    ],
)
def test_what_is_found_is_replaced_and_its_place_noted(step, document, contents, places):
    result = make_pii(PiiStep(**step))(document)
    assert result.contents == contents
    assert result.metadata == {"pii": places}
    json.dumps(result.metadata)


@pytest.mark.parametrize(
    ("document", "refusal"),
    [
        (text("地址8.8.8.8"), Refusal("contains_ip", 1.0, "1 ip")),
        (
            chat("卡4111111111111111", "a@b.org 8.8.8.8 b@c.org"),
            Refusal("contains_credit_card", 4.0, "1 credit_card, 2 email, 1 ip"),
        ),
        (text("password=hX7kQ2p9z"), Refusal("contains_secret", 1.0, "1 secret")),
    ],
)
def test_dropping_says_the_first_kind_and_counts_and_no_value(document, refusal):
    assert make_pii(PiiStep(find=KINDS, action="drop"))(document) == refusal


@pytest.mark.parametrize("action", ["redact", "mask", "drop"])
@pytest.mark.parametrize(
    "document", [text("clean 3.14"), chat("问题", "答案"), text(""), text("\x00\ud800 ")]
)
def test_a_document_without_a_find_comes_back_as_it_was(action, document):
    assert make_pii(PiiStep(find=KINDS, action=action))(document) is document


def test_what_was_known_before_stays_and_a_second_step_adds_its_places():
    document = text("a@b.org 8.8.8.8", language="en")
    first = make_pii(PiiStep(find=("email",)))(document)
    second = make_pii(PiiStep(find=("email", "ip")))(first)
    assert second.text == "[EMAIL] [IP]"
    assert second.metadata == {"language": "en", "pii": [["email", 0, 0, 7], ["ip", 0, 8, 15]]}


@pytest.mark.parametrize(
    ("config", "complaint"),
    [
        ({"find": ()}, "at least 1"),
        ({"find": ("name",)}, "email"),
        ({"regions": ("JP",), "find": ("national_id",)}, "'JP' has no national ids"),
        ({"regions": ("JP",), "find": ("phone", "national_id")}, "needs one of regions CN"),
        ({"regions": ("UK",), "find": ("phone",)}, "'UK' has no phone numbers"),
        ({"regions": (), "find": ("national_id",)}, "needs one of regions"),
    ],
)
def test_an_impossible_config_is_refused(config, complaint):
    with pytest.raises(ValidationError, match=complaint):
        PiiStep(**config)


def test_by_default_emails_and_ip_addresses_are_redacted():
    config = PiiStep()
    assert (config.find, config.action) == (("email", "ip"), "redact")
    assert PiiStep(regions=("JP",), find=("phone",)).regions == ("JP",)


# Planting: numbers with check digits made here by the published rules, phone numbers by Google's own
# examples and formats; between them, decoys of the kinds that clean text is full of.


def card(rng: random.Random) -> str:
    digits = [int(digit) for digit in rng.choice(("4539", "5412", "2230", "6221", "3566"))]
    digits += rng.choices(range(10), k=11)
    total = sum(digit if at % 2 else sum(divmod(2 * digit, 10)) for at, digit in enumerate(digits))
    number = "".join(map(str, [*digits, -total % 10]))
    separator = rng.choice(("", " ", "-"))
    return separator.join(number[at : at + 4] for at in range(0, 16, 4))


def iban(rng: random.Random) -> str:
    account = "".join(rng.choices("0123456789", k=18))
    check = 98 - int(account + "131400") % 97
    number = f"DE{check:02}{account}"
    return rng.choice((number, " ".join(number[at : at + 4] for at in range(0, 22, 4))))


def chinese_id(rng: random.Random) -> str:
    born = datetime(1950, 1, 1) + timedelta(days=rng.randrange(25_000))
    number = f"{rng.choice(('110105', '310104', '440305', '650102'))}{born:%Y%m%d}{rng.randrange(1000):03}"
    # The last digit makes the sum of digit * 2**place equal to 1 modulo 11.
    total = sum(int(digit) * 2 ** (17 - at) for at, digit in enumerate(number)) % 11
    last = (1 - total) % 11
    return number + ("X" if last == 10 else str(last))


def dni(rng: random.Random) -> str:
    number = rng.randrange(10_000_000, 100_000_000)
    return f"{number}{'TRWAGMYFPDXBNJZSQVHLCKE'[number % 23]}"


def phone(rng: random.Random) -> str:
    region = rng.choice(("US", "GB", "DE", "FR", "CN"))
    kind = rng.choice((phonenumbers.PhoneNumberType.FIXED_LINE, phonenumbers.PhoneNumberType.MOBILE))
    number = phonenumbers.example_number_for_type(region, kind)
    forms = phonenumbers.PhoneNumberFormat
    form = rng.choice((forms.INTERNATIONAL, forms.E164, forms.NATIONAL))
    return phonenumbers.format_number(number, form)


def token(rng: random.Random) -> str:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
    return "ghp_" + "".join(rng.choices(letters, k=36))


PLANTED: dict[str, list[Callable[[random.Random], str]]] = {
    "email": [lambda rng: f"{rng.choice(('li.wei', 'j_doe+1', 'x'))}@mail{rng.randrange(99)}.example.org"],
    "ip": [
        lambda rng: ".".join(str(rng.randrange(1, 126)) for _ in range(4)),
        lambda rng: "2001:db8:" + ":".join(f"{rng.randrange(1, 65536):x}" for _ in range(6)),
    ],
    "phone": [phone],
    "credit_card": [card],
    "iban": [iban],
    "national_id": [chinese_id, dni, lambda rng: f"{rng.randrange(100, 600)}-{rng.randrange(10, 99)}-1234"],
    "secret": [token],
}
DECOYS: list[Callable[[random.Random], str]] = [
    lambda rng: str(uuid.UUID(int=rng.getrandbits(128))),
    lambda rng: hashlib.sha1(rng.randbytes(8)).hexdigest(),
    lambda rng: hashlib.sha1(rng.randbytes(8)).hexdigest()[:8],
    lambda rng: repr(rng.random() * 10 ** rng.randint(-4, 8)),
    lambda rng: (datetime(1990, 1, 1) + timedelta(seconds=rng.randrange(10**9))).isoformat(" "),
    lambda rng: f"{datetime(1990, 1, 1) + timedelta(days=rng.randrange(10**4)):%d.%m.%Y}",
    lambda rng: ".".join(str(rng.randrange(40)) for _ in range(3)),
    lambda rng: f"v{rng.randrange(9)}.{rng.randrange(9)}.{rng.randrange(9)}.{rng.randrange(9)}",
    lambda rng: f"ISBN 978-3-{rng.randrange(10, 99)}-{rng.randrange(100000, 999999)}-{rng.randrange(9)}",
    lambda rng: f"order {rng.randrange(10**15, 10**16)}",
    lambda rng: f"订单号{rng.randrange(13 * 10**9, 14 * 10**9)}",
    lambda rng: str(rng.randrange(15 * 10**8, 18 * 10**8)),
    lambda rng: f"{rng.randrange(999)}:{rng.randrange(99)}",
    lambda rng: " ".join(str(rng.randrange(1000)) for _ in range(6)),
    lambda rng: " ".join(f"{rng.random():.3f}" for _ in range(6)),
    lambda rng: f"${rng.randrange(1, 999)},{rng.randrange(100, 999)}.{rng.randrange(10, 99)}",
    lambda rng: "版本3.11.2",
    lambda rng: "@property",
    lambda rng: "std::vector",
]
FILLERS = ("see", "and then", ", as in", "which is", "，也就是", "。然后", "，请看", "\n\n")


def planted_document(rng: random.Random) -> tuple[Document, set[tuple[str, int, int]]]:
    pieces, expected, length = [], set(), 0
    for _ in range(12):
        kind = rng.choice([None, *PLANTED])
        value = rng.choice(PLANTED[kind] if kind else DECOYS)(rng)
        before = f"{rng.choice(FILLERS)} "
        if kind:
            expected.add((kind, length + len(before), length + len(before) + len(value)))
        pieces.append(f"{before}{value} ")
        length += len(pieces[-1])
    return text("".join(pieces)), expected


def test_precision_and_recall_on_planted_finds_among_decoys():
    rng, step = random.Random(7), make_pii(PiiStep(find=KINDS))
    right, false, missed = 0, [], []
    for _ in range(400):
        document, expected = planted_document(rng)
        result = step(document)
        places = {(kind, start, end) for kind, _, start, end in result.metadata.get("pii", [])}
        right += len(places & expected)
        false += [document.text[start - 12 : end + 12] for _, start, end in places - expected]
        missed += [document.text[start - 12 : end + 12] for _, start, end in expected - places]
    assert right > 3_500
    assert (false, missed) == ([], [])


def test_decoys_alone_are_left_alone():
    rng, step = random.Random(11), make_pii(PiiStep(find=KINDS, action="drop"))
    for decoy in DECOYS:
        for _ in range(100):
            document = text(f"看 {decoy(rng)} , see {decoy(rng)}.")
            assert step(document) is document


@pytest.mark.heavy
def test_ten_thousand_documents_of_prose_take_seconds():
    prose = text("Some words, of a text that has nothing to hide; it goes on and on. " * 45)
    step = make_pii(PiiStep(find=KINDS))
    started = time.process_time()
    for _ in range(10_000):
        assert step(prose) is prose
    assert time.process_time() - started < 5
