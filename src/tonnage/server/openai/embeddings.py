"""POST /v1/embeddings: the vectors of one text or several, in OpenAI's form.

Vectors are written as they come, so a request of 2,048 texts holds few of them: a small answer is
sent whole, of a large one what is there already.
"""

from base64 import b64encode
from collections.abc import AsyncIterator, Sequence

import msgspec

from tonnage.core.errors import ContextLengthError, RequestError
from tonnage.core.pooling import Pooling
from tonnage.engine.embedding import Embedding, Inputs
from tonnage.server.generation.delivery import signs_of_life
from tonnage.server.http.decoding import decode
from tonnage.server.http.exchange import JSON, HttpExchange
from tonnage.server.http.failures import HttpError
from tonnage.server.models.service import RequestParameters, Service
from tonnage.server.models.tenants import Tenant
from tonnage.server.openai.schema import EmbeddingRequest

MAX_INPUTS = 2048  # OpenAI's
# What is written before an answer begins to be sent; until then an error can still have its status.
_HELD_BYTES = 64 << 10
_ELEMENT_BYTES = 18  # of a vector as text, at most


async def embed(service: Service, exchange: HttpExchange, tenant: Tenant, body: bytes) -> None:
    """Return the vector of every text of a request, of length 1."""
    found = await exchange.prepared(lambda: _prepared(service, tenant, body))
    prompts, parameters, pooling, dimensions, in_base64 = found
    del found
    num_tokens = sum(map(len, prompts))
    exchange.trace.embedding(service.name, num_tokens)
    written_bytes = min(_HELD_BYTES, _ELEMENT_BYTES * service.engine.plan.d_model * len(prompts))
    async with service.embedding(
        prompts, parameters, pooling=pooling, dimensions=dimensions, written_bytes=written_bytes
    ) as vectors:
        async with signs_of_life(exchange, parameters):
            writer = _Writer(service.name, num_tokens, in_base64=in_base64)
            rest = await _written(exchange, vectors, writer)
        await exchange.whole(rest, JSON)


async def _prepared(
    service: Service, tenant: Tenant, body: bytes
) -> tuple[list[Sequence[int]], RequestParameters, Pooling | None, int | None, bool]:
    """Return token ids, and how their vectors are to be made and written."""
    request = decode(EmbeddingRequest, body)
    inputs = _inputs(request)
    try:
        prompts = await service.aside(lambda: service.engine.encode_inputs(inputs))
    except ContextLengthError as error:
        code = "context_length_exceeded"
        raise HttpError(400, str(error), code=code, param="input") from None
    except RequestError as error:
        raise HttpError(400, str(error), code="invalid_value", param="input") from None
    parameters, in_base64 = service.parameters(request, tenant), request.encoding_format == "base64"
    return prompts, parameters, request.pooling, request.dimensions, in_base64


def _inputs(request: EmbeddingRequest) -> Inputs:
    """Return the texts. Raises HttpError 400 for too many, and for texts and numbers mixed."""
    given = request.input
    if isinstance(given, str):
        return given
    numbers = [one for one in given if isinstance(one, int)]
    texts = [one for one in given if not isinstance(one, int)]
    if numbers and texts:
        raise HttpError(400, "input mixes token ids with texts or lists.", param="input")
    if len(texts) > MAX_INPUTS:
        sentence = f"input has {len(texts):,} texts; at most {MAX_INPUTS:,} go into one request."
        raise HttpError(400, sentence, param="input")
    return numbers or texts


async def _written(
    exchange: HttpExchange, vectors: AsyncIterator[Embedding], writer: "_Writer"
) -> bytes:
    """Return the answer if it is short, else what is left when all before has been sent."""
    held = [writer.head()]
    held_bytes = 0
    async for embedding in vectors:
        held.append(writer.entry(embedding))
        held_bytes += len(held[-1])
        if held_bytes > _HELD_BYTES:
            await exchange.begin_parts(JSON)
            await exchange.part(b"".join(held))
            held, held_bytes = [], 0
    held.append(writer.tail())
    return b"".join(held)


class _Writer:
    """Writes OpenAI's object piece by piece."""

    def __init__(self, model: str, num_tokens: int, *, in_base64: bool) -> None:
        self._model = model
        self._in_base64 = in_base64
        self._num_tokens = num_tokens
        self._index = 0

    def head(self) -> bytes:
        return b'{"object":"list","data":['

    def entry(self, embedding: Embedding) -> bytes:
        comma = "," if self._index else ""
        if self._in_base64:
            values = f'"{b64encode(embedding.vector.tobytes()).decode()}"'
        else:
            # Nine digits distinguish every float32 from its neighbours.
            values = f"[{','.join([f'{value:.9g}' for value in embedding.vector])}]"
        item = f'{comma}{{"object":"embedding","index":{self._index},"embedding":{values}}}'
        self._index += 1
        return item.encode()

    def tail(self) -> bytes:
        usage = {"prompt_tokens": self._num_tokens, "total_tokens": self._num_tokens}
        return b'],"model":%b,"usage":%b}' % (
            msgspec.json.encode(self._model),
            msgspec.json.encode(usage),
        )
