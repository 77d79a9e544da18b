"""The SQLite file behind the embedded engine: its tables, its hash chain, opening it.

A stream's records are chained: each hash covers the one before, so whoever changes a
stored byte must change every later hash of that stream too, and `verify` finds it.
Publications are kept beside the records and written in the same transaction.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import sqlite3
from pathlib import Path
from typing import Final

from interact.engine import Publication, Record

FILE_NAME: Final = "livehouse.sqlite3"
LOCK_NAME: Final = "livehouse.lock"
SCHEMA_VERSION: Final = 1
GENESIS: Final = bytes(32)
"""The hash before a stream's first record."""

_BUSY_TIMEOUT_S: Final = 10.0

_SCHEMA: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE streams (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE records (
  stream INTEGER NOT NULL REFERENCES streams (id),
  version INTEGER NOT NULL,
  kind TEXT NOT NULL,
  at_ms INTEGER NOT NULL,
  data BLOB NOT NULL,
  hash BLOB NOT NULL,
  PRIMARY KEY (stream, version)
) WITHOUT ROWID;
CREATE TABLE channels (id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE publications (
  channel INTEGER NOT NULL REFERENCES channels (id),
  offset INTEGER NOT NULL,
  data BLOB NOT NULL,
  PRIMARY KEY (channel, offset)
) WITHOUT ROWID;
"""


class DataDirectoryError(Exception):
    """The data directory cannot be used; the message is one line for the operator."""


def chain_hash(
    previous: bytes, stream: str, version: int, kind: str, at_ms: int, data: bytes
) -> bytes:
    """SHA-256 over the hash before and every field of the record.

    The head is text with newlines between fields (none can hold one but `kind`, which is
    ours), so no two different records give the same input.
    """
    head = f"{stream}\n{version}\n{kind}\n{at_ms}\n".encode()
    return hashlib.sha256(previous + head + data).digest()


class DirectoryLock:
    """One server per data directory. Freed by the system when the process dies."""

    def __init__(self, directory: Path) -> None:
        path = directory / LOCK_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(
                f"cannot write to the data directory {directory}: {error.strerror}"
            ) from None
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._fd)
            raise DataDirectoryError(
                f"another Livehouse server uses the data directory {directory}"
            ) from None

    def release(self) -> None:
        """Let the next server in."""
        os.close(self._fd)


def open_for_writing(directory: Path) -> sqlite3.Connection:
    """The one writing connection, tables made where new. Raises DataDirectoryError."""
    path = directory / FILE_NAME
    try:
        db = sqlite3.connect(
            path, timeout=_BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
    except sqlite3.Error as error:
        raise DataDirectoryError(f"cannot open {path}: {error}") from None
    try:
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=FULL")
        db.execute("PRAGMA wal_autocheckpoint=4000")
        db.execute("PRAGMA cache_size=-16000")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            db.executescript(
                f"BEGIN IMMEDIATE; {_SCHEMA} "
                f"INSERT INTO meta VALUES ('epoch', '{secrets.token_hex(6)}'); "
                f"PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"
            )
        elif version != SCHEMA_VERSION:
            raise DataDirectoryError(
                f"{path} has schema {version}; this version of Livehouse reads {SCHEMA_VERSION}"
            )
    except sqlite3.Error as error:
        db.close()
        raise DataDirectoryError(f"cannot use {path}: {error}") from None
    except DataDirectoryError:
        db.close()
        raise
    return db


def open_for_reading(path: Path) -> sqlite3.Connection:
    """A read-only connection, beside a running server or without one."""
    if not path.exists():
        raise DataDirectoryError(f"there is no ledger at {path}")
    try:
        db = sqlite3.connect(
            f"{path.absolute().as_uri()}?mode=ro",
            uri=True,
            timeout=_BUSY_TIMEOUT_S,
            isolation_level=None,
            check_same_thread=False,
        )
    except sqlite3.Error as error:
        raise DataDirectoryError(f"cannot read {path}: {error}") from None
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version != SCHEMA_VERSION:
            raise DataDirectoryError(
                f"{path} has schema {version}; this version of Livehouse reads {SCHEMA_VERSION}"
            )
    except sqlite3.Error as error:
        db.close()
        raise DataDirectoryError(f"cannot read {path}: {error}") from None
    except DataDirectoryError:
        db.close()
        raise
    return db


def read_epoch(db: sqlite3.Connection) -> str:
    """The one epoch of this file's channels, made with the file."""
    return str(db.execute("SELECT value FROM meta WHERE key = 'epoch'").fetchone()[0])


def read_records(db: sqlite3.Connection, stream: str, after_version: int = 0) -> list[Record]:
    """A stream's records after `after_version`, oldest first."""
    rows = db.execute(
        "SELECT version, kind, at_ms, CAST(data AS BLOB), hash FROM records"
        " WHERE stream = (SELECT id FROM streams WHERE name = ?) AND version > ?"
        " ORDER BY version",
        (stream, after_version),
    )
    return [Record(stream, *row) for row in rows]


def read_streams(db: sqlite3.Connection, prefix: str) -> list[str]:
    """Names that start with `prefix`, in order of creation."""
    rows = db.execute(
        "SELECT name FROM streams WHERE substr(name, 1, ?) = ? ORDER BY id", (len(prefix), prefix)
    )
    return [row[0] for row in rows]


def read_publications(
    db: sqlite3.Connection, channel: str, after_offset: int, limit: int, *, reverse: bool = False
) -> list[Publication]:
    """Kept publications after `after_offset`; a negative limit gives all."""
    order = "DESC" if reverse else "ASC"
    rows = db.execute(
        "SELECT offset, CAST(data AS BLOB) FROM publications"
        " WHERE channel = (SELECT id FROM channels WHERE name = ?) AND offset > ?"
        f" ORDER BY offset {order} LIMIT ?",
        (channel, after_offset, limit),
    )
    return [Publication(channel, *row) for row in rows]


def read_bounds(db: sqlite3.Connection, channel: str) -> tuple[int, int]:
    """(oldest kept offset, newest offset); (0, 0) before the first publication."""
    row = db.execute(
        "SELECT min(offset), max(offset) FROM publications"
        " WHERE channel = (SELECT id FROM channels WHERE name = ?)",
        (channel,),
    ).fetchone()
    return (0, 0) if row[0] is None else (row[0], row[1])
