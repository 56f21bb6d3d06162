"""A proxy that cuts a connection when nothing has come from the server for a while."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def silence_proxy(port: int, silence_s: float) -> Iterator[int]:
    """Pass connections on to `port`; yield the proxy's own."""
    loop = asyncio.new_event_loop()
    ended = asyncio.Event()
    bound: list[int] = []
    ready = threading.Event()

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        up = asyncio.ensure_future(_copy(reader, far_writer, None))
        down = asyncio.ensure_future(_copy(far_reader, writer, silence_s))
        over = asyncio.ensure_future(ended.wait())
        await asyncio.wait({up, down, over}, return_when=asyncio.FIRST_COMPLETED)
        for task in (up, down, over):
            task.cancel()
        for one in (writer, far_writer):
            one.close()
            with suppress(OSError):
                await one.wait_closed()

    async def run() -> None:
        server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
        bound.append(server.sockets[0].getsockname()[1])
        ready.set()
        await ended.wait()
        server.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    thread = threading.Thread(target=loop.run_until_complete, args=(run(),))
    thread.start()
    ready.wait()
    try:
        yield bound[0]
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def _copy(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, silence_s: float | None
) -> None:
    """Pass bytes on until one side ends, or the reader's has been silent for so long."""
    with suppress(OSError, TimeoutError):
        while data := await asyncio.wait_for(reader.read(1 << 16), silence_s):
            writer.write(data)
            await writer.drain()
