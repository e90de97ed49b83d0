"""Digest agrees with the examples of its RFCs; anything incomplete is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anr_watch.camera.auth import Authenticator, AuthScheme, digest_response, parse_pairs

RFC2617 = {
    "realm": "testrealm@host.com",
    "nonce": "dcd98b7102dd2f0e8b11d0f600bfb0c093",
    "uri": "/dir/index.html",
    "qop": "auth",
    "nc": "00000001",
    "cnonce": "0a4f113b",
}
RFC7616 = {
    "realm": "http-auth@example.org",
    "uri": "/dir/index.html",
    "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
    "nc": "00000001",
    "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
    "qop": "auth",
}


def test_the_examples_of_the_rfcs():
    md5 = digest_response(algorithm="md5", username="Mufasa", password="Circle Of Life", method="GET", pairs=RFC2617)
    assert md5 == "6629fae49393a05397450978507c4ef1"
    sha256 = digest_response(
        algorithm="sha256", username="Mufasa", password="Circle of Life", method="GET", pairs=RFC7616
    )
    assert sha256 == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"


def credentials(auth, *, scheme, password="pw", username="admin", method="DESCRIBE"):
    pairs = parse_pairs(auth.challenge().partition(" ")[2])
    pairs |= {"uri": "rtsp://h/x", "username": username}
    if "qop" in pairs:
        pairs |= {"nc": "00000001", "cnonce": "abc"}
    algorithm = "sha256" if scheme is AuthScheme.DIGEST_SHA256 else "md5"
    pairs["response"] = digest_response(
        algorithm=algorithm, username=username, password=password, method=method, pairs=pairs
    )
    return pairs


def header(pairs):
    return "Digest " + ", ".join(f'{name}="{value}"' for name, value in pairs.items())


DIGESTS = [AuthScheme.DIGEST, AuthScheme.DIGEST_NO_QOP, AuthScheme.DIGEST_SHA256]


@pytest.mark.parametrize("scheme", DIGESTS)
def test_digest_lets_the_right_password_in_and_nothing_else(scheme):
    auth = Authenticator(scheme, "admin", "pw")
    right = credentials(auth, scheme=scheme)
    assert auth.accepts("DESCRIBE", header(right))
    assert not auth.accepts("PLAY", header(right)), "made for another method"
    assert not auth.accepts("DESCRIBE", None)
    assert not auth.accepts("DESCRIBE", header(credentials(auth, scheme=scheme, password="no")))
    assert not auth.accepts("DESCRIBE", header(credentials(auth, scheme=scheme, username="root")))
    assert not Authenticator(scheme, "admin", "pw").accepts("DESCRIBE", header(right)), "another nonce"
    for name in right:
        assert (
            not auth.accepts("DESCRIBE", header({k: v for k, v in right.items() if k != name})) or name == "algorithm"
        )


def test_basic_and_none():
    basic = Authenticator(AuthScheme.BASIC, "admin", "pw")
    assert basic.challenge().startswith("Basic ")
    assert basic.accepts("GET", "Basic YWRtaW46cHc=")
    assert not basic.accepts("GET", "Basic YWRtaW46bm8=")
    assert not basic.accepts("GET", "Digest YWRtaW46cHc=")
    assert Authenticator(AuthScheme.NONE, "admin", "pw").accepts("GET", None)


@given(st.text(max_size=200))
def test_no_text_breaks_the_check(text):
    for scheme in (AuthScheme.DIGEST, AuthScheme.BASIC):
        assert not Authenticator(scheme, "admin", "pw").accepts("GET", text)
        assert not Authenticator(scheme, "admin", "pw").accepts("GET", "Digest " + text)


def test_quoted_values_are_unquoted():
    assert parse_pairs(r'realm="a \"b\"", nc=00000001,uri=""') == {"realm": 'a "b"', "nc": "00000001", "uri": ""}
