"""`tonnage serve --config FILE`: the same options by the same names."""

import pytest

from tonnage.cli.arguments import parse
from tonnage.cli.config_file import fill_from
from tonnage.cli.opening import stated
from tonnage.core.errors import RequestError
from tonnage.server.options import LogOptions, ServeOptions

FILE = """
models = ["smollm2-135m", "./here.gguf"]
memory = "700MiB"
port = 9000
concurrency = 8
keys = "keys.toml"
alias = ["gpt-4o=smollm2-135m"]
offline = true
log_format = "json"
kv_format = "f16"
"""


def filled(tmp_path, text: str, *words: str):
    file = tmp_path / "serve.toml"
    file.write_text(text)
    (tmp_path / "here.gguf").touch()
    args = parse(["serve", *words, "--config", str(file)])
    fill_from(file, args)
    return args


def test_every_kind_of_option_is_taken(tmp_path):
    args = filled(tmp_path, FILE)
    assert args.models == ["smollm2-135m", str(tmp_path / "here.gguf")]
    assert args.memory == "700MiB"
    assert stated(ServeOptions, args) == {
        "port": 9000, "concurrency": 8, "keys": tmp_path / "keys.toml", "kv_format": "f16",
        "alias": ["gpt-4o=smollm2-135m"], "offline": True, "use_audits": False,
    }  # fmt: skip
    assert stated(LogOptions, args) == {"log_format": "json"}


def test_what_the_command_states_goes_before_the_file(tmp_path):
    words = ["other", "--port", "1", "--concurrency", "2", "--memory", "1GiB"]
    args = filled(tmp_path, FILE, *words)
    assert (args.model, args.models) == ("other", [])
    assert (args.port, args.concurrency, args.memory) == (1, 2, "1GiB")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 1", "'prot'; did you mean port"),
        ("port = '1'", "port is '1', of type str; give a whole number"),
        ("models = 'one'", "models is a list"),
        ("log_level = 'loud'", "log_level is 'loud'; it takes debug"),
        ("port = ", "not valid TOML"),
    ],
)
def test_a_wrong_file_is_refused_in_a_sentence(tmp_path, text, words):
    with pytest.raises(RequestError, match=words):
        filled(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path):
    args = parse(["serve", "m"])
    with pytest.raises(RequestError, match="cannot be read"):
        fill_from(tmp_path / "none.toml", args)
