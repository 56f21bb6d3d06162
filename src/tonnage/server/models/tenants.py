"""Who may ask, and how much: API keys, each of a tenant with its own cache salt and quotas."""

import hashlib
import hmac
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tonnage.core.errors import RequestError
from tonnage.server.http.failures import HttpError, too_many

MIN_KEY_CHARS = 16
_FIELDS = ("key", "key_sha256", "requests_per_minute", "tokens_per_minute", "priority")


@dataclass
class Bucket:
    """A quota: `per_minute` units flow in, at most that many lie ready, or 1 (a token bucket)."""

    per_minute: float
    _level: float = field(init=False)
    _last_s: float = 0.0

    def __post_init__(self) -> None:
        """Begin full."""
        self._capacity = max(1.0, self.per_minute)
        self._level = self._capacity

    def wait_s(self, now_s: float) -> float:
        """Return the seconds until a unit is there, 0 for now."""
        grown = self._level + (now_s - self._last_s) * self.per_minute / 60
        self._level = min(self._capacity, grown)
        self._last_s = now_s
        return max(0.0, (1 - self._level) * 60 / self.per_minute)

    def take(self, amount: float) -> None:
        """Take `amount`; the level may fall below 0, and later requests wait."""
        self._level -= amount


@dataclass(eq=False)
class Tenant:
    """The holder of a key. salt: prefixes computed for one tenant are invisible to others."""

    name: str
    salt: str
    priority: int = 0
    requests: Bucket = field(default_factory=lambda: Bucket(math.inf))
    tokens: Bucket = field(default_factory=lambda: Bucket(math.inf))

    def is_like(self, other: "Tenant") -> bool:
        """Return whether both have the same name, priority and quotas."""
        return (self.name, self.salt, self.priority, *self._quotas) == (
            other.name, other.salt, other.priority, *other._quotas,
        )  # fmt: skip

    @property
    def _quotas(self) -> tuple[float, float]:
        return self.requests.per_minute, self.tokens.per_minute

    def admit(self, now_s: float) -> None:
        """Count a request. Raises HttpError 429 when a quota is used up."""
        for bucket, unit in ((self.requests, "requests"), (self.tokens, "tokens")):
            if math.isinf(bucket.per_minute):
                continue
            wait_s = bucket.wait_s(now_s)
            if wait_s > 0:
                raise too_many(
                    f"The quota of {bucket.per_minute:g} {unit} per minute is used up.", wait_s
                )
        self.requests.take(1)

    def spend(self, num_tokens: int) -> None:
        """Count the tokens of a prompt and its answer."""
        self.tokens.take(num_tokens)


class Tenants:
    """All tenants; without keys everyone is the same one."""

    def __init__(self, keys: Mapping[bytes, Tenant]) -> None:
        """keys: SHA-256 of each key -> its tenant."""
        self._keys = dict(keys)
        self._anyone = Tenant("", "")

    @property
    def need_keys(self) -> bool:
        """Whether a request needs a key."""
        return bool(self._keys)

    @property
    def num_keys(self) -> int:
        """How many keys are known."""
        return len(self._keys)

    def renewed(self, former: "Tenants") -> "Tenants":
        """Return these tenants; those that `former` has with the same settings go on as they are.

        So a quota that is used up does not fill because keys were read anew.
        """
        kept = {
            digest: old if (old := former._keys.get(digest)) and old.is_like(tenant) else tenant
            for digest, tenant in self._keys.items()
        }
        return Tenants(kept)

    def of(self, headers: Mapping[str, str]) -> Tenant:
        """Return whose request this is, by `Authorization: Bearer` or `x-api-key`.

        Raises HttpError 401. The time taken does not show how near a wrong key came: hashes are
        compared, each in constant time, and all of them.
        """
        if not self._keys:
            return self._anyone
        scheme, _, key = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            key = headers.get("x-api-key", "")
        shown = _digest(key.strip())
        found = None
        for digest, tenant in self._keys.items():
            if hmac.compare_digest(digest, shown):
                found = tenant
        if found is None:
            raise HttpError(
                401,
                "This server needs a key it knows, as 'Authorization: Bearer KEY'.",
                code="invalid_api_key",
                headers={"www-authenticate": "Bearer"},
            )
        return found


def read_tenants(path: Path | None, key: str | None) -> Tenants:
    """Return the tenants of a TOML file, and one more for a single `key`.

    The file has a table [tenant.NAME] for each: key or key_sha256 (hex), and, where wanted,
    requests_per_minute, tokens_per_minute, priority. Raises RequestError for anything else.
    """
    keys: dict[bytes, Tenant] = {}
    if key:
        digest = _digest(_long_enough("the key", key))
        keys[digest] = Tenant("default", _salt_of(digest))
    for name, settings in _tables(path).items():
        digest, tenant = _tenant(name, settings)
        if digest in keys:
            raise RequestError(f"{path}: the key of tenant {name} is another one's too.")
        keys[digest] = tenant
    return Tenants(keys)


def _tables(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except (ValueError, RecursionError) as error:
        raise RequestError(f"{path} is not valid TOML ({error}).") from None
    tables = content.get("tenant")
    if not isinstance(tables, dict) or not tables or set(content) != {"tenant"}:
        raise RequestError(f"{path} needs one or more tables [tenant.NAME], and nothing else.")
    return tables


def _tenant(name: str, settings: Any) -> tuple[bytes, Tenant]:
    where = f"Tenant {name}"
    if not name:
        raise RequestError("A tenant has no name; write [tenant.NAME].")
    if not isinstance(settings, dict):
        raise RequestError(f"{where} is no table.")
    unknown = sorted(set(settings) - set(_FIELDS))
    if unknown:
        raise RequestError(f"{where}: {unknown[0]} is unknown; there are {', '.join(_FIELDS)}.")
    if ("key" in settings) == ("key_sha256" in settings):
        raise RequestError(f"{where} needs either key or key_sha256.")
    if "key" in settings:
        digest = _digest(_long_enough(where, settings["key"]))
    else:
        digest = _hex_digest(where, settings["key_sha256"])
    priority = settings.get("priority", 0)
    if type(priority) is not int or not -100 <= priority <= 100:
        raise RequestError(f"{where}: priority is {priority!r}; it takes -100 to 100.")
    quotas = (_bucket(where, settings, unit) for unit in _FIELDS[2:4])
    return digest, Tenant(name, _salt_of(digest), priority, *quotas)


def _bucket(where: str, settings: Mapping[str, Any], unit: str) -> Bucket:
    value = settings.get(unit, math.inf)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0:
        raise RequestError(f"{where}: {unit} is {value!r}; it takes a number above 0.")
    return Bucket(value)


def _long_enough(where: str, key: Any) -> str:
    if not isinstance(key, str) or len(key) < MIN_KEY_CHARS or not key.isascii():
        raise RequestError(
            f"{where} is too short or no plain text; a key needs at least {MIN_KEY_CHARS} ASCII "
            "letters that cannot be guessed."
        )
    return key


def _hex_digest(where: str, text: Any) -> bytes:
    try:
        digest = bytes.fromhex(text)
    except (TypeError, ValueError):
        digest = b""
    if len(digest) != 32:
        raise RequestError(f"{where}: key_sha256 takes 64 hexadecimal digits.")
    return digest


def _digest(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "replace")).digest()


def _salt_of(digest: bytes) -> str:
    """Return the same salt for a key after every start, so that prefixes on disk stay of use."""
    return hashlib.sha256(b"prefixes of a key\n" + digest).hexdigest()
