"""The certificate of a process, and which fingerprints name one."""

from hashlib import sha1, sha256, sha512

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from OpenSSL import SSL

from pyfastpath.transceiver.certificate import Certificate, is_named

NOW = 1_800_000_000.0  # 2027-01-15


@pytest.fixture(scope="module")
def certificate() -> Certificate:
    return Certificate.generate(NOW)


def x509_of(certificate: Certificate) -> x509.Certificate:
    """What a client is shown."""
    return SSL.Connection(certificate.context, None).get_certificate(as_cryptography=True)


def test_it_is_self_signed_p256_and_valid_now(certificate: Certificate) -> None:
    shown = x509_of(certificate)
    key = shown.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    shown.verify_directly_issued_by(shown)
    assert shown.not_valid_before_utc.timestamp() < NOW < shown.not_valid_after_utc.timestamp()


def test_its_fingerprint_is_that_of_what_is_shown(certificate: Certificate) -> None:
    der = x509_of(certificate).public_bytes(Encoding.DER)
    assert certificate.fingerprint == ("sha-256", sha256(der).digest())


def test_no_two_are_the_same(certificate: Certificate) -> None:
    assert Certificate.generate(NOW).fingerprint != certificate.fingerprint


def test_there_is_one_context(certificate: Certificate) -> None:
    assert certificate.context is certificate.context


def test_which_fingerprints_name_it(certificate: Certificate) -> None:
    shown = x509_of(certificate)
    der = shown.public_bytes(Encoding.DER)
    right256, right512 = ("sha-256", sha256(der).digest()), ("sha-512", sha512(der).digest())
    wrong256, wrong512 = ("sha-256", bytes(32)), ("sha-512", bytes(64))
    assert is_named(shown, [right256])
    assert is_named(shown, [("SHA-256", right256[1])])
    assert is_named(shown, [right256, right512])
    assert is_named(shown, [wrong256, right256])  # of one strength: any of them
    assert is_named(shown, [wrong256, right512])
    assert not is_named(shown, [right256, wrong512])  # the strongest decides
    assert not is_named(shown, [wrong256])
    assert not is_named(shown, [])


def test_a_weak_or_unknown_hash_names_nothing(certificate: Certificate) -> None:
    shown = x509_of(certificate)
    assert not is_named(shown, [("sha-1", sha1(shown.public_bytes(Encoding.DER)).digest())])
    assert not is_named(shown, [("sha-999", b"")])
