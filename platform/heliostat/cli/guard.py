"""`heliostat guard`: what the rules say to a text, and training their classifier."""

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(
    help="Try the guard's rules on a text, and train its classifier.",
    rich_markup_mode=None,
    no_args_is_help=True,
)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A text file in UTF-8; - for what is typed.")],
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with a guard section's keys; else defaults.")
    ] = None,
) -> None:
    """Say what the rules find in a text, as in a request."""
    from heliostat.errors import DataError
    from heliostat.serving.guard.config import GuardConfig
    from heliostat.serving.guard.guard import Guard

    rules = GuardConfig.load(config) if config else GuardConfig()
    guard = Guard.build(rules, config.parent if config else ".")
    try:
        text = typer.get_text_stream("stdin").read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{file}: cannot be read: {error}; give a text file in UTF-8") from None
    review = guard.review_input([text])
    for found in review.findings:
        what = found.what or (f"score {found.score}" if found.score is not None else "")
        dry = " (dry run)" if found.dry_run else ""
        print(f"{found.rule}: {found.action}{dry} x{found.count} {what}".rstrip())
    verdict = "blocked" if review.blocked else "held for review" if review.held else "passes"
    print(f"{verdict}{', redacted' if review.texts != (text,) and not review.blocked else ''}")


@app.command()
def train(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help='JSON Lines: {"text": ..., "label": 1 or 0} a line.')
    ],
    output: Annotated[Path, typer.Option("--output", help="Where the classifier goes.")] = Path(
        "classifier.safetensors"
    ),
    background: Annotated[
        list[Path] | None, typer.Option(help="More such files to learn from, and not to be measured on.")
    ] = None,
    documentation: Annotated[
        bool, typer.Option(help="Learn from Python's documentation as well, as label 0.")
    ] = True,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Train a classifier for a rule of kind classifier; says how it does on rows held out."""
    from heliostat.serving.guard import training
    from heliostat.storage import explain_os_errors

    examples = training.read_examples(file)
    more = [row for path in background or () for row in training.read_examples(path)]
    more += training.documentation() if documentation else []
    classifier = training.train_classifier(examples, more, seed=seed)
    with explain_os_errors(str(output)):
        output.parent.mkdir(parents=True, exist_ok=True)
    classifier.save(output)
    for threshold, figures in classifier.facts["held_out"].items():
        print(f"threshold {threshold}: precision {figures['precision']:.2f}, recall {figures['recall']:.2f}")
    print(f"of {len(examples)} rows, each fifth held out in turn; written: {output}")
