"""`tonnage serve` as a process: start, plan, signals, refusals."""

import json
import os
import shutil
import signal
import socket
import subprocess
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import sleep

import pytest

from stand_ins.trace_collector import collecting
from support.command import COMMAND, environment, refused, tonnage
from support.live_server import write_chat_model
from support.serve_process import fetched, serving


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    return write_chat_model(tmp_path_factory.mktemp("model") / "hf")


def test_it_tells_its_memory_and_its_interface(model, tmp_path):
    with serving(tmp_path, model, "--memory", "120MiB", "--alias", "gpt-4o") as (_, url):
        names = [one["id"] for one in fetched(f"{url}/v1/models")["data"]]
        assert names == ["hf", "gpt-4o"]
        body = {"model": "gpt-4o", "messages": [{"role": "user", "content": "x"}], "max_tokens": 3}
        body["seed"] = 2  # another may end it sooner
        assert fetched(f"{url}/v1/chat/completions", body)["usage"]["completion_tokens"] == 3
        memory = fetched(f"{url}/memory")
        items = {item["name"]: item for item in memory["items"]}
        assert 0 < items["server"]["now_bytes"] < items["server"]["planned_bytes"]
        assert memory["budget_bytes"] == 120 << 20
        assert memory["peak_rss_bytes"] < memory["total_bytes"] <= memory["budget_bytes"]
        paths = fetched(f"{url}/openapi.json")["paths"]
        assert {"/v1/chat/completions", "/v1/messages", "/memory", "/health"} <= paths.keys()
        with urllib.request.urlopen(f"{url}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        assert 'tonnage_requests_total{path="/v1/chat/completions",status="200"} 1' in text
        assert 'tonnage_generated_tokens_total{model="hf"} 3' in text
        assert 'tonnage_memory_planned_bytes{item="server",kind="host"}' in text


def test_the_servers_bytes_count_against_the_budget(model, tmp_path):
    plain = json.loads(tonnage(tmp_path, "plan", model, "--json").stdout)
    total = plain["total_bytes"]
    sentence = refused(tonnage(tmp_path, "serve", model, "--memory", total, "--port", 0))
    assert "server 41.0 MiB" in sentence
    assert "structured output" not in sentence  # what is not asked for refuses nothing
    bound = ("--structured-output", "on")
    sentence = refused(tonnage(tmp_path, "serve", model, "--memory", total, "--port", 0, *bound))
    assert "server 41.0 MiB" in sentence
    assert "structured output 6.2 MiB" in sentence


def test_tables_of_forms_are_an_item_of_their_own(model, tmp_path):
    body = {"model": "hf", "prompt": "x", "response_format": {"type": "json_object"}}
    with serving(tmp_path, model) as (_, url):

        def forms() -> dict:
            items = fetched(f"{url}/memory")["items"]
            return next(item for item in items if item["name"] == "structured output")

        assert forms()["now_bytes"] == 0
        fetched(f"{url}/v1/completions", {**body, "max_tokens": 3})
        sleep(0.25)  # What was told just now is not measured again.
        assert 0 < forms()["now_bytes"] <= forms()["planned_bytes"]


def test_requests_are_traced_where_a_collector_is_named(model, tmp_path):
    body = {"model": "hf", "prompt": "x", "max_tokens": 3}
    with collecting() as collector:
        for args, env in (
            (("--traces", collector.address), {}),
            ((), {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.address}),
        ):
            collector.received.clear()
            with serving(tmp_path, model, *args, **env) as (process, url):
                fetched(f"{url}/v1/completions", body)
                process.send_signal(signal.SIGTERM)  # what is left is sent before the end
                assert process.wait(20) == 0
            names = sorted(span.name for span in collector.spans())
            assert names == ["POST /v1/completions", "decode", "prefill", "queue"]
    sentence = refused(tonnage(tmp_path, "serve", model, "--port", 0, "--traces", "localhost"))
    assert "it takes an address" in sentence


def test_without_forms_a_bound_answer_is_refused(model, tmp_path):
    body = {"model": "hf", "prompt": "x", "response_format": {"type": "json_object"}}
    with serving(tmp_path, model, "--structured-output", "off") as (_, url):
        with pytest.raises(urllib.error.HTTPError, match="400") as caught:
            fetched(f"{url}/v1/completions", body)
        assert "start it with --structured-output on" in json.load(caught.value)["error"]["message"]
        caught.value.close()


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_answer_finish(model, tmp_path, kind):
    body = {"model": "hf", "prompt": "x", "max_tokens": 300, "temperature": 0, "stream": True}
    with serving(tmp_path, model) as (process, url):
        data = json.dumps(body).encode()
        asked = urllib.request.Request(
            f"{url}/v1/completions", data, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=20) as answer:
            first = answer.readline()
            process.send_signal(kind)
            rest = answer.read()
        assert first.startswith(b"data: ")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert b'"finish_reason":"length"' in rest
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()


def test_others_are_served_with_a_key_only(model, tmp_path):
    sentence = refused(tonnage(tmp_path, "serve", model, "--host", "0.0.0.0", "--port", 0))
    assert "can be reached by others" in sentence
    key = "key-0123456789abcdef"
    with serving(tmp_path, model, "--host", "0.0.0.0", TONNAGE_API_KEY=key) as (_, url):
        url = url.replace("0.0.0.0", "127.0.0.1")
        assert fetched(f"{url}/health") == {"status": "ok"}
        assert fetched(f"{url}/v1/models", Authorization=f"Bearer {key}")["object"] == "list"
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            fetched(f"{url}/v1/models", Authorization="Bearer guess")
        caught.value.close()


def test_a_taken_port_and_other_mistakes_are_sentences(model, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert "choose another --port" in refused(tonnage(tmp_path, "serve", model, "--port", port))
    for args, words in (
        (("--port", 70_000), "--port is 70000"),
        (("--host", "no.such.host.invalid"), "is unknown"),
        (("--keys", tmp_path / "none.toml"), "No such file"),
        (("--max-body", 0), "--max-body is 0"),
    ):
        assert words in refused(tonnage(tmp_path, "serve", model, "--port", 0, *args))
    assert os.listdir(tmp_path) in ([], ["cache"])


def line_with(process, words: str) -> str:
    """Return the next line of the log that has `words`."""
    return next(line for line in process.stderr if words in line)


def test_sighup_reads_keys_and_models_anew_and_cuts_nothing(model, tmp_path):
    keys = tmp_path / "keys.toml"
    old, new = "old-key-of-many-letters", "new-key-of-many-letters"
    keys.write_text(f'[tenant.a]\nkey = "{old}"\n')
    body = {"model": "hf", "prompt": "x", "max_tokens": 300, "seed": 2, "ignore_eos": True}
    copy = shutil.copytree(model, tmp_path / "hf")
    with serving(tmp_path, copy, "--keys", keys) as (process, url), ThreadPoolExecutor(1) as pool:

        def ask(key: str, **more: object) -> dict:
            headers = {"Authorization": f"Bearer {key}"}
            return fetched(f"{url}/v1/completions", {**body, **more}, **headers)

        running = pool.submit(ask, old)
        sleep(0.1)
        keys.write_text(f'[tenant.a]\nkey = "{new}"\n')
        (copy / "tokenizer_config.json").touch()
        process.send_signal(signal.SIGHUP)
        assert "; 1 are known." in line_with(process, "Keys were read anew")
        line_with(process, "hf has changed on disk")
        assert running.result()["usage"]["completion_tokens"] == 300
        with pytest.raises(urllib.error.HTTPError, match="401"):
            ask(old, max_tokens=1)
        assert ask(new, max_tokens=1)["usage"]["completion_tokens"] == 1
        loads = urllib.request.Request(f"{url}/metrics", headers={"Authorization": f"Bearer {new}"})
        with urllib.request.urlopen(loads, timeout=20) as answer:
            assert 'tonnage_model_loads_total{model="hf"} 2' in answer.read().decode()
        keys.write_text("no toml at all")
        process.send_signal(signal.SIGHUP)
        line_with(process, "the old ones stay")
        assert ask(new, max_tokens=1)["usage"]["completion_tokens"] == 1


def test_sighup_before_the_server_listens_is_taken_when_it_does(model, tmp_path):
    keys = tmp_path / "keys.toml"
    keys.write_text('[tenant.a]\nkey = "a-key-of-many-letters"\n')
    command = [*COMMAND, "serve", str(model), "--port", "0", "--keys", str(keys)]
    with subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment(tmp_path)
    ) as process:
        try:
            while not blocks(process.pid, signal.SIGHUP):
                assert process.poll() is None
                sleep(0.005)
            process.send_signal(signal.SIGHUP)
            line_with(process, " at http://")
            assert "; 1 are known." in line_with(process, "Keys were read anew")
            assert not blocks(process.pid, signal.SIGHUP)
        finally:
            process.terminate()
    assert process.returncode == 0


def blocks(pid: int, kind: signal.Signals) -> bool:
    """Whether a signal that comes to a process now waits."""
    status = Path(f"/proc/{pid}/status").read_text()
    mask = next(line.split()[1] for line in status.splitlines() if line.startswith("SigBlk"))
    return bool(int(mask, 16) >> (kind - 1) & 1)
