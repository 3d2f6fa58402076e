"""An endpoint that a file declares, as KubeRay's RayService does, comes up on a real Serve and comes back."""

import time

import httpx
import pytest
import yaml
from tests.cluster.manifests import KUBERNETES, documents
from tests.serving.test_serving_deploy import publish_quantized

from heliostat.workspace import Workspace

RAY_SERVICE = KUBERNETES / "service" / "ray-service.yaml"


pytestmark = pytest.mark.ray


def test_the_ray_service_declares_an_endpoint_that_is_understood(ray_cluster):
    from ray.serve.schema import ServeDeploySchema

    from heliostat.serving.edge_declared import DeclaredEndpoint, endpoint

    (service,) = documents(RAY_SERVICE)
    declared = ServeDeploySchema.model_validate(yaml.safe_load(service["spec"]["serveConfigV2"]))
    (application,) = declared.applications
    assert application.import_path == f"{endpoint.__module__}:{endpoint.__name__}"
    understood = DeclaredEndpoint.model_validate(application.args)
    assert understood.serve.host == "0.0.0.0"
    assert understood.serve.api_key_file
    assert declared.http_options.port != understood.serve.port


@pytest.mark.slow
def test_a_declared_endpoint_answers_and_is_brought_up_again(ray_cluster, tmp_path, tiny_openvino_folder):
    from ray import serve
    from ray.serve._private.api import call_user_app_builder_with_args_if_necessary

    from heliostat.serving.edge import applications
    from heliostat.serving.edge.operations import delete
    from heliostat.serving.edge.rollout import standing_record
    from heliostat.serving.edge_declared import endpoint

    workspace = Workspace.resolve(str(tmp_path / "workspace"))
    model = publish_quantized(workspace, tiny_openvino_folder, "declared")
    applications.start_serve()
    arguments = {
        "model": model.uri,
        "serve": {"name": "declared", "port": 0},
        "workspace": str(tmp_path / "workspace"),
    }
    application = call_user_app_builder_with_args_if_necessary(endpoint, arguments)
    serve.run(application, name="declared-endpoint", route_prefix=None)
    try:
        assert answers(standing_record("declared").endpoint.url)
        delete("declared")
        deadline = time.monotonic() + 90
        while standing_record("declared") is None:
            assert time.monotonic() < deadline, "it was not brought up again"
            time.sleep(0.5)
        assert answers(standing_record("declared").endpoint.url)
    finally:
        serve.delete("declared-endpoint")
        delete("declared")


def answers(url):
    asked = {"model": "declared", "messages": [{"role": "user", "content": "Hi"}], "max_tokens": 4}
    return (
        httpx.post(f"{url}/v1/chat/completions", json=asked, timeout=60).raise_for_status().json()["choices"]
    )
