"""Draws texts that a form allows, by chance, without a model: what a random one would say."""

import random
from collections.abc import Iterator

from llguidance import LLMatcher, LLTokenizer, TokenizerWrapper

from tonnage.server.generation.grammars import Form, Grammars

MAX_TOKENS = 600
_HASTY_AFTER = 60  # tokens; then closing characters are drawn before others
_CLOSERS = [ord(char) + 1 for char in '"}]'] + [0]


class ByteTokenizer:
    """As many tokens as there are bytes, and an end, which is token 0."""

    eos_token_id, bos_token_id = 0, None
    special_token_ids = (0,)
    tokens = (b"</s>", *(bytes([value]) for value in range(256)))

    def __call__(self, text: bytes | str) -> list[int]:
        data = text if isinstance(text, bytes) else text.encode()
        return [value + 1 for value in data]

    def encode(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        return self(text)

    def token_bytes(self, token_id: int) -> bytes:
        return self.tokens[token_id]


_TOKENIZER = ByteTokenizer()
NATIVE = LLTokenizer(TokenizerWrapper(_TOKENIZER), len(ByteTokenizer.tokens), eos_token=[0])
GRAMMARS = Grammars(LLMatcher, _TOKENIZER)  # type: ignore[arg-type]


def matcher_of(schema: object) -> LLMatcher:
    """Return what follows texts of a schema. Raises HttpError for one that is refused."""
    return LLMatcher(NATIVE, GRAMMARS.of_form(Form("schema", schema, "schema")), log_level=0)


def allows(matcher: LLMatcher, text: str) -> bool:
    """Whether `text` is what a matcher that was not used yet allows, to its end."""
    tokens = [byte + 1 for byte in text.encode()]
    own = matcher.deep_copy()
    return own.try_consume_tokens(tokens) == len(tokens) and own.is_accepting()


def samples(schema: object, count: int, seed: int = 0) -> Iterator[str | None]:
    """Yield texts that fit a schema, None for one that MAX_TOKENS cut.

    Raises HttpError for a schema that is refused, ValueError where a text cannot go on.
    """
    first = matcher_of(schema)
    if first.is_error():
        raise ValueError(first.get_error())
    chance = random.Random(seed)
    for _ in range(count):
        yield _sample(first.deep_copy(), chance)


def _sample(matcher: LLMatcher, chance: random.Random) -> str | None:
    data = bytearray()
    for number in range(MAX_TOKENS):
        mask = int.from_bytes(matcher.compute_bitmask(), "little")
        allowed = [token for token in range(257) if mask >> token & 1]
        if not allowed:
            raise ValueError(f"{matcher.get_error()} behind {bytes(data)!r}")
        closers = [token for token in _CLOSERS if mask >> token & 1]
        is_hasty = closers and (number > _HASTY_AFTER or chance.random() < 0.2)
        token = chance.choice(closers if is_hasty else allowed)
        if token == 0:
            return data.decode()
        data.append(token - 1)
        matcher.consume_token(token)
    return None
