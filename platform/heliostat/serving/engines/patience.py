"""Whether waiting for a moment is worth it, as far as the last times tell."""


class Patience:
    """Each wait in vain doubles how often the next ones are left out; one that paid ends that."""

    def __init__(self, most_skips: int) -> None:
        self._most_skips = most_skips
        self._penalty = 0
        self._skips = 0

    def is_worth_it(self) -> bool:
        """Whether to wait this time; say with `learn` what came of it."""
        if self._skips:
            self._skips -= 1
            return False
        return True

    def learn(self, paid: bool) -> None:
        """What a wait has come to."""
        self._penalty = 0 if paid else min(2 * self._penalty + 1, self._most_skips)
        self._skips = self._penalty
