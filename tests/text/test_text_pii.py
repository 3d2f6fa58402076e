"""Personal data: what is found, what is left alone, and what redaction leaves, in English and Chinese."""

import ipaddress
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from heliostat.text.pii import Span, find_pii, mask, redact
from heliostat.text.pii_kinds import KINDS, REGIONS
from heliostat.text.pii_national_ids import find_national_ids
from heliostat.text.pii_outline import Outline


def found(text: str, regions: tuple[str, ...] = REGIONS) -> list[tuple[str, str]]:
    return [(span.kind, text[span.start : span.end]) for span in find_pii(text, KINDS, regions)]


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
        "version 8.1.4.2, Section 2.2.24.1, §4.2.3.1, numpy==1.2.3.4, 版本：8.1.4.2",
    ],
)
def test_what_only_looks_like_an_address_stays(text):
    assert find_pii(text) == []


def test_spans_say_kind_and_place():
    assert find_pii("a@b.io 8.8.8.8") == [Span("email", 0, 6), Span("ip", 7, 14)]
    assert find_pii("a@b.io 8.8.8.8", ("ip",)) == [Span("ip", 7, 14)]


@pytest.mark.parametrize(
    ("text", "card"),
    [
        ("card 4111 1111 1111 1111, exp 12/25", "4111 1111 1111 1111"),
        ("4111-1111-1111-1111", "4111-1111-1111-1111"),
        ("6011 1111 1111 1117 123", "6011 1111 1111 1117"),
        ("4000 0000 0000 0000 006", "4000 0000 0000 0000 006"),
        ("卡号5555555555554444。", "5555555555554444"),
        ("amex 3782 822463 10005 ok", "3782 822463 10005"),
        ("(378282246310005)", "378282246310005"),
        ("diners 3056 930902 5904", "3056 930902 5904"),
        ("2223003122003222,J. Doe", "2223003122003222"),
        ("银联6200542304122854863，谢谢", "6200542304122854863"),
        ("620054 2304122854863", "620054 2304122854863"),
    ],
)
def test_payment_cards(text, card):
    assert found(text) == [("credit_card", card)]


@pytest.mark.parametrize(
    ("text", "iban"),
    [
        ("IBAN DE89 3704 0044 0532 0130 00 please", "DE89 3704 0044 0532 0130 00"),
        ("IBAN为DE89370400440532013000，谢谢", "DE89370400440532013000"),
        ("GB29 NWBK 6016 1331 9268 19.", "GB29 NWBK 6016 1331 9268 19"),
        ("FR14 2004 1010 0505 0001 3M02 606", "FR14 2004 1010 0505 0001 3M02 606"),
        ("NO93 8601 1117 947 AB", "NO93 8601 1117 947"),
        ("MT84MALT011000012345MTLCAST001S", "MT84MALT011000012345MTLCAST001S"),
        ("BE68 5390 0754 7034 1234", "BE68 5390 0754 7034"),
        ("AB12 DE89 3704 0044 0532 0130 00", "DE89 3704 0044 0532 0130 00"),
    ],
)
def test_bank_accounts(text, iban):
    assert found(text) == [("iban", iban)]


@pytest.mark.parametrize(
    ("region", "text", "number"),
    [
        ("CN", "身份证11010519491231002X。", "11010519491231002X"),
        ("US", "his SSN is 123-45-6789.", "123-45-6789"),
        ("US", "social security number 123 45 6789", "123 45 6789"),
        ("GB", "NI number AB123456C", "AB123456C"),
        ("GB", "AB 12 34 56 C", "AB 12 34 56 C"),
        ("ES", "DNI 12345678Z", "12345678Z"),
        ("ES", "DNI 12345678-Z,", "12345678-Z"),
        ("ES", "NIE X-1234567-L", "X-1234567-L"),
        ("DE", "IdNr. 86095742719", "86095742719"),
        ("DE", "65 929 970 489", "65 929 970 489"),
        ("FR", "NIR 2 55 08 14 168 025 38", "2 55 08 14 168 025 38"),
        ("FR", "255081416802538", "255081416802538"),
    ],
)
def test_national_ids(region, text, number):
    assert found(text) == [("national_id", number)]
    others = tuple(other for other in REGIONS if other != region)
    assert list(find_national_ids(Outline(text), others)) == []


def test_the_regions_of_the_config_are_those_with_national_ids():
    sample = "11010519491231002X 123-45-6789 AB123456C 12345678Z 86095742719 255081416802538"
    assert len(find_pii(sample, ("national_id",), REGIONS)) == len(REGIONS)


@pytest.mark.parametrize(
    ("text", "phone"),
    [
        ("call 415-555-2671 now", "415-555-2671"),
        ("(415) 555-2671", "(415) 555-2671"),
        ("1-415-555-2671", "1-415-555-2671"),
        ("415.555.2671", "415.555.2671"),
        ("in 2021 415-555-2671 2022", "415-555-2671"),
        ("+1 (415) 555-2671", "+1 (415) 555-2671"),
        ("+44 20 7946 0958 2021", "+44 20 7946 0958"),
        ("+49 (0)30 1234567", "+49 (0)30 1234567"),
        ("+5511961234567", "+5511961234567"),
        ("0049 30 1234567", "0049 30 1234567"),
        ("tel. 030 12345", "030 12345"),
        ("030/1234567", "030/1234567"),
        ("089 12 34 56 78", "089 12 34 56 78"),
        ("(020) 7946 0958", "(020) 7946 0958"),
        ("01 23 45 67 89", "01 23 45 67 89"),
        ("teléfono: 912 345 678", "912 345 678"),
        ("phone: 4155552671", "4155552671"),
        ("reach me at 415 555 2671", "415 555 2671"),
        ("电话：010-62345678", "010-62345678"),
        ("请拨打13812345678联系", "13812345678"),
        ("手机138 1234 5678", "138 1234 5678"),
        ("or 138 1234 5678", "138 1234 5678"),
        ("0755-88886666", "0755-88886666"),
    ],
)
def test_phone_numbers(text, phone):
    assert found(text) == [("phone", phone)]


def test_the_regions_decide_whose_phone_numbers_are_known_without_a_plus():
    assert found("020 7946 0958", ("FR",)) == []
    assert found("03-1234-5678", ("JP",)) == [("phone", "03-1234-5678")]
    assert found("415-555-2671", ("DE", "CN")) == []
    assert found("+81 3-1234-5678", ("US",)) == [("phone", "+81 3-1234-5678")]
    with pytest.raises(ValueError, match="'XX'"):
        find_pii("", ("phone",), ("XX",))


SECRETS = [
    ("AWS AKIAQ2W3E4R5T6Y7U6I5 here", "AKIAQ2W3E4R5T6Y7U6I5"),
    ("use ghp_16C7e42F292c6912E7710c838347Ae178B4a.", "ghp_16C7e42F292c6912E7710c838347Ae178B4a"),
    ("glpat-x8Kq2LmZ0pR4vT6yAb1C", "glpat-x8Kq2LmZ0pR4vT6yAb1C"),
    ("xoxb-204857193047-598712340985-QzRtWmKpXvBnLsDjHgFcYuTe",) * 2,
    ("密钥AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY。", "AIzaSyD-9tSrke72PouQMnMX-a7eZSW0jkFMBWY"),
    ("sk_live_4eC39HqLyjWDarjtT1zdp7dc", "sk_live_4eC39HqLyjWDarjtT1zdp7dc"),
    ("sk-proj-aB3dE5gH7jK9mN1pQ3sT5vW7yZ9bC2dF4gH6",) * 2,
    ("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",) * 2,
    ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9P",) * 2,
    ('password = "Tr0ub4dor&3x"', "Tr0ub4dor&3x"),
    ("PASSWD: hX7#kQ2p!z", "hX7#kQ2p!z"),
    ("密码：hX7#kQ2p9z", "hX7#kQ2p9z"),
    ('"apiKey":"9f86d081884c7d659a2f"', "9f86d081884c7d659a2f"),
    ("AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMIK7MDENG/bPxRfiCYzK9aQ3LmT7",) * 2,
    ("secret_key => 'x8Kq2LmZ0pR4vT6y'", "x8Kq2LmZ0pR4vT6y"),
    ("postgres://admin:s3cr3tPw9x@db/x", "s3cr3tPw9x"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_secrets(text, secret):
    assert found(text) == [("secret", secret.removeprefix("AWS_SECRET_ACCESS_KEY="))]


def test_a_private_key_goes_from_its_first_to_its_last_line():
    key = "-----BEGIN RSA PRIVATE KEY-----\n" + "MIIEpAIBAAKCAQEA7bq\n" * 12 + "-----END RSA PRIVATE KEY-----"
    assert found(f"-----BEGIN RSA PRIVATE KEY-----\n\nkey:\n{key}\nend") == [("secret", key)]


@pytest.mark.parametrize(
    "text",
    [
        "versions 3.11.2, 2.0.0rc1, v10.0.19041.1 and 1.2.3.4567",
        "2021-01-02 10:20:30, 2021/01/02, 02.01.2021, 01-02-2021, 20210102T101112Z, 20240101123000",
        "10:20:30.123456, 1700000000, 1700000000000, 1609459200000000",
        "ISBN 978-0-306-40615-7, ISBN 0-306-40615-2, 9780306406157, 4006381333931, ISSN 0378-5955",
        "0.4111111111111111, 3.141592653589793, 1e-05, -273.15, +35236450.6, 4111111111111111.5",
        "order number 4155552671, Order #13812345678, invoice 4111111111111111, 订单号13812345678",
        "13812345678 in English may be anything",
        "123e4567-e89b-12d3-a456-426614174000 12345678-1234-1234-1234-123456789012",
        "da39a3ee5e6b4b0d3255bfef95601890afd80709 d41d8cd98f00b204e9800998ecf8427e 8d06c82 8612e1e4f",
        "line 123, column 45; foo.py:1234:56; [12:34:56]; @@ -1234,56 +1234,57 @@",
        "[[100 200 300] [400 500 600]] (512 512 1024) 224 224 3",
        "00 01 02 03 04 05 06 07 08 09, 01 39 29 37 25 66, ff 09 96 05 11 67 c4",
        "18446744073709551615 9223372036854775807 4611686018427387904 4523335560527888016 2147483647",
        "np.random.default_rng(348932549825235)",
        "arXiv:2101.0001 doi:10.1000/182 10.1109/5.771073; Phys. Rev. E 78, 046110 2008; 1990-1999-2000",
        "$ 1,234,567.89 1.234.567,89 EUR 100 000 000",
        "123-456-7890, 000-12-3456, 666-12-3456, 900-12-3456, 123-00-4567, 123-45-0000, 078-05-1120",
        "100 20 3000 is a row of a table, 97 241 865 338 7 is another",
        "12345678A, 12345678901, 11010519491231002Y, 110105194902310026, AB123456E, GB123456A, QQ123456C",
        "DE89 3704 0044 0532 0130 01, XX89370400440532013000, DE8937040044053201300, DE893704004405320130",
        "4111 1111 1111 1112, 1234 5678 9012 3456",
        "2021 4111 1111 1111 1111, 4111 1111 1111 1111 2022",
        "password: str, password = None, passwd=getpass(), pwd: ${PASSWORD}, password='changeme1'",
        "api_key=os.environ['API_KEY1'], token=tokens[0], secret: <your-secret-42>",
        "token: my_token_v2_final_1, key: 9f86d081884c7d659a2f, the token: 123456789012345678",
        "AKIAIOSFODNN7EXAMPLE, sk-1234567890abcdefghijklmnopqrstuvwxyz, sk-your-key-here-000000000000000000",
        "ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx, sk-learn, hf_hub_download",
        "-----BEGIN PRIVATE KEY----- ... -----END PRIVATE KEY-----, eyJhbGciOiJIUzI1NiJ9 alone",
        "postgresql://user:password@localhost/db redis://:6379/0",
        "共13800件，编号：62220212345678，比例1:2:3，2021年01月02日，书号9787111213826",
        "TCP/IP 80/443/8080, 1/2/3/4/5/6/7/8/9, 50-60-70-80-90-100",
    ],
)
def test_other_numbers_and_words_stay(text):
    assert found(text) == []


def test_of_overlapping_finds_one_is_left_over_both():
    text = "https://me:hX7kQ2p9z@mail.example.org/"
    assert found(text) == [("email", "hX7kQ2p9z@mail.example.org")]
    assert find_pii(text, ("secret",)) == [Span("secret", 11, 20)]


def test_redaction_names_the_kind_and_a_mask_keeps_the_form():
    text = "a.b@c.org 8.8.8.8 +1 415 555 2671 4111-1111-1111-1111 123-45-6789 密码：hX7#kQ2p9z"
    spans = find_pii(text, KINDS)
    assert redact(text, spans) == "[EMAIL] [IP] [PHONE] [CREDIT_CARD] [NATIONAL_ID] 密码：[SECRET]"
    assert (
        mask(text, spans)
        == "*.*@*.*** *.*.*.* +* *** *** 2671 ****-****-****-1111 ***-**-**** 密码：**********"
    )
    assert len(mask(text, spans)) == len(text)
    assert mask("DE89 3704 0044 0532 0130 00", [Span("iban", 0, 27)]) == "**** **** **** **** **30 00"


def test_what_was_redacted_or_masked_is_not_found_again():
    text = " ; ".join(text for text, _ in SECRETS) + " a@b.org 8.8.8.8 +1 415 555 2671 4111111111111111"
    spans = find_pii(text, KINDS)
    assert len(spans) == len(SECRETS) + 4
    assert find_pii(redact(text, spans), KINDS) == []
    assert find_pii(mask(text, spans), KINDS) == []


@pytest.mark.parametrize(
    "filler", ["", " ", "\n\t ", "\x00" * 50, "\ud800\udfff", "😀", "שלום", "٠١٢٣٤٥٦٧٨٩"]
)
def test_strange_text_hides_nothing_and_is_nothing(filler):
    assert find_pii(filler, KINDS) == []
    text = f"{filler} a@b.org {filler} 4111111111111111 {filler}"
    assert found(text) == [("email", "a@b.org"), ("credit_card", "4111111111111111")]


# What e-mail and IP addresses are, said plainly; the module says the same without trying at each character.
_EMAIL = re.compile(
    r"(?<![A-Za-z0-9._%+-])[A-Za-z0-9_%+-]{1,64}(?:\.[A-Za-z0-9_%+-]{1,64}){0,8}"
    r"@(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.){1,8}[A-Za-z]{2,24}(?![A-Za-z0-9@-])"
)
_IPV4 = re.compile(r"(?<![A-Za-z0-9_.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![A-Za-z0-9_]|\.[0-9])")
_IPV6 = re.compile(r"(?<![A-Za-z0-9_:.])[0-9A-Fa-f:]{3,39}(?![A-Za-z0-9_:]|\.[0-9])")


def is_someones(candidate: str) -> bool:
    try:
        address = ipaddress.ip_address(candidate)
    except ValueError:
        return False
    groups = [group for group in candidate.split(":") if group]
    return not (address.is_loopback or address.is_unspecified) and (address.version == 4 or len(groups) >= 3)


@given(st.text(alphabet="aF1.0@:-_% 中255", max_size=60))
@settings(max_examples=400, deadline=None)
def test_emails_are_those_of_the_plain_definition(text):
    assert find_pii(text, ("email",)) == [Span("email", *match.span()) for match in _EMAIL.finditer(text)]


@given(
    st.lists(
        st.sampled_from(["1", "255", "256", "0", ".", ".", ":", "::", "fe80", "abc", "g", " ", "中", "_"]),
        max_size=24,
    ).map("".join)
)
@settings(max_examples=400, deadline=None)
def test_ip_addresses_are_those_of_the_plain_definition(text):
    matches = [*_IPV4.finditer(text), *_IPV6.finditer(text)]
    expected = sorted(match.span() for match in matches if is_someones(match.group()))
    assert [(span.start, span.end) for span in find_pii(text, ("ip",))] == expected


HOSTILE = [
    *("@", "1", "a.", "(", ")", "+", "1 ", "0-", "1.", "+1", "a@", "a@a.", ":", ":f", "::", "0.0.0.0 ", "(0"),
    *(
        "AA00",
        "AA00 ",
        "eyJ",
        "eyJaaaaaaaaaaaaaaaaa.",
        "-----BEGIN RSA PRIVATE KEY-----\n",
        "x",
        "sk-",
        "ghp_",
    ),
    *(
        "password=",
        "password=abcdefgh1 ",
        "token: ",
        "://a:",
        "://aaaaaaaa:",
        "00 ",
        "030 1234567 ",
        "12/",
        "X-",
    ),
    *("0 0000 0000 0000 ", "4111 1111 1111 1111 ", "123-45-6789-", "\x00", "\ud800", "中1", "😀1", " ", "\n"),
]


@pytest.mark.parametrize("unit", HOSTILE)
def test_hostile_text_takes_linear_time(unit):
    started = time.process_time()
    find_pii(unit * (200_000 // len(unit)), KINDS)
    assert time.process_time() - started < 2


def test_numbers_that_need_the_numbering_plans_take_linear_time():
    def seconds_taken(count: int) -> float:
        started = time.process_time()
        find_pii("".join(f"tel 1{number:06} +1{number:07} " for number in range(count)), KINDS)
        return time.process_time() - started

    few = min(seconds_taken(1_000) for _ in range(5))
    assert any(seconds_taken(4_000) < 8 * few for _ in range(5))


@pytest.mark.slow
@pytest.mark.parametrize(
    "unit", ["The quick brown fox of 2021 paid 3.50 to x, at 10:20. ", "1", "价格3.14元，"]
)
def test_a_document_of_50_megabytes_is_read_in_seconds(unit):
    text = unit * (50_000_000 // len(unit.encode()))
    started = time.process_time()
    assert find_pii(f"{text} a@b.org", KINDS)[-1].kind == "email"
    assert time.process_time() - started < 60
