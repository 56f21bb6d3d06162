"""schemathesis asks whatever /openapi.json allows and much that it does not: never a 5xx."""

import os
import subprocess
import sys
from importlib.util import find_spec

import pytest

from support.live_server import write_chat_model
from support.serve_process import fetched, serving

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(find_spec("schemathesis") is None, reason="schemathesis is not installed"),
]
# 504 is the response to a `deadline_s` that has passed, and 5e-324 s always has; 501 the one to a
# method that the server does not know (RFC 9110, 15.6.2).
SETTINGS = """\
[checks.not_a_server_error]
expected-statuses = ["2xx", "3xx", "4xx", "501", "504"]
"""
# Per route and beside 2,700 that are always the same; more look further.
EXAMPLES = int(os.environ.get("TONNAGE_FUZZ_EXAMPLES", "6"))


def test_no_request_makes_it_fail(tmp_path, capsys):
    model = write_chat_model(tmp_path / "hf")
    settings = tmp_path / "settings.toml"
    settings.write_text(SETTINGS)
    with serving(tmp_path, model, "--context", 512, "--alias", "gpt") as (process, url):
        command = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(settings)]
        command += ["run", f"{url}/openapi.json"]
        command += ["--checks", "not_a_server_error", "--phases", "coverage,fuzzing"]
        command += ["--max-examples", str(EXAMPLES), "--seed", "1", "--workers", "1"]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, timeout=600)
        with capsys.disabled():
            print("\n  " + "; ".join(done.stdout.strip().splitlines()[-12:]), end="")
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert fetched(f"{url}/health") == {"status": "ok"}
        assert process.poll() is None
