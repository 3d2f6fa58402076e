"""A model folder that is asked: texts become ids here, in one way for every engine."""

import math
from pathlib import Path
from typing import Any

from heliostat.errors import EvaluationError, ModelError
from heliostat.evaluation.energy import Meter
from heliostat.evaluation.engine import Engine, Stop, Written
from heliostat.evaluation.requests import Answer, Choose, Continue, Read, ReadRow, Request
from heliostat.evaluation.task_file import Prompt
from heliostat.evaluation.windows import Pair, encode_pair, rolling_windows, within
from heliostat.models.loading import load_tokenizer
from heliostat.models.perplexity import OPENVINO_MODEL_NAME
from heliostat.text.chat import TemplateError, render_prompt

TAIL_TOKENS = 24  # a text that ends an answer is looked for in its last tokens


class LocalModel:
    """A folder's tokenizer and its engine."""

    def __init__(self, folder: Path, num_threads: int = 1) -> None:
        """Load the folder, of transformers or of OpenVINO.

        Raises:
            ModelError: it cannot be loaded.
        """
        self._folder = folder
        self._engine = open_engine(folder, num_threads)
        self._tokenizer = load_tokenizer(folder)
        start, end = self._tokenizer.bos_token_id, self._tokenizer.eos_token_id
        self._prefix_id = int(start if start is not None else end if end is not None else 0)

    def answer(self, requests: list[Request]) -> list[Answer]:
        """The answers to requests of one kind, worked on together.

        Raises:
            ModelError: its losses are not numbers.
            EvaluationError: the chat template refuses a prompt.
        """
        if isinstance(requests[0], Choose):
            return self._choose([each for each in requests if isinstance(each, Choose)])
        if isinstance(requests[0], Continue):
            return self._continue([each for each in requests if isinstance(each, Continue)])
        if isinstance(requests[0], Read):
            return [self._read(each) for each in requests if isinstance(each, Read)]
        rows = self._engine.read([each.sequence for each in requests if isinstance(each, ReadRow)])
        self._check([each.loss_sum for row in rows for each in row])
        return [{"documents": [[each.id, each.loss_sum, each.num_labels] for each in row]} for row in rows]

    def _encode(self, text: str) -> list[int]:
        """With the tokens that this tokenizer puts around texts, unless the text brings its own."""
        start = self._tokenizer.bos_token
        return list(self._tokenizer.encode(text, add_special_tokens=not (start and text.startswith(start))))

    def _prompt_ids(self, prompt: Prompt) -> list[int]:
        if isinstance(prompt, str):
            return self._encode(prompt)
        try:
            return render_prompt(list(prompt), self._tokenizer)
        except TemplateError as error:
            raise EvaluationError(f"{self._folder}: {error}; or set 'chat: false' in the task") from None

    def _pair(self, prompt: Prompt, continuation: str) -> Pair:
        if isinstance(prompt, str):
            pair = encode_pair(self._encode, prompt, continuation)
        else:
            ids = self._tokenizer.encode(continuation, add_special_tokens=False)
            pair = Pair(self._prompt_ids(prompt), list(ids))
        return within(pair, self._engine.max_length, self._prefix_id)

    def _choose(self, requests: list[Choose]) -> list[Answer]:
        pairs = [self._pair(each.prompt, text) for each in requests for text in each.continuations]
        scores = iter(self._engine.score(pairs))
        answers = []
        for each in requests:
            found = [next(scores) for _ in each.continuations]
            self._check([likelihood for likelihood, _ in found])
            answers.append(
                {"log_likelihoods": [one for one, _ in found], "greedy": [greedy for _, greedy in found]}
            )
        return answers

    def _read(self, request: Read) -> Answer:
        ids = self._encode(request.text)
        longest = min(request.max_length or self._engine.max_length, self._engine.max_length)
        windows = list(rolling_windows(ids, self._prefix_id, longest))
        losses = [-self._engine.score([window])[0][0] for window in windows]
        self._check(losses)
        return {"loss": math.fsum(losses), "tokens": len(ids)}

    def _continue(self, requests: list[Continue]) -> list[Answer]:
        first = requests[0]
        room = max(1, self._engine.max_length - first.max_new_tokens)
        prompts = [(self._prompt_ids(each.prompt) or [self._prefix_id])[-room:] for each in requests]
        with Meter(first.tdp_watts if first.metered else None) as meter:
            written = self._engine.write(prompts, first.max_new_tokens, self._stop(first.until))
        answers = [self._written(each, first.until) for each in written]
        return [{**each, **meter.figures} for each in answers]

    def _stop(self, until: tuple[str, ...]) -> Stop:
        tail = TAIL_TOKENS + max((len(each) for each in until), default=0)
        return lambda ids: any(text in self._decode(ids[-tail:]) for text in until)

    def _decode(self, ids: list[int]) -> str:
        return str(self._tokenizer.decode(ids, skip_special_tokens=True))

    def _written(self, written: Written, until: tuple[str, ...]) -> dict[str, Any]:
        text = self._decode(written.ids)
        for mark in until:
            text = text.split(mark)[0]
        return {
            "text": text,
            "tokens": len(written.ids),
            "seconds": written.seconds,
            "first_token_seconds": written.first_token_seconds,
        }

    def _check(self, losses: list[float]) -> None:
        if not all(math.isfinite(each) for each in losses):
            raise ModelError(f"{self._folder}: its loss is no number; the weights are broken")


def open_engine(folder: Path, num_threads: int) -> Engine:
    """The engine for what a folder holds."""
    if (folder / OPENVINO_MODEL_NAME).is_file():
        from heliostat.evaluation.openvino_engine import OpenvinoEngine

        return OpenvinoEngine(folder, num_threads)
    from heliostat.evaluation.transformers_engine import TransformersEngine

    return TransformersEngine(folder, num_threads)
