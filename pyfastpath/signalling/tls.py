"""The certificate of the gateway's HTTPS: files of the operator, or one it signs itself.

Browsers open microphones on HTTPS and on localhost only, so a machine without a domain needs a certificate
that names its address; the browser asks once whether to trust it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import ssl
import tempfile
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pyfastpath.errors import ConfigError
from pyfastpath.types import Endpoint

log = logging.getLogger("pyfastpath.signalling")

FILE: Final = "gateway.pem"  # key and certificate in one file: they are replaced together or not at all
LIFETIME: Final = timedelta(days=397)  # no browser takes much more
RENEW_BEFORE: Final = timedelta(days=30)
LOCAL_NAMES: Final = ("localhost", "127.0.0.1", "::1")


def names_of(public_url: str, listen: str, candidates: Iterable[str]) -> tuple[str, ...]:
    """What clients may call the gateway: localhost, the public URL's host, the address it listens on unless
    that is a wildcard, and the relays' addresses (all on one machine, as a rule)."""
    names = dict.fromkeys(LOCAL_NAMES)
    if host := urlsplit(public_url).hostname:
        names[host] = None
    for address in (Endpoint.parse(text).address for text in (listen, *candidates)):
        if not address.is_unspecified:
            names[str(address)] = None
    return tuple(names)


def server_context(cert: Path, key: Path) -> ssl.SSLContext:
    """HTTPS with the operator's files. ConfigError when they cannot be used."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load_files(context, cert, key)
    return context


def load_files(context: ssl.SSLContext, cert: Path, key: Path) -> None:
    """Read the files (again): handshakes from now on use them. ConfigError leaves what was."""
    try:
        context.load_cert_chain(cert, key)
    except (OSError, ssl.SSLError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise ConfigError(
            f"{cert} and {key} make no certificate: {why}",
            "Name the PEM files of a chain and of its own key.",
            key="tls_cert",
        ) from error


def self_signed_context(names: tuple[str, ...], folder: Path | None, now: datetime) -> ssl.SSLContext:
    """HTTPS with a certificate for `names` (DNS names and addresses), kept in `folder`; None: drawn anew.

    A kept one is used until it ends soon or lacks a name. ConfigError when the folder cannot be written.
    """
    if folder is None:
        with tempfile.TemporaryDirectory(prefix="fastpath-") as private:
            return _context(Path(private), names, now)
    return _context(folder, names, now)


def _context(folder: Path, names: tuple[str, ...], now: datetime) -> ssl.SSLContext:
    path = folder / FILE
    kept = _read(path)
    if kept is None or not is_good(kept, names, now):
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(path, make_certificate(names, now))
        except OSError as error:
            raise ConfigError(
                f"cannot keep a certificate in {folder}: {error.strerror}",
                "Name a folder this user may write.",
                key="state_dir",
            ) from error
        log.info("made a certificate", extra={"names": ", ".join(names), "file": str(path)})
    return server_context(path, path)


def is_good(certificate: x509.Certificate, names: tuple[str, ...], now: datetime) -> bool:
    """Whether it lasts for a while and has every name."""
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return False
    known = {str(name.value) for name in found}
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    return known >= set(names) and begins <= now <= ends - RENEW_BEFORE


def make_certificate(names: tuple[str, ...], now: datetime) -> bytes:
    """PEM of a fresh P-256 key and its certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Fastpath gateway")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))  # for clocks that differ
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectAlternativeName(list(map(_general_name, names))), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .sign(key, SHA256())
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private + certificate.public_bytes(Encoding.PEM)


def _general_name(name: str) -> x509.GeneralName:
    try:
        address: IPv4Address | IPv6Address = ip_address(name)
    except ValueError:
        return x509.DNSName(name)
    return x509.IPAddress(address)


def _read(path: Path) -> x509.Certificate | None:
    """The certificate of a file that holds its key too; None when there is none to use."""
    try:
        data = path.read_bytes()
        certificate = x509.load_pem_x509_certificate(data)
        same = load_pem_private_key(data, None).public_key() == certificate.public_key()
    except (OSError, ValueError, TypeError):
        return None
    return certificate if same else None


def _write(path: Path, data: bytes) -> None:
    descriptor, fresh = tempfile.mkstemp(dir=path.parent, prefix=".")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        Path(fresh).replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            Path(fresh).unlink()
        raise


def utc_now() -> datetime:
    """The wall clock."""
    return datetime.now(UTC)
