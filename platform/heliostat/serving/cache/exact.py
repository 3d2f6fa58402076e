"""Answers by the key of their question."""

from heliostat.serving.cache.answers import CachedAnswer
from heliostat.serving.cache.kept import KeptEntries, KeptEntry
from heliostat.serving.cache.question import Question


class ExactStore(KeptEntries[str, KeptEntry]):
    """The answer to this very question."""

    def find(self, question: Question) -> CachedAnswer | None:
        """The answer, if it is kept."""
        entry = self._live(question.key)
        if entry is None:
            return None
        self._entries.move_to_end(question.key)
        return entry.answer

    def keep(self, question: Question, answer: CachedAnswer, age_seconds: float = 0) -> None:
        """Remember an answer that is `age_seconds` old, in the place of an older one."""
        self._remove(question.key)
        if age_seconds < self._ttl_seconds:
            expires = self._clock() + self._ttl_seconds - age_seconds
            self._put(question.key, KeptEntry(answer, expires, question.tenant, question.model))
