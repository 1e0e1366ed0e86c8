"""Keying material is cut as RFC 5764 says, and keys are never shown."""

import pytest

from pyfastpath.transceiver.keys import SrtpKeys, SrtpProfile


@pytest.mark.parametrize("profile", SrtpProfile)
def test_client_key_server_key_client_salt_server_salt(profile: SrtpProfile) -> None:
    salt = profile.salt_bytes
    material = b"c" * 16 + b"s" * 16 + b"C" * salt + b"S" * salt
    assert len(material) == profile.exported_bytes
    client = SrtpKeys.from_exported(profile, material, is_client=True)
    assert (client.local, client.remote) == (b"c" * 16 + b"C" * salt, b"s" * 16 + b"S" * salt)
    server = SrtpKeys.from_exported(profile, material, is_client=False)
    assert server == client.swapped()


def test_sizes_of_the_profiles() -> None:
    assert [profile.exported_bytes for profile in SrtpProfile] == [56, 60]  # RFC 7714, 12; RFC 5764, 4.1.2


def test_the_names_are_those_openssl_knows() -> None:
    from OpenSSL import SSL

    context = SSL.Context(SSL.DTLS_METHOD)
    context.set_tlsext_use_srtp(":".join(profile.value for profile in SrtpProfile).encode())
    with pytest.raises(SSL.Error):
        context.set_tlsext_use_srtp(b"SRTP_NO_SUCH_PROFILE")


def test_wrong_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="28 bytes"):
        SrtpKeys(SrtpProfile.AEAD_AES_128_GCM, bytes(30), bytes(28))
    with pytest.raises(ValueError, match="60 bytes"):
        SrtpKeys.from_exported(SrtpProfile.AES128_CM_SHA1_80, bytes(56), is_client=True)


def test_keys_are_never_shown() -> None:
    keys = SrtpKeys(SrtpProfile.AEAD_AES_128_GCM, b"local secret".ljust(28), b"remote secret".ljust(28))
    assert "secret" not in repr(keys)
    assert "secret" not in str(keys)
