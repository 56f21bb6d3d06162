"""POST /v1/embeddings through the official client, and what no client sends."""

import http.client
import json
import threading
from array import array
from contextlib import closing

import openai
import pytest

from support.live_server import FAILURES, NAME, Live, ScriptedEngine, live, write_chat_model
from support.waiting import wait_until
from tonnage.core.errors import LogitsError
from tonnage.engine.embedding import Embedding
from tonnage.engine.engine import Engine
from tonnage.server.models.tenants import read_tenants
from tonnage.server.openai.embeddings import MAX_INPUTS

TEXTS = ["The sky is blue.", "x", "Water boils at 100 degrees." * 9]


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=512, threads=1, concurrency=3) as engine:
        yield engine


@pytest.fixture(scope="module")
def server(engine) -> Live:
    with live(engine) as server:
        yield server


def openai_client(server: Live, key: str = "none") -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)


@pytest.fixture(scope="module")
def client(server):
    with openai_client(server) as client:
        yield client


def post(server: Live, body: object) -> tuple[int, bytes, http.client.HTTPMessage]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    kind = {"content-type": "application/json"}
    with closing(connection):
        connection.request("POST", "/v1/embeddings", json.dumps(body).encode(), kind)
        with connection.getresponse() as answer:
            return answer.status, answer.read(), answer.headers


def test_vectors_are_the_engines(client, engine):
    answer = client.embeddings.create(model=NAME, input=TEXTS)
    alone = engine.embed(TEXTS)
    assert [one.index for one in answer.data] == [0, 1, 2]
    # The client asks for base64, which says every bit.
    assert [array("f", one.embedding) for one in answer.data] == [one.vector for one in alone]
    num_tokens = sum(one.num_tokens for one in alone)
    assert (answer.usage.prompt_tokens, answer.usage.total_tokens) == (num_tokens, num_tokens)
    assert (answer.object, answer.model) == ("list", NAME)
    floats = client.embeddings.create(model=NAME, input=TEXTS, encoding_format="float", user="joe")
    assert [one.embedding for one in floats.data] != [list(one.vector) for one in alone]
    assert [array("f", one.embedding) for one in floats.data] == [one.vector for one in alone]


def test_every_form_of_input(client, engine):
    ids = [list(one) for one in engine.encode_inputs(TEXTS)]

    def ask(given: object, **more: object) -> list[list[float]]:
        answer = client.embeddings.create(model=NAME, input=given, **more)
        return [one.embedding for one in answer.data]

    assert ask(TEXTS) == ask(ids)
    assert ask(TEXTS[0]) == ask(ids[0]) == ask(TEXTS)[:1]
    last = engine.embed(TEXTS, pooling="last", dimensions=32)
    found = ask(TEXTS, dimensions=32, extra_body={"pooling": "last", "priority": 1})
    assert [array("f", one) for one in found] == [one.vector for one in last]
    assert sum(value * value for value in found[0]) == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": "x" * 600}, "input", r"Input 0 has 60\d tokens and the context holds 512"),
        ({"input": ["a", "b" * 600]}, "input", "Input 1 has 60"),
        ({"input": [[1] * 513]}, "input", "has 513 tokens and the context holds 512"),
        ({"input": ["x"] * (MAX_INPUTS + 1)}, "input", "has 2,049 texts; at most 2,048"),
        ({"input": []}, "input", "length >= 1"),
        ({"input": ""}, "input", "Input 0 is empty"),
        ({"input": ["a", []]}, "input", "Input 1 is empty"),
        ({"input": [1, "a"]}, "input", "mixes token ids with texts"),
        ({"input": [[1 << 40]]}, "input", "token id 1099511627776 is not in the vocabulary"),
        ({"input": [-1]}, "input", "token id -1"),
        ({"input": [1.5]}, "input", "float"),
        ({"input": [True]}, "input", "bool"),
        ({"input": {"a": 1}}, "input", "object"),
        ({"input": [[["a"]]]}, "input", "array"),
        ({"dimensions": 0}, "dimensions", ">= 1"),
        ({"dimensions": 97}, None, "97 dimensions were asked for and the model has 96"),
        ({"encoding_format": "int8"}, "encoding_format", "int8"),
        ({"extra_body": {"pooling": "cls"}}, "pooling", "cls"),
    ],
)
def test_a_wrong_request_is_a_bad_request_error(client, change, param, words):
    with pytest.raises(openai.BadRequestError, match=words) as caught:
        client.embeddings.create(**{"model": NAME, "input": "x", **change})
    assert caught.value.param == param
    assert caught.value.type == "invalid_request_error"


def test_too_long_says_so_in_openais_words(client):
    with pytest.raises(openai.BadRequestError) as caught:
        client.embeddings.create(model=NAME, input="x" * 600)
    assert caught.value.code == "context_length_exceeded"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="other", input="x")


def test_a_large_answer_comes_in_parts(server, engine):
    texts = [str(number % 7) for number in range(MAX_INPUTS)]
    body = {"model": NAME, "input": texts, "encoding_format": "float"}
    status, whole, headers = post(server, body)
    assert (status, headers["content-length"], headers["transfer-encoding"]) == (
        200,
        None,
        "chunked",
    )
    assert len(whole) > 1 << 20
    data = json.loads(whole)["data"]
    assert [one["index"] for one in data] == list(range(MAX_INPUTS))
    few = [one.vector for one in engine.embed(texts[:7])]
    assert [array("f", one["embedding"]) for one in data] == [few[n % 7] for n in range(MAX_INPUTS)]
    status, whole, headers = post(server, {**body, "input": "x"})
    assert int(headers["content-length"]) == len(whole)


def test_what_was_read_is_counted(server, engine):
    metrics = server.service.metrics
    before = metrics.embedded_inputs, metrics.embedded_tokens
    post(server, {"model": NAME, "input": [[1, 2, 3], [4]]})
    assert (metrics.embedded_inputs, metrics.embedded_tokens) == (before[0] + 2, before[1] + 4)
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("GET", "/metrics")
    told = connection.getresponse().read().decode()
    assert f'tonnage_embedded_tokens_total{{model="tiny"}} {metrics.embedded_tokens}' in told
    assert 'path="/v1/embeddings",status="200"' in told
    connection.request("GET", "/openapi.json")
    document = json.loads(connection.getresponse().read())
    connection.close()
    schema = document["paths"]["/v1/embeddings"]["post"]["requestBody"]["content"]
    assert schema["application/json"]["schema"]["$ref"].endswith("EmbeddingRequest")


class Scripted(ScriptedEngine):
    """Gives `count` vectors and then an error."""

    def __init__(self, count: int, error: Exception, width: int = 96) -> None:
        super().__init__()
        self.count, self.error, self.width = count, error, width
        self.closed = False

    def embed_stream(self, prompts: object, **order: object) -> "Scripted":
        self.asked.append((prompts, None, order))
        return self

    def __aiter__(self) -> "Scripted":
        return self

    async def __anext__(self) -> Embedding:
        if self.count == 0:
            raise self.error
        self.count -= 1
        return Embedding(array("f", [0.5] * self.width), 1)

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize(("make_error", "status"), FAILURES)
def test_what_the_engine_refuses(engine, make_error, status, log_lines):
    # The second fails; nothing has been sent of the first.
    scripted = Scripted(1, make_error())
    with live(engine, scripted) as server, openai_client(server) as client:
        with pytest.raises(openai.APIStatusError) as caught:
            client.embeddings.create(model=NAME, input=["a", "b"])
        assert caught.value.status_code == status
        assert "secret" not in caught.value.message
        if status == 429:
            assert caught.value.response.headers["retry-after"] == "3"
    assert scripted.closed
    lines = log_lines()
    assert "secret" not in json.dumps(lines)
    assert any(one["level"] in ("warning", "error") for one in lines) is (status >= 500)


def test_half_an_answer_does_not_look_like_a_whole_one(engine, log_lines):
    scripted = Scripted(40, LogitsError("Not finite."), width=10_000)
    with live(engine, scripted) as server:
        with pytest.raises(http.client.IncompleteRead):
            post(server, {"model": NAME, "input": ["a"] * 50})
        assert server.service.metrics.in_progress == 0
    assert scripted.closed
    assert any("LogitsError" in one["message"] for one in log_lines())


def test_a_client_that_goes_away_frees_everything(server, engine):
    scheduler = engine._serving.loop.scheduler
    body = json.dumps({"model": NAME, "input": ["word " * 60] * 700}).encode()
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    connection.request("POST", "/v1/embeddings", body, {"content-type": "application/json"})
    wait_until(lambda: scheduler.num_running > 0)
    connection.close()
    wait_until(lambda: scheduler.num_running + scheduler.num_waiting == 0)
    assert all(pool.num_used == 0 for pool in scheduler.cache.pools)


def test_a_chat_goes_on_beside_a_large_request(server, engine):
    done = threading.Event()

    def embed() -> None:
        with openai_client(server) as client:
            client.embeddings.create(model=NAME, input=["word " * 60] * 300)
        done.set()

    thread = threading.Thread(target=embed)
    thread.start()
    with openai_client(server) as client:
        hi = [{"role": "user", "content": "Hello"}]
        alone = engine.generate(hi, temperature=0, max_tokens=20).complete().text
        answer = client.chat.completions.create(
            model=NAME, messages=hi, temperature=0, max_tokens=20
        )
        assert answer.choices[0].message.content == alone
    thread.join(60)
    assert done.is_set()


def test_tenants_pay_for_their_tokens(engine, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text(
        '[tenant.joe]\nkey = "joe-0123456789abcdef"\ntokens_per_minute = 10\n'
        '[tenant.amy]\nkey = "amy-0123456789abcdef"\n'
    )
    scripted = Scripted(1, StopAsyncIteration())
    with live(engine, tenants=read_tenants(keys, None)) as server:
        with openai_client(server, "joe-0123456789abcdef") as client:
            client.embeddings.create(model=NAME, input=[[1] * 12, [2] * 3])
            with pytest.raises(openai.RateLimitError, match="10 tokens per minute"):
                client.embeddings.create(model=NAME, input=[1])
        with openai_client(server, "amy-0123456789abcdef") as client:
            client.embeddings.create(model=NAME, input=[1])
    with (
        live(engine, scripted, tenants=read_tenants(keys, None)) as server,
        openai_client(server, "amy-0123456789abcdef") as client,
    ):
        terms = {"priority": 5, "deadline_s": 9}
        client.embeddings.create(model=NAME, input=[1], extra_body=terms)
    order = scripted.asked[0][2]
    assert (order["tenant"], order["priority"], order["deadline_s"]) == ("amy", 0, 9)
