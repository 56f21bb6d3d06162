"""Which models are in memory: what must hold whatever is asked for, and in whatever order."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tonnage.server.models.load_policy import Admit, Load, LoadPolicy, Size, Unload

NAMES = ["a", "b", "c", "d"]
STARVATION_TIMEOUT_NS = 100


@st.composite
def sizes(draw: st.DrawFn) -> tuple[dict[str, Size], list[str], int]:
    """Return sizes, who is pinned, and a capacity that just holds the largest beside those."""
    chosen = {}
    for name in NAMES:
        resident = draw(st.integers(1, 50))
        chosen[name] = Size(resident, resident + draw(st.integers(0, 10)))
    pinned = draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=3))
    kept = sum(chosen[name].resident_bytes for name in pinned)
    least = max(
        kept - (size.resident_bytes if name in pinned else 0) + size.loading_bytes
        for name, size in chosen.items()
    )
    return chosen, pinned, least + draw(st.integers(0, 60))


class Host(RuleBasedStateMachine):
    """Does what the policy decides, and checks each decision against books of its own."""

    @initialize(given_sizes=sizes())
    def begin(self, given_sizes):
        self.sizes, self.pinned, self.capacity = given_sizes
        self.policy = LoadPolicy(
            self.sizes,
            self.capacity,
            pinned=self.pinned,
            starvation_timeout_ns=STARVATION_TIMEOUT_NS,
        )
        self.now = 0
        self.waiting: dict[int, str] = {}
        self.running: Counter[str] = Counter()
        self.charged: dict[str, int] = {}  # bytes by model, as an observer would count them
        self.loading: set[str] = set()
        self.unloading: set[str] = set()

    def settle(self):
        for action in self.policy.decide(self.now):
            match action:
                case Admit(ticket):
                    name = self.waiting.pop(ticket)
                    assert name in self.charged
                    assert name not in self.loading | self.unloading
                    self.running[name] += 1
                case Load(name):
                    assert name not in self.charged
                    assert not self.loading
                    self.loading.add(name)
                    self.charged[name] = self.sizes[name].loading_bytes
                case Unload(name):
                    assert name not in self.pinned
                    assert not self.running[name]
                    assert name not in self.loading
                    self.unloading.add(name)
        assert self.policy.num_waiting == len(self.waiting)

    @rule(name=st.sampled_from(NAMES))
    def ask(self, name):
        self.waiting[self.policy.ask(name, self.now)] = name
        self.settle()

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data):
        ticket = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[ticket]
        self.policy.withdraw(ticket)
        self.settle()

    @precondition(lambda self: +self.running)
    @rule(data=st.data())
    def finish(self, data):
        name = data.draw(st.sampled_from(sorted(+self.running)))
        self.running[name] -= 1
        self.policy.finish(name)
        self.settle()

    @precondition(lambda self: self.loading)
    @rule(well=st.booleans())
    def end_load(self, well):
        name = self.loading.pop()
        if well:
            self.policy.loaded(name)
            self.charged[name] = self.sizes[name].resident_bytes
        else:
            del self.charged[name]
            refused = self.policy.failed(name)
            assert sorted(refused) == sorted(t for t, n in self.waiting.items() if n == name)
            for ticket in refused:
                del self.waiting[ticket]
        self.settle()

    @precondition(lambda self: self.unloading)
    @rule(data=st.data())
    def end_unload(self, data):
        name = data.draw(st.sampled_from(sorted(self.unloading)))
        self.unloading.remove(name)
        del self.charged[name]
        self.policy.unloaded(name)
        self.settle()

    @rule(name=st.sampled_from(NAMES))
    def dismiss(self, name):
        if name in self.pinned:
            with pytest.raises(ValueError, match="pinned"):
                self.policy.dismiss(name)
        else:
            self.policy.dismiss(name)
        self.settle()

    @rule(name=st.sampled_from(NAMES))
    def keep(self, name):
        self.policy.keep(name)
        self.settle()

    @rule(by=st.integers(1, 2 * STARVATION_TIMEOUT_NS))
    def pass_time(self, by):
        self.now += by
        self.settle()

    @invariant()
    def bytes_are_never_over(self):
        if hasattr(self, "policy"):
            assert sum(self.charged.values()) == self.policy.used_bytes <= self.capacity

    @invariant()
    def states_agree(self):
        for name in NAMES if hasattr(self, "policy") else ():
            held = name in self.charged
            assert (self.policy.state(name) == "unloaded") == (not held)
            assert self.policy.users(name) == self.running[name]

    def teardown(self):
        """When everything ends that has begun, everybody who waits is served."""
        if not hasattr(self, "policy"):
            return
        for _ in range(60):
            self.now += STARVATION_TIMEOUT_NS
            for name in list((+self.running).elements()):
                self.policy.finish(name)
            self.running.clear()
            for name in list(self.unloading):
                self.policy.unloaded(name)
                del self.charged[name]
            self.unloading.clear()
            for name in list(self.loading):
                self.policy.loaded(name)
                self.charged[name] = self.sizes[name].resident_bytes
            self.loading.clear()
            self.settle()
        assert not self.waiting
        assert self.policy.next_decision_ns() is None


TestHost = Host.TestCase
TestHost.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


@settings(deadline=None)
@given(given_sizes=sizes(), data=st.data())
def test_nobody_starves_beside_models_that_are_always_in_use(given_sizes, data):
    """Answers take a while and their successors come before they end: each model is never idle."""
    chosen, pinned, capacity = given_sizes
    policy = LoadPolicy(
        chosen, capacity, pinned=pinned, starvation_timeout_ns=STARVATION_TIMEOUT_NS
    )
    length = data.draw(st.integers(1, 5))
    waiting: dict[int, tuple[str, int]] = {}
    ends: list[tuple[int, str]] = []
    in_work: list[tuple[str, str]] = []
    longest = 0
    for turn in range(400):
        now = turn * STARVATION_TIMEOUT_NS // 4
        for name in NAMES:
            waiting[policy.ask(name, now)] = (name, turn)
        for end, name in [one for one in ends if one[0] <= turn]:
            ends.remove((end, name))
            policy.finish(name)
        for what, name in in_work:
            (policy.loaded if what == "load" else policy.unloaded)(name)
        in_work.clear()
        for action in policy.decide(now):
            match action:
                case Admit(ticket):
                    name, asked = waiting.pop(ticket)
                    longest = max(longest, turn - asked)
                    ends.append((turn + length, name))
                case Load(name):
                    in_work.append(("load", name))
                case Unload(name):
                    in_work.append(("unload", name))
    # In the worst case all others go first, each of them only after patience, an answer's length,
    # an unload and a load.
    oldest = max((400 - asked for _, asked in waiting.values()), default=0)
    assert max(longest, oldest) <= len(NAMES) * (4 + length + 4)


def test_the_least_recently_used_goes_first_and_only_as_much_as_needed():
    policy = LoadPolicy({name: Size(10, 10) for name in NAMES}, 30)
    for name in "abc":
        policy.ask(name, 0)
        assert policy.decide(0) == [Load(name)]
        policy.loaded(name)
        policy.decide(0)
    policy.ask("a", 0)
    assert policy.decide(0) == [Admit(4)]
    for name in "aabc":
        policy.finish(name)
    policy.ask("d", 0)
    assert policy.decide(0) == [Unload("b")]
    assert policy.decide(0) == []
    policy.unloaded("b")
    assert policy.decide(0) == [Load("d")]
    assert policy.latest() == "a"


def test_an_idle_model_leaves_at_once_and_one_in_use_after_its_answer():
    policy = LoadPolicy({name: Size(10, 12) for name in NAMES}, 12, starvation_timeout_ns=50)
    first = policy.ask("a", 0)
    assert policy.decide(0) == [Load("a")]
    policy.loaded("a")
    assert policy.decide(0) == [Admit(first)]
    policy.ask("b", 0)
    second = policy.ask("a", 10)
    assert policy.decide(10) == [Admit(second)]  # patience has not ended
    assert policy.next_decision_ns() == 50
    policy.ask("a", 60)
    assert policy.decide(60) == []  # now it waits behind b
    policy.finish("a")
    policy.finish("a")
    assert policy.decide(61) == [Unload("a")]
    policy.unloaded("a")
    assert policy.decide(61) == [Load("b")]


def test_who_gives_up_waiting_is_no_reason_to_unload_anything():
    policy = LoadPolicy({name: Size(10, 12) for name in NAMES}, 12, starvation_timeout_ns=50)
    policy.ask("a", 0)
    policy.decide(0)
    policy.loaded("a")
    policy.decide(0)
    ticket = policy.ask("b", 0)
    late = policy.ask("a", 70)
    assert policy.decide(70) == []
    policy.withdraw(ticket)
    assert policy.decide(70) == [Admit(late)]


def test_what_can_never_fit_is_refused_at_once():
    with pytest.raises(ValueError, match="b does not fit"):
        LoadPolicy({"a": Size(10, 10), "b": Size(10, 25)}, 30, pinned=["a"])
