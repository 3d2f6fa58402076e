"""Which pages there are, in which sections. A page is shown as soon as its file lies in views/."""

from dataclasses import dataclass
from pathlib import Path

VIEWS = Path(__file__).resolve().parent / "views"


@dataclass(frozen=True)
class Entry:
    """A page in the navigation: the name of its file and path, its section's key, its icon."""

    name: str
    section: str
    icon: str
    hidden: bool = False

    @property
    def path(self) -> Path:
        """Its script."""
        return VIEWS / f"{self.name}.py"


ENTRIES = (
    Entry("home", "", "home"),
    Entry("new_run", "build", "add_circle"),
    Entry("data", "build", "database"),
    Entry("runs", "watch", "monitoring"),
    Entry("run", "watch", "timeline", hidden=True),
    Entry("compare", "watch", "compare_arrows", hidden=True),
    Entry("sweeps", "watch", "tune"),
    Entry("evaluations", "watch", "grading"),
    Entry("models", "ship", "deployed_code"),
    Entry("endpoints", "ship", "lan"),
    Entry("playground", "ship", "forum"),
    Entry("review", "ship", "rate_review"),
    Entry("cluster", "operate", "dns"),
    Entry("alerts", "operate", "notifications"),
    Entry("settings", "settings", "settings"),
)
PAGES = tuple(entry.name for entry in ENTRIES)


def there() -> list[Entry]:
    """The pages whose files are there, in their order."""
    return [entry for entry in ENTRIES if entry.path.is_file()]
