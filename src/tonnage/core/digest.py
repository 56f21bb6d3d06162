"""SHA-256 of what is already in memory."""


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of `data` as 64 digits.

    By Python's own code where it has been built: hashlib brings OpenSSL, 4 MiB that a run has no
    other use for.
    """
    try:
        from _sha2 import sha256  # type: ignore[import-not-found]
    except ImportError:  # Python 3.11
        try:
            from _sha256 import sha256  # type: ignore[import-not-found]
        except ImportError:  # built without
            from hashlib import sha256
    digest: str = sha256(data).hexdigest()
    return digest
