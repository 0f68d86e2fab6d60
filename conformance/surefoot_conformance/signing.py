"""Certificates signed with Ed25519 and verified offline, with the public key alone (I22)."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import rfc8785

from surefoot.errors import IntegrityError, UsageError

__all__ = ["sign", "verify"]


def sign(data: Mapping[str, Any], key: Path) -> dict[str, Any]:
    """Return the certificate with a signature over its canonical form (RFC 8785) by a private key in a PEM file."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    private = _key(key, Ed25519PrivateKey, "private")
    signature = base64.b64encode(private.sign(_bytes(data))).decode()
    return {**data, "signature": {"algorithm": "Ed25519", "value": signature}}


def verify(data: Mapping[str, Any], key: Path) -> None:
    """Check a signed certificate with a public key in a PEM file.

    Raises :class:`~surefoot.IntegrityError` when it is not signed, was changed, or was signed by another key.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    public = _key(key, Ed25519PublicKey, "public")
    signature = data.get("signature")
    if not isinstance(signature, Mapping) or signature.get("algorithm") != "Ed25519":
        raise IntegrityError("the certificate carries no Ed25519 signature")
    try:
        public.verify(base64.b64decode(signature["value"], validate=True), _bytes(data))
    except (InvalidSignature, ValueError, TypeError, KeyError) as exc:
        raise IntegrityError("the signature does not fit: the certificate was changed, or signed with another key") from exc


def _bytes(data: Mapping[str, Any]) -> bytes:
    return rfc8785.dumps({key: value for key, value in data.items() if key != "signature"})


def _key(path: Path, kind: type[Any], which: str) -> Any:
    from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

    try:
        text = path.read_bytes()
        found = load_pem_private_key(text, None) if which == "private" else load_pem_public_key(text)
    except (OSError, ValueError, TypeError) as exc:
        raise UsageError(f"{path} holds no {which} key in PEM form ({exc}); 'openssl genpkey -algorithm ed25519' makes one") from exc
    if not isinstance(found, kind):
        raise UsageError(f"{path} holds a {which} key of another kind; surefoot signs with Ed25519")
    return found
