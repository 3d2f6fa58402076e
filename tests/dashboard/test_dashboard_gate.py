"""The gate, over real HTTP: what is closed without a login, and what another site's page can do."""

import http.client
import threading
from pathlib import Path

import httpx
import pytest
from dashboard.gate import RECHECK_SECONDS
from dashboard.words import translator
from pages import HOSTILE, JOB, bring_into
from served import Served, buttons, form_token, lines, log_in, run_page, seconds_until_closed, served, user
from sqlalchemy import select
from websockets.exceptions import ConnectionClosed, InvalidStatus

from heliostat.control.accounts import Accounts
from heliostat.control.door import Door
from heliostat.control.job_records import change_job
from heliostat.control.sites import Site
from heliostat.control.tables import jobs

pytestmark = pytest.mark.heavy
PASSWORDS = {"vera": "vera looks on", "oskar": "oskar acts now", "remy": "remy is to go"}
ROLES = {"vera": "viewer", "oskar": "operator", "remy": "operator"}
WRONG = translator("en")("login.wrong")
EVIL = "https://evil.example"
CLOSED = (
    "/", "/runs", "/run", "/new_run", "/settings", "/index.html", "/look.js", "/favicon.png",
    "/manifest.json", "/static/js/index.js", "/_stcore/health", "/_stcore/host-config", "/_stcore/metrics",
    "/_stcore/script-health-check", "/_stcore/stream", "/_stcore/bidi-components/a/b.js", "/media/abc.png",
    "/component/a/index.html", "/app/static/users.json", "/auth/login", "/oauth2callback", "/docs",
    "/openapi.json", "/nothing",
)  # fmt: skip
TRICKS = (
    "//", "//runs", "/./runs", "/login/../runs", "/login/..%2fruns", "/%2e%2e/", "/%2e%2e/%2e%2e/etc/passwd",
    "/login/", "/login%00", "/login;/runs", "/Login", "/healthz/", "/healthz/../", "/look/../runs", "/LOOK",
    "/heliostat.svg/../index.html", "/\\runs", "http://127.0.0.1/runs", "*",
)  # fmt: skip


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("gate")
    for name, password in PASSWORDS.items():
        assert (
            user(folder / "workspace", "add", name, "--role", ROLES[name], password=password).returncode == 0
        )
    site = Site.open(str(folder / "workspace"), None)
    bring_into(site, "running")
    change_job(site.store, JOB, "failed", state="FAILED")  # so that it can be retried
    with served(folder) as dashboard:
        yield dashboard


@pytest.fixture
def viewer(dashboard):
    with dashboard.logged_in("vera", PASSWORDS["vera"]) as client:
        yield client


@pytest.fixture
def operator(dashboard):
    with dashboard.logged_in("oskar", PASSWORDS["oskar"]) as client:
        yield client


def raw(dashboard: Served, path: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """A request whose path nobody has put in order."""
    connection = http.client.HTTPConnection(dashboard.netloc, timeout=30)
    connection.putrequest(method, path, skip_accept_encoding=True)
    for name, value in headers.items():
        connection.putheader(name.replace("_", "-"), value)
    connection.endheaders()
    answer = connection.getresponse()
    return answer.status, answer.read()


def all_jobs(dashboard: Served) -> list[str]:
    with Site.open(str(dashboard.workspace), None).store.begin() as connection:
        return sorted(connection.execute(select(jobs.c.id)).scalars())


@pytest.mark.parametrize("path", CLOSED)
def test_without_a_login_no_path_gives_anything(dashboard, path):
    with dashboard.client() as client:
        answer = client.get(path)
        assert (answer.status_code, answer.text) == (401, "log in first\n")
        page = client.get(path, headers={"Accept": "text/html"})
        assert (page.status_code, page.text) == (303, "")
        assert page.headers["location"].startswith("/login?next=/")


@pytest.mark.parametrize("path", TRICKS)
def test_a_path_written_otherwise_opens_nothing(dashboard, path):
    status, body = raw(dashboard, path)
    assert (status, body) in [(401, b"log in first\n"), (400, b"Invalid HTTP request received.")]


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "HEAD", "TRACE", "PROPFIND"])
def test_without_a_login_nothing_can_be_sent(dashboard, method):
    with dashboard.client() as client:
        for path in ("/", "/_stcore/upload_file/session/file", "/media/abc", "/component/a", "/logout"):
            assert client.request(method, path).status_code in (401, 405)


def test_without_a_login_the_websocket_is_refused(dashboard):
    for headers in ({}, {"Cookie": "heliostat_session=e30.00"}, {"X-Heliostat-Admission": "e30.00"}):
        with pytest.raises(InvalidStatus) as caught:
            dashboard.stream(headers=headers)
        assert caught.value.response.status_code == 403


def test_health_the_icon_and_the_form_are_open_and_say_nothing_of_the_workspace(dashboard):
    with dashboard.client() as client:
        assert client.get("/healthz").json() == {"status": "ok"}
        assert client.get("/heliostat.svg").headers["content-type"] == "image/svg+xml"
        form = client.get("/login")
        assert form.status_code == 200
        for word in (str(dashboard.workspace), "vera", "oskar", JOB):
            assert word not in form.text


def test_every_answer_carries_the_headers_that_keep_scripts_and_frames_out(dashboard, viewer):
    for answer in (
        viewer.get("/runs"),
        viewer.get("/nothing"),
        viewer.get("/login"),
        httpx.get(dashboard.url),
    ):
        policy = answer.headers["content-security-policy"]
        scripts = policy.partition("script-src ")[2].partition(";")[0] or "'none'"
        assert "'unsafe-inline'" not in scripts
        assert "http" not in scripts
        assert "frame-ancestors 'none'" in policy
        assert "form-action 'self'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert "server" not in answer.headers


def test_the_right_password_opens_the_pages_with_a_cookie_that_scripts_and_other_sites_cannot_use(dashboard):
    with dashboard.client() as client:
        answer = log_in(client, "Vera ", PASSWORDS["vera"], "/login?next=/runs%3Frun%3Dx")
        assert (answer.status_code, answer.headers["location"]) == (303, "/runs?run=x")
        (cookie,) = [
            line for line in answer.headers.get_list("set-cookie") if line.startswith("heliostat_session=")
        ]
        said = {part.strip().lower() for part in cookie.split(";")[1:]}
        assert {"httponly", "samesite=lax", "path=/"} <= said
        assert "secure" not in said  # over HTTP a browser would not send it back
        assert not [part for part in said if part.startswith("domain")]
        page = client.get("/runs", headers={"Accept": "text/html"})
        assert page.status_code == 200
        assert "<title>Heliostat</title>" in page.text


@pytest.mark.parametrize(
    ("name", "password"), [("vera", "wrong"), ("nobody", "wrong"), ("", ""), ("vera", "\0")]
)
def test_a_wrong_password_and_a_wrong_name_look_the_same_and_open_nothing(dashboard, name, password):
    with dashboard.client(local_address=f"127.0.2.{1 + len(name + password)}") as client:
        answer = log_in(client, name, password)
        assert answer.status_code == 401
        assert "heliostat_session" not in answer.headers.get("set-cookie", "")
        assert WRONG in answer.text
        assert client.get("/runs").status_code == 401
    with dashboard.logged_in("vera", PASSWORDS["vera"]):
        pass  # which forgets the failures of the name


def test_after_some_wrong_passwords_one_has_to_wait_and_is_told_how_long(dashboard):
    with dashboard.client(local_address="127.0.1.2") as client:
        codes = [log_in(client, "guessed", f"guess {number}").status_code for number in range(4)]
        assert codes == [401, 401, 401, 429]
        answer = log_in(client, "guessed", "guess")
        assert answer.status_code == 429
        assert 1 <= int(answer.headers["retry-after"]) <= 2
        assert log_in(client, "another", "guess").status_code == 401  # who may be behind the same proxy
    with dashboard.client(local_address="127.0.1.3") as client:
        assert log_in(client, "guessed", "guess").status_code == 401


def test_guesses_sent_all_at_once_wait_no_less(dashboard):
    with dashboard.client(local_address="127.0.1.4") as client:
        fields = {"token": form_token(client.get("/login").text), "name": "hurried", "password": "guess"}
        codes: list[int] = []
        guesses = [
            threading.Thread(target=lambda: codes.append(client.post("/login", data=fields).status_code))
            for _ in range(24)
        ]
        for guess in guesses:
            guess.start()
        for guess in guesses:
            guess.join()
    assert sorted(set(codes)) == [401, 429]
    assert codes.count(401) <= 5


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "application/x-www-form-urlencoded"),
        (b"token=\xc3\xa9&name=vera&password=x", "application/x-www-form-urlencoded"),
        (b"token=%C3%A9&name=vera&password=x", "application/x-www-form-urlencoded"),
        (b"\xff\xfe\x00" * 100, "application/x-www-form-urlencoded"),
        (b"a" * 1_000_000, "application/x-www-form-urlencoded"),
        (b"&" * 4096, "application/x-www-form-urlencoded"),
        (b'{"name": "vera"}', "application/json"),
        (b"--x\r\n", "multipart/form-data; boundary=x"),
    ],
)
def test_a_body_that_is_no_form_is_refused(dashboard, content, kind):
    with dashboard.client() as client:
        client.get("/login")
        answer = client.post("/login", content=content, headers={"Content-Type": kind})
        assert answer.status_code == 400
        assert "heliostat_session" not in answer.cookies


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": EVIL}, {"Origin": "null"}, {"Origin": "http://127.0.0.1:1"},
        {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"},
    ],
)  # fmt: skip
@pytest.mark.parametrize("path", ["/login", "/logout"])
def test_a_form_on_another_sites_page_is_refused(dashboard, viewer, path, headers):
    token = form_token(viewer.get("/logout").text)
    fields = {"token": token, "name": "oskar", "password": PASSWORDS["oskar"]}
    request = viewer.build_request("POST", path, data=fields)
    del request.headers["Origin"]
    request.headers.update(headers)
    answer = viewer.send(request)
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers
    assert viewer.get("/runs").status_code == 200


def test_a_form_without_its_token_changes_nothing(dashboard, viewer):
    with dashboard.client() as client:
        fields = {"name": "vera", "password": PASSWORDS["vera"], "token": "0" * 64}
        assert client.post("/login", data=fields).status_code == 400
        client.get("/login")
        assert client.post("/login", data=fields).status_code == 400
    assert viewer.post("/logout", data={}).headers["location"] == "/logout"
    viewer.get("/logout")
    assert viewer.get("/runs").status_code == 200


@pytest.mark.parametrize("origin", [EVIL, "null", "http://127.0.0.1:1", None])
def test_a_websocket_from_another_sites_page_is_refused(dashboard, viewer, origin):
    with pytest.raises(InvalidStatus) as caught:
        dashboard.stream(viewer, origin=origin)
    assert caught.value.response.status_code == 403


@pytest.mark.parametrize(
    "target",
    ["//evil.example", EVIL, "/\\evil.example", "\\\\evil.example", "/\t/evil.example", "javascript:alert(1)",
     "/%0d%0aSet-Cookie:x=1\r\nX: y", "evil.example", "/login", "/logout", "/look?theme=dark"],
)  # fmt: skip
def test_a_login_leads_to_no_other_site(dashboard, target):
    with dashboard.client() as client:
        where = f"/login?{httpx.QueryParams(next=target)}"
        answer = log_in(client, "vera", PASSWORDS["vera"], where)
        assert (answer.status_code, answer.headers["location"]) == (303, "/")
        assert client.get(where).headers["location"] == "/"


@pytest.mark.parametrize(
    "referer",
    [
        EVIL,
        f"{EVIL}/runs",
        "{own}//evil.example/",
        "{own}@evil.example/",
        "{own}.evil.example/",
        "javascript:x",
    ],
)
def test_the_choice_of_a_language_leads_to_no_other_site(dashboard, referer):
    with dashboard.client() as client:
        headers = {"Referer": referer.format(own=dashboard.url)}
        assert client.get("/look?language=zh", headers=headers).headers["location"] == "/"
        back = client.get("/look?theme=dark", headers={"Referer": f"{dashboard.url}/runs?state=failed"})
        assert back.headers["location"] == "/runs?state=failed"


def test_markup_in_what_is_sent_stays_out_of_the_login_page(dashboard):
    with dashboard.client(local_address="127.0.1.5") as client:
        client.cookies.set("heliostat_theme", '"><script>alert(1)</script>')
        client.cookies.set("heliostat_language", "<script>")
        breaks_out = '/"><script>alert(1)</script>'
        where = f"/login?{httpx.QueryParams(next=breaks_out)}"
        page = client.get(where, headers={"Accept-Language": "<script>alert(1)</script>"})
        assert page.status_code == 200
        assert "<script" not in page.text
        assert 'action="/login?next=/%22%3E%3Cscript%3Ealert%281%29%3C/script%3E"' in page.text
        answer = log_in(client, HOSTILE, HOSTILE)
        assert "<script" not in answer.text


def test_a_logout_ends_copies_of_the_cookie_and_the_open_pages(dashboard, viewer):
    copied = dict(viewer.cookies)
    with dashboard.stream(viewer) as stream:
        run_page(stream, "home")
        answer = viewer.post("/logout", data={"token": form_token(viewer.get("/logout").text)})
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")
        with dashboard.client(cookies=copied) as copy:
            assert copy.get("/runs").status_code == 401
            with pytest.raises(InvalidStatus):
                dashboard.stream(copy)
        with pytest.raises(ConnectionClosed) as caught:
            run_page(stream, "home")
        assert caught.value.rcvd.code == 1008


def test_a_new_password_ends_the_sessions_of_the_old_one(dashboard):
    with dashboard.logged_in("remy", PASSWORDS["remy"]) as client, dashboard.stream(client) as stream:
        run_page(stream, "home")
        changed = user(dashboard.workspace, "password", "remy", password="remy thinks again")
        assert changed.returncode == 0
        assert client.get("/runs").status_code == 401
        assert seconds_until_closed(stream) < RECHECK_SECONDS + 3  # without a word from the page
        assert user(dashboard.workspace, "password", "remy", password=PASSWORDS["remy"]).returncode == 0


def test_whoever_is_removed_does_and_sees_nothing_more_on_a_page_that_is_open(dashboard):
    with dashboard.logged_in("remy", PASSWORDS["remy"]) as client, dashboard.stream(client) as stream:
        retry = buttons(run_page(stream, "run", f"run={JOB}"))["Retry"]
        before = all_jobs(dashboard)
        assert user(dashboard.workspace, "remove", "remy").returncode == 0
        with pytest.raises(ConnectionClosed) as caught:
            run_page(stream, "run", f"run={JOB}", click=retry)
        assert caught.value.rcvd.code == 1008
        assert all_jobs(dashboard) == before
        with pytest.raises(InvalidStatus):
            dashboard.stream(client)


def test_a_viewer_who_sends_what_an_operators_button_sends_does_nothing(dashboard, viewer, operator):
    query, before = f"run={JOB}", all_jobs(dashboard)
    with dashboard.stream(operator) as acts, dashboard.stream(viewer) as looks:
        retry = buttons(run_page(acts, "run", query))["Retry"]
        run_page(looks, "run", query)
        said = str(run_page(looks, "run", query, click=retry))
        assert all_jobs(dashboard) == before
        assert "vera is a viewer and may not retry jobs" in said
        run_page(acts, "run", query, click=retry)
        assert len(all_jobs(dashboard)) == len(before) + 1


def test_who_takes_up_another_persons_session_stays_who_he_is(dashboard, viewer, operator):
    query, before = f"run={JOB}", all_jobs(dashboard)
    with dashboard.stream(operator) as acts:
        drawn = run_page(acts, "run", query)
        (session,) = {
            message.new_session.initialize.session_id for message in drawn if message.HasField("new_session")
        }
        with dashboard.stream(viewer, subprotocols=["streamlit", "x", session]) as looks:
            assert "vera · viewer" in lines(run_page(looks, "run", query))
            said = str(run_page(looks, "run", query, click=buttons(drawn)["Retry"]))
    assert "vera is a viewer and may not retry jobs" in said
    assert all_jobs(dashboard) == before


def test_an_admission_that_a_client_writes_itself_is_dropped(dashboard, viewer, tmp_path):
    foreign = Door(
        Accounts(tmp_path / "users.json"), loopback=True
    )  # as another process of ours would seal it
    forged = foreign.sealed(foreign.local())
    with dashboard.client(headers={"X-Heliostat-Admission": forged}) as client:
        assert client.get("/runs").status_code == 401
    headers = {"X-Heliostat-Admission": forged, "x_heliostat_admission": forged, "X-Forwarded-User": "oskar"}
    with dashboard.stream(viewer, headers=headers) as stream:
        assert "vera · viewer" in lines(run_page(stream, "home"))


def test_nothing_of_a_password_or_a_session_is_in_what_the_server_prints(dashboard, viewer):
    printed = Path(dashboard.log).read_text()
    for secret in (*PASSWORDS.values(), viewer.cookies["heliostat_session"]):
        assert secret not in printed
    assert "Traceback" not in printed, printed
