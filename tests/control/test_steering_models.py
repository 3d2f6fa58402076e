"""Versions, lineage, and promoting, rolling back and deleting by those who may."""

import pytest
from small_studies import add_all

from heliostat.control.models import (
    alias_history,
    card_of,
    lineage_graph,
    list_versions,
    preview_promotion,
    promote_version,
    register_model,
    remove_version,
    require_version,
    roll_back_alias,
)
from heliostat.control.roles import Actor
from heliostat.errors import AccessError, ArtifactError, ConfigError, EvaluationError
from heliostat.promotion import Gate

VIEWER, OPERATOR, ADMIN = Actor("vi", "viewer"), Actor("op", "operator"), Actor("ad", "admin")


@pytest.fixture
def studied(workspace, tmp_path):
    return add_all(workspace, tmp_path)


def test_models_without_a_version_are_listed_and_get_one(studied):
    place = studied.workspace
    models = list_versions(place)
    assert models.versions == ()
    assert {each.artifact_id for each in models.unregistered} == {
        studied.base.id, studied.good.id, studied.bad.id,
    }  # fmt: skip
    assert (
        next(e for e in models.unregistered if e.artifact_id == studied.good.id).run == "train-000000000001"
    )
    made = register_model(OPERATOR, place, studied.good.id, "quiz")
    row = require_version(place, made.reference)
    assert (row.reference, row.aliases, row.kind) == ("quiz@v0.1.0", ("candidate",), "adapter")
    assert (row.num_reports, row.report) == (1, studied.report.id)
    assert row.run == "train-000000000001"


def test_a_promotion_is_compared_before_it_is_done(studied):
    place = studied.workspace
    register_model(OPERATOR, place, studied.good.id, "quiz")
    first = preview_promotion(place, "quiz@v0.1.0", "production")
    assert (first.refusal, first.production, first.comparisons) == (None, None, ())
    promote_version(ADMIN, place, "quiz@v0.1.0", "production")
    register_model(OPERATOR, place, studied.bad.id, "quiz")
    second = preview_promotion(place, "quiz@v0.2.0", "production")
    assert second.refusal is not None
    assert "quiz/acc is worse" in second.refusal
    assert second.production is not None
    assert second.production.version == "v0.1.0"
    assert second.replaces == second.production
    assert [(each.value_a, each.value_b) for each in second.comparisons] == [(0.975, 0.5)]
    assert second.worse == second.comparisons
    assert preview_promotion(place, "quiz@v0.2.0", "candidate").refusal == "quiz@v0.2.0 is candidate already"
    with pytest.raises(EvaluationError, match="quiz/acc is worse"):
        promote_version(ADMIN, place, "quiz@v0.2.0", "production")
    assert require_version(place, "quiz@v0.1.0").aliases == ("production",)


def test_the_log_names_who_asked_and_a_rollback_goes_back(studied):
    place = studied.workspace
    register_model(OPERATOR, place, studied.good.id, "quiz")
    promote_version(ADMIN, place, "quiz@v0.1.0", "production")
    register_model(OPERATOR, place, studied.bad.id, "quiz")
    promote_version(ADMIN, place, "quiz@v0.2.0", "production", Gate({}, skip=True))
    assert roll_back_alias(ADMIN, place, "quiz", "production").version == "v0.1.0"
    moved = [(each.action, each.version, each.user) for each in alias_history(place, "quiz")]
    assert moved.count(("rollback", "v0.1.0", "ad")) == 1
    assert ("promote", "v0.2.0", "op") in moved  # as candidate
    assert ("promote", "v0.2.0", "ad") in moved


def test_each_step_needs_its_role_and_a_refusal_changes_nothing(studied):
    place = studied.workspace
    with pytest.raises(AccessError, match="vi is a viewer and may not register models"):
        register_model(VIEWER, place, studied.good.id, "quiz")
    register_model(OPERATOR, place, studied.good.id, "quiz")
    with pytest.raises(AccessError, match="may not promote to staging"):
        promote_version(VIEWER, place, "quiz@v0.1.0", "staging")
    with pytest.raises(AccessError, match="may not promote to production"):
        promote_version(OPERATOR, place, "quiz@v0.1.0", "production")
    with pytest.raises(AccessError, match="may not promote to staging without the gate"):
        promote_version(OPERATOR, place, "quiz@v0.1.0", "staging", Gate({}, skip=True))
    promote_version(OPERATOR, place, "quiz@v0.1.0", "staging")
    with pytest.raises(AccessError, match="may not roll production back"):
        roll_back_alias(OPERATOR, place, "quiz", "production")
    with pytest.raises(AccessError, match="may not delete versions"):
        remove_version(OPERATOR, place, "quiz@v0.1.0")
    assert require_version(place, "quiz@v0.1.0").aliases == ("candidate", "staging")


def test_only_what_bears_no_alias_is_deleted(studied):
    place = studied.workspace
    register_model(OPERATOR, place, studied.good.id, "quiz")
    register_model(OPERATOR, place, studied.bad.id, "quiz")
    with pytest.raises(ConfigError, match="bears candidate"):
        remove_version(ADMIN, place, "quiz@v0.2.0")
    remove_version(ADMIN, place, "quiz@v0.1.0")
    with pytest.raises(ArtifactError, match="no such version"):
        require_version(place, "quiz@v0.1.0")


def test_lineage_leads_from_the_sources_to_the_version_and_its_report(studied):
    place = studied.workspace
    register_model(OPERATOR, place, studied.good.id, "quiz")
    graph = lineage_graph(place, "quiz@v0.1.0")
    kinds = {node.id: node.kind for node in graph.nodes}
    assert graph.start == "quiz@v0.1.0"
    assert (studied.good.id, "quiz@v0.1.0") in graph.edges
    assert ("run:train-000000000001", studied.good.id) in graph.edges
    assert (studied.dataset.id, "run:train-000000000001") in graph.edges
    assert (studied.good.id, studied.report.id) in graph.edges
    assert "source" in kinds.values()
    assert graph.left_out == 0
    few = lineage_graph(place, "quiz@v0.1.0", most=3)
    assert len(few.nodes) == 3
    assert few.left_out == len(graph.nodes) - 3
    with pytest.raises(ArtifactError, match="no artifact"):
        lineage_graph(place, "model-nothing")


def test_the_card_is_written_from_the_records(studied):
    register_model(OPERATOR, studied.workspace, studied.good.id, "quiz")
    assert card_of(studied.workspace, "quiz@candidate").startswith("# quiz@v0.1.0")
    assert card_of(studied.workspace, studied.base.id).startswith(f"# {studied.base.id}")
