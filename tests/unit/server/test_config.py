"""Settings: precedence, every kind of bad value, one line each."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path

import pytest

from server.config import (
    ConfigError,
    IceServer,
    Settings,
    env_of,
    flag_of,
    load_settings,
    option_of,
    toml_key_of,
)


def test_nothing_given_takes_contract_defaults() -> None:
    settings = load_settings({}, {})
    assert settings.http_port == 8080
    assert settings.media_port == 8189
    assert settings.data == Path("data")
    assert settings.web_workers == settings.media_workers == 1


def test_flag_beats_environment_beats_file(tmp_path: Path) -> None:
    file = tmp_path / "livehouse.toml"
    file.write_text('http-port = 1\nmedia_port = 11\nhost = "::1"\n')
    environment = {"LIVEHOUSE_HTTP_PORT": "2", "LIVEHOUSE_MEDIA_PORT": "22"}
    settings = load_settings({"config": str(file), "http_port": "3"}, environment)
    assert (settings.http_port, settings.media_port, settings.host) == (3, 22, "::1")


def test_config_file_can_be_named_by_environment(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text("guest-ttl = 61")
    assert load_settings({}, {"LIVEHOUSE_CONFIG": str(file)}).guest_ttl == 61


def test_lists_come_from_repeated_flags_commas_and_arrays(tmp_path: Path) -> None:
    file = tmp_path / "a.toml"
    file.write_text('public-ip = ["10.0.0.1", "fd00::1"]')
    expected = ("10.0.0.1", "fd00::1")
    assert load_settings({"config": str(file)}, {}).public_ip == expected
    assert load_settings({}, {"LIVEHOUSE_PUBLIC_IP": "10.0.0.1, fd00::1"}).public_ip == expected
    assert load_settings({"public_ip": ["10.0.0.1", "fd00::1"]}, {}).public_ip == expected


def test_empty_environment_variable_means_not_given() -> None:
    assert load_settings({}, {"LIVEHOUSE_HTTP_PORT": " "}).http_port == 8080


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("http_port", "99999"),
        ("http_port", "-1"),
        ("http_port", "8o8o"),
        ("http_port", "٣"),
        ("media_port", "65536"),
        ("media_workers", "0"),
        ("media_workers", "65"),
        ("web_workers", "2"),
        ("public_ip", ["0.0.0.0"]),
        ("public_ip", ["host.example"]),
        ("public_url", "ftp://x"),
        ("redis", "http://x"),
        ("tls", "maybe"),
        ("host", "a b"),
        ("data", ""),
        ("allow_origin", ["shop.example"]),
        ("allow_origin", ["https://shop.example/path"]),
        ("ice_server", ["turn:host.example"]),
        ("ice_server", ["stun:user:secret@host.example"]),
        ("ice_server", ["http://host.example"]),
        ("guest_ttl", "59"),
        ("log_level", "loud"),
        ("max_connections", "0"),
        ("cert", "/nowhere/cert.pem"),
        ("demo_room", "-x"),
        ("bots", "501"),
    ],
)
def test_bad_value_is_one_line_naming_key_and_value(name: str, value: object) -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({name: value}, {})
    text = str(caught.value)
    assert "\n" not in text
    assert name.replace("_", "-") in text
    if name not in ("ice_server",):
        shown = value[0] if isinstance(value, list) else str(value)
        assert shown in text


def test_bad_environment_value_names_the_variable() -> None:
    with pytest.raises(ConfigError, match="LIVEHOUSE_HTTP_PORT: '80a' cannot be used"):
        load_settings({}, {"LIVEHOUSE_HTTP_PORT": "80a"})


def test_bad_ice_server_hides_its_password() -> None:
    with pytest.raises(ConfigError) as caught:
        load_settings({"ice_server": ["turn:user:hunter2@bad host"]}, {})
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("colour = 1", "colour"),
        ('http-port = "eighty"', "http-port"),
        ("http-port = true", "http-port"),
        ("tls = 3", "tls"),
        ("host = 5", "host"),
        ("host = ", "config"),
        ("[server]\nhttp-port = 1", "server"),
    ],
)
def test_bad_file_is_one_line_naming_the_key(tmp_path: Path, text: str, key: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(text)
    with pytest.raises(ConfigError) as caught:
        load_settings({"config": str(file)}, {})
    assert str(caught.value).startswith(f"{key}: ")
    assert "\n" not in str(caught.value)


def test_missing_and_binary_files_are_refused(tmp_path: Path) -> None:
    binary = tmp_path / "x.toml"
    binary.write_bytes(b"\xff\xfe")
    for path in (tmp_path / "none.toml", binary, tmp_path):
        with pytest.raises(ConfigError, match="config"):
            load_settings({"config": str(path)}, {})


def test_media_ports_must_all_fit() -> None:
    with pytest.raises(ConfigError, match="media-port"):
        load_settings({"media_port": "65535", "media_workers": "2"}, {})
    assert load_settings({"media_port": "65534", "media_workers": "2"}, {}).media_workers == 2


def test_cert_and_key_come_together_and_only_with_tls(tmp_path: Path) -> None:
    pem = tmp_path / "a.pem"
    pem.write_text("x")
    with pytest.raises(ConfigError, match="give both"):
        load_settings({"cert": str(pem), "tls": True}, {})
    with pytest.raises(ConfigError, match="only with --tls"):
        load_settings({"cert": str(pem), "key": str(pem)}, {})


def test_ice_server_forms() -> None:
    given = ["stun:stun.example:3478", "turn:ann:s3cret@turn.example?transport=tcp"]
    servers = load_settings({"ice_server": given}, {}).ice_server
    assert servers == (
        IceServer("stun:stun.example:3478"),
        IceServer("turn:turn.example?transport=tcp", "ann", "s3cret"),
    )
    assert "s3cret" not in repr(servers)


def test_names_of_one_option_are_derived_alike() -> None:
    assert flag_of("http_port") == "--http-port"
    assert env_of("http_port") == "LIVEHOUSE_HTTP_PORT"
    assert toml_key_of("http_port") == "http-port"


def test_every_option_explains_itself() -> None:
    for item in fields(Settings):
        option = option_of(item)
        assert option.help and option.allowed, item.name
        assert "\n" not in option.help + option.allowed
