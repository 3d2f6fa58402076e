"""Who follows a run from outside while it goes on, such as the sweep that it is a trial of."""

from typing import Protocol


class Follower(Protocol):
    """Told when a run begins, and then by the thread that shows its progress, about once a second."""

    def begin(self, run_id: str) -> None:
        """The id of the run's record."""

    def see(self, rows: list[dict[str, float]]) -> None:
        """All steps written so far, in their order; those of an earlier attempt are among them."""

    def wants_stop(self) -> bool:
        """Whether the run is to save its state and end."""
