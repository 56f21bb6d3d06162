"""Several models in one server under one budget: loaded on demand, unloaded for others, pinned."""

import json
import threading
import time
import urllib.error
import urllib.request
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from support.command import refused, tonnage
from support.live_server import write_chat_model
from support.waiting import wait_until
from system.test_cli_serve import fetched, serving
from tonnage.core.errors import RequestError
from tonnage.server.start import aliases_of

# One fits beside the process, two do not.
BUDGET = 130 << 20
SIZES = ("--context", 512, "--threads", 1)


@pytest.fixture(scope="module")
def models(tmp_path_factory) -> list[Path]:
    """Return three models that take some 64 MiB each."""
    folder = tmp_path_factory.mktemp("models")
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_hidden_layers": 4}
    return [write_chat_model(folder / name, **sizes) for name in ("one", "two", "three")]


def several(models: list[Path], *args: object, memory: int = BUDGET) -> tuple[object, ...]:
    named = [part for model in models for part in ("--model", model)]
    # Whether tables are planned for would depend on the budget, and places are what is asked.
    return (*named, "--memory", memory, *SIZES, "--structured-output", "off", *args)


def ask(url: str, model: str, max_tokens: int = 3, **more: object) -> tuple[int, dict]:
    """Return the status of an answer, and the whole of it."""
    body = {"model": model, "prompt": "x", "max_tokens": max_tokens, **more}
    return post(f"{url}/v1/completions", body)


def post(url: str, body: object) -> tuple[int, dict]:
    try:
        return 200, fetched(url, body)
    except urllib.error.HTTPError as error:
        with error:
            fields = {name: error.headers[name] for name in ("retry-after", "x-request-id")}
            return error.code, {**fields, **json.load(error)}


def requests_waiting(url: str) -> dict[str, int]:
    return {one["id"]: one["requests_waiting"] for one in fetched(f"{url}/memory")["models"]}


def states(url: str) -> dict[str, str]:
    listed = fetched(f"{url}/v1/models")["data"]
    return {one["id"]: one["status"]["value"] for one in listed}


def test_models_come_when_they_are_asked_for_and_go_when_others_need_the_bytes(models, tmp_path):
    with serving(tmp_path, *several(models, "--alias", "gpt=two")) as (_, url):
        assert states(url) == dict.fromkeys(("one", "two", "gpt", "three"), "unloaded")
        empty = fetched(f"{url}/memory")
        assert empty["model"] is None
        assert {item["model"] for item in empty["items"]} == {""}
        for model, name in (("one", "one"), ("gpt", "two"), ("one", "one")):
            status, answer = ask(url, model)
            assert (status, answer["model"]) == (200, name)
            told = states(url)
            assert told.pop("gpt") == told["two"]
            loaded = {name: "loaded"}
            assert told == {"one": "unloaded", "two": "unloaded", "three": "unloaded", **loaded}
            memory = fetched(f"{url}/memory")
            assert memory["model"] == name
            assert {item["model"] for item in memory["items"]} == {"", name}
            assert memory["total_bytes"] <= memory["budget_bytes"] == BUDGET
            assert memory["peak_rss_bytes"] <= BUDGET
        assert ask(url, "four")[1]["error"]["code"] == "model_not_found"
        assert ask(url, "four")[0] == 404
        text = urllib.request.urlopen(f"{url}/metrics", timeout=20).read().decode()
        for line in (
            'tonnage_model_loads_total{model="one"} 2',
            'tonnage_model_unloads_total{model="two"} 1',
            'tonnage_generated_tokens_total{model="one"} 6',
            'tonnage_model_state{model="two",state="unloaded"} 1',
            'tonnage_model_load_seconds_count{model="three"} 0',
        ):
            assert line in text.splitlines()


def test_models_are_loaded_and_unloaded_by_call_and_their_bytes_are_given_back(models, tmp_path):
    with serving(tmp_path, *several(models)) as (_, url):
        held = [fetched(f"{url}/memory")["rss_bytes"]]
        for _ in range(3):
            assert post(f"{url}/models/load", {"model": "one"}) == (200, {"success": True})
            assert states(url)["one"] == "loaded"
            full = fetched(f"{url}/memory")["rss_bytes"]
            for _ in range(2):  # the second has nothing to do
                assert post(f"{url}/models/unload", {"model": "one"}) == (200, {"success": True})
            assert states(url)["one"] == "unloaded"
            held.append(fetched(f"{url}/memory")["rss_bytes"])
            assert full - held[-1] > 40 << 20
        # What stays is what the first load brought along, not a model's.
        assert held[-1] - held[1] < 1 << 20
        assert held[-1] < 60 << 20
        assert post(f"{url}/models/load", {"model": "four"})[0] == 404
        assert post(f"{url}/models/unload", {"model": 4})[0] == 400


def test_a_pinned_model_stays(models, tmp_path):
    with serving(tmp_path, *several(models, "--pin", "two", memory=200 << 20)) as (_, url):
        assert states(url) == {"one": "unloaded", "two": "loaded", "three": "unloaded"}
        for name in ("one", "three", "one"):
            assert ask(url, name)[0] == 200
            expected = {"one": "unloaded", "two": "loaded", "three": "unloaded", name: "loaded"}
            assert states(url) == expected
        status, answer = post(f"{url}/models/unload", {"model": "two"})
        assert (status, answer["error"]["code"]) == (409, "model_pinned")
        pinned = {one["id"]: one["pinned"] for one in fetched(f"{url}/v1/models")["data"]}
        assert pinned == {"one": False, "two": True, "three": False}
        memory = fetched(f"{url}/memory?model=two")
        assert memory["model"] == "two"
        assert memory["pages"]["total"] > 0
        assert {item["model"] for item in memory["items"]} == {"", "one", "two"}
        assert memory["peak_rss_bytes"] <= 200 << 20
        assert "pages" not in fetched(f"{url}/memory?model=three")
        for query, code in (("model=four", "404"), ("&".join(["x=1"] * 99), "400")):
            with pytest.raises(urllib.error.HTTPError, match=code) as caught:
                fetched(f"{url}/memory?{query}")
            caught.value.close()


def test_what_does_not_fit_is_refused_with_the_numbers_before_anything_is_loaded(models, tmp_path):
    stated = ("--pin", "one", "--precision", "8bit", "--kv", "int8")
    args = several(models, *stated, memory=90 << 20)
    sentence = refused(tonnage(tmp_path, "serve", *args, "--port", 0))
    for part in ("(the process ", "MiB, pinned", "90.0 MiB were allowed", "allow --memory"):
        assert part in sentence
    least = sentence.rpartition(" --memory ")[2].removesuffix(".")
    with serving(tmp_path, *several(models, *stated, memory=least)) as (_, url):
        assert ask(url, "three")[0] == 200
        assert states(url) == {"one": "loaded", "two": "unloaded", "three": "loaded"}


def planned(folder: Path, models: list[Path], memory: int, *args: object) -> dict:
    """Return what `tonnage serve --plan --json` says."""
    named = several(models, *args, memory=memory)
    done = tonnage(folder, "serve", *named, "--plan", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_the_plan_says_before_who_will_be_side_by_side_and_so_it_is(models, tmp_path):
    narrow = planned(tmp_path, models, 200 << 20)
    assert [one["side_by_side"] for one in narrow["models"]] == [True, True, False]
    assert narrow["models"][2]["in_place_of"] == 1
    needed = narrow["all_side_by_side_bytes"]
    wide = planned(tmp_path, models, needed)
    assert all(one["side_by_side"] for one in wide["models"])
    assert wide["most_bytes"] <= needed == wide["budget_bytes"]
    for plan in (narrow, wide):
        for one in plan["models"]:
            items = sum(item["planned_bytes"] for item in one["items"])
            assert items == one["loading_bytes"] > one["planned_bytes"]
            assert one["context_tokens"] == 512 <= one["pages_tokens"]
    for plan, order, loads in ((narrow, "one two one two", 2), (wide, "one two three one two", 3)):
        args = several(models, memory=plan["budget_bytes"])
        with serving(tmp_path, *args) as (_, url):
            for name in order.split():
                assert ask(url, name)[0] == 200
            memory = fetched(f"{url}/memory")
            assert memory["all_side_by_side_bytes"] == needed
            assert memory["peak_rss_bytes"] <= plan["budget_bytes"]
            for told, one in zip(memory["models"], plan["models"], strict=True):
                for key in ("side_by_side", "in_place_of", "planned_bytes", "context_tokens"):
                    assert told[key] == one[key]
            assert list(states(url).values()).count("loaded") == loads
            text = urllib.request.urlopen(f"{url}/metrics", timeout=20).read().decode()
            counts = [line for line in text.splitlines() if "_unloads_total{" in line]
            assert len(counts) == 3
            assert all(line.endswith(" 0") for line in counts)


def test_a_plan_is_printed_for_people_and_what_a_server_says_at_its_start(models, tmp_path):
    named = several(models, memory=200 << 20)
    done = tonnage(tmp_path, "serve", *named, "--plan")
    assert (done.returncode, done.stderr) == (0, "")
    for part in (
        "2 of 3 models side by side within 200.0 MiB, of which the process takes ",
        "three: in place of 1 of the others",
        "All of them side by side would take ",
        "server ",
        "200.0 MiB at most",
    ):
        assert part in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110
    single = tonnage(tmp_path, "serve", models[0], *SIZES, "--memory", "200MiB", "--plan")
    assert "side by side" not in single.stdout
    assert "below the budget of 200.0 MiB" in single.stdout
    sentence = refused(tonnage(tmp_path, "serve", models[0], "--json"))
    assert "--plan" in sentence
    assert "short" in refused(
        tonnage(tmp_path, "serve", *several(models, "--plan", memory=1 << 20))
    )


def test_names_that_do_not_fit_together_are_sentences(models, tmp_path):
    for args, words in (
        (("--pin", "four"), "no model 'four' to pin"),
        (("--model", models[0]), "Two models are called one"),
    ):
        sentence = refused(tonnage(tmp_path, "serve", *several(models, *args), "--port", 0))
        assert words in sentence
    names = ["one", "two"]
    assert aliases_of(["gpt=two", "gpt-4=two"], names) == {"one": [], "two": ["gpt", "gpt-4"]}
    assert aliases_of(["gpt"], ["one"]) == {"one": ["gpt"]}
    for given, words in (("gpt", "NAME=MODEL"), ("one=two", "already"), ("gpt=four", "NAME=MODEL")):
        with pytest.raises(RequestError, match=words):
            aliases_of([given], names)


def test_a_model_that_cannot_be_loaded_leaves_the_others_alone(models, tmp_path):
    broken = write_chat_model(tmp_path / "broken")
    with serving(tmp_path, *several([models[0], broken])) as (process, url):
        for file in broken.glob("*.safetensors"):
            file.write_bytes(file.read_bytes()[:-999])
        ids = []
        for _ in range(2):
            status, answer = ask(url, "broken")
            ids.append(answer["x-request-id"])
            assert (status, answer["error"]["code"]) == (503, "model_load_failed")
            assert int(answer["retry-after"]) >= 1
            assert str(tmp_path) not in json.dumps(answer)
        line = process.stderr.readline()
        assert str(broken) in line
        assert f"request_id={ids[0]}" in line  # whose model it was
        assert fetched(f"{url}/v1/models/broken")["status"] == {"value": "unloaded", "failed": True}
        assert ask(url, "one")[0] == 200


def stream(url: str, model: str, max_tokens: int) -> urllib.request.Request:
    body = {"model": model, "prompt": "x", "max_tokens": max_tokens, "stream": True}
    data = json.dumps({**body, "temperature": 0, "ignore_eos": True}).encode()
    return urllib.request.Request(
        f"{url}/v1/completions", data, {"Content-Type": "application/json"}
    )


def test_waiting_for_a_model_is_bounded(models, tmp_path):
    long = ("--context", 8192, "--concurrency", 2, "--load-wait", 1, "--max-waiting", 2)
    with (
        serving(tmp_path, *several(models, *long, memory=180 << 20)) as (_, url),
        ThreadPoolExecutor(8) as threads,
    ):
        readers = [urllib.request.urlopen(stream(url, "one", 8000), timeout=20) for _ in range(2)]
        assert all(reader.readline().startswith(b"data: ") for reader in readers)
        waits = list(threads.map(lambda _: ask(url, "two"), range(6)))
        found = Counter((status, answer["error"]["code"]) for status, answer in waits)
        assert found == {(503, "model_not_ready"): 2, (429, "rate_limit_exceeded"): 4}
        assert all(int(answer["retry-after"]) >= 1 for _, answer in waits)
        status, answer = post(f"{url}/models/unload", {"model": "one"})
        assert (status, answer["error"]["code"]) == (503, "model_busy")
        for reader in readers:  # who leaves no longer holds the model
            reader.close()
        assert ask(url, "two")[0] == 200


def test_all_models_at_once_under_a_budget_for_one(models, tmp_path):
    """Whoever asks is answered, or told to come back; the process stays within the budget."""
    found: Counter[tuple[str, int]] = Counter()
    end = threading.Event()

    def client(url: str, number: int) -> None:
        turn = number
        while not end.is_set():
            name = ("one", "two", "three")[turn % 3]
            turn += number % 3  # some stay with one model, others go around
            status, answer = ask(url, name, 40, stream=False)
            found[name, status] += 1
            if status == 200:
                assert answer["model"] == name
            else:
                assert int(answer["retry-after"]) >= 1

    with serving(tmp_path, *several(models)) as (process, url), ThreadPoolExecutor(9) as threads:
        clients = [threads.submit(client, url, number) for number in range(9)]
        time.sleep(2)
        wait_until(lambda: all(found[name, 200] for name in ("one", "two", "three")))
        end.set()
        for one in clients:
            one.result(60)
        memory = fetched(f"{url}/memory")
        assert memory["peak_rss_bytes"] <= BUDGET, memory
        assert {status for _, status in found} <= {200, 429, 503}, found
        process.terminate()
        assert process.wait(20) == 0
    print(f"\n  {dict(found)}, peak {memory['peak_rss_bytes'] / (1 << 20):.1f} MiB")


def test_quotas_of_a_tenant_count_over_all_models(models, tmp_path):
    keys = tmp_path / "keys.toml"
    key = "key-0123456789abcdef"
    keys.write_text(f'[tenant.alice]\nkey = "{key}"\nrequests_per_minute = 2\n')
    with serving(tmp_path, *several(models, "--keys", keys)) as (_, url):
        body = {"prompt": "x", "max_tokens": 2}
        for name in ("one", "two"):
            answer = fetched(
                f"{url}/v1/completions", {**body, "model": name}, Authorization=f"Bearer {key}"
            )
            assert answer["model"] == name
        with pytest.raises(urllib.error.HTTPError, match="429") as caught:
            fetched(
                f"{url}/v1/completions", {**body, "model": "two"}, Authorization=f"Bearer {key}"
            )
        caught.value.close()
        with pytest.raises(urllib.error.HTTPError, match="401") as caught:
            fetched(f"{url}/models/load", {"model": "one"})
        caught.value.close()


def test_sigterm_ends_running_answers_and_refuses_who_waits(models, tmp_path):
    with serving(tmp_path, *several(models)) as (process, url), ThreadPoolExecutor(2) as threads:
        with urllib.request.urlopen(stream(url, "one", 450), timeout=20) as running:
            first = running.readline()
            waiting = threads.submit(ask, url, "two")
            wait_until(lambda: requests_waiting(url) == {"one": 0, "two": 1, "three": 0})
            process.terminate()
            status, answer = waiting.result(20)
            rest = running.read()
        assert (status, answer["error"]["code"]) == (503, "draining")
        assert first.startswith(b"data: ")
        assert rest.endswith(b"data: [DONE]\n\n")
        assert process.wait(20) == 0
        assert "Traceback" not in process.stderr.read()
