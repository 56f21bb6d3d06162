"""Names of the hub as people write them, and files at an address."""

import http.server
import socket
import sys
import threading
from hashlib import sha256

import pytest

from tonnage.core.errors import ModelNotFoundError, PullError
from tonnage.store import network
from tonnage.store.catalog import open_catalogs
from tonnage.store.hub import HubName, parse_hub_name
from tonnage.store.source import remove, resolve
from tonnage.store.spelling import hub_spelling, may_be_repository

CATALOGS = open_catalogs(None, {})


@pytest.mark.parametrize(
    ("text", "spelling"),
    [
        ("hf.co/o/n", "hf:o/n"),
        ("hf.co/o/n:Q4_K_M", "hf:o/n:Q4_K_M"),
        ("https://huggingface.co/o/n", "hf:o/n"),
        ("https://huggingface.co/o/n/tree/main", "hf:o/n"),
        ("https://huggingface.co/o/n/resolve/main/a/m.gguf?download=true", "hf:o/n/a/m.gguf"),
        ("https://hf.co/o/n/blob/main/m.gguf", "hf:o/n/m.gguf"),
        ("o/n", None),
        ("https://example.org/m.gguf", None),
    ],
)
def test_addresses_of_the_hub_are_its_names(text, spelling):
    assert hub_spelling(text) == spelling


def test_other_revisions_are_refused():
    with pytest.raises(ModelNotFoundError, match="revision 'v2'"):
        hub_spelling("https://huggingface.co/o/n/resolve/v2/m.gguf")


def test_a_tag_stands_behind_the_repository():
    assert parse_hub_name("hf:o/n:Q4_K_M") == HubName("o/n", None, "Q4_K_M")
    for wrong in ("hf:o/n:", "hf:o/n:Q4/m.gguf", "hf:o:Q4/n"):
        with pytest.raises(ModelNotFoundError, match=":Q4_K_M for the"):
            parse_hub_name(wrong)
    assert may_be_repository("o/n:Q4_K_M")
    assert not may_be_repository("o/n.gguf")
    assert not may_be_repository("a/b/c")


@pytest.fixture
def served(tmp_path_factory):
    """An address whose files are the values of a dict; it honours ranges and counts bytes."""
    files: dict[str, bytes] = {}
    sent: list[int] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            data = files.get(self.path)
            if data is None:
                self.send_error(404)
                return
            begin = int(self.headers.get("Range", "bytes=0-")[6:-1])
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(data) - begin))
            self.end_headers()
            sent.append(len(data) - begin)
            self.wfile.write(data[begin:])

        def log_message(self, *words):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", files, sent
        server.shutdown()


def test_a_file_at_an_address_is_fetched_once_and_gone_on_with(served, tmp_path, monkeypatch):
    url, files, sent = served
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    files["/a/My%20Model.gguf"] = data = b"GGUF" + bytes(range(256)) * 9
    address = f"{url}/a/My%20Model.gguf"

    def got(**more):
        return resolve(address, catalogs=CATALOGS, environ=environ, **more).path

    with pytest.raises(PullError, match="nothing may be fetched"):
        got(offline=True)
    path = got()
    assert path.read_bytes() == data
    assert path.name == "My Model.gguf"
    record = path.with_name("My Model.gguf.sha256")
    assert record.read_text().split()[0] == sha256(data).hexdigest()
    assert got(offline=True) == got() == path
    assert sent == [len(data)]
    # As if it had been cut off.
    record.unlink()
    path.rename(path.with_name("partial.data"))
    with path.with_name("partial.data").open("r+b") as stream:
        stream.truncate(100)
    assert got().read_bytes() == data
    assert sent == [len(data), len(data) - 100]
    assert remove(path.parent.name, environ=environ) > len(data)


def test_what_is_no_model_is_a_sentence(served, tmp_path):
    url, files, _ = served
    files["/page.gguf"] = b"<html>" * 9
    environ = {"XDG_CACHE_HOME": str(tmp_path)}
    for path, words in (
        ("/page.gguf", "is no GGUF file"),
        ("/none.gguf", "answers 404"),
        ("/page.html", r"has to end in \.gguf"),
        ("/", r"has to end in \.gguf"),
    ):
        with pytest.raises((PullError, ModelNotFoundError), match=words):
            resolve(url + path, catalogs=CATALOGS, environ=environ)


def test_a_host_that_is_not_found_is_told_at_once(monkeypatch):
    def no_names(*args, **more):
        raise socket.gaierror(-3, "Temporary failure in name resolution")

    monkeypatch.setattr(network.socket, "getaddrinfo", no_names)
    for name in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    assert network.missing_host("https://models.example.org/x") == "models.example.org"
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example.org")
    assert network.missing_host("https://models.example.org/x") is None


def test_a_word_of_two_parts_that_is_no_path_is_looked_for_on_the_hub(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    with pytest.raises(
        PullError, match=r"no file or folder o/n.*hub.*pip install 'tonnage\[hub\]'"
    ):
        resolve("o/n", catalogs=CATALOGS)
    with pytest.raises(
        PullError, match=r"Qwen3-4B-GGUF comes from the Hugging Face Hub.*tonnage\[hub\]"
    ):
        resolve("qwen3-4b", catalogs=CATALOGS)
