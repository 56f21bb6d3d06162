"""What the KV pages of an engine may take: what the user states, and what limits leave."""

from collections.abc import Callable
from weakref import ref

from tonnage.backends.protocol import Runtime
from tonnage.core.errors import BudgetError
from tonnage.core.ledger import Holder, ProcessLedger
from tonnage.core.machine import MachineLimits
from tonnage.core.plan import OTHER_ENGINES
from tonnage.core.units import format_bytes
from tonnage.engine.limit_watch import Bounds, LimitWatch
from tonnage.engine.step_loop import StepLoop


class PageBudget:
    """Bounds the pages of one engine; called before each step with the time."""

    def __init__(
        self,
        loop: StepLoop,
        runtime: Runtime,
        read_limits: Callable[[], MachineLimits],
        process: ProcessLedger,
        holder: Holder,
    ) -> None:
        """loop: of the engine `holder`, which is one of `process`; read_limits: of the process."""
        self._loop = loop
        self._runtime, self._plan = runtime, runtime.plan
        self._process = process
        self._holder = ref(holder)
        self._followed_bytes = self._plan.kv.nbytes
        self._stated_bytes: int | None = None
        self._watch = LimitWatch(
            self._plan.kv.nbytes, lambda: self.bounds(read_limits()), self._follow
        )

    def __call__(self, now_ns: int) -> None:
        """Follow the limits; for the thread that runs the steps."""
        self._watch(now_ns)

    def state(self, num_bytes: int) -> None:
        """Keep the whole process within `num_bytes` from the next step on.

        Raises BudgetError when all but KV pages takes more.
        """
        rest = self._rest_bytes()
        if num_bytes <= rest:
            raise BudgetError(
                f"{format_bytes(num_bytes)} were allowed and {format_bytes(rest)} are taken by all "
                "but KV pages; allow more or open the model with less."
            )
        self._stated_bytes = num_bytes
        self._loop.call(self._apply)
        self._loop.settle()

    def bounds(self, limits: MachineLimits) -> Bounds:
        """Return what `limits` leave for the pages."""
        full = self._plan.kv.nbytes
        real = limits.free_bytes
        if real < full:  # counting pages takes 0.1 ms per 32 MiB
            real += self._held_bytes()
        return Bounds(limits.by_source, limits.process_bytes - self._rest_bytes(), real)

    def _follow(self, num_bytes: int) -> None:
        self._followed_bytes = num_bytes
        self._apply()

    def _apply(self) -> None:
        num_bytes = self._followed_bytes
        if self._stated_bytes is not None:
            num_bytes = min(num_bytes, self._stated_bytes - self._rest_bytes())
        self._loop.set_budget(max(0, num_bytes))

    def _held_bytes(self) -> int:
        """Return the resident bytes of all pages; where none are known, as many as may be."""
        held = self._runtime.resident_page_bytes()
        return self._followed_bytes if held is None else held

    def _rest_bytes(self) -> int:
        """Return what the process with all open engines may come to, without our pages."""
        items = self._plan.items
        planned = sum(item.planned_bytes for item in items if item.name != OTHER_ENGINES)
        beside = self._process.planned_beside(self._holder())
        return planned - self._plan.kv.nbytes + beside
