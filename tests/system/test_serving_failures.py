"""What fails, is interrupted or comes at the wrong moment, in an engine that serves others too."""

import asyncio
from collections import deque
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.checkpoints import matrices, tiny_config, tiny_model, write_gguf
from support.waiting import wait_until
from system.test_serving import CONTEXT, alone, requests, result, used_pages
from tonnage.core.errors import RequestError
from tonnage.core.sampling import SamplingOptions
from tonnage.engine.engine import Engine
from tonnage.engine.generation import Generation
from tonnage.engine.job import Delta


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = tiny_config("gemma3_text", max_position_embeddings=1 << 12)
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    return write_gguf(path, tiny_model(config, seed=1), matrices("Q8_0"))


@pytest.fixture
def engine(model: Path) -> Iterator[Engine]:
    with Engine.open(str(model), context=CONTEXT, threads=2, concurrency=3) as opened:
        yield opened


class Broken:
    """A constraint that fails where it is told to, after a few tokens."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._left = 5

    def mask(self) -> bytes:
        self._fail("mask")
        return b"\xff" * 1024

    def accept(self, token_id: int) -> None:
        self._fail("accept")

    def _fail(self, where: str) -> None:
        self._left -= where == self._where
        if not self._left:
            raise ArithmeticError("a constraint of somebody's own")


@pytest.mark.parametrize("where", ["mask", "accept"])
def test_a_constraint_that_fails_ends_its_own_answer_alone(
    engine: Engine, model: Path, where: str
) -> None:
    made = requests(2, seed=5)
    broken = SamplingOptions(
        max_tokens=30, ignore_eos=True, temperature=0, constraint=lambda: Broken(where)
    )

    async def read(prompt: list[int], options: SamplingOptions) -> Generation:
        stream = engine.stream(prompt, options)
        async for _ in stream:
            pass
        return stream.generation

    async def together() -> list[Generation | BaseException]:
        work = [read([1, 2, 3], broken), *(read(*one) for one in made)]
        return await asyncio.gather(*work, return_exceptions=True)

    failure, *others = asyncio.run(together())
    assert isinstance(failure, ArithmeticError)
    assert [result(one) for one in others] == alone(model, made)  # type: ignore[arg-type]
    assert used_pages(engine) == 0


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_budget_outlives_a_failure(engine: Engine, error: type[BaseException]) -> None:
    kv_bytes = engine.plan.kv.nbytes
    loop = engine._serving.loop
    engine.set_budget(engine._pages._rest_bytes() + kv_bytes // 2)
    assert loop.scheduler.cache.total_bytes <= kv_bytes // 2

    def fail(now_ns: int) -> None:
        loop.before_step = None
        raise error("once")

    before, loop.before_step = loop.scheduler, fail
    with pytest.raises(error, match="once"):
        engine.generate([1, 2, 3], max_tokens=3).complete()
    assert loop.scheduler is not before
    assert loop.scheduler.cache.total_bytes <= kv_bytes // 2
    assert engine.generate([1, 2, 3], max_tokens=3, ignore_eos=True).complete().tokens


def test_a_stream_that_begins_while_the_engine_is_closed_is_told(engine: Engine) -> None:
    loop = engine._serving.loop
    start_thread = loop.start_thread

    def start_and_close() -> None:
        start_thread()
        engine.close()

    loop.start_thread = start_and_close  # type: ignore[method-assign]

    async def read() -> None:
        async for _ in engine.stream([1, 2, 3], max_tokens=3):
            pass

    with pytest.raises(RequestError, match="closed"):
        asyncio.run(asyncio.wait_for(read(), 10))


def test_what_cannot_begin_ends_alone_in_a_batch(engine: Engine) -> None:
    sound = SamplingOptions(max_tokens=4, ignore_eos=True)
    long, many = SamplingOptions(stop=("x" * 5000,)), SamplingOptions(stop=("x",) * 100)
    done: list[int] = []
    answers = engine.generate_batch(
        [[1, 2, 3]] * 4, [sound, long, many, sound], on_done=lambda index, _: done.append(index)
    )
    assert [one.finish_reason for one in answers] == ["length", "error", "error", "length"]
    assert all(isinstance(answers[index].error, RequestError) for index in (1, 2))
    assert sorted(done) == [0, 1, 2, 3]


def test_an_interrupted_batch_leaves_nothing_running(engine: Engine) -> None:
    def fail(index: int, generation: Generation) -> None:
        raise KeyboardInterrupt

    options = [SamplingOptions(max_tokens=count, ignore_eos=True) for count in (2, 100, 100, 100)]
    with pytest.raises(KeyboardInterrupt):
        engine.generate_batch([[1, 2, 3]] * 4, options, on_done=fail)
    scheduler = engine._serving.loop.scheduler
    assert (scheduler.num_running, scheduler.num_waiting, used_pages(engine)) == (0, 0, 0)


class Interrupted(deque[Delta]):
    """Pieces whose reader takes all that are there while the driver counts them."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most
        self.taken = 0

    def __len__(self) -> int:
        count = super().__len__()
        if count >= self._most and not self.taken:
            self.taken = count
            self.clear()
        return count


def test_a_reader_that_takes_pieces_while_they_are_counted_gets_more(engine: Engine) -> None:
    async def read() -> tuple[Generation, int, int]:
        stream = engine.stream([1, 2, 3], max_tokens=150, ignore_eos=True)
        job = stream._job
        assert job.ahead is not None
        out = job.out = Interrupted(job.ahead)
        await stream.__anext__()
        # The event loop stands still until its reader is too far behind.
        wait_until(lambda: out.taken > 0)
        read = sum([len(piece.tokens) async for piece in stream])
        return stream.generation, out.taken, read

    generation, taken, read_after = asyncio.run(asyncio.wait_for(read(), 20))
    assert (generation.finish_reason, len(generation.tokens)) == ("length", 150)
    assert taken + read_after < 150


def test_the_last_piece_is_read_though_the_end_comes_with_it(engine: Engine) -> None:
    class Late(deque[Delta]):
        """Empty when it is looked at first, and full and ended right behind."""

        def __bool__(self) -> bool:
            there = len(self) > 0
            if not there and not job.ended:
                self.append(Delta("last", (5,), ()))
                job.ended = True
            return there

    async def read() -> list[str]:
        stream._begun, stream._loop_of_reader = True, asyncio.get_running_loop()
        return [piece.text async for piece in stream]

    stream = engine.stream([1, 2, 3])
    job = stream._job
    job.out = Late()
    assert asyncio.run(asyncio.wait_for(read(), 10)) == ["last"]
