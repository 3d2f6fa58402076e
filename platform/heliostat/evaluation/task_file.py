"""A task: a YAML file of ours, and the rows of its JSON lines file as questions.

name: capitals
data: capitals.jsonl              # beside this file
prompt: "Question: {{question}}\\nAnswer:"
target: "{{answer}}"              # or, with choices, the right one: its text or its number
choices: [yes, no]                # or "{{options}}", a column that holds a list; without: to be written
few_shot: {path: examples.jsonl, count: 2}
chat: true                        # asked as the model's chat template has it
metrics: [exact_match, f1]
"""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from heliostat.config import Config
from heliostat.errors import ConfigError, DataError
from heliostat.evaluation.prompt_template import evaluate, render
from heliostat.text.chat import Message

Metric = Literal[
    "acc",
    "acc_norm",
    "exact_match",
    "normalised_match",
    "f1",
    "numeric",
    "bleu",
    "chrf",
    "rouge1",
    "rouge2",
    "rougeL",
]
CHOOSING = ("acc", "acc_norm")


class FewShot(Config):
    """Answered examples in front of each question: the first `count` rows of a file."""

    path: str
    count: int = Field(ge=1)


class TaskConfig(Config):
    """What a task's YAML says."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    data: str = Field(description="a JSON lines file, relative to the YAML")
    prompt: str = Field(description="jinja over a row's columns, or the name of a column")
    target: str = Field(description="the right answer, as prompt; of several, an expression that is a list")
    choices: str | tuple[str, ...] | None = None
    few_shot: FewShot | None = None
    system: str | None = None
    chat: bool = False
    group: str | None = Field(default=None, description="the column with the group that a row speaks of")
    id: str | None = Field(default=None, description="the column with a row's id; else its number")
    target_delimiter: str = " "
    few_shot_delimiter: str = "\n\n"
    until: tuple[str, ...] = Field(default=("\n\n",), description="texts that end a written answer")
    max_new_tokens: int = Field(default=64, ge=1)
    strip: bool = Field(default=True, description="take white space off both ends of a written answer")
    metrics: tuple[Metric, ...] = ()

    @model_validator(mode="after")
    def _check_metrics(self) -> Self:
        chooses = self.choices is not None
        wrong = [each for each in self.metrics if (each in CHOOSING) is not chooses]
        if wrong:
            kind = "answers to choose from" if chooses else "answers that are written"
            raise ValueError(f"metrics: {wrong[0]} is not for {kind}")
        if self.system is not None and not self.chat:
            raise ValueError("system: only a chat has one; set 'chat: true'")
        return self

    @property
    def measured(self) -> tuple[Metric, ...]:
        """The metrics, with the usual ones where none is named."""
        return self.metrics or (("acc", "acc_norm") if self.choices is not None else ("exact_match", "f1"))


Prompt = str | tuple[Message, ...]


@dataclass(frozen=True)
class Question:
    """A row of a task as it is asked. `references` are the right answers; with choices, the right one."""

    id: str
    prompt: Prompt
    references: tuple[str, ...]
    choices: tuple[str, ...] = ()
    right: int = 0
    group: str | None = None


@dataclass(frozen=True)
class Task:
    """A task with its rows; `content` is a hash of all its files."""

    config: TaskConfig
    rows: tuple[dict[str, Any], ...]
    shots: tuple[dict[str, Any], ...]
    content: str
    where: str

    @classmethod
    def read(cls, path: str, max_examples: int | None = None) -> Self:
        """Read a task's YAML and its data.

        Raises:
            ConfigError: the YAML or a file it names is missing or says what it cannot.
            DataError: a line of the data is not a JSON object, or there is none.
        """
        file = Path(path)
        if not file.is_file():
            raise ConfigError(f"{path}: no such task file; 'path:' of a suite names a YAML file")
        config = TaskConfig.load(file)
        data = file.parent / config.data
        rows = read_rows(data, max_examples)
        parts = [json.dumps(config.canonical(), sort_keys=True), content_of(data)]
        shots: tuple[dict[str, Any], ...] = ()
        if config.few_shot:
            shots = read_rows(file.parent / config.few_shot.path, config.few_shot.count)
            parts.append(content_of(file.parent / config.few_shot.path))
        content = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        task = cls(config, rows, shots, content, str(path))
        task.question(0)  # a template that fails, fails here
        return task

    def question(self, number: int, row: dict[str, Any] | None = None) -> Question:
        """The question of a row by its number; `row` stands in for it.

        Raises:
            ConfigError: a template fails, or the right answer is none of the choices.
        """
        row = self.rows[number] if row is None else row
        where, config = f"{self.where}, row {number + 1}", self.config
        choices = self._choices(row, where)
        return Question(
            id=str(row[config.id]) if config.id else str(number),
            prompt=self._prompt(row, where),
            references=self._references(row, choices, where),
            choices=choices,
            right=self._right(row, choices, where) if choices else 0,
            group=str(row[config.group]) if config.group else None,
        )

    def _choices(self, row: dict[str, Any], where: str) -> tuple[str, ...]:
        choices = self.config.choices
        if choices is None:
            return ()
        if isinstance(choices, str):
            found = evaluate(choices, row, where)
            if not isinstance(found, list) or len(found) < 2:
                raise ConfigError(f"{where}: 'choices: {choices}' is not a list of two or more")
            return tuple(str(each) for each in found)
        return tuple(render(each, row, where) for each in choices)

    def _references(self, row: dict[str, Any], choices: tuple[str, ...], where: str) -> tuple[str, ...]:
        found = self._target(row, where)
        if choices:
            return (choices[self._right(row, choices, where)],)
        return tuple(str(each) for each in found) if isinstance(found, list) else (str(found),)

    def _right(self, row: dict[str, Any], choices: tuple[str, ...], where: str) -> int:
        """Which choice is right: a number says it by its place, a text by what it is, else by its place."""
        found = self._target(row, where)
        by_place = isinstance(found, int) or str(found) not in choices
        if not by_place:
            return choices.index(str(found))
        if str(found).isdigit() and int(found) < len(choices):
            return int(found)
        raise ConfigError(f"{where}: the target {str(found)[:40]!r} is none of the {len(choices)} choices")

    def _target(self, row: dict[str, Any], where: str) -> Any:
        """The column that `target` names, as it is, or the text that it makes."""
        target = self.config.target
        bare = target.strip().removeprefix("{{").removesuffix("}}").strip()
        return row[bare] if bare in row else render(target, row, where)

    def _prompt(self, row: dict[str, Any], where: str) -> Prompt:
        config = self.config
        shots = []
        for shot in self.shots:
            shown = self._references(shot, self._choices(shot, where), where)[0]
            shots.append((render(config.prompt, shot, where), shown))
        asked = render(config.prompt, row, where)
        if not config.chat:
            joined = [f"{text}{config.target_delimiter}{answer}" for text, answer in shots]
            return config.few_shot_delimiter.join([*joined, asked])
        messages: list[Message] = [{"role": "system", "content": config.system}] if config.system else []
        for text, answer in shots:
            messages += [{"role": "user", "content": text}, {"role": "assistant", "content": answer}]
        return (*messages, {"role": "user", "content": asked})


def read_rows(file: Path, most: int | None = None) -> tuple[dict[str, Any], ...]:
    """The first rows of a JSON lines file.

    Raises:
        ConfigError: there is no such file.
        DataError: a line is not a JSON object, or there is none.
    """
    try:
        lines = [line for line in file.read_text(encoding="utf-8").split("\n") if line.strip()]
    except FileNotFoundError:
        raise ConfigError(f"{file}: no such file; a suite needs it") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}") from None
    rows = []
    for number, line in enumerate(lines[:most], start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict):
            raise DataError(f"{file}:{number}: not a JSON object; a suite's data has one on each line")
        rows.append(row)
    if not rows:
        raise DataError(f"{file}: holds no rows")
    return tuple(rows)


def content_of(file: Path) -> str:
    """SHA-256 of a file, in hex."""
    return hashlib.sha256(file.read_bytes()).hexdigest()
