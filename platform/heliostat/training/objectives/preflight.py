"""What can be refused before a worker starts: a dataset of the wrong kind, a teacher that reads other tokens.

Loads no model, so that a driver may ask.
"""

from pathlib import Path

from heliostat.errors import ConfigError
from heliostat.models.loading import load_tokenizer
from heliostat.preference_pairs import TokenizedPairs
from heliostat.tokenized import TokenizedDataset
from heliostat.training.objective_config import PAIRS, Objective


def open_rows(objective: Objective, folder: Path, split: str) -> TokenizedPairs | TokenizedDataset:
    """The split as the objective reads it: as pairs, or as packed sequences.

    Raises:
        ArtifactError: the folder is not a tokenized dataset.
        DataError: the split holds nothing, or no pairs where the objective compares them.
    """
    return (TokenizedPairs if isinstance(objective, PAIRS) else TokenizedDataset)(folder, split)


def require_same_vocabulary(student_folder: Path, teacher_folder: Path) -> None:
    """Refuse a teacher that would read the student's ids as other tokens.

    Raises:
        ConfigError: a token has another id, or is in one vocabulary only.
        ModelError: a folder has no tokenizer.
    """
    student, teacher = (load_tokenizer(folder).get_vocab() for folder in (student_folder, teacher_folder))
    different = sorted(token for token, _ in student.items() ^ teacher.items())
    if different:
        token = different[0]
        raise ConfigError(
            f"train.objective.teacher: {teacher_folder} has another vocabulary than {student_folder}: "
            f"{token!r} is {teacher.get(token, 'not')} there and {student.get(token, 'not')} here; "
            "choose a teacher with the student's tokenizer"
        )
