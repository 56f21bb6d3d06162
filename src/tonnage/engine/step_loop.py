"""The loop of steps: executes what the scheduler decides and hands out what was sampled.

The caller that waits for a completion drives: it runs steps for all requests until its own has
something. So a single completion needs no second thread. Asynchronous readers cannot drive; for
them a thread does. Only the driver touches scheduler and runtime; others use the inbox.
"""

import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns

from tonnage._native import Sampled
from tonnage.backends.protocol import Runtime
from tonnage.core.errors import RequestError, TonnageError
from tonnage.engine.activity import ThroughputMeter
from tonnage.engine.drafts import DraftSource, observe, propose
from tonnage.engine.job import AnyJob, Job, PoolJob
from tonnage.engine.own_process import OwnProcess
from tonnage.engine.run_step import run_step
from tonnage.engine.sample_rows import Failed, Round, Samples, sampled_round, scored_rows
from tonnage.scheduler.scheduled import ScheduledChunk
from tonnage.scheduler.scheduler import Scheduler

_IDLE_S = 0.001
_IDLE_LOOK_S = 2.0


class StepLoop:
    """Runs the requests of one engine. `close` before the runtime is closed."""

    def __init__(self, runtime: Runtime, make_scheduler: Callable[[], Scheduler]) -> None:
        """Take a loaded model; make_scheduler: returns one over empty pages."""
        self._runtime = runtime
        self._make_scheduler = make_scheduler
        self.scheduler = make_scheduler()
        self.throughput = ThroughputMeter()
        self._jobs: dict[int, AnyJob] = {}
        self._inbox: deque[Callable[[], None]] = deque()
        self._turn = threading.Condition()
        self._driving = False
        self._torn = False
        self._closed = False
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self.before_step: Callable[[int], None] | None = None
        self.draft_source: DraftSource | None = None
        self._kv_bytes: int | None = None
        self._process = OwnProcess()

    def submit(self, *jobs: AnyJob) -> None:
        """Queue a request; its refusal comes as job.failure.

        Of several jobs, where the first is refused so are the others. Raises RequestError in a
        process that was forked from the one that opened the engine.
        """
        self._process.require()
        for job in jobs:
            job.begin(perf_counter_ns())
        self.call(lambda: self._enter_all(jobs))

    def cancel(self, job: AnyJob) -> None:
        """End a request that is not wanted any more; its pages are free before the next step."""
        self.call(lambda: self._leave(job))

    def drop(self, job: AnyJob) -> None:
        """Cancel without waking a thread; safe where garbage is collected, in any thread.

        Event.set takes a lock that the thread it interrupts may hold. A request that is being
        served keeps the driver awake; one that is not gives way to others anyway.
        """
        self._inbox.append(lambda: self._leave(job))

    def taken(self, job: Job) -> None:
        """Let a request have rows again after its reader has taken deltas."""
        if job.stalled:
            self.call(lambda: self._unstall(job))

    def call(self, command: Callable[[], None]) -> None:
        """Run `command` between two steps, as the driver."""
        self._inbox.append(command)
        self._wake.set()
        if self._closed:
            self.settle()  # no thread drives any more, and one may wait for this command

    def advance(self, ready: Callable[[], bool]) -> None:
        """Drive, or wait while another does, until `ready`. Raises RequestError when closed."""
        while not ready():
            with self._turn:
                while self._driving and not ready():
                    self._turn.wait()
                if ready():
                    return
                self._driving = True
            busy = self._drive()
            if not busy and not ready():
                self._require_open()
                self._wake.wait(_IDLE_S)

    def settle(self) -> None:
        """Run what is in the inbox now, unless a thread drives; it will do so then."""
        with self._turn:
            if self._driving:
                return
            self._driving = True
        try:
            self._read_inbox()
        finally:
            self._hand_over()

    def set_budget(self, num_bytes: int) -> None:
        """Let all pages take `num_bytes` from now on, whatever fails later; for the driver."""
        self._kv_bytes = num_bytes
        self.scheduler.set_budget(num_bytes)

    def start_thread(self) -> None:
        """Let a thread of its own drive whenever no caller does."""
        self._require_open()
        self._process.require()
        if self._thread is None:
            self._thread = threading.Thread(target=self._serve, name="tonnage-steps", daemon=True)
            self._thread.start()

    def close(self) -> None:
        """Cancel everything, stop the thread and keep all prefixes in the tier behind memory.

        Nothing happens the second time: the pages are gone then.
        """
        if self._closed:
            return
        self._closed = True
        if not self._process.is_here:
            return  # Threads, and whoever held a lock, are in the other process.
        self._wake.set()
        if self._thread is not None:
            self._thread.join()
        with self._turn:
            while self._driving:
                self._turn.wait()
        self.settle()
        for job in list(self._jobs.values()):
            self._fail(job, RequestError("The engine was closed before this completion ended."))
        self.scheduler.cache.tree.flush()

    def _require_open(self) -> None:
        if self._closed:
            raise RequestError("The engine is closed; open it again to ask more of it.")

    def _serve(self) -> None:
        while not self._closed:
            self._wake.clear()
            with self._turn:
                while self._driving:
                    self._turn.wait()
                self._driving = True
            if not self._drive() and not self._inbox and not self._closed:
                # Memory limits may change while there is no request.
                self._wake.wait(None if self.before_step is None else _IDLE_LOOK_S)

    def _drive(self) -> bool:
        """Run one step as the driver; return whether there was one. Failures go to the jobs."""
        try:
            return self._step()
        except Exception as error:
            self._start_over()
            for job in list(self._jobs.values()):
                self._fail(job, error)
            return False
        except BaseException:
            # Rows that were pooled and not committed must not be added a second time, and states
            # are those behind rows that were not committed.
            pools = any(isinstance(job, PoolJob) for job in self._jobs.values())
            if self._torn or pools or self.scheduler.cache.states is not None:
                self._rebuild()
            raise
        finally:
            self._hand_over()

    def _hand_over(self) -> None:
        with self._turn:
            self._driving = False
            self._turn.notify_all()

    def _read_inbox(self) -> None:
        while self._inbox:
            self._torn = True
            self._inbox.popleft()()
            self._torn = False

    def _step(self) -> bool:
        if self._inbox:
            self.scheduler.set_time(perf_counter_ns())
            self._read_inbox()
        begin = perf_counter_ns()
        if self.draft_source is not None:
            propose(self.draft_source, self.scheduler, self._runtime.plan.vocab_size)
        self._torn = True
        if self.before_step is not None:
            self.before_step(begin)
        chunks = self.scheduler.next_step(begin)
        self._end_refused()
        self._torn = False
        if not chunks:
            return False
        run_step(self._runtime, chunks)
        self._finish_step(chunks, begin)
        return True

    def _finish_step(self, chunks: list[ScheduledChunk], begin_ns: int) -> None:
        """Sample, commit, and hand out; an interrupted step counts as far as it was sampled."""
        sampled: Samples = {}
        failed: Failed = []
        interrupt: BaseException | None = None
        try:
            self._score(chunks, failed)
            self._sample(chunks, sampled, failed)
        except BaseException as error:
            if self._torn:
                raise
            interrupt = error
            chunks = [p for p in chunks if not p.num_logit_rows or p.request_id in sampled]
        self._torn = True
        now = perf_counter_ns()
        self.scheduler.commit(chunks, sampled, now - begin_ns)
        self.throughput.note(chunks, sampled, begin_ns, now)
        observe(self.draft_source, chunks, sampled, now - begin_ns)
        for job, reason in failed:
            self._fail(job, reason)
        for request_id in sampled:
            self._go_on(request_id)
        for chunk in chunks:
            if chunk.num_scored and chunk.request_id not in sampled:
                self._show(self._jobs.get(chunk.request_id))
        self._end_pooled(chunks)
        self._torn = False
        if interrupt is not None:
            raise interrupt
        if len(chunks) == 1 and len(chunks[0].tokens) == 1:
            self._report_step(chunks[0], (now - begin_ns) * 1e-9)

    def _report_step(self, chunk: ScheduledChunk, seconds: float) -> None:
        job = self._jobs.get(chunk.request_id)
        if (
            isinstance(job, Job)
            and job.on_step is not None
            and len(job.completion.generation.tokens) > 1
        ):
            job.on_step(chunk.position, seconds)

    def _score(self, chunks: list[ScheduledChunk], failed: Failed) -> None:
        """Take what the step says of the tokens of prompts."""
        rows = scored_rows(chunks, self._jobs, self._runtime.plan.vocab_size)
        if not rows:
            return
        made: list[Sampled | str] = []
        self._runtime.sample([one.row for one in rows], made)
        self._torn = True
        for row, one in zip(rows, made, strict=True):
            try:
                row.take(one)
            except Exception as error:
                failed.append((row.job, error))
        self._torn = False

    def _sample(self, chunks: list[ScheduledChunk], sampled: Samples, failed: Failed) -> None:
        """Sample for all completions: their first rows, then the rows of drafts that were right.

        Each request samples row after row, as it does without drafts, so its random numbers,
        penalties, constraint and end are the same. Logits or a constraint that fail end their own
        completion alone.
        """
        number, more = 0, True
        while more:
            found = sampled_round(chunks, number, self._jobs, sampled, failed)
            if found.rows:
                self._sample_rows(found, sampled, failed)
            number, more = number + 1, found.more

    def _sample_rows(self, found: Round, sampled: Samples, failed: Failed) -> None:
        made: list[Sampled | str] = []
        try:
            self._runtime.sample(found.rows, made)
        finally:
            self._torn = True
            now = perf_counter_ns()
            for job, one in zip(found.jobs, made, strict=False):
                try:
                    token = job.completion.take(one)
                    self._accept(job, token, now)
                    sampled[job.id] = (*sampled.get(job.id, ()), token)
                except Exception as error:
                    failed.append((job, error))
            self._torn = False

    def _end_pooled(self, chunks: list[ScheduledChunk]) -> None:
        """Hand out the sums of texts that are read to their ends."""
        for chunk in chunks:
            is_over = chunk.ends and chunk.sequence.is_pooled
            if is_over and isinstance(job := self._jobs.get(chunk.request_id), PoolJob):
                job.sums = self._runtime.pooled(chunk.sequence.slot)
                self._finish(job, "")

    def _accept(self, job: Job, token: int, now_ns: int) -> None:
        completion = job.completion
        if not completion.generation.tokens:
            admitted_ns = self.scheduler.admitted_ns(job.id)
            completion.started(self.scheduler.num_cached(job.id), admitted_ns)
        if completion.max_tokens > 0:
            job.deliver(token, completion.accept(token, now_ns))

    def _go_on(self, request_id: int) -> None:
        """End a completion that has its last token, and let one wait whose reader is behind."""
        job = self._jobs.get(request_id)
        if not isinstance(job, Job):
            return  # it has failed
        completion = job.completion
        if completion.max_tokens == 0:
            self._finish(job, completion.end("length"))
            return
        if job.has_finished:
            self._finish(job, "")
        self._show(job)

    def _show(self, job: AnyJob | None) -> None:
        """Tell the reader of new deltas, and let a completion wait whose reader is behind."""
        if not isinstance(job, Job):
            return  # it has failed
        if not job.ended and job.ahead is not None and len(job.out) >= job.ahead:
            job.stalled = True
            self.scheduler.set_stalled(job.id, stalled=True)
            # A reader that took deltas just before did not see that, and will not call `taken`.
            if len(job.out) < job.ahead:
                self._unstall(job)
        if job.notify is not None:
            job.notify()

    def _enter_all(self, jobs: tuple[AnyJob, ...]) -> None:
        self._jobs.update({job.id: job for job in jobs})
        for job in jobs:
            refusal = jobs[0].failure
            if refusal is None:
                self._enter(job)
            else:
                self._fail(job, refusal)

    def _enter(self, job: AnyJob) -> None:
        self._jobs[job.id] = job
        try:
            self._require_open()
            self.scheduler.submit(job.request(perf_counter_ns()))
        except TonnageError as error:
            self._fail(job, error)

    def _leave(self, job: AnyJob) -> None:
        if not job.ended:
            self._finish(job, "")

    def _unstall(self, job: Job) -> None:
        if not job.ended:
            job.stalled = False
            job.completion.resume(perf_counter_ns())
            self.scheduler.set_stalled(job.id, stalled=False)

    def _finish(self, job: AnyJob, text: str) -> None:
        self.scheduler.finish(job.id)
        self._jobs.pop(job.id, None)
        if text and isinstance(job, Job):
            job.deliver(None, text)
        job.ended = True
        if job.notify is not None:
            job.notify()

    def _fail(self, job: AnyJob, error: BaseException) -> None:
        job.fail(error)
        self._finish(job, "")

    def _end_refused(self) -> None:
        for ended in self.scheduler.take_ended():
            job = self._jobs[ended.request_id]
            if ended.error is not None:
                self._fail(job, ended.error)
            elif isinstance(job, Job):
                self._finish(job, job.completion.end("deadline"))

    def _rebuild(self) -> None:
        """Start over with empty pages after an interruption left them half changed.

        Requests go on: their tokens are computed again, to the same bits.
        """
        self._start_over()
        for job in list(self._jobs.values()):
            job.stalled = False
            self._enter(job)

    def _start_over(self) -> None:
        """Forget all pages, but not how many there may be."""
        self._torn = False
        self.scheduler = self._make_scheduler()
        if self._kv_bytes is not None:
            self.scheduler.set_budget(self._kv_bytes)
