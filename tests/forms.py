"""The forms in which a secret may turn up somewhere: as it is, in hexadecimal digits, in base64 of any alignment."""

import base64


def forms(core: bytes) -> set[bytes]:
    """Return what of a text survives in any alignment of base64 and in hexadecimal digits, and the text itself."""
    found = {core, core.hex().encode(), core.hex().upper().encode()}
    for lead in range(3):
        coded = base64.b64encode(b"\0" * lead + core)
        # The first digits mix with what stood before the core, the last with what follows.
        inner = coded[(0, 2, 3)[lead] : len(coded) - 4]
        found |= {inner, inner.translate(bytes.maketrans(b"+/", b"-_"))}
    return found
