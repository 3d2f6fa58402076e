"""Small real data: what the standard library says of its functions, and the same in mixed up words."""

import importlib
import inspect
import random

MODULES = [
    "argparse",
    "ast",
    "asyncio",
    "base64",
    "bisect",
    "calendar",
    "cmath",
    "codecs",
    "collections",
    "configparser",
    "contextlib",
    "copy",
    "csv",
    "datetime",
    "decimal",
    "difflib",
    "dis",
    "email.message",
    "enum",
    "fileinput",
    "fnmatch",
    "fractions",
    "ftplib",
    "functools",
    "gettext",
    "glob",
    "gzip",
    "heapq",
    "http.client",
    "imaplib",
    "inspect",
    "io",
    "ipaddress",
    "itertools",
    "json",
    "locale",
    "logging",
    "mailbox",
    "math",
    "mimetypes",
    "multiprocessing",
    "numbers",
    "operator",
    "os",
    "os.path",
    "pathlib",
    "pdb",
    "pickle",
    "platform",
    "plistlib",
    "pprint",
    "profile",
    "pydoc",
    "queue",
    "random",
    "re",
    "sched",
    "secrets",
    "shelve",
    "shlex",
    "shutil",
    "smtplib",
    "socket",
    "sqlite3",
    "ssl",
    "statistics",
    "string",
    "struct",
    "subprocess",
    "sys",
    "tarfile",
    "tempfile",
    "textwrap",
    "threading",
    "time",
    "timeit",
    "tokenize",
    "trace",
    "traceback",
    "tracemalloc",
    "types",
    "typing",
    "unittest",
    "unittest.mock",
    "urllib.parse",
    "urllib.request",
    "uuid",
    "warnings",
    "weakref",
    "xml.dom.minidom",
    "xml.etree.ElementTree",
    "zipfile",
    "zoneinfo",
]


def questions_and_answers(count: int, max_characters: int = 240) -> list[tuple[str, str]]:
    """Different questions about functions with the first paragraph of their docstrings, in a fixed order."""
    found: dict[str, str] = {}
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        for name, member in sorted(vars(module).items()):
            owners = [(name, member)]
            if inspect.isclass(member):
                owners += [(f"{name}.{each}", value) for each, value in sorted(vars(member).items())]
            for path, value in owners:
                if "._" in f".{path}" or not callable(value):
                    continue
                answer = " ".join((inspect.getdoc(value) or "").split("\n\n")[0].split())
                if 40 <= len(answer) <= max_characters and answer not in found:
                    found[answer] = f"What does {path} do?"
    pairs = [(question, answer) for answer, question in found.items()]
    random.Random(0).shuffle(pairs)
    assert len(pairs) >= count, len(pairs)
    return pairs[:count]


def mixed_up(answer: str, seed: int) -> str:
    """The same words in another order."""
    words = answer.split()
    while True:
        shuffled = random.Random(seed).sample(words, len(words))
        if shuffled != words:
            return " ".join(shuffled)
        seed += 1


def preference_rows(count: int) -> list[dict[str, str]]:
    """Rows of a preference dataset: the answer, and the answer with its words mixed up."""
    return [
        {"prompt": question, "chosen": answer, "rejected": mixed_up(answer, seed)}
        for seed, (question, answer) in enumerate(questions_and_answers(count))
    ]
