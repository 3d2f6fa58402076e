"""Web pages and web archives: the main text and nothing else; what is no page has a reason."""

import gzip
import json
import time
from pathlib import Path

import pytest
from tests.data.source_files import read, reasons, units

from heliostat.data.documents import Document
from heliostat.data.reader_rows import Broken
from heliostat.data.web import MAX_DEPTH, page_of
from heliostat.errors import DataError

FIRST = "The harbour of the old town was built in 1650, and its three piers still stand where they stood."
SECOND = "Each spring the fishermen repair the walls with stone from the quarry behind the church."
CHINESE = "旧城的港口建于一六五〇年，三座码头至今仍在原地。每年春天，渔民们用教堂后面采石场的石头修补墙壁。"


def page(*paragraphs: str, head: str = "<title>The harbour</title>") -> str:
    body = "".join(f"<p>{paragraph}</p>" for paragraph in paragraphs)
    return (
        f"<!DOCTYPE html><html><head>{head}<script>var tracker;</script><style>p {{}}</style></head><body>"
        '<div class="cookie-banner"><p>We use cookies.</p><button>Accept all</button></div>'
        '<nav><ul><li><a href="/">Home</a></li><li><a href="/news">News</a></li></ul></nav>'
        f'<div class="content"><h1>The harbour</h1>{body}</div>'
        '<aside class="sidebar"><h3>Related posts</h3><a href="/a">Ten facts about towns</a></aside>'
        '<div id="comments"><div class="comment">Great post!</div></div>'
        "<footer>Copyright 2024, all rights reserved</footer></body></html>"
    )


def text_of(raw: str | bytes, charset: str | None = None) -> str:
    row = page_of(raw if isinstance(raw, bytes) else raw.encode(), charset)
    assert isinstance(row, dict), row
    return row["text"]


# Pages.


@pytest.mark.parametrize("paragraphs", [(FIRST, SECOND), (CHINESE, CHINESE)])
def test_the_main_text_is_kept_and_the_rest_is_not(paragraphs):
    assert text_of(page(*paragraphs)) == "\n\n".join(("The harbour", *paragraphs))


@pytest.mark.parametrize(
    ("encoding", "head", "charset"),
    [
        ("utf-8", "", None),
        ("utf-8-sig", "", None),
        ("utf-16", "", None),
        ("gbk", '<meta charset="gbk">', None),
        ("gb18030", '<meta http-equiv="Content-Type" content="text/html; charset=gb2312">', None),
        ("gbk", "", "GBK"),
        ("big5", "", "big5"),
    ],
)
def test_pages_in_any_encoding_are_read(encoding, head, charset):
    text = CHINESE if encoding != "big5" else "舊城的港口已經有三百年歷史"
    assert text in text_of(page(text, head=head).encode(encoding), charset)


def test_a_charset_nobody_knows_is_told_from_the_bytes():
    assert CHINESE in text_of(page(CHINESE, CHINESE, head='<meta charset="gbk">').encode("gbk"), "x-nonsense")


def test_html_files_are_documents_with_their_titles(tmp_path):
    (tmp_path / "a.html").write_text(page(FIRST, SECOND))
    (tmp_path / "b.htm").write_text(page(CHINESE, CHINESE, head=""))
    for source in ({"kind": "html"}, {}):
        first, second = read(path=str(tmp_path), **source)
        assert isinstance(first, Document)
        assert (first.uid, first.metadata) == (f"{tmp_path.name}/a.html:1", {"title": "The harbour"})
        assert CHINESE in second.text
        assert second.metadata == {}


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"just words", "just words"),
        (b"<p>never closed <b>at all", "never closed at all"),
        (b"<p>nul \0 inside</p>", "nul inside"),
        ("<p>شكرا \U0001f600</p>".encode(), "شكرا \U0001f600"),
        (b"<p>a &lt;b&gt; &amp; &eacute;</p>", "a <b> & é"),
    ],
)
def test_damaged_and_odd_pages_are_read(raw, text):
    assert text_of(raw) == text


@pytest.mark.parametrize("raw", [b"<html></html>", b"<script>only()</script>", b"   "])
def test_a_page_without_words_is_empty(tmp_path, raw):
    (tmp_path / "a.html").write_bytes(b"<html>" + raw)
    assert reasons(read(path=str(tmp_path / "a.html"))) == [(1, "empty")]


@pytest.mark.parametrize("tag", ["div", "b", "ul><li", "table><tr><td", "x-custom", "div></b"])
def test_endless_nesting_is_refused_at_once(tag):
    started = time.perf_counter()
    row = page_of(f"<{tag}>".encode() * 200_000 + b"x")
    assert isinstance(row, Broken)
    assert (row.reason, row.detail) == ("nested_too_deeply", "more than 1000 elements in each other")
    assert time.perf_counter() - started < 5


def test_nesting_up_to_the_limit_is_read_and_lists_of_paragraphs_are_no_nesting():
    assert text_of("<div>" * MAX_DEPTH + "deep" + "</div>" * MAX_DEPTH) == "deep"
    assert text_of("<p>word" * 5000).count("word") == 5000


def test_a_page_that_is_too_large_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr("heliostat.data.web.MAX_PAGE_BYTES", 100)
    (tmp_path / "a.html").write_text(f"<p>{'x' * 100}</p>")
    assert reasons(read(path=str(tmp_path / "a.html"))) == [(1, "page_too_large")]


@pytest.mark.heavy
def test_a_page_of_50_mb_takes_seconds():
    raw = b"<html><body>" + f"<p>{FIRST}</p>".encode() * 480_000 + b"</body></html>"
    started = time.perf_counter()
    assert text_of(raw).count("harbour") == 480_000
    assert time.perf_counter() - started < 60  # 5 s on an idle core


# Archives.


def record(kind: str, block: bytes, url: str = "http://x/1", content_type: str = "application/http") -> bytes:
    headers = {
        "WARC-Type": kind,
        "WARC-Target-URI": url,
        "WARC-Date": "2024-05-01T00:00:00Z",
        "Content-Type": content_type,
        "Content-Length": len(block),
    }
    return (
        b"WARC/1.0\r\n"
        + "".join(f"{k}: {v}\r\n" for k, v in headers.items()).encode()
        + b"\r\n"
        + block
        + b"\r\n" * 2
    )


def response(body: bytes, status: str = "200 OK", **headers: str) -> bytes:
    named = {"Content-Type": "text/html; charset=utf-8"} | {
        key.replace("_", "-"): headers[key] for key in headers
    }
    lines = "".join(f"{key}: {value}\r\n" for key, value in named.items())
    return record("response", f"HTTP/1.1 {status}\r\n{lines}\r\n".encode() + body)


HTML = page(FIRST, SECOND).encode()
RECORDS = [
    record("warcinfo", b"software: x\r\n", content_type="application/warc-fields"),
    record("request", b"GET / HTTP/1.1\r\n\r\n"),
    response(HTML),
    response(gzip.compress(HTML), Content_Encoding="gzip"),
    response(b"%x\r\n%s\r\n0\r\n\r\n" % (len(HTML), HTML), Transfer_Encoding="chunked"),
    response(page(CHINESE, CHINESE).encode("gbk"), Content_Type="text/html; charset=gbk"),
    response(b"\x89PNG", Content_Type="image/png"),
    response(b"<p>gone</p>", status="404 Not Found"),
    record("conversion", "网页文本".encode(), content_type="text/plain"),
    record("resource", b"<p>kept</p>", content_type="text/html"),
    record("revisit", b""),
    record("metadata", b"fetchTimeMs: 1"),
]


@pytest.mark.parametrize("name", ["a.warc", "a.warc.gz", "a.wet.gz"])
def test_archived_pages_are_read_and_the_rest_has_a_reason(tmp_path, name):
    packed = name.endswith("gz")  # each record packed by itself, as crawlers do
    (tmp_path / name).write_bytes(b"".join(gzip.compress(each) if packed else each for each in RECORDS))
    outcomes = read(path=str(tmp_path / name))
    assert reasons(outcomes) == [None, None, None, None, (5, "not_a_page"), (6, "http_error"), None, None]
    assert len({each.text for each in outcomes[:3]}) == 1
    assert CHINESE in outcomes[3].text
    assert [each.text for each in outcomes[6:]] == ["网页文本", "kept"]
    assert outcomes[0].metadata == {
        "url": "http://x/1",
        "title": "The harbour",
        "date": "2024-05-01T00:00:00Z",
    }
    assert [each.detail for each in outcomes[4:6]] == ["content type image/png", "status 404"]
    assert outcomes[4].document.text == "http://x/1"


def test_a_record_that_is_too_large_is_passed_over(tmp_path, monkeypatch):
    monkeypatch.setattr("heliostat.data.web.MAX_PAGE_BYTES", 2000)
    bomb = response(gzip.compress(b"<p>" + b"x" * 10_000), Content_Encoding="gzip")
    (tmp_path / "a.warc").write_bytes(response(b"x" * 3000) + bomb + response(b"<p>small</p>"))
    outcomes = read(path=str(tmp_path / "a.warc"))
    assert reasons(outcomes) == [(1, "page_too_large"), (2, "page_too_large"), None]
    assert outcomes[2].text == "small"


@pytest.mark.parametrize("packed", [False, True])
def test_an_archive_that_was_cut_off_is_a_data_error(tmp_path, packed):
    whole = b"".join(gzip.compress(each) if packed else each for each in RECORDS[:5])
    file = tmp_path / ("a.warc.gz" if packed else "a.warc")
    last = len(gzip.compress(RECORDS[4]) if packed else RECORDS[4])
    for lost in (last - 20, last // 2, 100):
        file.write_bytes(whole[:-lost])
        with pytest.raises(DataError, match=rf"{file}: .*(cut off|Truncated)"):
            read(path=str(file))


def test_a_page_that_cannot_be_unpacked_is_one_broken_row(tmp_path):
    unpacked = [
        response(b"\x1f\x8bno", Content_Encoding="gzip"),
        response(b"zz\r\n<p>", Transfer_Encoding="chunked"),
    ]
    (tmp_path / "a.warc").write_bytes(b"".join([*unpacked, response(b"<p>whole</p>")]))
    assert reasons(read(path=str(tmp_path / "a.warc"))) == [(1, "broken_page"), (2, "broken_page"), None]


def test_damage_in_the_middle_of_an_archive_is_a_data_error(tmp_path):
    file = tmp_path / "a.warc"
    file.write_bytes(RECORDS[2] + b"rubbish between records\r\n" + RECORDS[3])
    with pytest.raises(DataError, match=f"{file}: not valid WARC behind record 1"):
        read(path=str(file))


def test_archives_in_a_folder_are_one_source(tmp_path):
    for name in ("a.warc", "b.warc"):
        (tmp_path / name).write_bytes(RECORDS[2])
    planned = units(str(tmp_path))
    assert [(unit.label, len(list(unit.read()))) for unit in planned] == [
        (f"{tmp_path.name}/a.warc", 1),
        (f"{tmp_path.name}/b.warc", 1),
    ]


def test_what_is_extracted_can_be_stored(tmp_path):
    (tmp_path / "a.html").write_bytes(b"<title>t\xff</title><p>caf\xe9 \xf0\x9f words and words</p>")
    [document] = read(path=str(Path(tmp_path, "a.html")))
    json.dumps([document.text, document.metadata], ensure_ascii=False).encode()
