"""Rules and boards ask for metrics that exist, and lead to pages that exist."""

import json
import re

import promql_parser
import pytest
import yaml
from tests.cluster.exported import heliostat_metrics, is_exported
from tests.cluster.manifests import KUBERNETES, ROOT, built, pod_specs

FOLDER = KUBERNETES / "monitoring"
RULES = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
BOARDS = {path.stem: json.loads(path.read_text()) for path in sorted((FOLDER / "boards").glob("*.json"))}
QUERIES = [pytest.param(rule["expr"], id=rule["alert"]) for rule in RULES] + [
    pytest.param(target["expr"], id=f"{name}-{panel['title']}-{target['refId']}")
    for name, board in BOARDS.items()
    for panel in board["panels"]
    for target in panel["targets"]
]
SCRAPED = {"job", "instance", "ray_cluster", "ray_node_type", "ray_group", "pod"}
"""Labels that the scraping adds."""


def parts(expression):
    """An expression and all that it is made of."""
    yield expression
    for name in ("lhs", "rhs", "expr", "param", "vector_selector", "vs"):
        inner = getattr(expression, name, None)
        if inner is not None:
            yield from parts(inner)
    for inner in getattr(expression, "args", None) or ():
        yield from parts(inner)


def selectors(query):
    """(metric, labels that it is chosen by) of a query."""
    tree = promql_parser.parse(query.replace("$group", ".*").replace("$model", ".*"))
    return [
        (part.name, {matcher.name for matcher in part.matchers.matchers})
        for part in parts(tree)
        if isinstance(part, promql_parser.VectorSelector)
    ]


def unknown(query):
    """What a query names and nothing exports."""
    found = [name for name, _ in selectors(query) if not is_exported(name)]
    for name, labels in selectors(query):
        if name in heliostat_metrics():
            found += [f"{name}{{{label}}}" for label in labels - heliostat_metrics()[name] - SCRAPED]
    return found


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_names_metrics_that_are_exported(query):
    assert selectors(query)
    assert unknown(query) == []


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("sum(rate(ray_node_gpu_memory_in_use[5m]))", ["ray_node_gpu_memory_in_use"]),
        ("ray_memory_manager_worker_eviction > 0", ["ray_memory_manager_worker_eviction"]),
        ("heliostat_requests > 0", ["heliostat_requests"]),
        ('up == 0 or heliostat_requests_total{endpoint="x"}', ["heliostat_requests_total{endpoint}"]),
        ("autoscaler_lost_nodes", ["autoscaler_lost_nodes"]),
        ("max_over_time(deriv(vllm:num_waiting[10m:1m])[1h:1m])", ["vllm:num_waiting"]),
        ("node_cpu_seconds_total", ["node_cpu_seconds_total"]),
    ],
)
def test_a_metric_or_label_that_nobody_exports_is_found(query, expected):
    """Or the test above could not fail."""
    assert unknown(query) == expected


def unknown_groups(query):
    """Labels that a query over the gateway's metrics sums over, and that they lack: nothing is drawn then."""
    names = {name for name, _ in selectors(query)}
    if not names <= set(heliostat_metrics()):
        return set()
    by = {label.strip() for found in re.findall(r"\bby \(([^)]*)\)", query) for label in found.split(",")}
    return by - frozenset().union(*(heliostat_metrics()[name] for name in names)) - SCRAPED


@pytest.mark.parametrize("query", QUERIES)
def test_a_query_groups_by_labels_that_exist(query):
    assert unknown_groups(query) == set()


def test_a_group_that_does_not_exist_is_found():
    assert unknown_groups("sum by (endpoint, status) (rate(heliostat_requests_total[5m]))") == {"endpoint"}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_a_rule_says_how_bad_it_is_and_where_its_page_is(rule):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert rule["labels"]["severity"] in ("info", "warning", "critical")
    file, _, anchor = rule["annotations"]["runbook"].partition("#")
    headings = re.findall(r"(?m)^## (.+)$", (ROOT / file).read_text())
    assert anchor in [re.sub(r"[^a-z0-9 -]", "", each.lower()).replace(" ", "-") for each in headings]
    assert rule["annotations"]["summary"]


def test_what_must_be_watched_is():
    assert {
        "HeadLost", "NodeDown", "OutOfMemoryKills", "DiskAlmostFull", "GpuMemoryAlmostFull",
        "WorkPendsForLong", "TrainingStalls", "EndpointDown", "EndpointErrors", "EndpointSlow",
        "QueueGrows", "NoReplica",
    } <= {rule["alert"] for rule in RULES}  # fmt: skip
    disk = next(rule["expr"] for rule in RULES if rule["alert"] == "DiskAlmostFull")
    assert disk.endswith("> 0.9")


@pytest.mark.parametrize("name", BOARDS)
def test_a_board_asks_the_source_that_is_provisioned(name):
    board = BOARDS[name]
    (source,) = yaml.safe_load((FOLDER / "datasource.yml").read_text())["datasources"]
    services = [each for each in built("monitoring") if each["kind"] == "Service"]
    ports = {f"http://{each['metadata']['name']}:{each['spec']['ports'][0]['port']}" for each in services}
    assert source["url"] in ports
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {source["uid"]}
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    places = [(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in board["panels"]]
    assert len(set(places)) == len(places)
    for variable in board["templating"]["list"]:
        assert f"${variable['name']}" in json.dumps(board["panels"])
        (metric,) = re.findall(r"label_values\(([^,]+),", variable["query"])
        assert is_exported(metric)


def test_prometheus_scrapes_ports_that_rays_pods_have():
    config = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    asked = {
        port
        for job in config["scrape_configs"]
        for each in job["relabel_configs"]
        if each["source_labels"] == ["__meta_kubernetes_pod_container_port_name"]
        for port in each["regex"].split("|")
    }
    there = {
        port["name"]
        for each in built("ray")
        for _, _, spec in pod_specs(each)
        for port in spec["containers"][0]["ports"]
    }
    assert asked <= there
