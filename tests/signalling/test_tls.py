"""The gateway's certificate: made, kept, made anew; the operator's own, and its renewal."""

from __future__ import annotations

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import pytest
from cryptography import x509

from pyfastpath.errors import ConfigError
from pyfastpath.signalling import tls
from tests.signalling.rig import running

NOW = datetime.now(UTC)
NAMES = ("localhost", "127.0.0.1", "::1", "203.0.113.9")


def certificate(folder: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / tls.FILE).read_bytes())


def test_names_are_every_way_a_client_may_come() -> None:
    assert tls.names_of("https://voice.example.org:8443/x", "0.0.0.0:8080", ["203.0.113.9:3478"]) == (
        "localhost",
        "127.0.0.1",
        "::1",
        "voice.example.org",
        "203.0.113.9",
    )
    assert tls.names_of("", "[2001:db8::5]:8080", ["127.0.0.1:3478"])[3:] == ("2001:db8::5",)
    assert tls.names_of("https://[2001:db8::7]/", "[::]:1", [])[3:] == ("2001:db8::7",)


def test_a_certificate_is_kept_with_its_key_for_its_user_alone(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    tls.self_signed_context(NAMES, folder, NOW)
    first = certificate(folder)
    assert (folder / tls.FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in folder.iterdir()] == [tls.FILE]
    tls.self_signed_context(NAMES, folder, NOW + timedelta(days=100))
    tls.self_signed_context(NAMES[:2], folder, NOW)
    assert certificate(folder) == first


def test_it_is_made_anew_when_it_ends_soon_lacks_a_name_or_is_broken(tmp_path: Path) -> None:
    tls.self_signed_context(NAMES, tmp_path, NOW)
    serials = {certificate(tmp_path).serial_number}
    for names, now, damage in [
        ((*NAMES, "voice.example.org"), NOW, None),
        (NAMES, NOW + timedelta(days=368), None),
        (NAMES, NOW - timedelta(days=30), None),
        (NAMES, NOW, b""),
        (NAMES, NOW, b"-----BEGIN CERTIFICATE-----\n"),
    ]:
        if damage is not None:
            (tmp_path / tls.FILE).write_bytes(damage)
        tls.self_signed_context(names, tmp_path, now)
        serials.add(certificate(tmp_path).serial_number)
    assert len(serials) == 6


def test_a_key_of_another_certificate_is_not_used(tmp_path: Path) -> None:
    one, other = tls.make_certificate(NAMES, NOW), tls.make_certificate(NAMES, NOW)
    mark = b"-----BEGIN CERTIFICATE-----"
    (tmp_path / tls.FILE).write_bytes(one.split(mark)[0] + mark + other.split(mark)[1])
    tls.self_signed_context(NAMES, tmp_path, NOW)
    assert (tmp_path / tls.FILE).read_bytes() != one


def test_what_browsers_ask_of_a_certificate() -> None:
    made = x509.load_pem_x509_certificate(tls.make_certificate(NAMES, NOW))
    lifetime = made.not_valid_after_utc - made.not_valid_before_utc
    assert lifetime < timedelta(days=399)
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(one) for one in names.get_values_for_type(x509.IPAddress)] == list(NAMES[1:])


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep a certificate") as refused:
        tls.self_signed_context(NAMES, tmp_path / "file" / "below", NOW)
    assert refused.value.key == "state_dir"


def test_without_a_folder_nothing_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert tls.self_signed_context(NAMES, None, NOW).cert_store_stats()
    assert list(tmp_path.iterdir()) == []


def test_the_operators_files_are_used_or_refused(tmp_path: Path) -> None:
    pem = tls.make_certificate(NAMES, NOW)
    (tmp_path / "good.pem").write_bytes(pem)
    (tmp_path / "other.pem").write_bytes(tls.make_certificate(NAMES, NOW))
    tls.server_context(tmp_path / "good.pem", tmp_path / "good.pem")
    for cert, key in [("good.pem", "other.pem"), ("none.pem", "good.pem"), ("good.pem", "none.pem")]:
        with pytest.raises(ConfigError, match="make no certificate") as refused:
            tls.server_context(tmp_path / cert, tmp_path / key)
        assert refused.value.key == "tls_cert"


async def fetch(url: str, trusted: bytes) -> int:
    """The status of a GET by a client that trusts this one certificate and checks its names."""
    context = ssl.create_default_context(cadata=trusted.decode())
    async with aiohttp.ClientSession() as http, http.get(url, ssl=context) as reply:
        return reply.status


async def test_a_gateway_speaks_https_with_its_own_certificate(tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with running(tmp_path, tls="self-signed", state_dir=str(state)) as rig:
        assert rig.gateway.url.startswith("https://127.0.0.1:")
        kept = (state / tls.FILE).read_bytes()
        trusted = kept[kept.index(b"-----BEGIN CERTIFICATE-----") :]
        assert await fetch(rig.gateway.url + "/", trusted) == 200
        port = rig.gateway.url.rpartition(":")[2]
        assert await fetch(f"https://localhost:{port}/", trusted) == 200
        with pytest.raises(aiohttp.ClientConnectorError):
            await fetch(rig.gateway.url + "/", tls.make_certificate(NAMES, NOW).split(b"KEY-----\n")[2])
        with pytest.raises(aiohttp.ClientError):
            await rig.http.get(f"http://127.0.0.1:{port}/")


async def test_a_renewed_certificate_is_read_again(tmp_path: Path) -> None:
    file = tmp_path / "cert.pem"
    first, second = tls.make_certificate(NAMES, NOW), tls.make_certificate(NAMES, NOW)
    file.write_bytes(first)
    async with running(tmp_path, tls_cert=str(file), tls_key=str(file)) as rig:
        assert await fetch(rig.gateway.url + "/", first.split(b"KEY-----\n")[2]) == 200
        file.write_bytes(b"half")
        with pytest.raises(ConfigError):
            rig.gateway.reload_certificate()
        assert await fetch(rig.gateway.url + "/", first.split(b"KEY-----\n")[2]) == 200
        file.write_bytes(second)
        rig.gateway.reload_certificate()
        assert await fetch(rig.gateway.url + "/", second.split(b"KEY-----\n")[2]) == 200
