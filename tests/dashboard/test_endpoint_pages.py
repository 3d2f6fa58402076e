"""The pages of endpoints, the playground and the review queue, over a real gateway: every state, who may act,
and that what others wrote stays text."""

import os
import shlex
from datetime import UTC, datetime
from pathlib import Path

import pytest
import streamlit as st
from pages import commands
from streamlit.testing.v1 import AppTest
from tests.control.steered import OPERATOR, Steered, recorded
from tests.serving.deployed import gateway_of
from tests.serving.in_process import FixedModels
from tests.serving.scripted import ScriptedEngine, prose_tokenizer, served_by
from tests.small_artifacts import publish_model

from heliostat.control.endpoints import SERVE
from heliostat.control.gateway_key import KEY_VARIABLE
from heliostat.control.preferences import count_votes
from heliostat.control.review import reject, show_review
from heliostat.control.store import Store
from heliostat.endpoints import read_deployments, write_record
from heliostat.serving.access.config import ROUTES
from heliostat.serving.fleet.decisions import ScalingWord
from heliostat.serving.guard.review_queue import ReviewQueue
from heliostat.workspace import Workspace

APP = str(Path(__file__).resolve().parents[2] / "dashboard" / "app.py")
HOSTILE = "<script>alert(1)</script> **bold** [x](javascript:alert(1)) :red[a] $x$"


@pytest.fixture
def place(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    monkeypatch.delenv(KEY_VARIABLE, raising=False)
    for name in ("HELIOSTAT_ADDRESS", "RAY_API_SERVER_ADDRESS", "HELIOSTAT_DASHBOARD_ROLE"):
        monkeypatch.delenv(name, raising=False)
    st.cache_data.clear()
    st.cache_resource.clear()
    return Workspace.resolve()


@pytest.fixture(scope="module")
def prose(tmp_path_factory):
    return prose_tokenizer(tmp_path_factory.mktemp("prose"))


@pytest.fixture
def steered(place, prose, monkeypatch):
    """The endpoint `told` of two versions with a replica each, whose model answers with hostile text."""
    steered = Steered()
    engines = {name: ScriptedEngine(prose, [f"{HOSTILE} {name}"]) for name in ("told", "other")}
    models = FixedModels(*(served_by(engine, id=name) for name, engine in engines.items()))
    with gateway_of(place.storage.root, prose, steering=steered, models=models) as gateway:
        steered.gateway = gateway
        monkeypatch.setenv(KEY_VARIABLE, gateway.key("operator", routes=ROUTES))
        steered.controller.put(recorded(place, gateway.url, 80, 20))
        steered.report("app-v1", "a")
        steered.report("app-v2", "b", num_waiting=2)
        yield steered


def page(name: str, **query: str) -> AppTest:
    """A page as a browser opens it."""
    app = AppTest.from_file(APP, default_timeout=30)
    app.run()
    app.switch_page(f"views/{name}.py")
    for key, value in query.items():
        app.query_params[key] = value
    app.run()
    assert not app.exception, app.exception
    return app


def words(app: AppTest) -> str:
    """All that stands on a page as text, of whatever kind."""
    kinds = (app.title, app.subheader, app.text, app.caption, app.markdown, app.info, app.warning, app.error)
    return "\n".join(str(each.value) for kind in kinds for each in kind) + "\n".join(
        code.value for code in app.code
    )


def marked_up(app: AppTest) -> str:
    """All that a browser renders as markdown or HTML."""
    kinds = (
        app.title,
        app.subheader,
        app.caption,
        app.markdown,
        app.info,
        app.warning,
        app.error,
        app.success,
    )
    return "\n".join(str(each.value) for kind in kinds for each in kind)


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("name", ["endpoints", "playground", "review"])
def test_an_empty_workspace_says_why_and_offers_one_thing(place, name, language):
    app = page(name, lang=language)
    assert app.title[0].value
    offered = [button for button in app.button if button.key == "empty"]
    assert len(offered) == 1
    offered[0].click().run()
    assert not app.exception


def test_a_card_has_figures_and_the_way_to_ask(steered):
    app = page("endpoints")
    said = words(app)
    assert "**told**" in said
    assert "2 / 2" in said
    assert f"curl {steered.gateway.url}/v1/chat/completions" in said


def test_one_endpoint_tells_its_decisions_in_words(steered):
    word = ScalingWord(
        app_name="app-v1", target=3, cause="requests", figures={"num_requests": 20.5, "target": 8}
    )
    steered.controller.report_scaling(word)
    said = words(page("endpoints", endpoint="told"))
    assert "20.5 requests at work; 8 are meant for a replica" in said
    st.cache_data.clear()
    assert "有 20.5 个请求在处理；每个副本应处理 8 个" in words(page("endpoints", endpoint="told", lang="zh"))


def test_what_acts_asks_first_and_tells_its_command(steered, place):
    there = shlex.join(["--workspace", place.storage.root])
    app = page("endpoints", endpoint="told")
    app.slider(key="endpoint_weight_told_v2").set_value(55)
    app.button(key="endpoint_set_share").click().run()
    assert f"heliostat serve canary told --weight 55 {there}" in commands(app)
    assert app.button(key="confirm_yes").label == "Set share"
    for what, command in (
        ("promote", "serve promote told"),
        ("rollback", "serve rollback told"),
        ("delete", "serve delete told"),
    ):
        app = page("endpoints", endpoint="told")
        app.button(key=f"endpoint_{what}").click().run()
        assert f"heliostat {command} {there}" in commands(app)
    weights = {each.label: each.weight for each in steered.controller.records["told"].versions}
    assert weights == {"v1": 80, "v2": 20}, "nothing was agreed to"


def test_a_viewer_sees_all_and_can_press_nothing(steered, monkeypatch):
    monkeypatch.setenv("HELIOSTAT_DASHBOARD_ROLE", "viewer")
    app = page("endpoints", endpoint="told")
    pressed = {"endpoint_promote", "endpoint_rollback", "endpoint_delete", "endpoint_set_share"}
    assert {button.key for button in app.button if button.disabled} >= pressed
    assert "2 / 2" in [metric.value for metric in app.metric]


def test_a_gateway_that_wants_a_key_or_is_away_says_so(steered, place, monkeypatch):
    monkeypatch.delenv(KEY_VARIABLE)
    app = page("endpoints")
    assert "wants a key" in words(app)
    assert "HELIOSTAT\\_API\\_KEY" in words(app)
    (record,) = read_deployments(place)
    recorded(place, "http://127.0.0.1:1")
    st.cache_data.clear()
    assert "does not answer" in words(page("endpoints", endpoint="told"))
    assert record.endpoint.name == "told"


def test_an_unknown_endpoint_and_an_unreadable_record_are_said(place):
    assert "no endpoint of this name" in words(page("endpoints", endpoint="<b>x</b>"))
    place.storage.write_bytes("deployments/broken.json", b"{")
    st.cache_data.clear()
    for name in ("endpoints", "playground"):
        assert "broken" in words(page(name))


def test_what_ray_serve_once_wrote_in_other_fields_breaks_nothing(steered, place):
    Store.of(place).put_reading(SERVE, {"applications": "of an older release"}, datetime.now(UTC))
    assert "2 / 2" in words(page("endpoints"))


def test_the_dialog_to_deploy_shows_the_command_where_no_cluster_is_set(place, tiny_model_folder):
    made = publish_model(place, tiny_model_folder)
    app = page("endpoints", deploy="1", model=made.id)
    command = next(code.value for code in app.code if "deploy.yaml" in code.value)
    assert command.startswith(f"heliostat serve deploy jobs/recipes/deploy.yaml model={made.uri}")
    assert "serve.name=tiny" in command


def test_an_answer_is_text_whatever_the_model_writes(steered):
    app = page("playground", endpoint="told")
    app.chat_input[0].set_value(HOSTILE).run()
    assert not app.exception
    assert f"{HOSTILE} told" in [text.value for text in app.text]
    assert "tokens/s" in words(app)
    assert "<script>" not in marked_up(app)
    assert "**bold**" not in marked_up(app)


def test_a_vote_between_two_is_kept_and_the_conversation_goes_on(steered, place):
    other = recorded(place, steered.gateway.url)
    endpoint = other.endpoint.model_copy(update={"name": "other", "model_id": "other"})
    second = other.model_copy(update={"endpoint": endpoint})
    write_record(place, second)
    steered.controller.put(second)
    app = page("playground", endpoint="told,other")
    app.chat_input[0].set_value("Which is better?").run()
    app.button(key="playground_vote_0_1").click().run()
    assert not app.exception
    votes = count_votes(place)
    assert (votes.wins, votes.losses) == ({"other v1": 1}, {"told v1": 1})
    assert not [button for button in app.button if "vote" in str(button.key)]


def test_a_model_that_refuses_is_one_line_in_the_conversation(steered, monkeypatch):
    app = page("playground", endpoint="told")
    app.chat_input[0].set_value("x " * 5000).run()
    assert not app.exception
    assert any("maximum context length" in error.value.replace("\\", "") for error in app.error)


def test_held_texts_stay_texts_and_are_decided_by_id(place):
    item = ReviewQueue(place.storage).ask(HOSTILE, "bot", [HOSTILE], ["rule"])
    app = page("review")
    assert app.dataframe[0].value.iloc[0].to_list()[0] == HOSTILE
    app = page("review", review=item.id)
    assert HOSTILE in [code.value for code in app.code]
    assert "<script>" not in marked_up(app)
    app.text_input(key=f"review_reason_{item.id}").set_value("no").run()
    app.button(key="review_reject").click().run()
    command = f"heliostat review reject {item.id[:12]} --reason no --workspace {place.storage.root}"
    assert command in commands(app)
    assert show_review(place, item.id).status == "pending", "nothing was agreed to"
    reject(OPERATOR, place, item.id, HOSTILE)
    app = page("review", review=item.id)
    assert HOSTILE in [text.value for text in app.text]
    assert "<script>" not in marked_up(app)
    assert "waits" in words(page("review", review="0" * 32))


def test_no_key_reaches_a_page(steered):
    key = os.environ[KEY_VARIABLE]
    for name in ("endpoints", "playground", "review"):
        app = page(name, endpoint="told")
        assert key not in str(app.main)
