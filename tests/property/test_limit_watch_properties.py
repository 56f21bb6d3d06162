"""Whatever limits and neighbours do: pages stay below what is there, and come to rest."""

from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from tonnage.engine.limit_watch import GROW_AFTER_NS, LOOK_EVERY_NS, Bounds, LimitWatch

MIB = 1 << 20
# The margin of pages of this size is the least there is.
FULL = 16 * MIB
MARGIN = MIB
PLANNED_REST = 20 * MIB
PHASE_NS = 60_000_000_000
SETTLED_NS = GROW_AFTER_NS + 5 * LOOK_EVERY_NS


@dataclass(frozen=True)
class Phase:
    """A minute: the limit, what others in the group hold, and how much a reading is off at most.

    rest_bytes: what all but the pages takes now, which is at most what was planned for it.
    """

    limit_bytes: int
    others_bytes: int
    noise_bytes: int
    rest_bytes: int


phases = st.builds(
    Phase,
    st.sampled_from([24 * MIB, 40 * MIB, 52 * MIB, 100 * MIB]),
    st.integers(0, 40 * MIB),
    st.integers(0, MARGIN // 4 - 1),
    st.integers(8 * MIB, PLANNED_REST),
)


class World:
    """A process in a group; its pages become resident as far as they may."""

    def __init__(self, data: st.DataObject) -> None:
        self.draw = data.draw
        self.phase = Phase(100 * MIB, 0, 0, 8 * MIB)
        self.readings: list[Bounds] = []
        self.changes_ns: list[int] = []
        self.now_ns = 0
        self.watch = LimitWatch(FULL, self._read, self._change)

    def _read(self) -> Bounds:
        phase = self.phase
        others = phase.others_bytes + self.draw(st.integers(-phase.noise_bytes, phase.noise_bytes))
        left = phase.limit_bytes - others
        bounds = Bounds({"group": phase.limit_bytes}, left - PLANNED_REST, left - phase.rest_bytes)
        self.readings.append(bounds)
        return bounds

    def _change(self, num_bytes: int) -> None:
        assert 0 <= num_bytes <= FULL
        self.changes_ns.append(self.now_ns)

    def step(self) -> None:
        self.now_ns += self.draw(st.sampled_from([30_000_000, 400_000_000, 2_500_000_000]))
        self.watch(self.now_ns)
        there = max(one.real_bytes for one in self.readings[-2:])
        assert self.watch.num_bytes <= max(0, there), "two readings in a row had less"


@settings(deadline=None, max_examples=40)
@given(st.data(), st.lists(phases, min_size=1, max_size=4))
def test_pages_follow_and_come_to_rest(data: st.DataObject, minutes: list[Phase]) -> None:
    world = World(data)
    for phase in minutes:
        world.phase = phase
        begin_ns = world.now_ns
        while world.now_ns < begin_ns + PHASE_NS:
            world.step()
        late = [at for at in world.changes_ns if at > begin_ns + SETTLED_NS]
        assert not late, "it never stays where it is"
        left = phase.limit_bytes - phase.others_bytes
        least = min(FULL, left - PLANNED_REST - 2 * MARGIN)
        assert world.watch.num_bytes >= least, "room that was there for a minute is not used"
        most = left - phase.rest_bytes + phase.noise_bytes
        assert world.watch.num_bytes <= max(0, most), "more than the limit has"
