"""The page that lays runs over each other, in each of its states."""

import json
from datetime import UTC, datetime

import pytest
from dashboard.words import FOLDER
from streamlit.testing.v1 import AppTest

from heliostat.control.run_index import sync_runs
from heliostat.control.run_scores import difference_from, known_runs, scores_of
from heliostat.control.sites import Site
from heliostat.records import Provenance, Run
from heliostat.workspace import Workspace

PAGE = FOLDER.parent / "views" / "compare.py"
NASTY = "<img src=x onerror=alert(1)>**bold**"


def add_run(place: Workspace, run_id: str, stage: str = "train", loss: float = 1.0, **changes) -> None:
    """A finished run with three steps of a loss."""
    run = Run(
        id=run_id,
        stage=stage,
        status="finished",
        fingerprint="",
        started_at=datetime.now(UTC),
        provenance=Provenance.collect(),
        **({"config": {}, "inputs": ()} | changes),
    )
    place.storage.write_bytes(f"runs/{run_id}/run.json", run.model_dump_json().encode())
    rows = [{"step": step, "time": 1e9 + step, "loss": loss / step} for step in (1, 2, 3)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    place.storage.write_bytes(f"runs/{run_id}/metrics.jsonl", lines.encode())


@pytest.fixture
def place(tmp_path, monkeypatch) -> Site:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    monkeypatch.setenv("HELIOSTAT_STRICT_WORDS", "1")
    for name in ("HELIOSTAT_ADDRESS", "RAY_API_SERVER_ADDRESS", "HELIOSTAT_DATABASE"):
        monkeypatch.delenv(name, raising=False)
    return Site.open(str(tmp_path / "workspace"))


@pytest.fixture
def two(place) -> Site:
    add_run(place.workspace, "train-a", loss=1.0, config={"rate": 0.1, "seed": 7}, outputs=("model-a",))
    add_run(place.workspace, "train-b", loss=2.0, config={"rate": 0.2, "seed": 7}, outputs=("model-b",))
    for each, score in (("a", 0.4), ("b", 0.5)):
        add_run(
            place.workspace,
            f"evaluate-{each}",
            "evaluate",
            inputs=(f"model-{each}",),
            metrics={"accuracy": score},
        )
    sync_runs(place)
    return place


def opened(runs: str = "", **query: str) -> AppTest:
    page = AppTest.from_file(str(PAGE), default_timeout=30)
    if runs:
        page.query_params["runs"] = runs
    for key, value in query.items():
        page.query_params[key] = value
    page.run()
    assert not page.exception
    return page


def tables(page: AppTest) -> list[list[dict]]:
    return [each.value.to_dict("records") for each in page.dataframe]


def test_an_empty_workspace_offers_a_first_run(place):
    page = opened()
    assert [button.key for button in page.button] == ["empty"]


def test_two_runs_have_figures_against_the_first_and_only_the_keys_that_differ(two):
    figures, config, scores = tables(opened("train-a,train-b"))
    assert [row["against the baseline"] for row in figures] == pytest.approx([0.0, 1.0])
    assert config == [{"key": "rate", "train-a": "0.1", "train-b": "0.2"}]
    assert scores[0]["metric"] == "accuracy"
    assert scores[0]["train-b Δ"] == pytest.approx(0.25)


def test_an_unknown_run_is_named_and_the_rest_is_shown(two):
    page = opened(f"train-a,{NASTY}")
    assert [each.value for each in page.code] == [NASTY]
    assert not any("<img" in each.value for each in (*page.markdown, *page.warning, *page.caption))
    assert page.multiselect[0].value == ["train-a"]


def test_a_path_out_of_the_workspace_is_an_unknown_run(two):
    page = opened("../../secret,train-a")
    assert page.code[0].value == "../../secret"


def test_picking_another_run_puts_it_into_the_address(two):
    page = opened("train-a")
    page.multiselect[0].set_value(["train-a", "train-b"]).run()
    assert not page.exception
    assert page.query_params["runs"] == "train-a,train-b"


def test_ten_are_shown_of_more(two):
    for number in range(12):
        add_run(two.workspace, f"train-{number:02}")
    page = opened(",".join(f"train-{number:02}" for number in range(12)))
    assert len(page.multiselect[0].value) == 10
    assert "10 of 12" in page.info[0].value


def test_a_run_without_metrics_says_so(place):
    add_run(place.workspace, "train-a")
    place.workspace.storage.write_bytes("runs/train-a/metrics.jsonl", b"")
    sync_runs(place)
    assert any("metric" in each.value for each in opened("train-a").info)


def test_it_speaks_chinese(two):
    assert opened("train-a,train-b", lang="zh").title[0].value == "对比"


def test_scores_need_two_runs_that_have_them(two):
    add_run(two.workspace, "train-c", outputs=("model-c",))
    runs = {
        run: Run.model_validate_json(two.workspace.storage.read_bytes(f"runs/{run}/run.json"))
        for run in ("train-a", "train-b", "train-c")
    }
    assert scores_of(two.store, (runs["train-a"], runs["train-c"])) == {}
    assert scores_of(two.store, tuple(runs.values())) == {"accuracy": {"train-a": 0.4, "train-b": 0.5}}


def test_known_and_unknown_runs_keep_their_order(two):
    assert known_runs(two, ["x", "train-b", "", "train-a"]) == (["train-b", "train-a"], ["x", ""])


@pytest.mark.parametrize(("before", "after", "part"), [(2.0, 3.0, 0.5), (0.0, 1.0, None), (None, 1.0, None)])
def test_a_difference_is_a_part_of_the_baseline(before, after, part):
    assert difference_from(before, after) == part
