"""The parts of a run's page that show what was written and what is held."""

import json
import sys
from datetime import UTC, datetime

import pytest
from pages import HOSTILE, JOB, ROOT, RUN, bring_into, commands, open_page, setting, texts

from heliostat.control.collector import HOLDERS
from heliostat.control.holders import Holder
from heliostat.control.run_samples import read_samples, sample_steps
from heliostat.control.sites import Site
from heliostat.errors import ArtifactError


@pytest.fixture
def site(tmp_path, monkeypatch) -> Site:
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS", raising=False)
    for name, value in setting(tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    site = Site.open(str(tmp_path), "http://127.0.0.1:9")
    bring_into(site, "running")
    return site


def write_samples(site: Site, step: int, written: str) -> None:
    """The file as a validation writes it."""
    sample = {"document_id": "d1", "prompt": HOSTILE, "written": written, "expected": "what stands there"}
    report = {"step": step, "validation_loss": 2.5, "samples": [sample]}
    path = f"runs/{RUN}/samples/step-{step:07d}.json"
    site.workspace.storage.write_bytes(path, json.dumps(report).encode())


def test_the_latest_samples_are_shown_as_text(site):
    write_samples(site, 5, "early words")
    write_samples(site, 10, HOSTILE)
    test = open_page("run", {"run": JOB, "tab": "samples"})
    assert not test.exception
    shown = [each.value for each in test.code]
    assert "what stands there" in shown
    assert "early words" not in shown
    assert shown.count(HOSTILE) == 2
    assert not [text for text in texts(test) if "<script>" in text]
    test.selectbox(key="samples").set_value("5").run()
    assert "early words" in [each.value for each in test.code]


def test_a_run_without_samples_says_how_to_have_some(site):
    test = open_page("run", {"run": JOB, "tab": "samples"})
    assert "num_samples" in "".join(each.value for each in test.code)


def test_a_damaged_file_of_samples_is_one_line(site):
    site.workspace.storage.write_bytes(f"runs/{RUN}/samples/step-0000003.json", b'{"step": 3, "samp')
    assert sample_steps(site.workspace, RUN) == [3]
    with pytest.raises(ArtifactError, match=r"step-0000003\.json: .*look again"):
        read_samples(site.workspace, RUN, 3)


def test_what_the_job_holds_is_shown_and_not_what_others_hold(site):
    both = tuple(
        Holder(
            kind="actor", id=name, name=name, job_id=job, node_id="n" * 56, state="ALIVE",
            cpus=1.0, gpus=0.0, resources={"CPU": 1.0},
        )
        for name, job in (("its worker", JOB), ("another's", "heliostat-other"))
    )  # fmt: skip
    site.store.put_reading("holders", HOLDERS.dump_python(both, mode="json"), datetime.now(UTC))
    test = open_page("run", {"run": JOB, "tab": "resources"})
    assert not test.exception
    (table,) = test.dataframe
    assert list(table.value.iloc[:, 0]) == ["its worker"]


def test_the_commands_of_a_job_name_its_cluster_and_its_workspace(site):
    where = f"--address http://127.0.0.1:9 --workspace {site.workspace.storage.root}"
    told = commands(open_page("run", {"run": JOB, "tab": "logs"}))
    assert f"heliostat jobs logs {JOB} --follow {where}" in told
    asking = open_page("run", {"run": JOB}).button(key="run_stop").click().run()
    assert f"heliostat jobs stop {JOB} {where}" in commands(asking)


def test_a_command_is_drawn_as_code_with_its_button_when_its_box_is_opened(site):
    test = open_page("run", {"run": JOB, "tab": "logs"})
    assert not [each for each in test.code if each.value.startswith("heliostat ")]
    (box,) = (each for each in test.expander if each.label == "Copy as command")
    test.session_state["code_" + box.proto.id.rpartition("code_")[2]] = True
    test.run()
    assert [each.value for each in test.code if each.value.startswith("heliostat ")] == commands(test)
