"""A store that many replicas share: PostgreSQL, through asyncpg. Needs the extra `postgres`."""

from pullcord.stores.postgres.connections import Address, StoreError
from pullcord.stores.postgres.store import PostgresStore

__all__ = ["Address", "PostgresStore", "StoreError"]
