"""The server's own certificate."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography import x509

from server.config import ConfigError, Settings
from server.tls import certificate_for


def names_in(path: Path) -> set[str]:
    certificate = x509.load_pem_x509_certificate(path.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(name.value) for name in names}


def test_no_certificate_without_tls(tmp_path: Path) -> None:
    assert certificate_for(Settings(), tmp_path, ()) is None


def test_own_certificate_names_the_addresses_and_is_kept(tmp_path: Path) -> None:
    settings = Settings(tls=True)
    first = certificate_for(settings, tmp_path, ("192.0.2.7",))
    assert first is not None
    cert, key = first
    assert {"192.0.2.7", "127.0.0.1", "localhost"} <= names_in(cert)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    before = cert.read_bytes()
    certificate_for(settings, tmp_path, ("192.0.2.7",))
    assert cert.read_bytes() == before


def test_new_address_makes_a_new_certificate(tmp_path: Path) -> None:
    settings = Settings(tls=True)
    certificate_for(settings, tmp_path, ("192.0.2.7",))
    pair = certificate_for(settings, tmp_path, ("192.0.2.8",))
    assert pair is not None and "192.0.2.8" in names_in(pair[0])


def test_pem_that_is_none_is_a_settings_error(tmp_path: Path) -> None:
    junk = tmp_path / "junk.pem"
    junk.write_text("junk")
    with pytest.raises(ConfigError, match=r"cert: .*junk\.pem"):
        certificate_for(Settings(tls=True, cert=junk, key=junk), tmp_path, ())
