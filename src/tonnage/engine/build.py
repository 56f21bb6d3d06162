"""From a plan to the loop that serves it."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from tonnage.backends.protocol import Runtime
from tonnage.core.plan import Plan
from tonnage.core.record import record
from tonnage.engine.disk_tier import DiskOptions
from tonnage.engine.step_loop import StepLoop
from tonnage.engine.stream import Serving
from tonnage.kvcache.page_cache import PageCache
from tonnage.kvcache.pages import PageGroup
from tonnage.kvcache.prefix_store import PrefixStore
from tonnage.scheduler.limits import DEFAULT_STALL_NS, SchedulerLimits
from tonnage.scheduler.scheduler import Scheduler
from tonnage.text.tokenizer import Tokenizer

if TYPE_CHECKING:
    from tonnage.kvcache.states import StatePool


@record
class ServingOptions:
    """max_waiting: requests in the queue before more are refused.

    max_stall_ns: the longest that a running completion waits for a token beside prefill.
    max_cached_bytes: of unused prefixes, None for as many as there are pages.
    disk: where prefixes go that do not fit in memory; None keeps them nowhere. server_bytes: what
    an HTTP server in this process may come to. with_structured_output: completions may have to fit
    a schema or a grammar.
    share_pages: requests share what pages fit, at least a full context; else each has a full one.
    speculate: where drafts come from, "off" for nowhere.
    log: gets a sentence each time that pages are short and evicting does not suffice; called in the
    thread that runs the steps, so it has to return at once.
    """

    max_waiting: int = 1024
    max_stall_ns: int = DEFAULT_STALL_NS
    max_cached_bytes: int | None = None
    disk: DiskOptions | None = None
    server_bytes: int = 0
    with_structured_output: bool = False
    share_pages: bool = False
    speculate: str = "off"
    log: Callable[[str], None] | None = None


class ArenaPages:
    """Moves the pages of a runtime's arena."""

    def __init__(self, runtime: Runtime) -> None:
        """Take the loaded model."""
        self._runtime = runtime

    def copy(self, group: int, source: int, target: int) -> None:
        """Copy a page within its group."""
        self._runtime.copy_page(group, source, target)

    def release(self, group: int, pages: list[int]) -> None:
        """Give pages back to the system."""
        self._runtime.release_pages(group, pages)


def page_groups(plan: Plan) -> tuple[PageGroup, ...]:
    """Return the groups of the plan's pages as the scheduler knows them."""
    return tuple(
        PageGroup(group.num_pages, group.page_stride, group.window) for group in plan.kv.groups
    )


def _states(runtime: Runtime) -> "StatePool | None":
    """Return the slots and snapshots of the plan, with nothing in them; None without any."""
    slots = runtime.plan.slots
    if not slots.blocks:
        return None
    from tonnage.kvcache.states import StatePool

    return StatePool(slots.num_slots, slots.num_snapshots, runtime)


def build_serving(
    runtime: Runtime,
    tokenizer: Tokenizer,
    options: ServingOptions,
    *,
    store: PrefixStore | None = None,
) -> Serving:
    """Return the serving of a loaded model, with nothing in its pages."""
    plan = runtime.plan
    limits = SchedulerLimits(
        max_running=plan.concurrency,
        max_batch_tokens=plan.max_rows,
        max_logit_rows=plan.max_logit_rows,
        context_tokens=plan.context_tokens,
        max_waiting=options.max_waiting,
        max_stall_ns=options.max_stall_ns,
    )

    def make_scheduler() -> Scheduler:
        cache = PageCache(
            page_groups(plan),
            ArenaPages(runtime),
            max_cached_bytes=options.max_cached_bytes,
            store=store,
            states=_states(runtime),
        )
        return Scheduler(cache, limits, log=options.log)

    return Serving(StepLoop(runtime, make_scheduler), tokenizer, plan)
