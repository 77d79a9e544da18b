"""The workers of one server, as one of them sees the others: who lives, who is here. Pure.

Every worker says twice a second that it lives, and whom it gained and lost; a newcomer asks
for everything once. Nothing of it is stored: what a worker said is forgotten `SILENCE_S`
after its last word, so a killed worker's phones are counted no more.

The worker with the smallest name is the herald: it alone publishes what every worker
learns by itself, the cameras' comings and goings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

import msgspec

from interact.protocol import Role

SILENCE_S: Final = 3.0


class Person(msgspec.Struct, array_like=True, frozen=True):
    """One connection in one room."""

    room: str
    client: str
    identity: str
    name: str
    role: Role


class Word(msgspec.Struct, array_like=True, frozen=True):
    """What one worker says to all. `is_whole`: `came` is everybody that it has."""

    worker: str
    came: list[Person] = []
    left: list[tuple[str, str]] = []
    is_whole: bool = False
    is_asking: bool = False
    is_leaving: bool = False


encode_word = msgspec.msgpack.Encoder().encode
decode_word = msgspec.msgpack.Decoder(Word).decode


class _Other:
    """Another worker."""

    __slots__ = ("heard_at", "is_known", "people")

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at
        self.is_known = False  # it has said everything once
        self.people: dict[tuple[str, str], Person] = {}


class Fleet:
    """The other workers. Times are monotonic seconds."""

    def __init__(self, worker: str) -> None:
        self.worker = worker
        self._others: dict[str, _Other] = {}
        self._viewers: dict[str, Counter[str]] = {}  # room → identity → connections elsewhere

    def hear(self, word: Word, now: float) -> set[str]:
        """Take in a word; gives the rooms whose people changed."""
        if word.worker == self.worker:
            return set()
        if word.is_leaving:
            return self._forget(word.worker)
        other = self._others.get(word.worker)
        if other is None:
            other = self._others[word.worker] = _Other(now)
        other.heard_at = now
        touched: set[str] = set()
        if word.is_whole:
            touched |= self._clear(other)
            other.is_known = True
        if other.is_known:  # else what it gained since would look like all it has
            for room, client in word.left:
                self._remove(other, room, client)
                touched.add(room)
            for person in word.came:
                self._add(other, person)
                touched.add(person.room)
        return touched

    def expire(self, now: float) -> set[str]:
        """Forget who has been silent; gives the rooms whose people changed."""
        touched: set[str] = set()
        for worker, other in list(self._others.items()):
            if now - other.heard_at > SILENCE_S:
                touched |= self._forget(worker)
        return touched

    def excuse(self, now: float) -> None:
        """Nobody could be heard until now: count everybody's silence from here."""
        for other in self._others.values():
            other.heard_at = now

    @property
    def is_herald(self) -> bool:
        """Whether it is this worker that publishes what all of them learn."""
        return all(self.worker < other for other in self._others)

    @property
    def size(self) -> int:
        """Workers alive, this one included."""
        return 1 + len(self._others)

    def viewers(self, room: str, own: Iterable[str]) -> int:
        """Distinct identities of viewers in the room; `own` are this worker's."""
        elsewhere = self._viewers.get(room, Counter())
        return len(elsewhere) + sum(identity not in elsewhere for identity in own)

    def people(self, room: str) -> list[Person]:
        """Connections in the room at other workers."""
        return [p for o in self._others.values() for p in o.people.values() if p.room == room]

    def _forget(self, worker: str) -> set[str]:
        other = self._others.pop(worker, None)
        return set() if other is None else self._clear(other)

    def _clear(self, other: _Other) -> set[str]:
        touched = {room for room, _ in other.people}
        for room, client in list(other.people):
            self._remove(other, room, client)
        return touched

    def _add(self, other: _Other, person: Person) -> None:
        self._remove(other, person.room, person.client)
        other.people[person.room, person.client] = person
        if person.role is Role.VIEWER:
            self._viewers.setdefault(person.room, Counter())[person.identity] += 1

    def _remove(self, other: _Other, room: str, client: str) -> None:
        person = other.people.pop((room, client), None)
        if person is None or person.role is not Role.VIEWER:
            return
        counter = self._viewers[room]
        counter[person.identity] -= 1
        if counter[person.identity] <= 0:
            del counter[person.identity]
            if not counter:
                del self._viewers[room]
