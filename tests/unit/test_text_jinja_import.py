"""Rendering a chat loads no OpenSSL, and nobody else who wants hashlib gets less of it."""

import subprocess
import sys

RENDER = """
import sys
from tonnage.text.template import ChatTemplate
template = ChatTemplate("{% for m in messages %}{{ m.content }}{% endfor %}")
assert template.render([{"role": "user", "content": "text"}]) == "text"
"""
# Another thread imports hashlib while Jinja is being imported, after its first user of hashlib.
MEANWHILE = """
import sys, threading
from importlib.machinery import PathFinder, SourceFileLoader
found = []
def look():
    import hashlib
    found.append(hashlib)
class Loader(SourceFileLoader):
    def exec_module(self, module):
        thread = threading.Thread(target=look)
        thread.start()
        thread.join()
        super().exec_module(module)
class Watcher:
    def find_spec(self, name, path=None, target=None):
        if name != "jinja2.sandbox":
            return None
        spec = PathFinder.find_spec(name, path)
        spec.loader = Loader(spec.loader.name, spec.loader.path)
        return spec
sys.meta_path.insert(0, Watcher())
"""


def run(program: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr


def test_rendering_loads_no_openssl_and_hashlib_is_whole_afterwards():
    run(
        RENDER + "assert not {'hashlib', '_hashlib'} & set(sys.modules)\n"
        "import hashlib\n"
        "assert hashlib.sha1(b'').hexdigest() == 'da39a3ee5e6b4b0d3255bfef95601890afd80709'\n"
        "assert hashlib.pbkdf2_hmac('sha256', b'a', b'b', 1)\n"
    )


def test_a_thread_that_imports_hashlib_meanwhile_gets_the_whole_of_it():
    run(
        MEANWHILE + RENDER + "(one,) = found\n"
        "assert one.pbkdf2_hmac('sha256', b'a', b'b', 1)\n"
        "import hashlib\n"
        "assert hashlib is one\n"
    )


def test_where_hashlib_is_loaded_jinja_uses_it():
    run(
        "import hashlib\n" + RENDER + "import jinja2.bccache\n"
        "assert jinja2.bccache.sha1 is hashlib.sha1\n"
    )
