"""/login, /logout and /look: small pages that work without JavaScript, in both languages and themes."""

import asyncio
import html
import math
import secrets
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from dashboard.forwarded import peer_of
from dashboard.gate import SESSION_COOKIE, admission_of
from dashboard.language import LANGUAGES, best_language
from dashboard.started import door
from dashboard.words import translator
from heliostat.control.door import LONGEST_SESSION_SECONDS
from heliostat.control.throttle import Throttle

FORM_COOKIE, LANGUAGE_COOKIE, THEME_COOKIE = "heliostat_form", "heliostat_language", "heliostat_theme"
FOLDER = Path(__file__).resolve().parent
THEMES = ("light", "dark", "system")
LOOK_SECONDS = 365 * 24 * 3600
BODY_LIMIT = 4096
HASHES_AT_ONCE = asyncio.Semaphore(2)
"""A guess costs 32 MiB for 80 ms; many at once are not to cost more."""
POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'"
)
STYLE = (FOLDER / "login.css").read_text("utf-8")
_throttle = Throttle()


async def login(request: Request) -> Response:
    """The form, and what it sends."""
    target = _target(request.query_params.get("next"))
    if request.method == "GET":
        if admission_of(request.scope):
            return RedirectResponse(target, 303)
        return _login_form(request, target)
    fields = await _fields(request)
    if not door().form_fits(request.cookies.get(FORM_COOKIE, ""), fields.get("token", "")):
        return _login_form(request, target, "login.stale", status=400)
    name = fields.get("name", "").strip().lower()
    peer = peer_of(request.scope)
    wait = _throttle.wait_seconds(name, peer)
    if wait:
        return _login_form(request, target, "login.wait", 429, math.ceil(wait))
    _throttle.failed(name, peer)  # before the password is looked at, so that guesses sent at once count too
    async with HASHES_AT_ONCE:
        opened = await asyncio.to_thread(door().log_in, name, fields.get("password", ""))
    if opened is None:
        return _login_form(request, target, "login.wrong", 401)
    _throttle.succeeded(name, peer)
    response = RedirectResponse(target, 303)
    _set_cookie(request, response, SESSION_COOKIE, opened[0], int(LONGEST_SESSION_SECONDS))
    response.delete_cookie(FORM_COOKIE, path="/")
    return response


async def logout(request: Request) -> Response:
    """A question with a button, and what the button does."""
    admission = admission_of(request.scope)
    if request.method == "GET":
        return _page(request, "logout.title", _form(request, "/logout", "", "logout.button"), sets_form=True)
    fields = await _fields(request)
    if not door().form_fits(request.cookies.get(FORM_COOKIE, ""), fields.get("token", "")):
        return RedirectResponse("/logout", 303)
    if admission is not None:
        await asyncio.to_thread(door().log_out, admission)
    response = RedirectResponse("/login", 303)
    response.delete_cookie(SESSION_COOKIE, path="/")
    return response


async def look(request: Request) -> Response:
    """Keep a language or a theme in a cookie, and go back to where the link was."""
    response = RedirectResponse(_came_from(request), 303)
    language, theme = request.query_params.get("language"), request.query_params.get("theme")
    secure = request.url.scheme == "https"
    if language in LANGUAGES:
        response.set_cookie(
            LANGUAGE_COOKIE, language, LOOK_SECONDS, samesite="lax", secure=secure, httponly=True
        )
    if theme in THEMES:  # a script of ours reads this one
        response.set_cookie(THEME_COOKIE, theme, LOOK_SECONDS, samesite="lax", secure=secure)
    return response


def _login_form(
    request: Request, target: str, problem: str = "", status: int = 200, seconds: int = 0
) -> Response:
    t = translator(_language(request))
    message = f'<p class="wrong" role="alert">{_escaped(t(problem, n=seconds))}</p>' if problem else ""
    inputs = (
        f'<label for="name">{_escaped(t("login.name"))}</label>'
        '<input id="name" name="name" autocomplete="username" autocapitalize="none" required autofocus>'
        f'<label for="password">{_escaped(t("login.password"))}</label>'
        '<input id="password" name="password" type="password" autocomplete="current-password" required>'
    )
    action = f"/login?next={quote(target, safe='/')}"
    body = message + _form(request, action, inputs, "login.button")
    response = _page(request, "login.title", body, status, sets_form=True)
    if seconds:
        response.headers["Retry-After"] = str(seconds)
    return response


def _form(request: Request, action: str, inputs: str, button: str) -> str:
    t = translator(_language(request))
    token = door().form_token(_nonce(request))
    return (
        f'<form method="post" action="{_escaped(action)}">'
        f'<input type="hidden" name="token" value="{token}">{inputs}'
        f"<button>{_escaped(t(button))}</button></form>"
    )


def _page(request: Request, title: str, body: str, status: int = 200, sets_form: bool = False) -> Response:
    language = _language(request)
    t = translator(language)
    theme = request.cookies.get(THEME_COOKIE, "")
    others = " ".join(
        f'<a href="/look?language={code}" lang="{code}">{name}</a>' for code, name in LANGUAGES.items()
    )
    content = (
        f'<!doctype html><html lang="{language}" class="{theme if theme in THEMES else ""}"><head>'
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_escaped(t(title))} · Heliostat</title><style>{STYLE}</style></head><body><main>"
        '<header><img src="/heliostat.svg" alt=""><div><h1>Heliostat</h1>'
        f"<p>{_escaped(t(title))}</p></div></header>{body}<nav>{others}</nav></main></body></html>"
    )
    headers = {"Content-Security-Policy": POLICY, "Cache-Control": "no-store"}
    response = HTMLResponse(content, status, headers)
    if sets_form:
        _set_cookie(request, response, FORM_COOKIE, _nonce(request), 3600)
    return response


def _nonce(request: Request) -> str:
    """The random word that this browser's forms are bound to; one for all its tabs."""
    kept = request.cookies.get(FORM_COOKIE) or request.scope.get("heliostat_nonce") or secrets.token_hex(16)
    request.scope["heliostat_nonce"] = kept
    return str(kept)


def _set_cookie(request: Request, response: Response, name: str, value: str, seconds: int) -> None:
    secure = request.url.scheme == "https"
    response.set_cookie(name, value, seconds, samesite="lax", secure=secure, httponly=True)


async def _fields(request: Request) -> dict[str, str]:
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_LIMIT:
            return {}
    return {key: values[-1] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}


def _target(path: str | None) -> str:
    """Where to go after the login: a path of ours, never another site."""
    fits = path and path.startswith("/") and not path.startswith(("//", "/login", "/logout", "/look"))
    return path if path and fits and path.isprintable() and "\\" not in path else "/"


def _came_from(request: Request) -> str:
    referer = request.headers.get("referer", "")
    parts = urlsplit(referer)
    if parts.netloc != request.headers.get("host", ""):
        return "/"
    query = "&".join(part for part in parts.query.split("&") if part and not part.startswith("lang="))
    path = parts.path if parts.path.startswith("/") and not parts.path.startswith("//") else "/"
    return path + (f"?{query}" if query else "")


def _language(request: Request) -> str:
    asked = request.cookies.get(LANGUAGE_COOKIE), request.headers.get("accept-language")
    return best_language(*asked)


def _escaped(text: str) -> str:
    return html.escape(text, quote=True)
