"""Personal data: what is found, what is left alone, and what redaction leaves, in English and Chinese."""

import time

import pytest

from heliostat.text.pii import Span, find_pii, redact


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Write to jane.doe+news@mail.example.co.uk.", "Write to [EMAIL]."),
        ("<a@b.org>, (c_d@e-f.com)", "<[EMAIL]>, ([EMAIL])"),
        ("请联系zhang.san@example.com。", "请联系[EMAIL]。"),
        ("邮箱：李@example.com", "邮箱：李@example.com"),
        ("from 192.168.1.17, port 80", "from [IP], port 80"),
        ("服务器地址是10.0.0.254，请重启", "服务器地址是[IP]，请重启"),
        ("see 2001:db8::8a2e:370:7334.", "see [IP]."),
        ("地址2001:db8:85a3:0:0:8a2e:370:7334可用", "地址[IP]可用"),
        ("mail root@10.0.0.1 or ops@example.com", "mail root@[IP] or [EMAIL]"),
    ],
)
def test_personal_data_is_redacted(text, expected):
    assert redact(text, find_pii(text)) == expected


@pytest.mark.parametrize(
    "text",
    [
        "@property and user@host and a@b",
        "version v1.2.3.4 or 1.2.3.4.5",
        "999.1.1.1 and 256.0.0.1",
        "127.0.0.1, 0.0.0.0 and ::1 are nobody's",
        "std::vector, Abc::def and x[1::2]",
        "at 12:30:45 on aa:bb:cc:dd:ee:ff",
        "价格是3.14元，比例1:2",
    ],
)
def test_what_only_looks_like_personal_data_stays(text):
    assert find_pii(text) == []


def test_spans_say_kind_and_place():
    assert find_pii("a@b.io 8.8.8.8") == [Span("email", 0, 6), Span("ip", 7, 14)]
    assert find_pii("a@b.io 8.8.8.8", ("ip",)) == [Span("ip", 7, 14)]


def test_hostile_text_takes_linear_time():
    started = time.monotonic()
    for text in ("a" * 200_000, "a." * 100_000 + "@", "a@" * 100_000, "1." * 100_000, ":f" * 100_000):
        find_pii(text)
    assert time.monotonic() - started < 5
