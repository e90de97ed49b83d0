"""Opens secrets that the kernel sealed in its database; never seals, stores or logs one.

Form: `enc:v1:` + base64(nonce of 12 bytes || AES-256-GCM ciphertext || tag of 16 bytes), no associated data;
the key is base64 of 32 bytes (the kernel's HELDAR_SECRET_KEY). Anything without the prefix is plain text.
"""

from __future__ import annotations

import base64
from dataclasses import replace

from anr_watch.errors import ReplayRefused
from anr_watch.model import Camera, Secret

SEALED_PREFIX = "enc:v1:"
_NONCE_BYTES, _TAG_BYTES, _KEY_BYTES = 12, 16, 32


def is_sealed(stored: Secret) -> bool:
    """Say whether `stored` needs the key."""
    return stored.reveal().startswith(SEALED_PREFIX)


def open_sealed(stored: Secret, key: Secret | None) -> Secret:
    """Return what `stored` holds: itself when it is plain text, else the opened text.

    Raises:
        ReplayRefused: the key is missing, malformed or another one, or the sealed text is damaged.
    """
    if not is_sealed(stored):
        return stored
    if not key:
        raise ReplayRefused(
            "a stored secret is sealed and there is no key (right: set HELDAR_SECRET_KEY or secret_key)"
        )
    raw = _decoded(stored.reveal().removeprefix(SEALED_PREFIX))
    if raw is None or len(raw) < _NONCE_BYTES + _TAG_BYTES:
        raise ReplayRefused("a sealed secret in the database is damaged (right: enter it again in the kernel)")
    # 40 ms and 6 MB that only installations with sealed secrets pay.
    from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see above
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above

    try:
        text = AESGCM(key_bytes(key)).decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], None)
    except InvalidTag:
        raise ReplayRefused(
            "a sealed secret does not open with this key (right: the kernel's HELDAR_SECRET_KEY)"
        ) from None
    try:
        return Secret(text.decode())
    except UnicodeDecodeError:
        raise ReplayRefused("a sealed secret holds no text (right: enter it again in the kernel)") from None


def open_camera(camera: Camera, key: Secret | None) -> Camera:
    """Return `camera` with its password and its replay URL template opened.

    Raises:
        ReplayRefused: as for `open_sealed`; the text says which of the two.
    """
    opened: dict[str, Secret | None] = {}
    for field, stored in (("password", camera.password), ("replay URL template", camera.replay_url_template)):
        try:
            opened[field] = open_sealed(stored, key) if stored is not None else None
        except ReplayRefused as error:
            raise ReplayRefused(f"{field}: {error}") from None
    return replace(camera, password=opened["password"], replay_url_template=opened["replay URL template"])


def key_bytes(key: Secret) -> bytes:
    """Return the 32 bytes of a key.

    Raises:
        ReplayRefused: it is not base64 of 32 bytes.
    """
    raw = _decoded(key.reveal().strip())
    if raw is None or len(raw) != _KEY_BYTES:
        raise ReplayRefused("the secret key is not base64 of 32 bytes (right: the kernel's HELDAR_SECRET_KEY)")
    return raw


def _decoded(text: str) -> bytes | None:
    try:
        return base64.b64decode(text, validate=True)
    except ValueError:
        return None
