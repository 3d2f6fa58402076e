"""How fast a row of tasks gets on and what it dropped so far, for the terminal and the run's metrics."""

import time
from collections import Counter

from heliostat.data.tasks import Statistics

MOST_STEPS = 3


class Pace:
    """Sums the statistics of tasks as they finish."""

    def __init__(self, title: str) -> None:
        self._name = title.lower().replace(" ", "_")
        self._started = time.monotonic()
        self._documents = 0
        self._characters = 0
        self._dropped: Counter[str] = Counter()

    def add(self, statistics: Statistics) -> None:
        """Take over a finished task's."""
        self._documents += statistics.get("documents", 0)
        self._characters += statistics.get("characters", 0)
        for step, reasons in statistics.get("dropped", {}).items():
            self._dropped[step] += sum(reasons.values())

    @property
    def note(self) -> str:
        """A few words: how many documents, how fast, and the steps that dropped most."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        words = []
        if self._documents:
            words.append(f"{self._documents:,} documents, {self._documents / seconds:,.0f}/s")
        if self._characters:
            rate = self._characters / seconds
            words.append(f"{rate / 1e6:.1f} MB/s" if rate >= 1e5 else f"{rate / 1e3:.0f} KB/s")
        words += [f"{step} -{count:,}" for step, count in self._dropped.most_common(MOST_STEPS)]
        return ", ".join(words)

    def metrics(self) -> dict[str, float]:
        """For the run: documents and characters a second, and how many each step dropped."""
        seconds = max(time.monotonic() - self._started, 1e-3)
        rates = {
            f"{self._name}/documents_per_second": self._documents / seconds,
            f"{self._name}/megabytes_per_second": self._characters / seconds / 1e6,
        }
        return rates | {f"dropped/{step}": float(count) for step, count in self._dropped.items()}
