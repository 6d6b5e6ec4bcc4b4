"""SHA-256, without what hashlib takes to load."""

from __future__ import annotations


def sha256(data: bytes) -> str:
    """Return the digest in hex. CPython's own module, where it has one, loads in a hundredth of
    the 3 ms that hashlib takes to bring up OpenSSL; that counts in the hook."""
    try:
        # _sha256 exists up to CPython 3.11, _sha2 from 3.12; builds without either have hashlib.
        module = __import__("_sha256")
    except ImportError:
        try:
            module = __import__("_sha2")
        except ImportError:
            module = __import__("hashlib")
    digest: str = module.sha256(data).hexdigest()
    return digest
