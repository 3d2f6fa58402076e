"""Ray's HTTP APIs on the head node's dashboard port: packages, jobs, state. Knows nothing of recipes.

The same requests as Ray's own client makes, without importing ray, which takes seconds.
"""

from types import TracebackType
from typing import Any, Self

import httpx

from heliostat.control.answers import mapping, mappings
from heliostat.control.auth_token import WHERE_IT_BELONGS, find_auth_token
from heliostat.errors import ClusterError
from heliostat.text.concealing import holds_password, without_secrets

MINIMUM_RAY = (2, 60)
"""The release this code is written for (Train V2, token authentication); pyproject.toml pins the same."""
CONNECT_TIMEOUT_SECONDS = 5.0
ANSWER_TIMEOUT_SECONDS = 60.0
MOST_ROWS = 10_000


class RayApi:
    """One cluster's dashboard, as a context manager around an HTTP client."""

    def __init__(self, address: str) -> None:
        """Prepare to talk to `address` (`http://head:8265`); nothing is sent yet.

        Raises:
            ClusterError: this is not an HTTP address, it holds a password, or there is no reading the token.
        """
        self.address = _normalise(address)
        self._token = find_auth_token()
        headers = {"Authorization": f"Bearer {self._token.value}"} if self._token else {}
        timeout = httpx.Timeout(ANSWER_TIMEOUT_SECONDS, connect=CONNECT_TIMEOUT_SECONDS)
        self._client = httpx.Client(base_url=self.address, headers=headers, timeout=timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def check_version(self) -> str:
        """The cluster's Ray version.

        Raises:
            ClusterError: nothing answers, it is not Ray, it is too old, or it refuses the token.
        """
        response = self._send("GET", "/api/version")
        try:
            version = str(response.json()["ray_version"])
            release = tuple(int(part) for part in version.split(".")[:2])
        except (ValueError, KeyError, TypeError):
            raise ClusterError(
                f"what answers at {self.address} is not a Ray dashboard (HTTP {response.status_code}); "
                "give the address of the head node's dashboard, port 8265 by default"
            ) from None
        if release < MINIMUM_RAY:
            wanted = ".".join(str(part) for part in MINIMUM_RAY)
            raise ClusterError(
                f"the cluster at {self.address} runs Ray {version}; it needs {wanted} or later"
            )
        return version

    def get(self, path: str, doing: str, **query: str | int) -> Any:
        """The decoded JSON of `path`; `doing` says in messages what was asked for.

        Raises:
            Unreachable: the cluster does not answer, or with a fault of its own.
            ClusterError: it refuses, or its answer is no JSON.
        """
        return self._check(self._send("GET", path, params=query), doing)

    def get_text(self, path: str, doing: str, **query: str | int) -> str:
        """The plain text of `path`; raises what `get` does."""
        response = self._send("GET", path, params=query)
        if not response.is_success:
            self._check(response, doing)
        return response.text

    def rows(self, kind: str, **query: str | int) -> list[dict[str, Any]]:
        """What Ray's state API lists: `nodes`, `actors`, `tasks`, `jobs`, `placement_groups`.

        At most 10,000, Ray's own limit; raises what `get` does. Empty where the answer has no such list.
        """
        doing = f"listing {kind.replace('_', ' ')}"
        answer = self.get(f"/api/v0/{kind}", doing, **({"detail": 1, "limit": MOST_ROWS} | query))
        result = mapping(answer, "data", "result").get("result")
        return [dict(row) for row in mappings(result)]

    def has_package(self, name: str) -> bool:
        """Whether the cluster holds an uploaded package; if so, Ray keeps it until the job has started."""
        response = self._send("GET", f"/api/packages/gcs/{name}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        self._check(response, f"asking for package {name}")
        return True

    def upload_package(self, name: str, content: bytes) -> None:
        """Store a package in the cluster."""
        response = self._send("PUT", f"/api/packages/gcs/{name}", content=content)
        self._check(response, f"uploading package {name}")

    def submit(self, request: dict[str, Any]) -> str:
        """Submit a job, in the words of Ray's Jobs API; returns its submission id."""
        response = self._send("POST", "/api/jobs/", json=request)
        return str(self._field(self._check(response, "submitting the job"), "submission_id"))

    def job(self, submission_id: str) -> dict[str, Any]:
        """What Ray knows about a job."""
        answer = self._check(self._send("GET", f"/api/jobs/{submission_id}"), f"job {submission_id}")
        self._field(answer, "status")
        return dict(answer)

    def has_job(self, submission_id: str) -> bool:
        """Whether Ray knows a job, however it does."""
        response = self._send("GET", f"/api/jobs/{submission_id}")
        if response.status_code == httpx.codes.NOT_FOUND:
            return False
        self._check(response, f"job {submission_id}")
        return True

    def jobs(self) -> list[dict[str, Any]]:
        """What Ray knows about all jobs, in no particular order.

        Raises:
            ClusterError: what answers gives no list, which does not mean that there are no jobs.
        """
        answer = self._check(self._send("GET", "/api/jobs/"), "listing jobs")
        if not isinstance(answer, list):
            raise ClusterError(
                f"listing jobs: {self.address} answered no list; is it the head node's dashboard?"
            )
        return [dict(entry) for entry in mappings(answer)]

    def logs(self, submission_id: str) -> str:
        """All that the job's driver has printed so far."""
        path = f"/api/jobs/{submission_id}/logs"
        answer = self._check(self._send("GET", path), f"logs of {submission_id}")
        return str(self._field(answer, "logs"))

    def stop(self, submission_id: str) -> bool:
        """Ask a job to end; False when it had ended already."""
        path = f"/api/jobs/{submission_id}/stop"
        return bool(
            self._field(self._check(self._send("POST", path), f"stopping {submission_id}"), "stopped")
        )

    def _send(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            response = self._client.request(method, path, **options)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise Unreachable(
                f"no Ray dashboard answers at {self.address} ({str(error) or type(error).__name__}); "
                "check the address and that the head node runs, "
                "or forward its port with ssh -L 8265:127.0.0.1:8265 HEAD"
            ) from None
        if response.status_code == httpx.codes.UNAUTHORIZED:
            raise ClusterError(
                f"the cluster at {self.address} asks for a token; put it into {WHERE_IT_BELONGS}"
            )
        if response.status_code == httpx.codes.FORBIDDEN:
            source = self._token.source if self._token else "nowhere"
            raise ClusterError(
                f"the cluster at {self.address} refuses the token from {source}; "
                f"put this cluster's token into {WHERE_IT_BELONGS}"
            )
        return response

    def _check(self, response: httpx.Response, doing: str) -> Any:
        """The decoded answer.

        Raises:
            Unreachable: the head answers with a fault of its own (HTTP 5xx), which may pass.
            ClusterError: Ray refuses what was asked, or the answer is no JSON.
        """
        if response.is_success:
            try:
                return response.json() if response.content else None
            except ValueError:
                raise ClusterError(f"{doing}: what {self.address} answered is not JSON") from None
        lines = response.text.strip().splitlines() or ["no reason given"]
        kind = Unreachable if response.is_server_error else ClusterError
        raise kind(f"{doing}: {self.address} answered HTTP {response.status_code}: {lines[-1]}")

    def _field(self, answer: Any, name: str) -> Any:
        if not isinstance(answer, dict) or name not in answer:
            raise ClusterError(f"{self.address}: the answer has no '{name}'; is its Ray as new as this one?")
        return answer[name]


class Unreachable(ClusterError):
    """The cluster did not answer this time; asking again may help."""


def _normalise(address: str) -> str:
    scheme, sign, _ = address.partition("://")
    if not sign:
        address = f"http://{address}"
    elif scheme not in ("http", "https"):
        raise ClusterError(
            f"address '{address}': jobs go to the dashboard's HTTP port, for example http://127.0.0.1:8265"
        )
    if holds_password(address):
        raise ClusterError(
            f"address {without_secrets(address)}: commands and records show the address of a cluster; "
            f"leave the password out and put the cluster's token into {WHERE_IT_BELONGS}"
        )
    return address.rstrip("/")
