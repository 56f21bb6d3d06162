"""Ways in which people write down a model of the Hugging Face Hub, and addresses of files."""

import re

from tonnage.core.errors import ModelNotFoundError
from tonnage.store.catalog import HUB_PREFIX

_HOSTS = ("hf.co/", "huggingface.co/", "www.huggingface.co/")
_REPOSITORY = re.compile(
    r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}(?::[A-Za-z0-9._-]{1,40})?"
)
_IN_REPOSITORY = ("resolve", "blob", "raw", "tree")


def hub_spelling(text: str) -> str | None:
    """Return `hf:owner/name[:TAG][/file]` for what names the hub's site, None for anything else.

    Raises ModelNotFoundError for a revision that is not `main`.
    """
    plain = re.sub(r"^https?://", "", text)
    host = next((host for host in _HOSTS if plain.startswith(host)), None)
    if host is None:
        return None
    owner_and_name, _, rest = _cut(plain.removeprefix(host).partition("?")[0].strip("/"))
    kind, _, inside = rest.partition("/")
    if kind in _IN_REPOSITORY:
        revision, _, rest = inside.partition("/")
        if revision not in ("", "main"):
            raise ModelNotFoundError(
                f"{text[:200]} is of revision {revision!r}; models come from the revision main. "
                "Download the file, and give its path."
            )
    return f"{HUB_PREFIX}{owner_and_name}{'/' if rest else ''}{rest}"


def _cut(path: str) -> tuple[str, str, str]:
    """Return owner/name, and what stands behind it."""
    pieces = path.split("/", 2)
    return "/".join(pieces[:2]), "/", pieces[2] if len(pieces) > 2 else ""


def may_be_repository(text: str) -> bool:
    """Return whether a text reads like `owner/name[:TAG]`; a path of two parts does, too."""
    return _REPOSITORY.fullmatch(text) is not None and not text.endswith(".gguf")


def is_address(text: str) -> bool:
    """Return whether a text is an address of the web."""
    return text.startswith(("http://", "https://"))
