"""What is kept: everything that can be reached from what is relied on, and nothing else."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st
from versions.small_records import AT, artifact, endpoint, run, version

from heliostat.versions.contents import Contents
from heliostat.versions.references import kept_artifacts, kept_runs

KINDS = ("dataset", "tokenized", "model", "adapter", "quantized", "report")


@st.composite
def workspaces(draw) -> Contents:
    """Up to 14 artifacts in any order of descent, some of them relied on in one of five ways."""
    artifacts = []
    for number in range(draw(st.integers(1, 14))):
        parents = draw(st.lists(st.sampled_from(artifacts), max_size=3, unique_by=id)) if artifacts else []
        kind = draw(st.sampled_from(KINDS if parents else KINDS[:-1]))
        artifacts.append(artifact(number, kind, tuple(each.id for each in parents)))
    some = st.lists(st.sampled_from(artifacts), max_size=2, unique_by=id)
    reports = [each.id for each in artifacts if each.kind == "report"]
    versions = tuple(
        version(f"v{each.id}", each, draw(st.none() | st.sampled_from(reports)) if reports else None)
        for each in draw(some)
    )
    deployments = tuple(
        endpoint(f"e{each.id}", each, draw(st.sampled_from(["running", "stopped"]))) for each in draw(some)
    )
    runs = {f"runs/{n}": run(n, each.parents, (each.id,)) for n, each in enumerate(artifacts) if n % 2}
    running = dict.fromkeys(draw(st.lists(st.sampled_from(sorted(runs)), max_size=1)) if runs else [], "me")
    in_use = {f"models/{each.id}": "process 1" for each in draw(some)}
    named = {f"models/{each.id}": each for each in artifacts}
    return Contents(named, runs, deployments, versions, (), in_use, running)


def reachable(contents: Contents) -> set[str]:
    """The ids to keep, by going round until nothing changes: the rule as README says it."""
    roots = {each.artifact_id for each in contents.versions}
    roots |= {each.artifact_id for each in contents.deployments if each.status == "running"}
    roots |= {path.partition("/")[2] for path in contents.in_use}
    roots |= {
        i for path in contents.running for i in contents.runs[path].inputs + contents.runs[path].outputs
    }
    kinds = {each.id: each.kind for each in contents.artifacts.values()}
    models = {each for each in roots if kinds[each] != "report"}
    promoted = {report for each in contents.versions if (report := each.report("production"))}
    kept = roots | promoted
    models |= {each for each in promoted if kinds[each] != "report"}
    kept |= {
        each.id
        for each in contents.artifacts.values()
        if each.kind == "report" and models & set(each.parents)
    }
    while True:
        more = {p for each in contents.artifacts.values() if each.id in kept for p in each.parents}
        more |= {
            each.id
            for each in contents.artifacts.values()
            if each.kind == "report" and each.parents and _closed(contents, kept) >= set(each.parents)
        }
        if more <= kept:
            return kept
        kept |= more


def _closed(contents: Contents, kept: set[str]) -> set[str]:
    closed = set(kept)
    while more := {p for e in contents.artifacts.values() if e.id in closed for p in e.parents} - closed:
        closed |= more
    return closed


@given(workspaces())
def test_what_can_be_reached_is_kept_and_all_else_is_not(contents):
    kept = kept_artifacts(contents)
    assert {contents.artifacts[path].id for path in kept} == reachable(contents)
    assert all(kept.values())


@given(workspaces())
def test_nothing_kept_loses_what_it_was_made_from(contents):
    kept = {contents.artifacts[path].id for path in kept_artifacts(contents)}
    assert all(set(each.parents) <= kept for each in contents.artifacts.values() if each.id in kept)


@given(workspaces())
def test_runs_are_kept_that_go_on_or_made_what_is_kept(contents):
    kept = kept_artifacts(contents)
    ids = {contents.artifacts[path].id for path in kept}
    expected = {
        path for path, each in contents.runs.items() if path in contents.running or ids & set(each.outputs)
    }
    assert set(kept_runs(contents, kept)) == expected


def test_the_reports_of_other_trials_go_and_take_their_models_along():
    base, winner, loser = (artifact(n, "model", ()) for n in range(3))
    winner = winner.model_copy(update={"parents": (base.id,)})
    loser = loser.model_copy(update={"parents": (base.id,)})
    reports = [artifact(n, "report", (base.id, each.id)) for n, each in ((3, winner), (4, loser))]
    everything = {each.id: each for each in (base, winner, loser, *reports)}
    kept = kept_artifacts(Contents(everything, versions=(version("chat", winner),)))
    assert set(kept) == {base.id, winner.id, reports[0].id}
    assert kept[winner.id] == "version chat@v1.0.0"


def test_what_was_made_lately_can_be_kept():
    old, new = artifact(0, "model", ()), artifact(1, "model", ())
    new = new.model_copy(update={"created_at": AT + timedelta(days=2)})
    contents = Contents({"old": old, "new": new})
    assert set(kept_artifacts(contents, AT + timedelta(days=1))) == {"new"}
    assert kept_artifacts(contents) == {}
