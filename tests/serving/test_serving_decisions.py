"""Why an endpoint got more replicas or fewer: from the policy, from Serve's haste, and from people."""

from types import SimpleNamespace

from tests.serving.test_serving_fleet import version

from heliostat.endpoints import DeploymentRecord, Endpoint
from heliostat.records import Provenance
from heliostat.serving.fleet.controller import Controller
from heliostat.serving.fleet.decisions import ScalingWord
from heliostat.serving.fleet.scaling import REPEAT_SECONDS, ScalingPolicy

SCALING = {"min_replicas": 0, "max_replicas": 4, "target_requests": 8}


def served(**config) -> DeploymentRecord:
    """An endpoint `told` of one version, under a config."""
    endpoint = Endpoint(
        name="told",
        url="http://127.0.0.1:1",
        model_id="told",
        app_name="heliostat-told",
        needs_key=False,
        record_uri="/w/deployments/told.json",
        startup_seconds=1,
    )
    one = version("v1", 100).model_copy(update={"config": config})
    return DeploymentRecord(
        endpoint=endpoint,
        status="running",
        artifact_id=one.artifact_id,
        artifact_uri=one.artifact_uri,
        engine=one.engine,
        config=config,
        started_at=one.started_at,
        provenance=Provenance.collect(),
        versions=(one,),
    )


def context(target: int, current: int, queued: float = 0, **means: list[float]) -> SimpleNamespace:
    """What Serve hands to a policy."""
    metrics = {name: dict(enumerate(values)) for name, values in means.items()}
    return SimpleNamespace(
        app_name="app-v1",
        target_num_replicas=target,
        current_num_replicas=current,
        total_queued_requests=queued,
        aggregated_metrics=metrics,
    )


class Heard(ScalingPolicy):
    """A policy whose words a controller hears, as it does over Ray."""

    def __init__(self, controller: Controller) -> None:
        super().__init__(**SCALING)
        self.tell = controller.report_scaling


def reasons(controller: Controller) -> list[tuple[int, int, str]]:
    return [(each.before, each.after, each.reason) for each in controller.status()[0].decisions]


def test_each_change_of_the_number_is_kept_with_what_the_policy_saw():
    controller = Controller()
    controller.put(served(autoscaling=SCALING))
    policy = Heard(controller)
    policy(context(1, 1, num_requests=[20.0]))
    policy(context(1, 1, num_requests=[20.0]))  # Serve waits for its delay
    policy(context(3, 1, num_requests=[0.0]))
    policy(context(0, 0))
    policy(context(1, 0, queued=1))
    assert reasons(controller) == [
        (0, 1, "a request came while it rested"),
        (3, 0, "0 requests at work, 8 are meant for a replica"),
        (1, 3, "20 requests at work, 8 are meant for a replica"),
        (0, 1, "a new version came up"),
    ]
    assert controller.status()[0].versions[0].target_replicas == 1


def test_full_caches_and_slow_first_tokens_are_reasons_of_their_own():
    controller = Controller()
    controller.put(served(autoscaling=SCALING))
    policy = Heard(controller)
    policy(context(1, 1, kv_cache_usage=[0.9]))
    policy(context(2, 2))
    slow = ScalingPolicy(**SCALING, target_first_token_seconds=1.5)
    slow(context(1, 1, first_token_seconds=[2.25]))
    word = slow.news(context(2, 2), at=0)
    assert reasons(controller)[0] == (1, 2, "keys and values fill 90% of their room, 80% is the limit")
    assert word is not None
    assert (word.cause, word.figures) == ("first_token", {"seconds": 2.25, "target": 1.5})


def test_a_number_is_told_again_for_a_controller_that_was_restarted():
    policy = ScalingPolicy(**SCALING)
    first = policy.news(context(2, 2), at=0)
    assert first == ScalingWord(app_name="app-v1", target=2)
    assert policy.news(context(2, 2), at=REPEAT_SECONDS / 2) is None
    assert policy.news(context(2, 2), at=REPEAT_SECONDS) == first
    restarted = Controller([served(autoscaling=SCALING)])
    restarted.report_scaling(first)
    assert reasons(restarted) == []
    assert restarted.status()[0].versions[0].target_replicas == 2


def test_what_people_change_is_told_apart_from_what_the_policy_decides():
    controller = Controller()
    controller.put(served(num_replicas=1))
    controller.put(served(num_replicas=3))
    controller.put(served(num_replicas=3))
    controller.report_scaling(ScalingWord(app_name="another", target=9))
    assert reasons(controller) == [
        (1, 3, "somebody set the number"),
        (0, 1, "a new version came up"),
    ]
    controller.drop("told")
    controller.put(served(num_replicas=2))
    assert reasons(controller)[0] == (0, 2, "a new version came up")
