"""Perplexity by an endpoint: the figure of the same model here, and one line for each way to be refused."""

import json
import math
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from tests.data.in_process import in_order, write_jsonl
from transformers import AutoModelForCausalLM

from heliostat.data import served_scoring
from heliostat.data.config import DataConfig
from heliostat.data.run import prepare_data
from heliostat.data.served_scoring import check_served, served_scorer
from heliostat.data.steps.perplexity import ServedPerplexity
from heliostat.errors import ModelError
from heliostat.models.text_scoring import load_text_scorer

pytestmark = pytest.mark.heavy

KEY = "sk-spare-mirror"
TEXTS = [
    "The mirrors of the field follow the sun.",
    "",
    "光 光 light",
    "light mirror light mirror",
    "\ud800 lone",
]


class Endpoint:
    """An OpenAI-compatible server with a real model behind it, as far as this step asks."""

    def __init__(self, folder, tokenizer) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(folder).eval()
        self.tokenizer = tokenizer
        self.asked: list[int] = []
        self.answers: list[Callable[[], tuple[int, object]]] = []
        """What to say instead of the next answers."""
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    def config(self, **values) -> ServedPerplexity:
        return ServedPerplexity(url=self.url, model="tiny", key_variable="SPARE_KEY", **values)

    def complete(self, body: dict) -> tuple[int, object]:
        self.asked.append(len(body["prompt"]))
        # in any order, as the index allows
        choices = [
            {"index": n, "logprobs": {"token_logprobs": self._log_probabilities(text)}}
            for n, text in enumerate(body["prompt"])
        ]
        return 200, {"choices": choices[::-1]}

    def _log_probabilities(self, text: str) -> list[float | None]:
        ids = torch.tensor([self.tokenizer(text, add_special_tokens=False)["input_ids"]])
        with torch.inference_mode():
            logs = self.model(input_ids=ids).logits[0].log_softmax(-1)
        prompt = logs[:-1].gather(1, ids[0, 1:, None])[:, 0].tolist()
        return [None, *prompt, float(logs[-1].max())]

    def _handler(endpoint) -> type[BaseHTTPRequestHandler]:
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self._say(lambda: (200, {"data": [{"id": "tiny"}]}))

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._say(lambda: endpoint.complete(body))

            def _say(self, usual: Callable[[], tuple[int, object]]) -> None:
                if self.headers["Authorization"] != f"Bearer {KEY}":
                    status, answer = 401, {"error": {"message": "no key", "code": "invalid_api_key"}}
                else:
                    status, answer = (endpoint.answers.pop(0) if endpoint.answers else usual)()
                content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


@pytest.fixture(scope="module")
def served(tiny_model_folder, tiny_tokenizer) -> Iterator[Endpoint]:
    endpoint = Endpoint(tiny_model_folder, tiny_tokenizer)
    yield endpoint
    endpoint.server.shutdown()
    endpoint.server.server_close()


@pytest.fixture
def endpoint(served, monkeypatch) -> Endpoint:
    monkeypatch.setenv("SPARE_KEY", KEY)
    monkeypatch.setattr(served_scoring, "RETRY_AFTER_SECONDS", (0.01, 0.01))
    served_scorer.cache_clear()
    served.asked, served.answers = [], []
    return served


def test_it_gives_the_perplexities_that_the_model_gives_here(endpoint, tiny_model_folder):
    here = load_text_scorer(tiny_model_folder, 1000)(TEXTS)
    there = served_scorer(endpoint.config(batch_size=3))(TEXTS)
    assert there == pytest.approx(here, rel=1e-4, nan_ok=True)
    assert math.isnan(there[1])
    assert endpoint.asked == [3, 1]  # the empty text is not sent
    check_served(endpoint.config())


def test_only_the_first_characters_are_sent(endpoint):
    score = served_scorer(endpoint.config(max_characters=12))
    assert score(["light mirror and more"]) == score(["light mirror"])


def test_the_documents_of_a_task_are_asked_about_together(endpoint, tmp_path, workspace, monkeypatch):
    monkeypatch.setattr("heliostat.data.run._runner", lambda config, run: in_order)
    rows = write_jsonl(tmp_path / "rows.jsonl", [{"text": f"light mirror {n}"} for n in range(20)])
    model = {"kind": "served", "url": endpoint.url, "model": "tiny", "key_variable": "SPARE_KEY"}
    step = {"kind": "perplexity", "model": model, "max_perplexity": None}
    made = prepare_data(DataConfig.model_validate({"sources": [str(rows)], "steps": [step]}), None, workspace)
    assert made.facts["documents"] == {"train": 16, "validation": 2, "test": 2}
    assert 100 < made.facts["found"]["scores"]["perplexity"]["p50"] < 2000
    assert endpoint.asked == [16, 4]


def test_a_busy_endpoint_is_asked_again(endpoint):
    endpoint.answers = [lambda: (503, {"error": "starting"}), lambda: (429, {"error": "slower"})]
    assert served_scorer(endpoint.config())(["light mirror"])[0] > 1
    endpoint.answers = [lambda: (503, {"error": "starting\nup"})] * 3
    with pytest.raises(ModelError, match=r"answered 503 to /v1/completions: .*starting"):
        served_scorer(endpoint.config())(["light mirror"])


@pytest.mark.parametrize(
    "answer",
    [
        (200, {"choices": [{"index": 0, "logprobs": {"token_logprobs": [-0.5]}}]}),  # of the new token only
        (200, {"choices": [{"index": 0, "logprobs": None}]}),
        (200, {"choices": []}),
        (200, {"other": 1}),
    ],
)
def test_a_server_that_is_silent_about_the_prompt_is_refused(endpoint, answer):
    endpoint.answers = [lambda: answer]
    with pytest.raises(ModelError, match="does not say how likely the tokens of a prompt are"):
        served_scorer(endpoint.config())(["light mirror"])


def test_what_is_wrong_with_an_endpoint_is_said_in_a_line(endpoint, monkeypatch):
    def refused(config: ServedPerplexity) -> str:
        with pytest.raises(ModelError) as error:
            check_served(config)
        assert "\n" not in str(error.value)
        assert KEY not in str(error.value)
        return str(error.value)

    other = endpoint.config().model_copy(update={"model": "large"})
    assert refused(other).endswith("has no model 'large'; it has tiny")
    endpoint.answers = [lambda: (200, b"<html>")]
    assert "did not answer with JSON" in refused(endpoint.config())
    monkeypatch.setenv("SPARE_KEY", "wrong")
    assert "answered 401 to /v1/models" in refused(endpoint.config())
    for broken in ("", " \n", "sk-spare\nmirror", "sk’spare"):
        monkeypatch.setenv("SPARE_KEY", broken)
        assert "SPARE_KEY holds no key" in refused(endpoint.config())
    monkeypatch.delenv("SPARE_KEY")
    assert "SPARE_KEY holds no key" in refused(endpoint.config())
    monkeypatch.setenv("SPARE_KEY", f"{KEY}\n")
    check_served(endpoint.config())
    nobody = ServedPerplexity(url="http://127.0.0.1:9/v1", model="tiny")
    assert "http://127.0.0.1:9/v1 does not answer" in refused(nobody)
