"""Web pages and web archives: the main text of a page, without menus, side bars, footers and comments.

Extraction is resiliparse's (Bevendorff et al., "Elastic ChatNoir", ECIR 2018; its rules for main content are
compared in Bevendorff et al., "An Empirical Comparison of Web Content Extraction Algorithms", SIGIR 2023).
Archives are parsed by FastWARC, which belongs to it. Both are imported inside the functions.
"""

import io
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from heliostat.data.files import first_line
from heliostat.data.reader_rows import EXCERPT_CHARACTERS, Broken, NumberedRow, Row
from heliostat.errors import DataError

MAX_PAGE_BYTES = 64 * 2**20
"""Of a page or a record; extraction takes some 0.15 s a megabyte."""
MAX_DEPTH = 1000
"""Of elements in each other; extraction takes quadratic time in it. Browsers stop at 512."""
# However so many lie in each other, extraction takes a second or two: then they need not be counted.
_FEW_ELEMENTS = 5000
PAGE_COLUMNS = ("url", "title", "date")
"""What is known of a page beside its text, as far as it is known."""

_TAG = re.compile(r"<(/?)([a-z][^\s/>]*)")
# Elements without an end tag, or whose end tag may be left out: they do not count as nesting.
_UNNESTED = {
    *(
        "area",
        "base",
        "body",
        "br",
        "col",
        "colgroup",
        "dd",
        "dt",
        "embed",
        "head",
        "hr",
        "html",
        "img",
        "input",
    ),
    *(
        "li",
        "link",
        "meta",
        "option",
        "p",
        "param",
        "rp",
        "rt",
        "source",
        "tbody",
        "td",
        "tfoot",
        "th",
        "thead",
    ),
    *("tr", "track", "wbr"),
}
_HTML_TYPES = ("text/html", "application/xhtml+xml")


def html_rows(stream: io.BufferedReader) -> Iterator[NumberedRow]:
    """The one row of a page: its main text and its title."""
    yield 1, page_of(stream.read(MAX_PAGE_BYTES + 1))


def page_of(raw: bytes, charset: str | None = None) -> Row:
    """The main text and the title of a page in any encoding; `charset` is what the server said it is."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.html import HTMLTree

    if len(raw) > MAX_PAGE_BYTES:
        excerpt = raw[:EXCERPT_CHARACTERS].decode("utf-8", "replace")
        return Broken("page_too_large", excerpt, f"more than {MAX_PAGE_BYTES} bytes")
    html = _decoded(raw, charset)
    if _is_too_deep(html):
        detail = f"more than {MAX_DEPTH} elements in each other"
        return Broken("nested_too_deeply", html[:EXCERPT_CHARACTERS], detail)
    tree = HTMLTree.parse(html)
    text = extract_plain_text(tree, preserve_formatting=True, main_content=True, comments=False)
    title = (tree.title or "").strip()
    return {"text": text, "title": title} if title else {"text": text}


def _decoded(raw: bytes, charset: str | None) -> str:
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding, map_encoding_to_html5

    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        named = map_encoding_to_html5(charset, fallback_utf8=False) if charset else None
        encoding = named or detect_encoding(raw, from_html_meta=True) or "utf-8"
        return str(bytes_to_str(raw, encoding, errors="replace"))


def _is_too_deep(html: str) -> bool:
    """Whether there are many elements, and more than MAX_DEPTH of them lie in each other, by their tags.

    An end tag ends an element only where one of its name is open: parsers pass over the others.
    """
    if html.count("<") - html.count("</") <= _FEW_ELEMENTS:
        return False
    depth, are_open = 0, Counter[str]()
    for end, name in _TAG.findall(html.lower()):
        if end:
            if are_open[name]:
                are_open[name] -= 1
                depth -= 1
        elif name not in _UNNESTED:
            are_open[name] += 1
            depth += 1
            if depth > MAX_DEPTH:
                return True
    return False


def warc_rows(stream: io.BufferedReader, where: str) -> Iterator[NumberedRow]:
    """The pages of an archive: responses, resources, and the texts of WET files, numbered from 1.

    Requests, metadata and revisits are no rows. A response that is no page or no success is a broken row.

    Raises:
        DataError: the archive is damaged or cut off.
    """
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.resource | WarcRecordType.conversion
    number = 0
    try:
        for record in ArchiveIterator(_Counted(stream), parse_http=False):
            declared = record.headers.get("Content-Length") or ""
            is_too_large = declared.isdecimal() and int(declared) > MAX_PAGE_BYTES
            block = b"" if is_too_large else record.reader.read()
            if not declared.isdecimal() or (len(block) < int(declared) and not is_too_large):
                raise DataError(f"{where}: cut off or damaged behind record {number}; fetch it again")
            if record.record_type & wanted:
                number += 1
                too_large = Broken("page_too_large", _url(record), f"{declared} bytes")
                yield number, too_large if is_too_large else _archived(record, block)
    except OSError as error:
        raise DataError(f"{where}: not valid WARC behind record {number}: {first_line(error)}") from error


class _Counted:
    """A stream that knows how far it was read: FastWARC panics where a packed one cannot say."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self._position = 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self._position += len(block)
        return block

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = 0) -> int:
        raise io.UnsupportedOperation("seek")

    def close(self) -> None:
        pass  # whoever opened it closes it


def _archived(record: Any, block: bytes) -> Row:
    url = _url(record)
    content_type = record.headers.get("Content-Type") or ""
    try:
        row = _answer(block, url) if record.is_http else _body(block, content_type, None, url)
    except OSError as error:
        return Broken("broken_page", url, first_line(error))
    if isinstance(row, Broken):
        return row
    date = record.headers.get("WARC-Date")
    return row | {name: value for name, value in (("url", url), ("date", date)) if value}


def _answer(block: bytes, url: str) -> Row:
    """The page in a server's answer; taken as a record of its own, whose faults do not end the archive.

    Raises:
        OSError: it cannot be unpacked.
    """
    from fastwarc.warc import WarcRecord, WarcRecordType

    record = WarcRecord()
    record.init_headers(WarcRecordType.response)
    record.set_bytes_content(block)
    record.is_http = True
    record.parse_http(auto_decode="all", strict_mode=False)
    status = record.http_headers.status_code
    if status is not None and not 200 <= status < 300:
        return Broken("http_error", url, f"status {status}")
    body = record.reader.read(MAX_PAGE_BYTES + 1)
    return _body(body, record.http_content_type or "", record.http_charset, url)


def _body(body: bytes, content_type: str, charset: str | None, url: str) -> Row:
    if len(body) > MAX_PAGE_BYTES:
        return Broken("page_too_large", url, f"more than {MAX_PAGE_BYTES} bytes when unpacked")
    content_type = content_type.partition(";")[0].strip().lower()
    if content_type == "text/plain":
        return {"text": _decoded(body, charset)}
    if content_type in _HTML_TYPES or (not content_type and body.lstrip()[:1] == b"<"):
        return page_of(body, charset)
    return Broken("not_a_page", url, f"content type {content_type or 'unknown'}")


def _url(record: Any) -> str:
    return (record.headers.get("WARC-Target-URI") or "").strip("<>")
