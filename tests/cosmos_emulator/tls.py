"""TLS for the server: a certificate made for it, and a way for clients to trust that one and no other.

Not on 127.0.0.1: azure-cosmos switches verification off for that address and for `localhost` (4.17.1,
`_asynchronous_request.py`), and a test there would pass with any certificate. Nor does the SDK take the path of an
authority: `connection_verify` is on or off. So it is given by the environment, as aiohttp and requests read it.
"""

from __future__ import annotations

import os
import socket
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from unittest.mock import patch

import aiohttp.connector
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

_HOSTS: Final = ("127.0.0.2", "::1")
"""Loopback addresses that are not 127.0.0.1: Linux has all of 127.0.0.0/8, others may have only that of IPv6."""
_LIFETIME: Final = timedelta(days=1)


@cache
def host() -> str:
    """The address that a server with TLS listens on."""
    for address in _HOSTS:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            with socket.socket(family) as probe:
                probe.bind((address, 0))
        except OSError:
            continue
        return address
    raise OSError(f"None of {', '.join(_HOSTS)} can be listened on.")


class Certificate:
    """A certificate for one address, by an authority that exists for it alone."""

    def __init__(self, address: str) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="cosmos-emulator-")
        folder = Path(self._folder.name)
        self.authority = folder / "authority.pem"
        """What a client has to trust."""
        authority, authority_key = _authority()
        certificate, key = _certificate(address, authority, authority_key)
        self.authority.write_bytes(authority.public_bytes(serialization.Encoding.PEM))
        server = folder / "server.pem"
        server.write_bytes(_pem(key) + certificate.public_bytes(serialization.Encoding.PEM))
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(server)

    def close(self) -> None:
        self._folder.cleanup()


@contextmanager
def trusted(authority: Path, address: str) -> Iterator[None]:
    """What is sent within trusts this authority alone, from here and from child processes, and goes by no proxy.

    The environment is what a user would set. aiohttp read it when it was imported, and is given its context anew.
    """
    direct = ",".join(filter(None, (os.environ.get("NO_PROXY") or os.environ.get("no_proxy"), address)))
    variables = {
        "SSL_CERT_FILE": str(authority),
        "REQUESTS_CA_BUNDLE": str(authority),
        "NO_PROXY": direct,
        "no_proxy": direct,
    }
    context = ssl.create_default_context(cafile=authority)
    context.verify_flags |= ssl.VERIFY_X509_STRICT  # the default since Python 3.13
    with patch.dict(os.environ, variables), patch.object(aiohttp.connector, "_SSL_CONTEXT_VERIFIED", context):
        yield


def _authority() -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("cosmos emulator authority")
    builder = _builder(name, name, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    return builder.add_extension(_usage(signs_certificates=True), critical=True).sign(key, hashes.SHA256()), key


def _certificate(
    address: str, authority: x509.Certificate, authority_key: ec.EllipticCurvePrivateKey
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key())
    builder = _builder(_name("cosmos emulator"), authority.subject, key)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(signs_certificates=False), critical=True)
    builder = builder.add_extension(issuer, critical=False)
    names = x509.SubjectAlternativeName([x509.IPAddress(ip_address(address))])
    return builder.add_extension(names, critical=False).sign(authority_key, hashes.SHA256()), key


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(minutes=5)).not_valid_after(now + _LIFETIME)
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return key.private_bytes(encoding, form, serialization.NoEncryption())
