"""The one HTML page that the frontend lives in: Streamlit's own, with our title, icon and choice of theme."""

import base64
import hashlib
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import streamlit
from starlette.requests import Request
from starlette.responses import Response

LOOK_SCRIPT = """(function () {
  // Pages lie one level below the root; without this the frontend would look for its server below the page.
  window.__streamlit = {BACKEND_BASE_URL: location.origin + "/", MAIN_PAGE_BASE_URL: location.origin + "/"};
  // Streamlit keeps a theme for each path; ours is one for all, in a cookie.
  var found = document.cookie.match(/(?:^|; )heliostat_theme=(light|dark)/);
  var key = "stActiveTheme-" + location.pathname + "-v2";
  if (found) localStorage.setItem(key, JSON.stringify(found[1] === "dark" ? "Dark" : "Light"));
  else localStorage.removeItem(key);
})();
"""
STATIC = Path(streamlit.__file__).parent / "static"
SCRIPTS = STATIC / "static" / "js"
_FIELDS = ("TextInput", "NumberInput", "Selectbox")
_CURVES = ("ButtonGroup", "Multiselect", "Selectbox", "Slider", "Checkbox", "EChartsChart")
SOON = {
    "home": ("Button", "Metric"),
    "new_run": ("Button", "FileUploader"),
    "data": ("DataFrame",),
    "runs": ("ButtonGroup", "TextInput", "Checkbox", "DataFrame"),
    "run": _CURVES,
    "compare": _CURVES,
    "sweeps": ("DataFrame",),
    "evaluations": ("ButtonGroup", "DataFrame"),
    "models": ("DataFrame", "Button"),
    "endpoints": ("Button", "StreamlitSyntaxHighlighter"),
    "playground": ("Button", "Multiselect", "ChatInput"),
    "review": ("ButtonGroup", "StreamlitSyntaxHighlighter"),
    "cluster": ("Metric", "Progress", "Checkbox", "EChartsChart"),
    "alerts": ("ButtonGroup", "Button"),
    "settings": _FIELDS,
}
"""The parts of the frontend that each page draws with when it has something to show. Streamlit asks for each
when the first element of its kind has come, one after the other; named in the page, they come while the
server prepares the elements."""
SOON_FOR_ONE = {
    "new_run": ("Button", *_FIELDS, "TextArea", "Checkbox", "DataFrame"),
    "data": ("ButtonGroup", "DataFrame", "EChartsChart"),
    "sweeps": ("ButtonGroup", "Metric", "EChartsChart"),
    "models": ("ButtonGroup", "Checkbox", "Button"),
}
"""The same for pages whose address names one of what they list."""
_IMPORT = re.compile(r'(?:from|import)"\./([^"]+\.js)"')
ICON = Path(__file__).resolve().parent / "heliostat.svg"


@cache
def index_html(name: str = "home", for_one: bool = False) -> str:
    """The page called `name`; `for_one` where its address has a query, which names one of what it lists."""
    page = (STATIC / "index.html").read_text("utf-8")
    page = re.sub(r"<!--.*?-->", "", page, flags=re.DOTALL)
    page = re.sub(r'<link rel="service-desc"[^>]*>', "", page)
    page = re.sub(
        r"<noscript>.*?</noscript>", "<noscript>JavaScript is off.</noscript>", page, flags=re.DOTALL
    )
    page = page.replace("<title>Streamlit</title>", "<title>Heliostat</title>")
    page = re.sub(
        r'<link rel="shortcut icon"[^>]*>',
        '<link rel="icon" type="image/svg+xml" href="./heliostat.svg">',
        page,
    )
    page = page.replace("<head>", '<head><script src="./look.js"></script>', 1)
    parts = SOON_FOR_ONE.get(name, SOON[name]) if for_one else SOON[name]
    more = [module for module in _modules(("Html", *parts)) if module not in page]
    links = [f'<link rel="modulepreload" crossorigin href="./static/js/{module}">' for module in more]
    return page.replace("</head>", "".join([*links, "</head>"]), 1)


def script_names() -> list[str]:
    """The files of the frontend's scripts that some page asks for as soon as it opens."""
    parts = {part for each in (*SOON.values(), *SOON_FOR_ONE.values()) for part in each}
    return _modules(("index", "Html", *sorted(parts)))


def _modules(parts: Sequence[str]) -> list[str]:
    """The files of some parts of the frontend, with all that they import."""
    found = [path.name for part in parts for path in SCRIPTS.glob(f"{part}.*.js")]
    for name in found:  # grows while it is gone through
        found += [each for each in _IMPORT.findall((SCRIPTS / name).read_text("utf-8")) if each not in found]
    return found


def content_policy(page: str) -> str:
    """The Content-Security-Policy that the page needs and no more.

    Styles must be inline (Emotion writes them). Nothing is compiled from text: charts are ECharts, not Vega.
    """
    inline = re.findall(r"<script>(.*?)</script>", page, flags=re.DOTALL)
    hashes = [base64.b64encode(hashlib.sha256(code.encode()).digest()).decode() for code in inline]
    scripts = " ".join(f"'sha256-{digest}'" for digest in hashes)
    return (
        f"default-src 'self'; script-src 'self' blob: {scripts}; "
        "style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; media-src 'self' blob:; font-src 'self' data:; connect-src 'self'; "
        "worker-src 'self' blob:; frame-src 'self' blob:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    )


def look_script(request: Request) -> Response:
    """What sets the theme before Streamlit's frontend starts."""
    return Response(LOOK_SCRIPT, media_type="text/javascript", headers={"Cache-Control": "no-cache"})


def icon(request: Request) -> Response:
    """The picture in the browser's tab."""
    return Response(ICON.read_bytes(), media_type="image/svg+xml", headers={"Cache-Control": "max-age=86400"})
