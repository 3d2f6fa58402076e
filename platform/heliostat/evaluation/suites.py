"""Suites made into requests, and answers made into examples with scores. Pure, but for reading files."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from heliostat.errors import ConfigError, DataError
from heliostat.evaluation.config import EvaluateConfig
from heliostat.evaluation.efficiency import score_speed
from heliostat.evaluation.examples import Example
from heliostat.evaluation.lm_eval_runs import check_environment
from heliostat.evaluation.perturbations import perturb
from heliostat.evaluation.requests import Answer, Choose, Continue, Item, Read, ReadRow, Request
from heliostat.evaluation.suite_config import (
    EfficiencySuite,
    FairnessSuite,
    LmEvalSuite,
    PerplexitySuite,
    RobustnessSuite,
    Suite,
    TaskSuite,
    ToxicitySuite,
)
from heliostat.evaluation.task_file import Question, Task, content_of, read_rows
from heliostat.evaluation.text_metrics import score_text
from heliostat.evaluation.toxicity import check_judge
from heliostat.models.perplexity import rows_within
from heliostat.tokenized import TokenizedDataset
from heliostat.workspace import key_of

CLEAN = "clean"
Answers = dict[str, Answer]
"""By the items' ids."""


@dataclass(frozen=True)
class AskedSuite:
    """A suite as it is asked: its requests, what decides them, and how answers become examples."""

    name: str
    suite: Suite
    fingerprint: str
    items: tuple[Item, ...]
    examples: Callable[[Answers], list[Example]]
    """Of the answers; texts that a judge must see come with `output` and without their score."""

    @property
    def needs_likelihoods(self) -> bool:
        """Whether a model that only writes cannot be asked."""
        return any(not isinstance(item.request, Continue) for item in self.items)

    @property
    def alone(self) -> bool:
        """Whether nothing else may be worked on meanwhile, one request at a time."""
        return isinstance(self.suite, EfficiencySuite)


def ask(config: EvaluateConfig, suite: Suite, split: TokenizedDataset | None, content: str) -> AskedSuite:
    """A suite's requests; `split` and the hash of its dataset are for one that reads the chain's data.

    Raises:
        ConfigError: a file is missing, or says what it cannot.
        DataError: a file of data cannot be read, or holds nothing to score.
    """
    if isinstance(suite, PerplexitySuite):
        return _ask_texts(suite) if suite.path else _ask_split(config, suite, split, content)
    if isinstance(suite, ToxicitySuite):
        return _ask_prompts(suite, check_judge(suite))
    if isinstance(suite, EfficiencySuite):
        return _ask_prompts(suite, "")
    if isinstance(suite, LmEvalSuite):
        return AskedSuite(
            suite.name, suite, _fingerprint(suite, check_environment(suite)), (), lambda answers: []
        )
    return _ask_task(suite)


def check_suites(config: EvaluateConfig) -> list[str]:
    """Read every file that the suites name; a line for each suite.

    Raises:
        ConfigError: one is missing or says what it cannot.
        DataError: one cannot be read as data.
    """
    lines: list[str] = []
    names: list[str] = []
    for suite in config.asked:
        if isinstance(suite, PerplexitySuite) and suite.path is None:
            lines.append(
                f"suite {suite.name}: up to {config.max_tokens:,} tokens of the {config.split} split"
            )
        elif isinstance(suite, LmEvalSuite):
            check_environment(suite)
            names.append(suite.name)
            lines.append(f"suite {suite.name}: {', '.join(suite.tasks)} in {suite.python}")
        else:
            asked = ask(config, suite, None, "")
            names.append(asked.name)
            lines.append(f"suite {asked.name}: {len(asked.items):,} requests")
    check_names(names)
    return lines


def check_names(names: list[str]) -> None:
    """Refuse two suites of one name, which would share a file.

    Raises:
        ConfigError: names it.
    """
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise ConfigError(f"two suites are called '{twice}'; give one of them a 'name:' of its own")


def _fingerprint(suite: Suite, content: str) -> str:
    """What is asked: the suite's settings, without the places its files have, and the files' contents."""
    settings = {
        key: value for key, value in suite.canonical().items() if key not in ("path", "name", "words")
    }
    return key_of(repr(sorted(settings.items())), content)


def _ask_split(
    config: EvaluateConfig, suite: PerplexitySuite, split: TokenizedDataset | None, content: str
) -> AskedSuite:
    if split is None:
        raise ConfigError(
            f"suite '{suite.name}' reads the chain's '{config.split}' split, and there is none; give the "
            "recipe a 'data:' section, or the suite a 'path:' to a JSON lines file"
        )
    rows = rows_within(split, config.max_tokens)
    sequences = [split[row] for row in rows]
    if not any(sequence.num_labels for sequence in sequences):
        raise DataError(
            f"the first {len(rows)} sequences of the '{split.split}' split hold nothing to score; "
            "raise max_tokens, or check the data's loss mask"
        )
    items = tuple(
        Item(suite.name, str(row), ReadRow(row, sequence))
        for row, sequence in zip(rows, sequences, strict=True)
    )

    def examples(answers: Answers) -> list[Example]:
        sums: dict[str, tuple[float, int]] = {}
        for item in items:
            for name, loss, labels in answers[item.id]["documents"]:
                before = sums.get(name, (0.0, 0))
                sums[name] = (before[0] + loss, before[1] + labels)
        return [
            Example(id=name, scores={"perplexity": [loss, float(labels)], "loss": [loss, float(labels)]})
            for name, (loss, labels) in sums.items()
            if labels
        ]

    asked = key_of(content, config.split, str(config.max_tokens))
    return AskedSuite(suite.name, suite, asked, items, examples)


def _ask_texts(suite: PerplexitySuite) -> AskedSuite:
    file = Path(str(suite.path))
    texts = _column(read_rows(file, suite.max_examples), suite.column, file)
    items = tuple(Item(suite.name, str(at), Read(text, suite.max_length)) for at, text in enumerate(texts))

    def examples(answers: Answers) -> list[Example]:
        return [_read_example(item, answers[item.id]) for item in items]

    return AskedSuite(suite.name, suite, _fingerprint(suite, content_of(file)), items, examples)


def _read_example(item: Item, answer: Answer) -> Example:
    text, loss = _text_of(item.request), float(answer["loss"])
    words, size = len(re.split(r"\s+", text)), len(text.encode())  # words as lm-evaluation-harness counts
    return Example(
        id=item.id,
        prompt=text,
        scores={
            "perplexity": [loss, float(answer["tokens"])],
            "word_perplexity": [loss, float(words)],
            "byte_perplexity": [loss, float(size)],
            "bits_per_byte": [loss, float(size)],
        },
    )


def _text_of(request: Request) -> str:
    return request.text if isinstance(request, Read) else ""


def _ask_prompts(suite: ToxicitySuite | EfficiencySuite, content: str) -> AskedSuite:
    file = Path(suite.path)
    prompts = _column(read_rows(file, suite.max_examples), suite.column, file)
    metered = isinstance(suite, EfficiencySuite)
    watts = suite.tdp_watts if isinstance(suite, EfficiencySuite) else 0.0
    items = tuple(
        Item(
            suite.name,
            str(at),
            Continue(
                ({"role": "user", "content": prompt},) if suite.chat else prompt,
                (),
                suite.max_new_tokens,
                metered,
                watts,
            ),
        )
        for at, prompt in enumerate(prompts)
    )

    def examples(answers: Answers) -> list[Example]:
        return [
            Example(
                id=item.id,
                prompt=prompt,
                output=answers[item.id]["text"],
                scores=score_speed(answers[item.id], suite) if isinstance(suite, EfficiencySuite) else {},
            )
            for item, prompt in zip(items, prompts, strict=True)
        ]

    return AskedSuite(suite.name, suite, _fingerprint(suite, content + content_of(file)), items, examples)


def _column(rows: tuple[dict[str, Any], ...], column: str, file: Path) -> list[str]:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row.get(column), str):
            found = ", ".join(row)
            raise DataError(f"{file}:{number}: no text in column '{column}'; the row has: {found}")
    return [row[column] for row in rows]


def _ask_task(suite: TaskSuite | RobustnessSuite | FairnessSuite) -> AskedSuite:
    task = Task.read(suite.path, suite.max_examples)
    if isinstance(suite, FairnessSuite) and task.config.group is None:
        raise ConfigError(f"{suite.path}: a fairness suite needs the task to name its 'group:' column")
    name = suite.name or task.config.name
    questions = [task.question(number) for number in range(len(task.rows))]
    ids = [question.id for question in questions]
    if twice := next((each for each in ids if ids.count(each) > 1), None):
        raise DataError(f"{suite.path}: the id {twice!r} is that of two rows; ids must differ")
    variants: dict[str, list[Question]] = {CLEAN: questions}
    if isinstance(suite, RobustnessSuite):
        for kind in suite.perturbations:
            variants[kind] = [_spoilt(task, number, suite, kind) for number in range(len(questions))]
    items = tuple(
        Item(name, f"{question.id}#{kind}", _request(task, question))
        for kind, asked in variants.items()
        for question in asked
    )

    def examples(answers: Answers) -> list[Example]:
        made = [_example(task, question, answers, tuple(variants)) for question in questions]
        return _with_gaps(made) if isinstance(suite, FairnessSuite) else made

    return AskedSuite(name, suite, _fingerprint(suite, task.content), items, examples)


def _spoilt(task: Task, number: int, suite: RobustnessSuite, kind: Any) -> Question:
    def spoil(text: str) -> str:
        return perturb(text, kind, suite.strength, f"{suite.seed}\0{number}")

    row = task.rows[number]
    if suite.columns:
        missing = [column for column in suite.columns if not isinstance(row.get(column), str)]
        if missing:
            raise DataError(f"{suite.path}, row {number + 1}: no text in column '{missing[0]}' to spoil")
        return task.question(number, row | {column: spoil(row[column]) for column in suite.columns})
    question = task.question(number)
    if isinstance(question.prompt, str):
        shots, border, asked = question.prompt.rpartition(task.config.few_shot_delimiter)
        prompt: Any = f"{shots}{border}{spoil(asked)}" if task.shots else spoil(question.prompt)
    else:
        last = question.prompt[-1]
        prompt = (*question.prompt[:-1], {**last, "content": spoil(last["content"])})
    return Question(
        question.id, prompt, question.references, question.choices, question.right, question.group
    )


def _request(task: Task, question: Question) -> Request:
    if question.choices:
        space = task.config.target_delimiter if isinstance(question.prompt, str) else ""
        return Choose(question.prompt, tuple(f"{space}{choice}" for choice in question.choices))
    return Continue(question.prompt, task.config.until, task.config.max_new_tokens)


def _example(task: Task, question: Question, answers: Answers, kinds: tuple[str, ...]) -> Example:
    """The clean prompt's scores; of a spoilt one its own, and how much lower they are."""
    output, scores = _scored(task, question, answers[f"{question.id}#{CLEAN}"])
    for kind in kinds[1:]:
        _, spoilt = _scored(task, question, answers[f"{question.id}#{kind}"])
        for metric in task.config.measured:
            clean, left = scores[metric], spoilt[metric]
            if isinstance(clean, list) or isinstance(left, list):
                continue  # a corpus metric has no drop by example
            scores |= {f"{metric}_under_{kind}": left, f"{metric}_lost_to_{kind}": clean - left}
    prompt = question.prompt if isinstance(question.prompt, str) else list(question.prompt)
    target = question.references[0] if len(question.references) == 1 else list(question.references)
    return Example(
        id=question.id, scores=scores, group=question.group, prompt=prompt, target=target, output=output
    )


def _scored(task: Task, question: Question, answer: Answer) -> tuple[str, dict[str, float | list[float]]]:
    """What came, and its metrics."""
    if question.choices:
        likelihoods = np.array(answer["log_likelihoods"])
        lengths = np.array([max(1, len(choice)) for choice in question.choices], dtype=float)
        picked = {"acc": int(likelihoods.argmax()), "acc_norm": int((likelihoods / lengths).argmax())}
        right = {str(metric): float(at == question.right) for metric, at in picked.items()}
        return question.choices[picked["acc"]], {metric: right[metric] for metric in task.config.measured}
    text = str(answer["text"]).strip() if task.config.strip else str(answer["text"])
    return text, {metric: score_text(metric, text, question.references) for metric in task.config.measured}


def _with_gaps(examples: list[Example]) -> list[Example]:
    """Each metric's gap between groups beside it: (numerator, denominator) in the example's own group."""
    groups = sorted({str(example.group) for example in examples})
    made = []
    for example in examples:
        gaps: dict[str, float | list[float]] = {}
        for metric, score in example.scores.items():
            sums = score if isinstance(score, list) else [score, 1.0]
            if len(sums) == 2:
                gaps[f"{metric}_gap"] = [
                    part for group in groups for part in (sums if group == example.group else [0.0, 0.0])
                ]
        made.append(example.model_copy(update={"scores": example.scores | gaps}))
    return made
