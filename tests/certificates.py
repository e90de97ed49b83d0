"""Certificates for one test: an authority, and certificates it signs for a name or an address; valid for a day."""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

DAY = timedelta(days=1)


class Authority:
    """Signs certificates; `file` is its own, for those who are to trust it."""

    def __init__(self, folder: Path, name: str = "root") -> None:
        folder.mkdir(exist_ok=True)
        self._folder, self._name = folder, name
        self._key = ec.generate_private_key(ec.SECP256R1())
        self.file = folder / f"{name}.pem"
        basic = x509.BasicConstraints(ca=True, path_length=None)
        self.file.write_bytes(self._signed(name, self._key, (basic, True)))

    def issue(self, *names: str) -> tuple[Path, Path]:
        """Return the files with a certificate of `names` (addresses or host names) and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        stem = self._folder / f"{self._name}-{names[0]}"
        alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
        files = stem.with_suffix(".crt"), stem.with_suffix(".key")
        files[0].write_bytes(self._signed(names[0], key, (alternatives, False)))
        files[1].touch(0o600)
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _signed(self, subject: str, key: ec.EllipticCurvePrivateKey, extension: tuple) -> bytes:
        now = datetime.now(UTC)
        builder = x509.CertificateBuilder().subject_name(_named(subject)).issuer_name(_named(self._name))
        builder = builder.public_key(key.public_key()).serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - DAY).not_valid_after(now + DAY)
        builder = builder.add_extension(extension[0], critical=extension[1])
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _named(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
