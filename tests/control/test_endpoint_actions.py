"""What is done to endpoints: by whom, over HTTP, and as which command."""

import shlex

import pytest
from tests.control.steered import OPERATOR, VIEWER, Steered, recorded
from tests.serving.deployed import gateway_of
from tests.serving.scripted import prose_tokenizer

from heliostat.control import endpoint_actions as actions
from heliostat.control.deploying import (
    Deployment,
    check_deployment,
    deploy,
    deploy_command,
    model_of_run,
    servable_models,
)
from heliostat.control.gateway_key import KEY_VARIABLE
from heliostat.control.preferences import Candidate, vote
from heliostat.control.review import approve, reject
from heliostat.control.sites import Site
from heliostat.control.store import Store
from heliostat.errors import AccessError, ArtifactError, ClusterError, ConfigError, ServingError
from heliostat.recipe import Recipe
from heliostat.serving.access.config import ROUTES
from heliostat.workspace import Workspace


@pytest.fixture
def place(tmp_path, monkeypatch) -> Workspace:
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", str(tmp_path / "workspace"))
    return Workspace.resolve()


@pytest.fixture
def steered(place, tmp_path_factory, monkeypatch):
    """The endpoint `told` of two versions behind a gateway; yields what its controller serves."""
    steered = Steered()
    prose = prose_tokenizer(tmp_path_factory.mktemp("prose"))
    with gateway_of(place.storage.root, prose, steering=steered) as gateway:
        monkeypatch.setenv(KEY_VARIABLE, gateway.key("operator", routes=ROUTES))
        steered.controller.put(recorded(place, gateway.url, 90, 10))
        yield steered


def there(place) -> str:
    return shlex.join(["--workspace", place.storage.root])


def weights(steered) -> dict[str, float]:
    return {each.label: each.weight for each in steered.controller.records["told"].versions}


def test_an_operator_steers_and_each_action_tells_its_command(steered, place):
    done = actions.set_canary(OPERATOR, place, "told", 40)
    assert done == actions.Done(
        "told: v1 60 %, v2 40 %", f"heliostat serve canary told --weight 40 {there(place)}"
    )
    assert weights(steered) == {"v1": 60, "v2": 40}
    assert actions.promote(OPERATOR, place, "told").command == f"heliostat serve promote told {there(place)}"
    assert weights(steered) == {"v2": 100}
    with pytest.raises(ServingError, match="one version only"):
        actions.roll_back(OPERATOR, place, "told")
    scaled = actions.scale(OPERATOR, place, "told", (1, 3))
    assert scaled.command == f"heliostat serve scale told --min 1 --max 3 {there(place)}"
    assert actions.read_logs(place, "told", 2) == {"v1/r": ["a line", "a line"]}
    gone = actions.delete(OPERATOR, place, "told")
    assert gone.said == "told: is taken down"
    assert steered.controller.records == {}


@pytest.mark.parametrize(
    "act",
    [
        lambda who, place: actions.set_canary(who, place, "told", 50),
        lambda who, place: actions.promote(who, place, "told"),
        lambda who, place: actions.roll_back(who, place, "told"),
        lambda who, place: actions.scale(who, place, "told", (1, 2)),
        lambda who, place: actions.delete(who, place, "told"),
        lambda who, place: actions.forget(who, place, "told"),
        lambda who, place: deploy(who, Site(place, Store.of(place)), Deployment(model="x")),
        lambda who, place: vote(who, place, [], Candidate(text="a", endpoint="e"), []),
        lambda who, place: approve(who, place, "0" * 32),
        lambda who, place: reject(who, place, "0" * 32),
    ],
)
def test_a_viewer_is_refused_whatever_is_called(act, steered, place):
    with pytest.raises(AccessError, match="vera is a viewer"):
        act(VIEWER, place)
    assert weights(steered) == {"v1": 90, "v2": 10}


def test_wrong_numbers_are_refused_before_anything_is_sent(place):
    with pytest.raises(ConfigError, match="from 0 to 100"):
        actions.set_canary(OPERATOR, place, "told", 101)
    with pytest.raises(ConfigError, match="from 3 to 2"):
        actions.scale(OPERATOR, place, "told", (3, 2))
    with pytest.raises(ConfigError, match="no endpoint of that name"):
        actions.promote(OPERATOR, place, "../admin")


def test_an_endpoint_that_ended_is_forgotten_and_one_that_answers_is_not(place):
    recorded(place, "http://127.0.0.1:1")
    done = actions.forget(OPERATOR, place, "told")
    assert done.command == f"heliostat endpoints forget told {there(place)}"
    assert done.said.startswith("told is gone")
    with pytest.raises(ConfigError, match="on record"):
        actions.forget(OPERATOR, place, "never")


def test_another_workspace_is_named_in_the_command(tmp_path):
    other = Workspace.resolve(str(tmp_path / "my models"))
    said = actions.command_of(other, "promote", "told")
    assert said == f"heliostat serve promote told --workspace '{tmp_path / 'my models'}'"


def test_the_workspace_of_a_shell_without_settings_is_not_named(monkeypatch):
    monkeypatch.setenv("HELIOSTAT_WORKSPACE", "heliostat-workspace")
    assert actions.command_of(Workspace.resolve(), "promote", "told") == "heliostat serve promote told"


def test_a_deployment_is_the_recipe_with_overrides(place):
    deployment = Deployment(
        model="bot@production", name="bot", engine="openvino", fewest_replicas=0, most_replicas=4, weight=10
    )
    site = Site(place, Store.of(place), "http://head:8265")
    said = deploy_command(site, deployment)
    assert said == (
        "heliostat submit jobs/recipes/deploy.yaml model=bot@production serve.name=bot "
        "serve.engine.kind=openvino serve.autoscaling.min_replicas=0 serve.autoscaling.max_replicas=4 "
        f"serve.weight=10 --until serve --address http://head:8265 {there(place)}"
    )
    recipe = Recipe.load("jobs/recipes/deploy.yaml", deployment.overrides)
    assert recipe.serve.autoscaling.max_replicas == 4
    assert deploy_command(Site(place, Store.of(place)), Deployment(model="a: b")) == (
        "heliostat serve deploy jobs/recipes/deploy.yaml 'model=\"a: b\"' serve.num_replicas=1 "
        f"{there(place)}"
    )


def test_what_cannot_be_deployed_is_refused_with_the_field(place):
    with pytest.raises(ConfigError, match=r"serve\.name"):
        check_deployment(Deployment(model="bot@production", name="no spaces allowed"))
    with pytest.raises(ClusterError, match="heliostat serve deploy"):
        deploy(OPERATOR, Site(place, Store.of(place)), Deployment(model="bot@production"))
    with pytest.raises(ArtifactError, match="no run"):
        model_of_run(place, "never")
    assert servable_models(place) == []
