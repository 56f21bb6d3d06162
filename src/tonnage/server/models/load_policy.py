"""Which models of a server are in memory: a policy over bytes, apart from the loading itself.

A state machine without clock, threads or files: events go in, decisions come out.
Requests name a model and wait until it is loaded. The least recently used model is unloaded
first, but nothing goes while it is in use, and what is pinned never goes. Models that are waited
for are loaded in the order of their oldest request. Once that one has waited for
`starvation_timeout_ns`, the models that are in its way admit no request until it is loaded.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from tonnage.core.record import record

State = Literal["unloaded", "loading", "loaded", "unloading"]
STARVATION_TIMEOUT_NS = 1_000_000_000


@record
class Size:
    """What a model takes of its own: at rest, and at most while its weights are read."""

    resident_bytes: int
    loading_bytes: int


@record
class Admit:
    """Let the request with this ticket use its model; `LoadPolicy.finish` when it has ended."""

    ticket: int


@record
class Load:
    """Load a model; then `LoadPolicy.loaded` or `LoadPolicy.failed`."""

    model: str


@record
class Unload:
    """Give a model's memory back; then `LoadPolicy.unloaded`."""

    model: str


Action = Admit | Load | Unload


@dataclass(eq=False, slots=True)
class _Model:
    name: str
    size: Size
    pinned: bool
    state: State = "unloaded"
    users: int = 0
    last_turn: int = 0  # that of its latest admission
    dismissed: bool = False
    fresh: bool = False  # loaded, and no request was admitted since
    waiting: dict[int, int] = field(default_factory=dict)  # ticket -> when it came

    @property
    def charged_bytes(self) -> int:
        if self.state == "unloaded":
            return 0
        loading = self.state == "loading"
        return self.size.loading_bytes if loading else self.size.resident_bytes


class LoadPolicy:
    """Decides for models of known sizes under `capacity_bytes`.

    Every event is a method; after one or more of them `decide` returns what is to be done, and
    takes it as begun.
    """

    def __init__(
        self,
        sizes: Mapping[str, Size],
        capacity_bytes: int,
        *,
        pinned: Collection[str] = (),
        starvation_timeout_ns: int = STARVATION_TIMEOUT_NS,
    ) -> None:
        """capacity_bytes: of all models, without what the process itself takes.

        Raises ValueError where a model could never be loaded beside the pinned ones.
        """
        self.capacity_bytes = capacity_bytes
        self._patience_ns = starvation_timeout_ns
        self._models = {name: _Model(name, size, name in pinned) for name, size in sizes.items()}
        self._tickets = 0
        self._turns = 0
        kept = [model for model in self._models.values() if model.pinned]
        for model in self._models.values():
            beside = sum(one.size.resident_bytes for one in kept if one is not model)
            if beside + model.size.loading_bytes > capacity_bytes:
                raise ValueError(f"{model.name} does not fit into {capacity_bytes} bytes")

    @property
    def used_bytes(self) -> int:
        """What the models take now, those on their way in at the peak of their load."""
        return sum(model.charged_bytes for model in self._models.values())

    @property
    def num_waiting(self) -> int:
        """Requests that wait for their models."""
        return sum(len(model.waiting) for model in self._models.values())

    def state(self, model: str) -> State:
        """Return where a model is."""
        return self._models[model].state

    def users(self, model: str) -> int:
        """Return how many requests use a model now."""
        return self._models[model].users

    def waiting(self, model: str) -> int:
        """Return how many requests wait for a model."""
        return len(self._models[model].waiting)

    def latest(self) -> str | None:
        """Return the loaded model whose latest request is the most recent of all, if any is."""
        loaded = (model for model in self._models.values() if model.state == "loaded")
        found = max(loaded, key=lambda model: model.last_turn, default=None)
        return None if found is None else found.name

    def ask(self, model: str, now_ns: int) -> int:
        """Take a request for a model; return its ticket, which waits until it is admitted."""
        self._tickets += 1
        self._models[model].waiting[self._tickets] = now_ns
        return self._tickets

    def withdraw(self, ticket: int) -> None:
        """Forget a request that waits no longer."""
        for model in self._models.values():
            model.waiting.pop(ticket, None)

    def finish(self, model: str) -> None:
        """Take it that an admitted request has ended."""
        self._models[model].users -= 1

    def dismiss(self, model: str) -> None:
        """Unload a model as soon as no request uses it. Raises ValueError for a pinned one."""
        chosen = self._models[model]
        if chosen.pinned:
            raise ValueError(f"{model} is pinned")
        chosen.dismissed = chosen.state == "loaded"

    def keep(self, model: str) -> None:
        """Take a `dismiss` back that has not come to pass."""
        self._models[model].dismissed = False

    def loaded(self, model: str) -> None:
        """Take it that a load has ended well."""
        chosen = self._models[model]
        chosen.state, chosen.fresh = "loaded", True

    def failed(self, model: str) -> list[int]:
        """Take it that a load has failed and left nothing; return who waited for it."""
        chosen = self._models[model]
        chosen.state = "unloaded"
        tickets = list(chosen.waiting)
        chosen.waiting.clear()
        return tickets

    def unloaded(self, model: str) -> None:
        """Take it that a model's memory has been given back."""
        chosen = self._models[model]
        chosen.state, chosen.dismissed = "unloaded", False

    def decide(self, now_ns: int) -> list[Action]:
        """Return what to do now."""
        head = self._head()
        # Who came before the request that is waited for longest does not wait for it.
        first = None if head is None else next(iter(head.waiting))
        actions: list[Action] = list(self._admissions([], first))
        victims = [] if head is None else self._victims(head)
        busy = any(model.users for model in victims)
        if head is not None and busy and not self._is_starved(head, now_ns):
            victims = []
        actions += self._admissions(victims, None)
        for model in self._models.values():
            leaves = model in victims or model.dismissed
            if leaves and model.state == "loaded" and not model.users:
                model.state = "unloading"
                actions.append(Unload(model.name))
        if head is not None and self.used_bytes + head.size.loading_bytes <= self.capacity_bytes:
            head.state = "loading"
            actions.append(Load(head.name))
        return actions

    def next_decision_ns(self) -> int | None:
        """Return when `decide` may have something new to say though nothing happens, or None."""
        head = self._head()
        if head is None or not any(model.users for model in self._victims(head)):
            return None
        return self._since(head) + self._patience_ns

    def _admissions(self, closed: list[_Model], before: int | None) -> Iterator[Admit]:
        """Admit to models that are not `closed`: tickets below `before`, all where it is None.

        A model that has just been loaded serves all who waited for that.
        """
        for model in self._models.values():
            if model.state != "loaded" or model.dismissed or model in closed:
                continue
            for ticket in list(model.waiting):
                if before is None or ticket < before or model.fresh:
                    del model.waiting[ticket]
                    self._turns += 1
                    model.users, model.last_turn = model.users + 1, self._turns
                    yield Admit(ticket)
            model.fresh = False

    def _head(self) -> _Model | None:
        """Return the model to be loaded next; None while another is being loaded."""
        models = self._models.values()
        if any(model.state == "loading" for model in models):
            return None
        wanted = [model for model in models if model.state == "unloaded" and model.waiting]
        # Tickets count up, so the oldest request is the first one.
        return min(wanted, key=lambda model: next(iter(model.waiting)), default=None)

    def _victims(self, head: _Model) -> list[_Model]:
        """Return what has to leave for `head`: idle models first, the least recently used ahead."""
        models = self._models.values()
        leaving = sum(model.charged_bytes for model in models if model.state == "unloading")
        missing = self.used_bytes - leaving + head.size.loading_bytes - self.capacity_bytes
        victims: list[_Model] = []
        could = [model for model in models if model.state == "loaded" and not model.pinned]
        for model in sorted(could, key=lambda model: (model.users > 0, model.last_turn)):
            if missing <= 0:
                break
            victims.append(model)
            missing -= model.charged_bytes
        return victims

    def _is_starved(self, head: _Model, now_ns: int) -> bool:
        return now_ns - self._since(head) >= self._patience_ns

    def _since(self, head: _Model) -> int:
        return next(iter(head.waiting.values()))
