"""Ports, proxies and the services that a recipe may name: whether they are free, or answer."""

import os
import urllib.request
from urllib.parse import urlsplit

import httpx

from heliostat.control.checks import Check, Question, ok, refused, skipped, warning
from heliostat.endpoints import read_deployments
from heliostat.errors import ServingError
from heliostat.serving.ports import check_port_free
from heliostat.tracking import SQLITE, check_reachable, tracking_uri
from heliostat.workspace import Workspace

LOOPBACK = "127.0.0.1"
EVERYWHERE = "0.0.0.0"
HEAD_PORT = 6379
DASHBOARD_PORT = 8265
PROBE_SECONDS = 2.0
REDIS_VARIABLE = "RAY_REDIS_ADDRESS"
PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")


def network_questions(workspace: Workspace, address: str | None) -> list[Question]:
    """The checks of this file."""
    return [
        Question("ports", check_ports),
        Question("proxies", lambda: check_proxies(address)),
        Question("tracking", lambda: check_tracking(workspace), 7.0),
        Question("redis", lambda: check_redis(workspace)),
    ]


def ports_used() -> dict[int, str]:
    """The ports that Heliostat's scripts and servers listen on here, and what for."""
    head = int(os.environ.get("HEAD_PORT") or HEAD_PORT)
    named = {head: "Ray's head", int(os.environ.get("DASHBOARD_PORT") or DASHBOARD_PORT): "Ray's dashboard"}
    named |= {8000: "endpoints", 10001: "Ray's clients", 8501: "Heliostat's dashboard"}
    return named | {head + offset: "a Ray node" for offset in range(1, 8)}


def check_ports() -> list[Check]:
    """Whether what is to listen here can. A port in use is no fault where a cluster runs already."""
    taken = {port: what for port, what in ports_used().items() if not _is_free(port)}
    if not taken:
        return [ok("ports", f"all free: {', '.join(map(str, sorted(ports_used())))}")]
    if answers_as_ray(f"http://{LOOPBACK}:{DASHBOARD_PORT}"):
        ports = ", ".join(map(str, sorted(taken)))
        return [ok("ports", f"a Ray head runs on this machine; in use: {ports}", taken=sorted(taken))]
    owners = _owners(set(taken))
    return [
        warning(
            "ports",
            f"{port}, for {what}, is in use" + (f" by {owners[port]}" if port in owners else ""),
            f"end what listens there, or choose another: {_other(port)}",
            port=port,
        )
        for port, what in sorted(taken.items())
    ]


def answers_as_ray(url: str) -> bool:
    """Whether a Ray dashboard answers there; proxies are passed over."""
    try:
        answer = httpx.get(f"{url}/api/authentication_mode", timeout=PROBE_SECONDS, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.is_success and "authentication_mode" in answer.text


def check_proxies(address: str | None = None) -> list[Check]:
    """Proxies that would be asked for what is on this machine, or for the cluster's head."""
    named = [name for name in PROXY_VARIABLES if os.environ.get(name) or os.environ.get(name.upper())]
    if not named:
        return [ok("proxies", "none is set")]
    hosts = [LOOPBACK, "localhost"]
    if address is not None:
        hosts.append(urlsplit(address if "://" in address else f"http://{address}").hostname or "")
    through = [host for host in hosts if host and not urllib.request.proxy_bypass(host)]
    if not through:
        return [ok("proxies", f"{', '.join(named)} set, and passed over for {', '.join(hosts)}")]
    before = os.environ.get("no_proxy") or os.environ.get("NO_PROXY")
    wanted = ",".join([*filter(None, [before]), *through])
    says = f"{', '.join(named)} is set, and asked for {', '.join(through)} as well, which it cannot reach"
    return [warning("proxies", says, f"export NO_PROXY={wanted} no_proxy={wanted}", hosts=through)]


def check_tracking(workspace: Workspace) -> Check:
    """Whether MLflow's store answers.

    Raises:
        TrackingError: it does not.
    """
    uri = tracking_uri(workspace)
    check_reachable(uri)
    if uri.startswith(SQLITE):
        return ok("tracking", "MLflow's store is a file in the workspace")
    return ok("tracking", f"MLflow's server answers at {urlsplit(uri).hostname}")


def check_redis(workspace: Workspace) -> list[Check]:
    """Whether the Redis of the cluster's records (GCS fault tolerance) and of endpoints' caches answers."""
    named: dict[str, str] = {}
    if given := os.environ.get(REDIS_VARIABLE):
        named[given if "://" in given else f"redis://{given}"] = f"{REDIS_VARIABLE}"
    for record in read_deployments(workspace):
        url = record.config.get("cache", {}).get("redis_url")
        if url and record.status == "running":
            named[url] = f"cache.redis_url of the endpoint {record.endpoint.name}"
    if not named:
        return [skipped("redis", f"none is configured, by {REDIS_VARIABLE} or by an endpoint that runs")]
    return [_ask_redis(url, where) for url, where in named.items()]


def _ask_redis(url: str, named_by: str) -> Check:
    import redis

    where = f"{urlsplit(url).hostname}:{urlsplit(url).port or 6379}"
    timeouts = {"socket_timeout": PROBE_SECONDS, "socket_connect_timeout": PROBE_SECONDS}
    try:
        redis.Redis.from_url(url, **timeouts).ping()
    except redis.AuthenticationError:
        return ok("redis", f"Redis answers at {where}, and asks for a password")
    except (redis.RedisError, ValueError, OSError) as error:
        says = f"no Redis answers at {where}, which {named_by} names ({type(error).__name__})"
        return refused("redis", says, "start it, or name where it is")
    return ok("redis", f"Redis answers at {where}")


def _is_free(port: int) -> bool:
    try:
        check_port_free(EVERYWHERE, port)
    except ServingError:
        return False
    return True


def _owners(ports: set[int]) -> dict[int, str]:
    """Who listens, as far as this user may know."""
    import psutil

    found = {}
    try:
        connections = psutil.net_connections("tcp")
    except (psutil.Error, OSError):
        return {}
    for each in connections:
        if each.status == psutil.CONN_LISTEN and each.laddr.port in ports and each.pid:
            try:
                found[each.laddr.port] = f"{psutil.Process(each.pid).name()} (process {each.pid})"
            except psutil.Error:
                continue
    return found


def _other(port: int) -> str:
    if port == DASHBOARD_PORT:
        return "DASHBOARD_PORT for cluster/start_head.sh"
    if port in (8000, 8501, 10001):
        return "serve.port of the recipe" if port == 8000 else "--port of what is to listen"
    return "HEAD_PORT for cluster/start_head.sh and start_worker.sh"
