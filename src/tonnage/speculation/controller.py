"""How many drafts pay: expected tokens per expected time, at the price of rows."""

from collections.abc import Sequence

# What one draft more says beside all before: about the last thirty count.
DECAY = 31 / 32
# A new request is taken to have had this many drafts, half of them right.
PRIOR_DRAFTS = 2.0
# The part of all time that may go to trying again where no draft pays.
TRIAL_PART = 0.01


class Controller:
    """The acceptance of one source in one request, and the number of drafts that it makes pay."""

    def __init__(self) -> None:
        """Begin with a guess that a few drafts outweigh."""
        self._drafts = PRIOR_DRAFTS
        self._accepted = PRIOR_DRAFTS / 2
        self._trial_time = 0.0

    @property
    def acceptance(self) -> float:
        """The chance that a draft is right, given that those before it were."""
        return self._accepted / self._drafts

    def num_drafts(self, times: Sequence[float]) -> int:
        """Return with how many drafts tokens come fastest, or one as a trial that is paid for.

        times: of a step without drafts, with one, and so on, in any unit; at least the first.
        """
        chance, expected, reached = self.acceptance, 1.0, 1.0
        best, best_rate = 0, 1.0 / times[0]
        for count, time in enumerate(times[1:], start=1):
            reached *= chance
            expected += reached
            if expected / time > best_rate:
                best, best_rate = count, expected / time
        if best > 0 or len(times) == 1:
            return best
        self._trial_time += TRIAL_PART * times[0]
        more = times[1] - times[0]
        if self._trial_time < more:
            return 0
        self._trial_time -= max(more, 0.0)
        return 1

    def note(self, num_drafts: int, num_accepted: int) -> None:
        """Learn from a step: the drafts behind the first wrong one say nothing."""
        judged = min(num_accepted + 1, num_drafts)
        for index in range(judged):
            self._drafts = self._drafts * DECAY + 1
            self._accepted = self._accepted * DECAY + (index < num_accepted)
