"""The files of deploy/, checked by the programs that read them; each where it is installed."""

import http.client
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from support.live_server import NAME, Live, live, write_chat_model
from support.waiting import wait_until
from tonnage.engine.engine import Engine
from tonnage.server.observe.metric_names import OLD_NAMES

DEPLOY = Path(__file__).parents[2] / "deploy"
HI = {"model": NAME, "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}


def needs(program: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(shutil.which(program) is None, reason=f"no {program}")


def checked(command: Sequence[object]) -> str:
    """Run a check that must find nothing; return what it prints."""
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    folder = write_chat_model(tmp_path_factory.mktemp("model") / "hf")
    with Engine.open(str(folder), context=1000, threads=1) as engine, live(engine) as running:
        yield running


@needs("promtool")
def test_promtool_accepts_rules_and_configuration() -> None:
    assert "SUCCESS" in checked(["promtool", "check", "rules", DEPLOY / "tonnage.rules.yml"])
    checked(["promtool", "check", "config", "--syntax-only", DEPLOY / "prometheus.yml"])


RULES_TEST = """
rule_files: [{rules}]
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: tonnage_process_resident_bytes{{instance="a"}}
        values: 99x20
      - series: tonnage_process_budget_bytes{{instance="a"}}
        values: 100x20
      - series: tonnage_requests_total{{instance="a", path="/v1/responses", status="200"}}
        values: 0+90x20
      - series: tonnage_requests_total{{instance="a", path="/v1/responses", status="500"}}
        values: 0+10x20
    promql_expr_test:
      - expr: tonnage:errors:ratio5m
        eval_time: 10m
        exp_samples: [{{labels: 'tonnage:errors:ratio5m{{instance="a"}}', value: 0.1}}]
    alert_rule_test:
      - alertname: TonnageErrors
        eval_time: 15m
        exp_alerts:
          - exp_labels: {{severity: critical, instance: a}}
            exp_annotations: {{summary: 10% of the requests to a fail.}}
      - alertname: TonnageNearItsBudget
        eval_time: 2m
        exp_alerts: []
      - alertname: TonnageUnaccounted
        eval_time: 15m
        exp_alerts: []
"""


@needs("promtool")
def test_alerts_fire_when_they_should(tmp_path: Path) -> None:
    """90 requests a minute are answered and 10 fail: a tenth, above one in fifty."""
    cases = tmp_path / "cases.yml"
    cases.write_text(RULES_TEST.format(rules=DEPLOY / "tonnage.rules.yml"))
    checked(["promtool", "test", "rules", cases])


@needs("promtool")
def test_promtool_accepts_the_metrics_of_a_running_server(server: Live) -> None:
    assert ask(server.port, "POST", "/v1/chat/completions", HI)[0] == 200
    status, text = ask(server.port, "GET", "/metrics")
    assert status == 200
    command = ["promtool", "check", "metrics"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 3), done.stderr  # 3: a name might be better
    assert {line.split()[0] for line in done.stderr.splitlines()} <= OLD_NAMES.keys()


@needs("systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    unit = tmp_path / "tonnage.service"
    text = (DEPLOY / "tonnage.service").read_text("utf-8")
    unit.write_text(text.replace("/opt/tonnage/bin/tonnage", sys.executable))
    assert checked(["systemd-analyze", "verify", unit]) == ""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def ask(port: int, method: str, path: str, body: object = None) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    headers = {"Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, text


@contextmanager
def running(command: Sequence[object], port: int) -> Iterator[None]:
    with subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True) as process:
        try:
            wait_until(lambda: answers(port) or process.poll() is not None)
            assert process.poll() is None, process.stderr and process.stderr.read()
            yield
        finally:
            process.terminate()


def answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def check_proxy(port: int) -> None:
    """Streams pass, what is for operators does not."""
    status, text = ask(port, "POST", "/v1/chat/completions", {**HI, "stream": True})
    assert status == 200
    assert text.count("data: ") > 2
    assert text.endswith("data: [DONE]\n\n")
    assert ask(port, "GET", "/health") == (200, '{"status":"ok"}')
    assert ask(port, "GET", "/memory")[0] == 200
    assert ask(port, "GET", "/metrics")[0] == 404
    assert ask(port, "POST", "/models/unload", {"model": NAME})[0] == 404


@needs("nginx")
@needs("openssl")
def test_nginx_accepts_its_snippet_and_passes_streams(tmp_path: Path, server: Live) -> None:
    key, cert, port = tmp_path / "key.pem", tmp_path / "cert.pem", free_port()
    subject = ["-subj", "/CN=llm.example.org", "-keyout", key, "-out", cert]
    checked(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject])
    text = (DEPLOY / "nginx.conf").read_text("utf-8")
    for old, new in (
        ("    listen [::]:443 ssl;\n", ""),
        ("listen 443 ssl;", f"listen 127.0.0.1:{port};\n    listen 127.0.0.1:{free_port()} ssl;"),
        ("/etc/ssl/certs/llm.example.org.pem", str(cert)),
        ("/etc/ssl/private/llm.example.org.key", str(key)),
        ("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    whole = tmp_path / "nginx.conf"
    temporary = "".join(
        f"{name}_temp_path {tmp_path}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    whole.write_text(
        f"daemon off;\nmaster_process off;\npid {tmp_path}/pid;\nerror_log stderr;\nevents {{}}\n"
        f"http {{\naccess_log off;\n{temporary}{text}}}\n"
    )
    command = ["nginx", "-p", tmp_path, "-c", whole]
    checked([*command, "-t"])
    with running(command, port):
        check_proxy(port)


@needs("caddy")
def test_caddy_accepts_its_snippet_and_passes_streams(tmp_path: Path, server: Live) -> None:
    port, text = free_port(), (DEPLOY / "Caddyfile").read_text("utf-8")
    checked(["caddy", "validate", "--adapter", "caddyfile", "--config", DEPLOY / "Caddyfile"])
    for old, new in (
        ("llm.example.org", f"http://127.0.0.1:{port}"),
        ("127.0.0.1:8000", f"127.0.0.1:{server.port}"),
    ):
        assert old in text
        text = text.replace(old, new)
    own = tmp_path / "Caddyfile"
    own.write_text("{\n\tadmin off\n}\n" + text)
    folders = [f"{name}={tmp_path}" for name in ("HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME")]
    command = ["env", *folders, "caddy", "run", "--adapter", "caddyfile", "--config", own]
    with running(command, port):
        check_proxy(port)
