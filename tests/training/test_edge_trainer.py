"""Which of Ray Train's helpers a run starts."""

import pytest

pytestmark = pytest.mark.ray


def callbacks() -> set[str]:
    from ray.train import ScalingConfig

    from heliostat.training.edge_trainer import LeanTrainer

    trainer = LeanTrainer(lambda _: None, scaling_config=ScalingConfig(num_workers=1))
    return {type(each).__name__ for each in trainer._create_default_callbacks()}


@pytest.mark.parametrize(("address", "cleaned"), [(None, False), ("https://cluster:8265", True)])
def test_only_a_cluster_that_stays_gets_a_cleaner(ray_cluster, monkeypatch, address, cleaned):
    if address:
        monkeypatch.setenv("RAY_ADDRESS", address)
    else:
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
    found = callbacks()
    assert {"BackendSetupCallback", "UserCallbackHandler"} <= found
    assert ("PlacementGroupCleanerCallback" in found) == cleaned
    assert "DatasetsCallback" not in found
