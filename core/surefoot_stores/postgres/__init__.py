"""The PostgreSQL store: one database, any number of hosts. Importing it loads no driver; that comes with ``surefoot[postgres]``."""

from surefoot_stores.postgres.session import driver
from surefoot_stores.postgres.store import PostgresStore

__all__ = ["PostgresStore", "driver"]
