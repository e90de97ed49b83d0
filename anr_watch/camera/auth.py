"""Basic and Digest authentication from the server's side (RFC 7617, RFC 2617, RFC 7616); it opens no sockets."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import secrets
from enum import StrEnum
from typing import Final

_PAIR: Final = re.compile(r'([A-Za-z0-9_-]+)\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,]+))')


class AuthScheme(StrEnum):
    """What the camera asks for."""

    DIGEST = "digest"
    DIGEST_NO_QOP = "digest-no-qop"
    DIGEST_SHA256 = "digest-sha256"
    BASIC = "basic"
    NONE = "none"


def parse_pairs(header: str) -> dict[str, str]:
    """Return the `name=value` pairs of a challenge or of credentials, quotes removed."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted or not bare else bare
        for name, quoted, bare in _PAIR.findall(header)
    }


def digest_response(*, algorithm: str, username: str, password: str, method: str, pairs: dict[str, str]) -> str:
    """Return the `response` that belongs to the given credentials; `pairs` as the client sent them.

    Raises:
        KeyError: realm, nonce or uri is absent, or qop without nc and cnonce.
    """

    def digest(text: str) -> str:
        # MD5 is what the cameras' Digest is made of; no secret of ours rests on it.
        return hashlib.new(algorithm, text.encode(), usedforsecurity=False).hexdigest()

    secret = digest(f"{username}:{pairs['realm']}:{password}")
    request = digest(f"{method}:{pairs['uri']}")
    if "qop" in pairs:
        return digest(f"{secret}:{pairs['nonce']}:{pairs['nc']}:{pairs['cnonce']}:{pairs['qop']}:{request}")
    return digest(f"{secret}:{pairs['nonce']}:{request}")


class Authenticator:
    """Checks the Authorization header of one connection, with a nonce of its own."""

    def __init__(self, scheme: AuthScheme, username: str, password: str, realm: str = "IP Camera") -> None:
        self._scheme = scheme
        self._username = username
        self._password = password
        self._realm = realm
        self._nonce = secrets.token_hex(16)

    def challenge(self) -> str:
        """Return the value for WWW-Authenticate."""
        if self._scheme is AuthScheme.BASIC:
            return f'Basic realm="{self._realm}"'
        value = f'Digest realm="{self._realm}", nonce="{self._nonce}"'
        if self._scheme is AuthScheme.DIGEST:
            return value + ', algorithm=MD5, qop="auth"'
        if self._scheme is AuthScheme.DIGEST_SHA256:
            return value + ', algorithm=SHA-256, qop="auth"'
        return value

    def accepts(self, method: str, authorization: str | None) -> bool:
        """Return whether a request may pass."""
        if self._scheme is AuthScheme.NONE:
            return True
        if authorization is None:
            return False
        kind, _, value = authorization.strip().partition(" ")
        if self._scheme is AuthScheme.BASIC:
            expected = base64.b64encode(f"{self._username}:{self._password}".encode()).decode()
            return kind.lower() == "basic" and hmac.compare_digest(value.strip(), expected)
        return kind.lower() == "digest" and self._accepts_digest(method, parse_pairs(value))

    def _accepts_digest(self, method: str, pairs: dict[str, str]) -> bool:
        if (pairs.get("username"), pairs.get("realm"), pairs.get("nonce")) != (
            self._username,
            self._realm,
            self._nonce,
        ):
            return False
        if self._scheme is not AuthScheme.DIGEST_NO_QOP and pairs.get("qop") != "auth":
            return False
        algorithm = "sha256" if self._scheme is AuthScheme.DIGEST_SHA256 else "md5"
        try:
            expected = digest_response(
                algorithm=algorithm, username=self._username, password=self._password, method=method, pairs=pairs
            )
        except KeyError:
            return False  # incomplete credentials are wrong credentials
        return hmac.compare_digest(pairs.get("response", ""), expected)
