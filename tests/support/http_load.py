"""Many clients at once, of every kind and some without patience, and what became of them."""

import asyncio
import random
from collections import Counter
from time import monotonic
from typing import Any

from support.http_client import Client, Reply

_WORDS = ("the", "of", "a", "to", "in", "is", "that", "for", "it", "was", "on", "are", "as")
_LOOKS = ("/health", "/v1/models", "/memory", "/metrics")


class HttpLoad:
    """Clients of one server, each on a connection of its own."""

    def __init__(self, port: int, model: str, seed: int = 1) -> None:
        """model: its name; the same seed asks the same."""
        self.statuses: Counter[int] = Counter()
        self.kinds: Counter[str] = Counter()
        self.broken: list[str] = []
        self._port = port
        self._model = model
        self._seed = seed

    def run(self, num_clients: int, seconds: float) -> None:
        """Let so many clients ask one request after the other for so long."""
        asyncio.run(self._all(num_clients, monotonic() + seconds))

    async def _all(self, num_clients: int, end: float) -> None:
        await asyncio.gather(
            *(self._client(random.Random(f"{self._seed} {i}"), end) for i in range(num_clients))
        )

    async def _client(self, rng: random.Random, end: float) -> None:
        client = Client(self._port)
        while monotonic() < end:
            kind = rng.choices(("chat", "text", "claude", "look", "leave"), (6, 4, 2, 2, 2))[0]
            self.kinds[kind] += 1
            try:
                async with asyncio.timeout(120):
                    await getattr(self, f"_{kind}")(client, rng)
            except (OSError, EOFError, ValueError, TimeoutError) as error:
                self.broken.append(f"{kind}: {error!r}")
                client.close()
        client.close()

    def _request(self, rng: random.Random) -> dict[str, Any]:
        return {
            "model": self._model,
            "max_tokens": rng.choice((1, 4, 16, 40)),
            "stream": rng.random() < 0.5,
        }

    def _text_of(self, rng: random.Random) -> str:
        return " ".join(rng.choices(_WORDS, k=rng.choice((1, 10, 40, 150))))

    async def _chat(self, client: Client, rng: random.Random) -> None:
        messages = [{"role": "user", "content": self._text_of(rng)}]
        body = {**self._request(rng), "messages": messages}
        await self._count(client, "/v1/chat/completions", body, b"data: [DONE]\n\n", rng)

    async def _text(self, client: Client, rng: random.Random) -> None:
        body = {**self._request(rng), "prompt": self._text_of(rng), "n": rng.choice((1, 1, 3))}
        await self._count(client, "/v1/completions", body, b"data: [DONE]\n\n", rng)

    async def _claude(self, client: Client, rng: random.Random) -> None:
        messages = [{"role": "user", "content": self._text_of(rng)}]
        body = {**self._request(rng), "messages": messages}
        await self._count(client, "/v1/messages", body, b'data: {"type":"message_stop"}\n\n', rng)

    async def _look(self, client: Client, rng: random.Random) -> None:
        self.statuses[(await client.ask("GET", rng.choice(_LOOKS))).status] += 1

    async def _leave(self, client: Client, rng: random.Random) -> None:
        """Ask for much and go away while it comes."""
        body = {**self._request(rng), "prompt": self._text_of(rng), "max_tokens": 200}
        await client.send("POST", "/v1/completions", body)
        await asyncio.sleep(rng.random() * 0.3)
        client.close()

    async def _count(
        self, client: Client, path: str, body: dict[str, Any], end: bytes, rng: random.Random
    ) -> None:
        reply = await client.ask("POST", path, body)
        self.statuses[reply.status] += 1
        if reply.status == 429:
            assert 0 < int(reply.headers["retry-after"]) <= 3600
            await asyncio.sleep(rng.random() * 0.1)
        elif body["stream"] and not reply.body.endswith(end):
            self.broken.append(f"{path} ended with {_end(reply)}")


def _end(reply: Reply) -> str:
    return f"{reply.status} {reply.body[-200:]!r}"
