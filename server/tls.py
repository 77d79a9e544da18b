"""A certificate for the LAN, made by the server itself, so that phones get a camera.

Browsers give cameras and microphones to secure pages only, and a shop's LAN has no
public name to get a certificate for. The person accepts the warning once; the
certificate is kept so that it stays the same.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
import os
import socket
import ssl
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from server.config import ConfigError, Settings

CERT_FILE: Final = "tls-cert.pem"
KEY_FILE: Final = "tls-key.pem"
VALID_FOR: Final = dt.timedelta(days=397)
"""The longest that Safari takes for a leaf certificate is 398 days."""
RENEW_BEFORE: Final = dt.timedelta(days=14)


def certificate_for(
    settings: Settings, data: Path, addresses: tuple[str, ...]
) -> tuple[Path, Path] | None:
    """Chain and key to serve with, None without TLS. Raises ConfigError."""
    if not settings.tls:
        return None
    if settings.cert is not None and settings.key is not None:
        pair = (settings.cert.resolve(), settings.key.resolve())
    else:
        names = ("localhost", socket.gethostname())
        pair = _own_certificate(data, names, (*addresses, "127.0.0.1", "::1"))
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(*pair)
    except (OSError, ssl.SSLError) as error:
        reason = getattr(error, "reason", None) or error.strerror or "not PEM"
        raise ConfigError("cert", str(pair[0]), f"a PEM chain and its key; {reason}") from None
    return pair


def _own_certificate(
    data: Path, names: tuple[str, ...], addresses: tuple[str, ...]
) -> tuple[Path, Path]:
    cert_path, key_path = data / CERT_FILE, data / KEY_FILE
    now = dt.datetime.now(dt.UTC)
    if key_path.exists() and _still_fits(cert_path, names, addresses, now):
        return cert_path, key_path
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = _self_signed(key, names, addresses, now)
    try:
        _write(
            key_path,
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ),
        )
        _write(cert_path, certificate.public_bytes(serialization.Encoding.PEM))
    except OSError as error:
        raise ConfigError("data", str(data), f"it must be writable; {error.strerror}") from None
    return cert_path, key_path


def _self_signed(
    key: ec.EllipticCurvePrivateKey,
    names: tuple[str, ...],
    addresses: tuple[str, ...],
    now: dt.datetime,
) -> x509.Certificate:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Livehouse on this network")])
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + VALID_FOR)
        .add_extension(x509.SubjectAlternativeName(_general_names(names, addresses)), False)
        # A certificate that clients can also pin as its own authority.
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False)
        .add_extension(
            x509.KeyUsage(True, False, False, False, False, True, False, False, False), True
        )
        .sign(key, hashes.SHA256())
    )


def _general_names(names: tuple[str, ...], addresses: tuple[str, ...]) -> list[x509.GeneralName]:
    unique = dict.fromkeys(addresses)
    return [
        *(x509.DNSName(name) for name in dict.fromkeys(names) if name.isascii()),
        *(x509.IPAddress(ipaddress.ip_address(address)) for address in unique),
    ]


def _still_fits(
    path: Path, names: tuple[str, ...], addresses: tuple[str, ...], now: dt.datetime
) -> bool:
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
        covered = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except (OSError, ValueError, x509.ExtensionNotFound):
        return False
    wanted = set(_general_names(names, addresses))
    return wanted <= set(covered.value) and certificate.not_valid_after_utc > now + RENEW_BEFORE


def _write(path: Path, content: bytes) -> None:
    draft = path.with_suffix(".new")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    draft.replace(path)
