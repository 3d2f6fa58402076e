"""The cluster page over noted readings: what it says of nodes, holders, waiting work and Serve, how old."""

from datetime import UTC, datetime, timedelta

import pytest
from dashboard.parts.cluster_course import MEASURES, points_of
from pages import HOSTILE, JOB, NODE, commands, open_page, put_readings, setting, texts
from pages import put_job as note_job

from heliostat.control.cluster_course import note_use, read_course, use_of
from heliostat.control.cluster_words import REMEDIES
from heliostat.control.collector import DEMAND, HOLDERS, NODES, SERVE, Collector, read_cluster
from heliostat.control.demand import ClusterEvent, Demand, Waiting
from heliostat.control.holders import Holder
from heliostat.control.holdings import find_holdings
from heliostat.control.node_types import NodeType
from heliostat.control.nodes import GpuState, Node
from heliostat.control.readings import Unavailable
from heliostat.control.run_index import sync_runs
from heliostat.control.serve_state import ServeApplication, ServeDeployment, ServeState
from heliostat.control.sites import Site
from heliostat.records import Provenance, Run

pytestmark = pytest.mark.heavy
BEGAN = datetime.now(UTC)
GIB = 2**30
GPU = GpuState(index=0, name="H200", utilisation=75.0, memory_used_bytes=GIB, memory_total_bytes=4 * GIB)
BUSY = NODE.model_copy(
    update={
        "cpu_percent": 37.0, "memory_used_bytes": 3 * GIB, "memory_total_bytes": 8 * GIB, "gpus_total": 1.0,
        "gpus_used": 1.0, "started_at": BEGAN - timedelta(hours=3),
        "gpus": (GPU,),
    }
)  # fmt: skip
WAITING = Waiting(
    kind="task or actor", bundles=({"GPU": 8.0},), strategy="", count=2, reason="impossible",
    why="asks for 8 GPUs; the largest node type has 1 GPU; it will never start",
)  # fmt: skip
DEMANDED = Demand(
    at=BEGAN, autoscaler=True, waiting=(WAITING,),
    node_types=(NodeType(name="train", resources={"CPU": 8.0, "GPU": 1.0}, fewest=0, most=4, running=1),),
    used={}, failures=(), error="",
    events=(
        ClusterEvent(at=BEGAN, source="AUTOSCALER", severity="INFO", message=f"Adding 1 node {HOSTILE}"),
    ),
)  # fmt: skip


def dead() -> Node:
    """A node that was lost two minutes ago."""
    return NODE.model_copy(
        update={
            "id": "d" * 48 + "deadbeef", "name": HOSTILE, "alive": False, "state": "DEAD", "is_head": False,
            "group": "train", "state_message": f"spot instance reclaimed {HOSTILE}",
            "ended_at": datetime.now(UTC) - timedelta(minutes=2),
        }
    )  # fmt: skip


def holder(name: str = "the job's driver", job: str = JOB, node: str = NODE.id, **more) -> Holder:
    fields = {
        "kind": "actor",
        "id": name,
        "state": "ALIVE",
        "cpus": 1.0,
        "gpus": 0.0,
        "resources": {"CPU": 1.0},
    }
    return Holder(**fields | {"name": name, "job_id": job, "node_id": node} | more)


@pytest.fixture
def site(workspace, monkeypatch) -> Site:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for name, value in setting(workspace.storage.root).items():
        monkeypatch.setenv(name, value)
    return Site.open(workspace.storage.root, "http://127.0.0.1:9")


def put(site: Site, at: datetime | None = None, **values) -> None:
    """Note a quiet cluster, but for these."""
    put_readings(site, at or datetime.now(UTC))
    kinds = {"nodes": NODES, "demand": DEMAND, "holders": HOLDERS, "serve": SERVE}
    for name, value in values.items():
        site.store.put_reading(name, kinds[name].dump_python(value, mode="json"), at or datetime.now(UTC))


def said(test) -> str:
    parts = [*texts(test), *(each.value for each in test.text), *(each.value for each in test.code)]
    bars = [each.proto.text for each in test.get("progress")]
    return "\n".join([*parts, *bars, *(each.proto.body for each in test.get("badge"))]).replace("\\", "")


def test_a_node_shows_its_figures(site):
    put(site, nodes=(BUSY,))
    told = said(open_page("cluster"))
    for words in ("CPUs given out: 1 of 2", "CPU busy: 37 %", "Memory: 3.0 GiB of 8.0 GiB", "Disk: not told"):
        assert words in told
    assert "GPU 0 H200: 1.0 GiB of 4.0 GiB, 75 % busy" in told
    assert "up for 3 h" in told


def test_a_dead_node_says_why_and_since_when(site):
    put(site, nodes=(BUSY, dead()))
    test = open_page("cluster")
    assert "spot instance reclaimed" in said(test)
    assert "gone for 2 min" in said(test)
    assert [each.value for each in test.metric if each.label == "Nodes"] == ["1 of 2"]


def test_names_that_others_gave_stay_text(site):
    application = ServeApplication(
        name=HOSTILE, status="RUNNING", message=HOSTILE, route="/", deployed_at=None, deployments=()
    )
    put(
        site,
        nodes=(BUSY.model_copy(update={"name": HOSTILE}), dead()),
        demand=DEMANDED,
        holders=(holder(HOSTILE, HOSTILE),),
        serve=ServeState(running=True, applications=(application,)),
    )
    test = open_page("cluster")
    assert not test.exception
    drawn = [*texts(test), *(each.proto.body for each in test.get("badge"))]
    drawn += [each.proto.text for each in test.get("progress")]
    drawn += [each.proto.label for each in test.get("page_link")]
    for mark in ("<script>", "](javascript", ":red[red]", "**bold**"):
        assert not [text for text in drawn if mark in text], mark


def test_waiting_work_says_why_and_what_would_help(site):
    put(site, nodes=(BUSY,), demand=DEMANDED, holders=(holder("trainer", node="", resources={"GPU": 8.0}),))
    told = said(open_page("cluster"))
    assert f"2 tasks or actors for 8 GPUs: {WAITING.why}" in told
    assert "What would help: ask for less, or add a node type that has it." in told
    assert f"actor trainer of job {JOB}: {WAITING.why}" in told


def test_the_page_and_the_command_name_the_same_remedies(site):
    from dashboard.words import translator

    t = translator("en")
    assert {each: t(f"cluster.remedy.{each.replace(' ', '_')}") for each in REMEDIES} == dict(REMEDIES)


def test_node_types_and_events_are_tables(site):
    put(site, nodes=(BUSY,), demand=DEMANDED)
    frames = [each.value for each in open_page("cluster").dataframe]
    types = next(each for each in frames if "At most" in each)
    assert types.iloc[0][["Type", "At least", "Now", "At most"]].to_list() == ["train", 0, 1, 4]
    events = next(each for each in frames if "Message" in each)
    assert events.iloc[0]["Message"] == f"Adding 1 node {HOSTILE}"


def test_a_holder_leads_to_its_run(site):
    note_job(site, datetime.now(UTC))
    put(site, nodes=(BUSY,), holders=(holder(), holder("worker")))
    links = open_page("cluster").get("page_link")
    (link,) = [each.proto for each in links if each.proto.page.endswith("run")]
    assert f"run={JOB}" in link.query_string
    (owned,) = find_holdings(site, (holder(), holder("worker")))
    assert (owned.owner.kind, owned.owner.user, owned.cpus) == ("job", "ada", 2.0)


def test_a_job_that_searches_leads_to_its_sweep(site):
    note_job(site, datetime.now(UTC))
    provenance = Provenance.collect().model_copy(update={"ray_job_id": JOB})
    run = Run(
        id="tune-0123456789ab", stage="tune", status="running", fingerprint="f" * 64, inputs=(), config={},
        started_at=datetime.now(UTC), provenance=provenance,
    )  # fmt: skip
    site.workspace.storage.write_bytes(f"runs/{run.id}/run.json", run.model_dump_json().encode())
    sync_runs(site)
    (owned,) = find_holdings(site, (holder(),))
    assert (owned.owner.kind, owned.owner.id) == ("sweep", run.id)


def test_replicas_of_an_application_that_is_no_endpoint_here_have_no_page(site):
    replica = holder("SERVE_REPLICA::llm-v1#engine#abc", "01000000", gpus=1.0)
    held, waits = find_holdings(site, (replica, holder("task", "02000000", node="")))
    assert (held.owner.kind, held.owner.name, held.gpus) == ("application", "llm-v1", 1.0)
    assert waits.waits
    put(site, nodes=(BUSY,), holders=(replica,))
    assert "llm-v1" in said(open_page("cluster"))


def test_serve_says_what_a_deployment_waits_for(site):
    deployment = ServeDeployment(
        name="engine", status="UPDATING", message="", replicas_now=1, replicas_target=2, replicas=(),
        fewest_replicas=1, most_replicas=4, scaling_status="", decisions=(),
        why="1 of 2 replicas are not up yet",
    )  # fmt: skip
    application = ServeApplication(
        name="llm", status="DEPLOYING", message="", route="/", deployed_at=None, deployments=(deployment,)
    )
    put(site, serve=ServeState(running=True, applications=(application,)))
    assert "engine: 1 of 2 replicas up: 1 of 2 replicas are not up yet" in said(open_page("cluster"))


def test_what_is_old_says_how_old_and_that_nobody_asks(site):
    put(site, datetime.now(UTC) - timedelta(minutes=7), nodes=(BUSY,))
    told = said(open_page("cluster"))
    assert "Nothing has asked the cluster for 7 min" in told
    assert "CPUs given out: 1 of 2" in told
    assert " old" not in told, "it is said once, above"


def test_what_is_older_than_the_rest_has_its_own_age(site):
    put(site, nodes=(BUSY,))
    site.store.put_reading("holders", [], datetime.now(UTC) - timedelta(minutes=7))
    assert said(open_page("cluster")).count("7 min old") == 1


@pytest.mark.parametrize("page", ["home", "runs", "new_run"])
def test_no_page_calls_a_cluster_healthy_that_nobody_asks_any_more(site, page):
    put(site, datetime.now(UTC) - timedelta(hours=2), nodes=(BUSY,))
    told = said(open_page(page))
    assert "Nothing has asked the cluster for 2 h" in told
    assert "The cluster answers" not in told


def test_a_fresh_reading_has_no_age(site):
    put(site, nodes=(BUSY,))
    assert " old" not in said(open_page("cluster"))


def test_a_cluster_that_is_away_is_said_once_above_what_was_saved(site):
    put(site, datetime.now(UTC) - timedelta(minutes=7), nodes=(BUSY,))
    for name in ("jobs", "nodes", "demand", "holders", "serve"):
        site.store.put_unavailable(name, "the cluster at http://head asks for a token", datetime.now(UTC))
    told = said(open_page("cluster"))
    assert told.count("asks for a token") == 1
    assert "CPUs given out: 1 of 2" in told


def test_an_unknown_cluster_offers_the_command_that_starts_one(site):
    test = open_page("cluster")
    command = f"heliostat cluster up local --nodes 3 --workspace {site.workspace.storage.root}"
    assert command in commands(test)
    assert not test.metric


def test_without_an_address_the_collector_notes_that_none_is_set(workspace):
    site = Site(workspace, Site.open(workspace.storage.root).store, None)
    Collector(site, "no Ray here").work_once()
    reading = read_cluster(site.store)
    assert isinstance(reading, Unavailable)
    assert reading.reason == "no Ray here"


def test_the_command_that_shows_the_same_is_there(site):
    put(site)
    codes = commands(open_page("cluster"))
    assert "heliostat cluster status --address http://127.0.0.1:9" in codes


def test_the_last_day_is_a_picture_with_a_gap_where_nobody_watched(site):
    put(site, nodes=(BUSY,))
    for minutes in (30, 29.5, 2, 1.5):
        note_use(site.store, use_of((BUSY,), datetime.now(UTC) - timedelta(minutes=minutes)), site.address)
    test = open_page("cluster")
    assert not test.exception
    assert "The last 24 hours" in [each.value for each in test.subheader]
    test.toggle(key="cluster_course_as_table").set_value(True).run()
    (shown,) = [each.value for each in test.dataframe if "GPUs at work" in each.value.columns]
    assert list(shown["GPUs at work"]) == [75.0] * 4
    course = read_course(site.store, site.address).value
    assert [value for _, value in points_of(course, MEASURES["memory"])] == [37.5, 37.5, None, 37.5, 37.5]
