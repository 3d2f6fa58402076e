"""Suites on the cluster: real models, all kinds, the same whatever the sharding, and nothing asked twice."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
import yaml
from small_artifacts import conversations, publish_model

from heliostat.config import Resources
from heliostat.errors import EvaluationError
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.examples import examples_file, read_examples
from heliostat.evaluation.local_model import LocalModel
from heliostat.evaluation.requests import Choose, Continue, Read
from heliostat.evaluation.run import evaluate_model
from heliostat.storage import artifact_folder

pytestmark = pytest.mark.heavy
COUNT = 12


@pytest.fixture
def files(tmp_path) -> Path:
    """Data and tasks about the standard library."""
    rows = []
    for at, (question, answer) in enumerate(conversations(COUNT)):
        others = [each[1]["content"][:40] for each in conversations(COUNT + 2)[at + 1 : at + 3]]
        rows.append(
            {
                "text": answer["content"],
                "prompt": question["content"],
                "options": [answer["content"][:40], *others],
                "owner": question["content"].split()[2].split(".")[0],
                "half": f"h{at % 2}",
            }
        )
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    common = {"data": "rows.jsonl", "prompt": "{{prompt}}\n", "group": "half"}
    tasks = {
        "choose": {**common, "target": "{{options[0]}}", "choices": "{{options}}"},
        "write": {**common, "target": "{{text}}", "max_new_tokens": 8, "metrics": ["exact_match", "chrf"]},
        "talk": {**common, "target": "{{text}}", "max_new_tokens": 8, "chat": True, "metrics": ["f1"]},
    }
    for name, task in tasks.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump({"name": name, **task}))
    return tmp_path


def config(files: Path, **changes) -> EvaluateConfig:
    rows = str(files / "rows.jsonl")
    suites = [
        {"kind": "perplexity", "path": rows},
        {"kind": "task", "path": str(files / "choose.yaml")},
        {"kind": "task", "path": str(files / "talk.yaml")},
        {
            "kind": "robustness",
            "path": str(files / "write.yaml"),
            "perturbations": ["typos"],
            "name": "spoilt",
        },
        {"kind": "fairness", "path": str(files / "choose.yaml"), "name": "fair"},
        {"kind": "toxicity", "path": rows, "max_new_tokens": 4, "max_examples": 4},
        {"kind": "efficiency", "path": rows, "max_new_tokens": 6, "max_examples": 4},
    ]
    return EvaluateConfig.model_validate({"suites": suites, "micro_batch_size": 4} | changes)


def examples_of(report, model: str, suite: str):
    return read_examples(examples_file(artifact_folder(report), model, suite))


@pytest.mark.ray
@pytest.mark.slow
def test_every_kind_of_suite_has_scores_with_intervals(ray_cluster, workspace, tiny_model_folder, files):
    base = publish_model(workspace, tiny_model_folder, "base")
    asked = config(files)
    report = evaluate_model(asked, {"base": base}, None, workspace)
    scores = report.facts["scores"]["base"]
    assert set(scores) == {"perplexity", "choose", "talk", "spoilt", "fair", "toxicity", "efficiency"}
    for metrics in scores.values():
        for found in metrics.values():
            assert found["low"] <= found["high"]
            assert found["num_examples"] > 0
    assert set(scores["choose"]) == {"acc", "acc_norm"}
    assert set(scores["spoilt"]) == {
        "exact_match",
        "chrf",
        "exact_match_under_typos",
        "exact_match_lost_to_typos",
    }
    assert scores["fair"]["acc_gap"]["higher_is_better"] is False
    assert scores["efficiency"]["latency_seconds_p50"]["value"] > 0
    assert scores["efficiency"]["kwh_per_million_tokens"]["value"] > 0
    assert scores["efficiency"]["memory_bytes"]["value"] > 50_000_000
    assert scores["toxicity"]["toxicity"]["value"] == 0
    assert report.facts["perplexity"]["base"] == scores["perplexity"]["perplexity"]["value"]
    assert {each.group for each in examples_of(report, "base", "choose")} == {"h0", "h1"}

    again = evaluate_model(
        config(files, resources=Resources(num_cpus=2)), {"base": base}, None, workspace, force=True
    )
    timed = "efficiency"
    first = {suite: metrics for suite, metrics in scores.items() if suite != timed}
    second = {suite: each for suite, each in again.facts["scores"]["base"].items() if suite != timed}
    for suite, metrics in first.items():  # one shard of two threads, where there were two of one
        for metric, found in metrics.items():
            assert second[suite][metric]["value"] == pytest.approx(found["value"], rel=1e-5, abs=1e-9)


def test_a_batch_says_what_one_by_one_says(tiny_model_folder):
    model = LocalModel(tiny_model_folder)
    choose = [Choose(f"What does {at * 'str '}do?", (" It", f" {at * 'path '}the")) for at in range(1, 6)]
    together, apart = model.answer(list(choose)), [model.answer([each])[0] for each in choose]
    for one, other in zip(together, apart, strict=True):
        assert one["log_likelihoods"] == pytest.approx(other["log_likelihoods"], abs=1e-4)
    ask = [Continue(f"What {at * 'is '}it", ("\n\n",), 12) for at in range(1, 6)]
    together, apart = model.answer(list(ask)), [model.answer([each])[0] for each in ask]
    assert [one["text"] for one in together] == [one["text"] for one in apart]


def test_the_likelihood_of_a_text_is_the_models_own(tiny_model_folder):
    """Against transformers' own loss over the same tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    text = conversations(1)[0][1]["content"]
    tokenizer = AutoTokenizer.from_pretrained(tiny_model_folder)
    model = AutoModelForCausalLM.from_pretrained(tiny_model_folder).eval()
    ids = torch.tensor([[tokenizer.bos_token_id, *tokenizer.encode(text, add_special_tokens=False)]])
    with torch.inference_mode():
        theirs = float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    (ours,) = LocalModel(tiny_model_folder).answer([Read(text, None)])
    assert ours["loss"] == pytest.approx(theirs, rel=1e-5)
    assert ours["tokens"] == ids.shape[1] - 1
    (short,) = LocalModel(tiny_model_folder).answer([Read(text, 16)])
    assert short["loss"] != pytest.approx(theirs, rel=1e-5)
    assert short["loss"] == pytest.approx(theirs, rel=0.1)


def test_a_text_that_ends_an_answer_is_not_in_it(tiny_model_folder):
    model = LocalModel(tiny_model_folder)
    (whole,) = model.answer([Continue("What is it", (), 24)])
    mark = whole["text"][5:8]
    (cut,) = model.answer([Continue("What is it", (mark,), 24)])
    assert cut["text"] == whole["text"].split(mark)[0]
    assert cut["tokens"] < whole["tokens"]


SCRIPT = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    import yaml
    from heliostat.evaluation.config import EvaluateConfig
    from heliostat.evaluation.run import evaluate_model
    from heliostat.ray_session import ray_session
    from heliostat.storage import open_artifact
    from heliostat.workspace import Workspace

    root, model, config = sys.argv[1:]
    with ray_session(num_cpus=1):
        models = {"base": open_artifact(model, ("model",))}
        report = evaluate_model(EvaluateConfig.load(config), models, None, Workspace.resolve(root))
    print("report", report.uri)
    """
)


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_examples_that_are_missing(workspace, tiny_model_folder, files):
    base = publish_model(workspace, tiny_model_folder, "base")
    suites = [{"kind": "task", "path": str(files / "write.yaml")}]
    (files / "rows.jsonl").write_text((files / "rows.jsonl").read_text() * 20)
    (files / "config.yaml").write_text(yaml.safe_dump({"suites": suites}))
    (files / "script.py").write_text(SCRIPT)
    command = [
        sys.executable,
        str(files / "script.py"),
        workspace.storage.root,
        base.uri,
        str(files / "config.yaml"),
    ]
    first = subprocess.Popen(command, start_new_session=True)

    def kept() -> list[str]:
        found = list(Path(workspace.storage.root, "runs").rglob("answers/base/write.jsonl"))
        return found[0].read_text().splitlines() if found else []

    deadline = time.monotonic() + 120
    while len(kept()) < 20 and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(first.pid, signal.SIGKILL)
    first.wait()
    before = kept()
    assert 20 <= len(before) < 240
    done = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    after = kept()
    assert after[: len(before) - 1] == before[: len(before) - 1]  # the last may have been torn
    ids = [json.loads(line)["id"] for line in after]
    assert len(ids) == len(set(ids)) == 240


@pytest.fixture
def endpoint(tiny_model_folder, tiny_tokenizer):
    """The platform's own gateway over the real engine, on a port of its own."""
    import asyncio

    import uvicorn
    from tests.serving.in_process import FixedModels

    from heliostat.serving.api.answering import ServedModel
    from heliostat.serving.config import TransformersEngineConfig
    from heliostat.serving.engines.selection import start_engine
    from heliostat.serving.gateway.app import build_gateway

    servers: list[uvicorn.Server] = []

    async def serve() -> None:
        engine = await start_engine(TransformersEngineConfig(num_threads=1), tiny_model_folder)
        model = ServedModel(
            id="tiny",
            created=1,
            tokenizer=tiny_tokenizer,
            engine=engine,
            max_context_tokens=512,
            max_output_tokens=64,
            default_max_tokens=16,
        )
        settings = uvicorn.Config(build_gateway(FixedModels(model)), port=0, log_level="error")
        servers.append(uvicorn.Server(settings))
        await servers[0].serve()
        await engine.close()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    while not (servers and servers[0].started):
        time.sleep(0.05)
    port = servers[0].servers[0].sockets[0].getsockname()[1]
    yield f"http://127.0.0.1:{port}/v1"
    servers[0].should_exit = True
    thread.join()


@pytest.mark.ray
def test_a_served_model_answers_as_its_folder_does(
    ray_cluster, workspace, tiny_model_folder, files, endpoint
):
    suites = [
        {"kind": "task", "path": str(files / "talk.yaml")},
        {"kind": "task", "path": str(files / "choose.yaml")},
    ]
    served = {"served": {"url": endpoint, "model": "tiny"}}
    asked = EvaluateConfig.model_validate({"suites": suites, "endpoints": served})
    base = publish_model(workspace, tiny_model_folder, "base")
    report = evaluate_model(asked, {"base": base}, None, workspace)
    assert set(report.facts["scores"]["served"]) == {"talk"}
    theirs, ours = (examples_of(report, name, "talk") for name in ("served", "base"))
    assert [each.output for each in theirs] == [each.output for each in ours]
    assert len({each.output for each in ours}) > 1


def test_an_endpoint_is_not_asked_for_likelihoods(workspace, files):
    suites = [{"kind": "task", "path": str(files / "choose.yaml")}]
    served = {"served": {"url": "http://127.0.0.1:1/v1", "model": "tiny"}}
    asked = EvaluateConfig.model_validate({"suites": suites, "endpoints": served})
    with pytest.raises(EvaluationError, match="endpoint 'served' tells no likelihoods, which choose ask for"):
        evaluate_model(asked, {}, None, workspace)


@pytest.mark.ray
def test_an_endpoint_that_is_not_there_is_one_line(ray_cluster, workspace, files):
    suites = [{"kind": "task", "path": str(files / "talk.yaml")}]
    served = {"served": {"url": "http://127.0.0.1:1/v1", "model": "tiny"}}
    asked = EvaluateConfig.model_validate({"suites": suites, "endpoints": served})
    with pytest.raises(EvaluationError, match=r"does not answer .*see that it runs") as caught:
        evaluate_model(asked, {}, None, workspace)
    assert "\n" not in str(caught.value)
