"""Where the record of jobs is kept, and where there is none because the workspace is elsewhere."""

import pytest
from tests.control.recorded_ray import answering

from heliostat.cli.app import execute
from heliostat.control.sites import recorded_site

ELSEWHERE, HERE = "http://10.0.0.5:8265", "http://127.0.0.1:1"


@pytest.fixture(autouse=True)
def bare(monkeypatch, tmp_path):
    for name in (
        "HELIOSTAT_WORKSPACE",
        "HELIOSTAT_DATABASE",
        "MLFLOW_TRACKING_URI",
        "RAY_API_SERVER_ADDRESS",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("address", [ELSEWHERE, HERE])
def test_a_workspace_that_is_here_keeps_the_record(tmp_path, address):
    assert recorded_site(str(tmp_path), address) is not None


def test_a_new_workspace_keeps_it_for_a_cluster_here_only(tmp_path):
    assert recorded_site(str(tmp_path / "new"), HERE) is not None
    assert recorded_site(str(tmp_path / "new"), ELSEWHERE) is None


def test_what_is_not_named_keeps_no_record_of_a_cluster_elsewhere(tmp_path):
    (tmp_path / "heliostat-workspace").mkdir()
    assert recorded_site(None, HERE) is not None
    assert recorded_site(None, ELSEWHERE) is None


def test_behind_a_forwarded_port_a_workspace_of_the_cluster_is_not_made_here(tmp_path):
    assert recorded_site(str(tmp_path / "shared" / "heliostat"), HERE) is None


@pytest.mark.parametrize(
    ("variable", "url"),
    [
        ("HELIOSTAT_DATABASE", "sqlite:///control.db"),
        ("MLFLOW_TRACKING_URI", "postgresql://someone@host/mlflow"),
    ],
)
@pytest.mark.parametrize("workspace", ["shared/heliostat", "s3://bucket/workspace"])
def test_a_named_database_keeps_it_wherever_the_workspace_is(monkeypatch, variable, url, workspace):
    monkeypatch.setenv(variable, url)
    assert recorded_site(workspace, ELSEWHERE).store.url == url


def test_a_bucket_without_one_keeps_none_here(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking:5000")
    assert recorded_site("s3://bucket/workspace", ELSEWHERE) is None


@pytest.mark.parametrize("command", [["list"], ["show", "one"], ["retry", "one"]])
def test_what_needs_the_record_says_so_and_makes_none(tmp_path, capsys, command):
    gone = tmp_path / "shared" / "heliostat"
    assert execute(["jobs", *command, "--address", ELSEWHERE, "--workspace", str(gone)]) == 2
    assert f"{gone}: not to be seen from here" in capsys.readouterr().err
    assert not gone.exists()


def test_logs_without_a_record_are_asked_of_the_cluster(tmp_path, capsys):
    gone = tmp_path / "shared" / "heliostat"
    assert execute(["jobs", "logs", "one", "--address", HERE, "--workspace", str(gone)]) == 2
    assert f"no Ray dashboard answers at {HERE}" in capsys.readouterr().err
    assert not gone.exists()


def test_the_cluster_of_the_environment_is_the_one_whose_status_is_shown(monkeypatch, capsys):
    with answering({"/api/version": {"ray_version": "2.60.0"}}) as address:
        monkeypatch.setenv("RAY_API_SERVER_ADDRESS", address)
        assert execute(["cluster", "status"]) == 0
    assert "NODE" in capsys.readouterr().out


def test_without_any_address_the_status_says_how_to_give_one(capsys):
    assert execute(["cluster", "status"]) == 2
    assert "which cluster? give --address, or set RAY_API_SERVER_ADDRESS" in capsys.readouterr().err
