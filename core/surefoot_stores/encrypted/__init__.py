"""Encryption at rest, around any store. Importing it loads no cryptography; that comes with ``surefoot[encryption]``."""

from surefoot_stores.encrypted.store import EncryptedStore, damaged_seals, expect_plain

__all__ = ["EncryptedStore", "damaged_seals", "expect_plain"]
