"""Compressed bodies: RFC 9110 (8.4, 15.5.16), and bounds on what they become."""

import gzip
import zlib

import pytest

from tonnage.server.http.content_coding import decoder_of
from tonnage.server.http.failures import HttpError

DATA = b'{"model": "m", "input": "' + b"abc " * 500 + b'"}'


def bare(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-15)
    return coder.compress(data) + coder.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(DATA)),
        ("x-gzip", gzip.compress(DATA)),
        (" GZIP , identity", gzip.compress(DATA)),
        ("gzip", gzip.compress(DATA[:100]) + gzip.compress(DATA[100:])),
        ("gzip", gzip.compress(b"") + gzip.compress(DATA)),
        ("deflate", zlib.compress(DATA)),
        ("deflate", bare(DATA)),
    ],
)
def test_a_body_is_decoded(coding: str, body: bytes) -> None:
    decode = decoder_of(coding)
    assert decode is not None
    assert decode(body, len(DATA)) == DATA
    with pytest.raises(HttpError) as caught:
        decode(body, len(DATA) - 1)
    assert caught.value.status == 413


@pytest.mark.parametrize("coding", ["", "identity", "identity, Identity"])
def test_a_plain_body_has_no_decoder(coding: str) -> None:
    assert decoder_of(coding) is None


@pytest.mark.parametrize("coding", ["zstd", "br", "compress", "gzip, gzip", "gzip, zstd", "x"])
def test_other_codings_are_refused_with_those_that_are_known(coding: str) -> None:
    with pytest.raises(HttpError) as caught:
        decoder_of(coding)
    assert caught.value.status == 415
    assert caught.value.headers == {"accept-encoding": "gzip, deflate"}


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", b""),
        ("gzip", DATA),
        ("gzip", gzip.compress(DATA)[:-1]),
        ("gzip", gzip.compress(DATA) + b"x"),
        ("gzip", gzip.compress(b"") * 100),
        ("deflate", b""),
        ("deflate", zlib.compress(DATA)[:-2]),
        ("deflate", zlib.compress(DATA) + b"x"),
        ("deflate", gzip.compress(DATA)),
    ],
)
def test_what_is_not_in_its_coding_is_a_400(coding: str, body: bytes) -> None:
    decode = decoder_of(coding)
    assert decode is not None
    with pytest.raises(HttpError) as caught:
        decode(body, 1 << 20)
    assert caught.value.status == 400


def test_what_grows_a_thousandfold_is_cut_where_the_bound_is() -> None:
    decode = decoder_of("gzip")
    assert decode is not None
    with pytest.raises(HttpError) as caught:
        decode(gzip.compress(bytes(64 << 20)), 1 << 18)
    assert caught.value.status == 413
