"""Names for what is known by its content."""

from typing import BinaryIO

# Runs ask for them, too, and behind hashlib are 4 MiB of OpenSSL.
try:
    from _blake2 import blake2b
except ImportError:  # a Python without its own hashes
    from hashlib import blake2b


_READ_BYTES = 1 << 18


def stream_digest(stream: BinaryIO, num_bytes: int) -> str:
    """Return `short_digest` of the next `num_bytes` of a stream, or of what is left of it."""
    digest = blake2b(digest_size=10)
    while data := stream.read(min(num_bytes, _READ_BYTES)):
        digest.update(data)
        num_bytes -= len(data)
    return str(digest.hexdigest())


def short_digest(data: bytes) -> str:
    """Return BLAKE2b of `data` (RFC 7693) as 20 digits: enough to name, not to guard, a file."""
    return blake2b(data, digest_size=10).hexdigest()
