"""Bodies, keys and quotas: what is refused, and with which words."""

import hashlib

import pytest

from tonnage.core.errors import RequestError
from tonnage.server.http.decoding import MAX_DEPTH, check_depth, decode
from tonnage.server.http.failures import HttpError
from tonnage.server.models.tenants import Bucket, Tenant, Tenants, read_tenants
from tonnage.server.openai.schema import ChatRequest

GOOD = b'{"model":"m","messages":[{"role":"user","content":"hi"}]}'
KEY = "sk-0123456789abcdef"


@pytest.mark.parametrize(
    ("body", "param", "words"),
    [
        (b"", None, "not valid JSON"),
        (b"{", None, "not valid JSON"),
        (b"[]", None, "Expected `object`"),
        (b"null", None, "Expected `object`"),
        (b"{}", "model", "model"),
        (GOOD.replace(b'"hi"', b"5"), "messages", "Expected `str | array | null`, got `int`"),
        (GOOD.replace(b'"user"', b'"boss"'), "messages", "boss"),
        (GOOD[:-1] + b',"n":0}', "n", ">= 1"),
        (GOOD[:-1] + b',"n":17}', "n", "<= 16"),
        (GOOD[:-1] + b',"top_k":2147483648}', "top_k", "<= 2147483647"),
        (GOOD[:-1] + b',"temperature":"hot"}', "temperature", "float"),
        (GOOD[:-1] + b',"temperature":NaN}', None, "not valid JSON"),
        (GOOD[:-1] + b',"temperature":1e999}', "temperature", "out of range"),
        (GOOD[:-1] + b',"max_tokens":' + b"9" * 5000 + b"}", "max_tokens", "out of range"),
        (GOOD[:-1] + b',"stream":"yes"}', "stream", "bool"),
        (GOOD.replace(b"hi", b"\xff\xfe"), None, "UTF-8"),
        (b'{"a":' + b"[" * 100_000, None, f"deeper than {MAX_DEPTH}"),
        (GOOD[:-1] + b',"x":' + b"[" * 70 + b"]" * 70 + b"}", None, f"deeper than {MAX_DEPTH}"),
    ],
)
def test_a_wrong_body_is_a_400_that_names_the_field(body, param, words):
    with pytest.raises(HttpError) as caught:
        decode(ChatRequest, body)
    error = caught.value
    assert (error.status, error.param) == (400, param)
    assert words in error.sentence


def test_what_clients_send_back_of_earlier_answers_is_read():
    body = b"""{"model":"m","store":false,"messages":[
      {"role":"assistant","content":null,"refusal":null,"audio":null,"annotations":[],
       "tool_calls":[{"index":0,"id":"c","type":"function",
                      "function":{"name":"f","arguments":"{}"}}]},
      {"role":"tool","tool_call_id":"c","content":[{"type":"text","text":"5"}]},
      {"role":"user","content":"thanks","name":"joe"}]}"""
    request = decode(ChatRequest, body)
    assert [message.role for message in request.messages] == ["assistant", "tool", "user"]


def test_brackets_inside_of_strings_do_not_nest():
    check_depth(b'{"a":"' + b"[" * 1000 + b'\\"[[", "b":[1]}')
    with pytest.raises(HttpError):
        check_depth(b'{"a":"\\\\",' + b'"b":' + b"[" * 65)


def keyed(**fields: object) -> str:
    lines = (f"{name} = {value!r}".replace("'", '"') for name, value in fields.items())
    return "[tenant.joe]\n" + "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "needs one or more tables"),
        ("x = 1", "needs one or more tables"),
        ("[tenant.joe", "not valid TOML"),
        ("[tenant.joe]", "either key or key_sha256"),
        (keyed(key=KEY, key_sha256="00"), "either key or key_sha256"),
        (keyed(key="short"), "at least 16"),
        (keyed(key_sha256="xyz"), "64 hexadecimal digits"),
        (keyed(key=KEY, colour="red"), "colour is unknown"),
        (keyed(key=KEY, tokens_per_minute=0), "above 0"),
        (keyed(key=KEY, priority=1000), "-100 to 100"),
        (keyed(key=KEY) + f'[tenant.amy]\nkey = "{KEY}"\n', "another one's too"),
        ("tenant = {joe = 5}", "is no table"),
        (keyed(key=KEY).replace("joe", '""'), "has no name"),
    ],
)
def test_a_wrong_file_of_keys_is_refused_in_a_sentence(tmp_path, text, words):
    path = tmp_path / "keys.toml"
    path.write_text(text)
    with pytest.raises(RequestError, match=words):
        read_tenants(path, None)


def test_a_key_leads_to_its_tenant(tmp_path):
    path = tmp_path / "keys.toml"
    digest = hashlib.sha256(b"amy-0123456789abcdef").hexdigest()
    path.write_text(keyed(key=KEY, priority=3) + f'[tenant.amy]\nkey_sha256 = "{digest}"\n')
    tenants = read_tenants(path, "env-0123456789abcdef")
    joe = tenants.of({"authorization": f"Bearer {KEY}"})
    amy = tenants.of({"x-api-key": "amy-0123456789abcdef"})
    assert (joe.name, joe.priority, amy.name) == ("joe", 3, "amy")
    assert tenants.of({"authorization": "bearer env-0123456789abcdef"}).name == "default"
    assert len({joe.salt, amy.salt, ""}) == 3
    # Prefixes on disk are found again after a restart.
    again = read_tenants(path, None)
    assert again.of({"x-api-key": KEY}).salt == joe.salt
    for wrong in ({}, {"authorization": KEY}, {"authorization": f"Bearer {KEY}x"}):
        with pytest.raises(HttpError) as caught:
            tenants.of(wrong)
        assert caught.value.status == 401


def test_without_keys_everyone_is_the_same():
    tenants = Tenants({})
    assert not tenants.need_keys
    assert tenants.of({}) is tenants.of({"authorization": "Bearer x"})


def test_a_quota_refills_with_time():
    tenant = Tenant("joe", "s", requests=Bucket(2))
    tenant.admit(0.0)
    tenant.admit(0.0)
    with pytest.raises(HttpError) as caught:
        tenant.admit(0.0)
    assert caught.value.status == 429
    assert caught.value.headers["retry-after"] == "30"
    tenant.admit(31.0)


def test_tokens_are_paid_after_the_answer():
    tenant = Tenant("joe", "s", tokens=Bucket(60))
    tenant.admit(0.0)
    tenant.spend(120)
    with pytest.raises(HttpError) as caught:
        tenant.admit(0.0)
    assert caught.value.headers["retry-after"] == "61"
    tenant.admit(61.5)
