"""Frameworks that people put before a server, against scripted completions: nothing is refused.

They are heavy, so they are no need of the other tests: `make clients` installs them in an
environment of its own. Each is left out, and named, where it is not installed.
"""

import gc
import json
import os
import warnings
from collections.abc import Iterator
from enum import StrEnum
from typing import Any

import pydantic
import pytest

from support.live_server import NAME, TOOL_TEMPLATE, Live, ScriptedEngine, live, write_chat_model
from tonnage.engine.engine import Engine

pytestmark = [
    pytest.mark.slow,
    # What they warn of is theirs.
    pytest.mark.filterwarnings("ignore"),
]
TEXT = ["Hello", " there", ", you."]


class Color(StrEnum):
    """What an owner may be."""

    RED = "red"
    BLUE = "blue"


class Owner(pydantic.BaseModel):
    """Whose pet it is."""

    name: str
    color: Color


class Pet(pydantic.BaseModel):
    """A pet, nested as people write them."""

    kind: str
    owner: Owner
    note: str | None = None


PET = Pet(kind="cat", owner=Owner(name="Ann", color=Color.RED))
AS_JSON = [PET.model_dump_json()]


@pytest.fixture(scope="module", autouse=True)
def without_network() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        patch.setenv("OPENAI_API_KEY", "none")
        patch.setenv("ANTHROPIC_API_KEY", "none")
        patch.setenv("NO_PROXY", "*")
        yield
    # The frameworks leave their connections to the garbage collector, which would warn of them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf", TOOL_TEMPLATE)
    with Engine.open(str(folder), context=8192, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def talker(engine: Engine) -> Iterator[Live]:
    with live(engine, ScriptedEngine(TEXT)) as server:
        yield server


def calling(engine: Engine, name: str) -> Any:
    """Serve completions that call the function `name` with PET."""
    call = json.dumps({"name": name, "arguments": PET.model_dump(mode="json")})
    return live(engine, ScriptedEngine([f"<tool_call>\n{call}\n</tool_call>"]))


def needs(module: str) -> Any:
    return pytest.importorskip(module, reason="frameworks are not installed: " + module)


def test_langchain(engine: Engine, talker: Live) -> None:
    chat = needs("langchain_openai").ChatOpenAI
    wanted = {"base_url": f"{talker.url}/v1", "api_key": "none", "model": NAME, "max_retries": 0}
    assert chat(**wanted).invoke("Hi").content == "".join(TEXT)
    assert "".join(chunk.content for chunk in chat(**wanted).stream("Hi")) == "".join(TEXT)
    with calling(engine, "Pet") as server:
        wanted["base_url"] = f"{server.url}/v1"
        bound = chat(**wanted).with_structured_output(Pet, method="function_calling")
        assert bound.invoke("Ann has a red cat.") == PET
    with live(engine, ScriptedEngine(AS_JSON)) as server:
        wanted["base_url"] = f"{server.url}/v1"
        assert chat(**wanted).with_structured_output(Pet, method="json_schema").invoke("q") == PET


def test_langchain_for_anthropic(engine: Engine, talker: Live) -> None:
    chat = needs("langchain_anthropic").ChatAnthropic
    wanted = {"base_url": talker.url, "api_key": "none", "model": NAME, "max_retries": 0}
    assert chat(**wanted).invoke("Hi").content == "".join(TEXT)
    assert chat(**wanted).invoke([("system", "Be brief."), ("user", "Hi")]).content
    streamed = "".join(str(chunk.text) for chunk in chat(**wanted).stream("Hi"))
    assert "Hello there" in streamed
    with calling(engine, "Pet") as server:
        wanted["base_url"] = server.url
        assert chat(**wanted).with_structured_output(Pet).invoke("q") == PET


def test_llama_index(talker: Live) -> None:
    openai_like = needs("llama_index.llms.openai_like").OpenAILike
    llm = openai_like(
        api_base=f"{talker.url}/v1", api_key="none", model=NAME, is_chat_model=True,
        context_window=2048, max_retries=0,
    )  # fmt: skip
    assert str(llm.complete("Hi")) == "".join(TEXT)
    assert "".join(str(part.delta) for part in llm.stream_complete("Hi")) == "".join(TEXT)


@pytest.mark.parametrize("provider", ["openai", "anthropic"])
def test_litellm(engine: Engine, talker: Live, provider: str) -> None:
    litellm = needs("litellm")
    suffix = "/v1" if provider == "openai" else ""
    wanted = {
        "model": f"{provider}/{NAME}", "api_key": "none", "max_tokens": 99,
        "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip
    whole = litellm.completion(**wanted, api_base=talker.url + suffix)
    assert whole.choices[0].message.content == "".join(TEXT)
    stream = litellm.completion(**wanted, api_base=talker.url + suffix, stream=True)
    assert "".join(part.choices[0].delta.content or "" for part in stream) == "".join(TEXT)
    with live(engine, ScriptedEngine(AS_JSON)) as server:
        bound = litellm.completion(**wanted, api_base=server.url + suffix, response_format=Pet)
    assert Pet.model_validate_json(bound.choices[0].message.content) == PET


@pytest.mark.parametrize("mode", ["TOOLS", "JSON_SCHEMA"])
def test_instructor(engine: Engine, mode: str) -> None:
    instructor, openai = needs("instructor"), needs("openai")
    serving = calling(engine, "Pet") if mode == "TOOLS" else live(engine, ScriptedEngine(AS_JSON))
    with serving as server:
        plain = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
        client = instructor.from_openai(plain, mode=getattr(instructor.Mode, mode))
        made = client.chat.completions.create(
            model=NAME, response_model=Pet, max_retries=0,
            messages=[{"role": "user", "content": "Ann has a red cat."}],
        )  # fmt: skip
    assert made.model_dump() == PET.model_dump()


@pytest.mark.parametrize("interface", ["chat", "responses"])
@pytest.mark.parametrize("output", ["ToolOutput", "NativeOutput"])
def test_pydantic_ai(engine: Engine, interface: str, output: str) -> None:
    pydantic_ai = needs("pydantic_ai")
    if output == "ToolOutput":
        serving = calling(engine, "final_result")
    else:
        serving = live(engine, ScriptedEngine(AS_JSON))
    with serving as server:
        model = _pydantic_ai_model(interface, server.url)
        wanted = getattr(pydantic_ai, output)(Pet)
        agent = pydantic_ai.Agent(model, output_type=wanted, retries=0)
        assert agent.run_sync("Ann has a red cat.").output == PET


def _pydantic_ai_model(interface: str, url: str) -> Any:
    module = needs("pydantic_ai.models.openai")
    provider = needs("pydantic_ai.providers.openai").OpenAIProvider(
        base_url=f"{url}/v1", api_key="none"
    )
    kind = module.OpenAIChatModel if interface == "chat" else module.OpenAIResponsesModel
    return kind(NAME, provider=provider)


def test_the_environment_is_not_asked_for_keys() -> None:
    """What the frameworks were given came from here."""
    assert os.environ["OPENAI_API_KEY"] == "none"
