"""Continuous batching by token: whose tokens make up the batch of the next step.

docs/scheduling.md describes the policy. After "Taming Throughput-Latency Tradeoff in LLM Inference
with Sarathi-Serve" (Agrawal et al., 2024): decode first, then as much prefill as keeps the step
within the longest gap that a completion may have.
"""

from array import array
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Sequence as Items

from tonnage.core.errors import DeadlineError, TonnageError
from tonnage.kvcache.page_cache import PageCache
from tonnage.scheduler.admission import Admission
from tonnage.scheduler.drafts import Drafts
from tonnage.scheduler.events import Events
from tonnage.scheduler.limits import SchedulerLimits
from tonnage.scheduler.order import FairOrder, seniority
from tonnage.scheduler.prefix_loader import PrefixLoader
from tonnage.scheduler.pressure import PressureLevels
from tonnage.scheduler.scheduled import Chunks, Ended, ScheduledChunk
from tonnage.scheduler.sequence import Request, Sequence
from tonnage.scheduler.step_time import StepTime, StepTimeEstimator, most_rows

__all__ = ["Ended", "ScheduledChunk", "Scheduler"]

# Prefill goes on by this many rows per step, however slow steps are.
MIN_CHUNK_ROWS = 8
# Of the longest wait that is allowed: what a step with decode in it is expected to take.
AIMED_PERCENT = 70
_MAX_RETRY_S = 600


class Scheduler:
    """Takes requests, gives steps, takes what was sampled. Knows no clock: times are arguments.

    One thread at a time. `next_step` and then `commit` with its step, before anything else.
    """

    def __init__(
        self,
        cache: PageCache,
        limits: SchedulerLimits,
        *,
        step_ns: StepTime | None = None,
        log: Callable[[str], None] | None = None,
    ) -> None:
        """Take the pages and limits; step_ns: a forecast, None to learn from the steps run."""
        self.cache = cache
        self.limits = limits
        self.admission = Admission(cache, limits)
        self.drafts = Drafts(cache, limits, self.admission)
        self.estimator = StepTimeEstimator()
        self._step_ns = step_ns or self.estimator.step_ns
        self.events = Events(log)
        self.pressure = PressureLevels(cache, self._preempt, self.events.add)
        page_bytes = sum(group.page_bytes for group in cache.groups)
        self._load_pages = max(1, limits.load_bytes // max(1, page_bytes))
        self._loader = PrefixLoader(cache)
        self._order = FairOrder()
        self._all: dict[int, Sequence] = {}
        self._waiting: list[Sequence] = []
        self._running: list[Sequence] = []
        self._ended: list[Ended] = []
        self._deadlines = 0
        self._num_steps = 0
        self._blocked = False
        self._num_evicted = 0

    @property
    def num_waiting(self) -> int:
        """Requests that hold no pages, preempted ones included."""
        return len(self._waiting)

    @property
    def num_running(self) -> int:
        """Requests that hold pages."""
        return len(self._running)

    def sequences(self) -> Iterable[Sequence]:
        """Return all requests, those that hold pages first."""
        return (*self._running, *self._waiting)

    def set_time(self, now_ns: int) -> None:
        """Set the time that only observers see; `next_step` does too."""
        self.events.now_ns = self.cache.tree.now_ns = now_ns

    def submit(self, request: Request) -> None:
        """Queue a request. Raises OverloadError when it can never fit, or the queue is full."""
        total = self.admission.most_tokens(request)
        if not self.admission.suffices(total):
            raise self.pressure.refusal(total, self.limits.max_batch_tokens, None)
        if len(self._waiting) >= self.limits.max_waiting and not request.joined:
            needed = self.cache.bytes_for(len(request.prompt) + 1, self.limits.max_batch_tokens)
            raise self.pressure.queue_refusal(len(self._waiting), needed, self._retry_after_s())
        self._order.enter(request.tenant, {s.request.tenant for s in self._all.values()})
        sequence = Sequence(request, array("i", request.prompt))
        self._all[request.id] = sequence
        self._waiting.append(sequence)
        self._deadlines += request.deadline_ns is not None
        self._blocked = False

    def cancel(self, request_id: int) -> None:
        """End a request and free its pages now; an unknown id is none of ours."""
        self.finish(request_id)

    def finish(self, request_id: int) -> None:
        """End a request that is complete; its pages stay as a prefix until evicted."""
        sequence = self._all.pop(request_id, None)
        if sequence is None:
            return
        self._loader.drop(request_id)
        self._deadlines -= sequence.request.deadline_ns is not None
        if sequence.running:
            self._running.remove(sequence)
            sequence.release(self.cache)
            self.pressure.shrunk = False
        else:
            self._waiting.remove(sequence)
            self.cache.tree.drop_root(sequence.request.salt)
        self._blocked = False

    def decoding(self) -> Iterable[Sequence]:
        """Return the requests that may have drafts: those that are read and decode."""
        return (one for one in self._running if one.is_decoding and not one.stalled)

    def set_stalled(self, request_id: int, *, stalled: bool) -> None:
        """Set whether the client of a request does not read now, so that it gets no rows."""
        sequence = self._all.get(request_id)
        if sequence is not None and sequence.stalled != stalled:
            sequence.stalled = stalled
            self._blocked = False

    def set_budget(self, num_bytes: int) -> None:
        """Let all pages together take `num_bytes` from now on, preempting if they take more.

        Requests that can never fit the rest are ended as refused.
        """
        planned = sum(group.page_bytes * group.num_pages for group in self.cache.groups)
        share = (min(num_bytes, planned), planned) if planned else (1, 1)
        totals = [max(0, group.num_pages * share[0] // share[1]) for group in self.cache.groups]
        self.events.add(f"KV pages may take {num_bytes:,} bytes: {totals} pages of the groups.")
        while not self.cache.set_total(totals):
            self.pressure.shrink(len(self._running))
            self.pressure.preempt(max(self._running, key=lambda s: (s.stalled, seniority(s))))
        for sequence in list(self._all.values()):
            if not self.admission.suffices(self.admission.most_tokens(sequence.request)):
                self._refuse(sequence)
        self._blocked = False

    def next_step(self, now_ns: int) -> list[ScheduledChunk]:
        """Return the rows of the next step, none when nothing can run."""
        self.set_time(now_ns)
        if self._deadlines:
            self._expire(now_ns)
        if self._waiting and not self._blocked:
            self._admit()
        active = [s for s in self._running if not s.stalled]
        if not active:
            return []
        decode = [s for s in active if s.is_decoding]
        prefill = [s for s in active if not s.is_decoding] if len(decode) < len(active) else []
        chunks = Chunks()
        prefill_first = self._prefill_first(decode, prefill)
        if not prefill_first:
            self._add_decode(chunks, decode)
        if prefill:
            self._add_prefill(chunks, prefill)
        if prefill_first and not chunks:
            self._add_decode(chunks, decode)
        if not chunks:
            return self._nothing_fits(now_ns)
        if self.drafts:
            self._add_drafts(chunks)
        return list(chunks.values())

    def commit(
        self, step: list[ScheduledChunk], sampled: Mapping[int, Items[int]], elapsed_ns: int
    ) -> None:
        """Count the rows of a step that has run.

        sampled: request id -> the tokens sampled from its chunk, in order: those of its drafts that
        were right, and one more; none when it failed. Rows of other drafts count as never computed,
        and pages with nothing else are free again. Where sequences have a state, all rows of such
        a chunk count as never computed. Tenants are charged for the rows that count.
        """
        num_rows = 0
        self._num_steps += 1
        for chunk in step:
            sequence = chunk.sequence
            tokens = sampled.get(sequence.request.id, ()) if chunk.num_logit_rows else ()
            num_rows += len(chunk.tokens)
            num_kept = len(chunk.tokens)
            if chunk.num_drafts:
                num_kept = self.drafts.num_kept(chunk, len(tokens))
            sequence.tokens.extend(tokens)
            sequence.commit(self.cache, num_kept)
            sequence.last_served = self._num_steps
            self._order.charge(sequence.request.tenant, num_kept)
        self.drafts.settle()
        if num_rows:  # none where an interrupted step gave nothing
            self.estimator.observe(num_rows, elapsed_ns)
        num_evicted = self.cache.tree.num_evicted
        if num_evicted != self._num_evicted:
            self.events.evicted(num_evicted - self._num_evicted)
            self._num_evicted = num_evicted

    def take_ended(self) -> list[Ended]:
        """Return the requests that the scheduler ended since the last call."""
        ended, self._ended = self._ended, []
        return ended

    def num_cached(self, request_id: int) -> int:
        """Return how many tokens of a request's prompt were found in the cache at most."""
        return self._all[request_id].num_cached

    def admitted_ns(self, request_id: int) -> int:
        """Return when a running request had pages for the first time, by the clock of its steps."""
        return self._all[request_id].admitted_ns

    # Waiting -> running

    def _admit(self) -> None:
        candidates = [s for s in self._waiting if not s.stalled]
        candidates.sort(key=self._order.key)
        for sequence in candidates:
            while self._running and not self._has_place(sequence):
                victim = None if self.pressure.shrunk else self._victim_for(sequence)
                if victim is None:
                    self._blocked = True
                    return
                self.pressure.preempt(victim)
            if not sequence.is_pooled and self._loader.load_more(sequence, self._most_loaded()):
                return
            self._waiting.remove(sequence)
            if sequence.is_pooled or self.cache.states is not None:
                sequence.slot = self._free_slot()
            sequence.admit(self.cache, sequence.match(self.cache))
            sequence.admitted_ns = sequence.admitted_ns or self.events.now_ns
            self._running.append(sequence)

    def _free_slot(self) -> int:
        taken = {sequence.slot for sequence in self._running}
        return next(slot for slot in range(self.limits.max_running) if slot not in taken)

    def _most_loaded(self) -> int | None:
        """Return how many pages of the store may be loaded before the next step; None for all."""
        awaited = any(one.is_decoding and one.awaited for one in self._running)
        return self._load_pages if awaited else None

    def _has_place(self, sequence: Sequence) -> bool:
        """Whether there are a slot and pages."""
        if self.pressure.shrunk or len(self._running) >= self.limits.max_running:
            return False
        return self.admission.admits(sequence, self._running)

    def _victim_for(self, sequence: Sequence) -> Sequence | None:
        """Return which one is preempted for a waiting one: an idle one, or of lower priority."""
        lesser = [
            one for one in self._running
            if one.stalled or one.request.priority < sequence.request.priority
        ]  # fmt: skip
        return max(lesser, key=lambda one: (one.stalled, seniority(one)), default=None)

    def _preempt(self, victim: Sequence) -> None:
        self._running.remove(victim)
        victim.release(self.cache)
        victim.num_preempted += 1
        self._waiting.append(victim)
        self._blocked = False

    # Rows of a step

    def _prefill_first(self, decode: list[Sequence], prefill: list[Sequence]) -> bool:
        """Whether prefill fills the step alone and no client waits for the next tokens.

        More requests decode together later, for one pass over the weights.
        """
        backlog = sum(sequence.num_pending for sequence in prefill)
        return backlog >= self.limits.max_batch_tokens and not any(one.awaited for one in decode)

    def _add_decode(self, chunks: Chunks, decode: list[Sequence]) -> None:
        limits = self.limits
        most = min(len(decode), limits.max_batch_tokens, limits.max_logit_rows)
        if most > 1 and any(sequence.awaited for sequence in decode):
            most = most_rows(self._step_ns, limits.max_stall_ns, 1, most)
        if most < len(decode):
            decode = sorted(decode, key=lambda s: (s.last_served, seniority(s)))[:most]
        for sequence in decode:
            self._add(chunks, sequence, 1)

    def _add_prefill(self, chunks: Chunks, prefill: list[Sequence]) -> None:
        left = self._most_rows(chunks, len(chunks) + MIN_CHUNK_ROWS) - len(chunks)
        claimed = set()
        for sequence in sorted(prefill, key=self._order.key):
            if not sequence.running:
                continue
            page = None
            if not sequence.is_pooled:
                sequence.adopt(self.cache)
                page = sequence.next_page(self.cache)
            if left < 1 or (page is not None and page in claimed):
                continue
            added = self._add(chunks, sequence, min(left, sequence.num_pending))
            left -= added
            if added and page is not None:  # else the next one waits in vain
                claimed.add(page)

    def _most_rows(self, chunks: Chunks, low: int) -> int:
        """Return the most rows of a step that has `chunks` already; as many as `low` may be."""
        limits = self.limits
        if not any(chunk.sequence.awaited for chunk in chunks.values()):
            return limits.max_batch_tokens
        # The rest of the bound is left to what other processes do meanwhile.
        bound = limits.max_stall_ns * AIMED_PERCENT // 100
        low = min(limits.max_batch_tokens, low)
        return most_rows(self._step_ns, bound, low, limits.max_batch_tokens)

    def _add_drafts(self, chunks: Chunks) -> None:
        """Add drafts to a step that is complete without them."""
        num_rows = sum(len(chunk.tokens) for chunk in chunks.values())
        left = self._most_rows(chunks, num_rows) - num_rows
        self.drafts.add(chunks, min(left, self.limits.max_logit_rows - chunks.num_logit_rows))

    def _add(self, chunks: Chunks, sequence: Sequence, num_rows: int) -> int:
        """Add a sequence's next rows as far as pages allow; return how many."""
        if not sequence.running:
            return 0
        begin = sequence.num_computed
        num_logit_rows = sequence.num_logit_rows(num_rows)
        excess = chunks.num_logit_rows + num_logit_rows - self.limits.max_logit_rows
        wanted = num_rows - max(0, excess)
        if wanted == 0:
            return 0
        before = len(self._running)
        added = self.pressure.find_pages(sequence, wanted, self._running)
        if len(self._running) < before:
            chunks.drop_preempted()
        if added == 0:
            return 0
        if self.cache.states is not None:
            added = sequence.num_to_border(added)
        sequence.grow(self.cache, added)
        end = begin + added
        if added < num_rows:
            num_logit_rows = sequence.num_logit_rows(added)
        ends = end == len(sequence.tokens)
        chunks.put(
            ScheduledChunk(sequence, sequence.tokens[begin:end], begin, ends, num_logit_rows)
        )
        return added

    def _nothing_fits(self, now_ns: int) -> list[ScheduledChunk]:
        """Return rows of the oldest, for which all others may be preempted; refuse it if none fits.

        Those that were next found no page and are younger than those that have them.
        """
        active = [s for s in self._running if not s.stalled]
        if not active:
            return []
        oldest = min(active, key=seniority)
        chunks = Chunks()
        num_rows = min(oldest.num_pending, MIN_CHUNK_ROWS, self.limits.max_batch_tokens)
        if not self._add(chunks, oldest, num_rows):
            self._refuse(oldest)
            return self.next_step(now_ns)
        return list(chunks.values())

    # Ends

    def _expire(self, now_ns: int) -> None:
        for sequence in list(self._all.values()):
            request = sequence.request
            if request.deadline_ns is None or now_ns < request.deadline_ns:
                continue
            error = None
            if len(sequence.tokens) == len(request.prompt):
                waited_s = (now_ns - request.arrival_ns) / 1e9
                error = DeadlineError(
                    f"The time given to this request, {waited_s:.1f} s, ended before its first "
                    "token; give it more or ask again when fewer are waiting."
                )
            self._end(sequence, error)

    def _refuse(self, sequence: Sequence) -> None:
        total = self.admission.most_tokens(sequence.request)
        self._end(sequence, self.pressure.refusal(total, self.limits.max_batch_tokens, None))

    def _end(self, sequence: Sequence, error: TonnageError | None) -> None:
        self.finish(sequence.request.id)
        self._ended.append(Ended(sequence.request.id, error))

    def _retry_after_s(self) -> float:
        """Return when a place in the queue should be free: when the next request can be done."""
        left = [
            len(s.request.prompt) + s.request.max_tokens - s.num_computed for s in self._running
        ]
        step_ns = self._step_ns(max(1, len(self._running)))
        return min(_MAX_RETRY_S, max(1.0, min(left, default=0) * step_ns / 1e9))
