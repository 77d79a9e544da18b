"""Who lives, who is here, who speaks for all: by words alone."""

from __future__ import annotations

from interact.fleet import SILENCE_S, Fleet, Person, Word, decode_word, encode_word
from interact.protocol import Role


def person(client: str, identity: str | None = None, role: Role = Role.VIEWER) -> Person:
    return Person("r", client, identity or client, "", role)


def whole(worker: str, *people: Person) -> Word:
    return Word(worker, list(people), [], is_whole=True)


def test_viewers_are_counted_once_however_many_workers_have_them() -> None:
    fleet = Fleet("m")
    fleet.hear(whole("a", person("1", "ann"), person("2", "ben")), 0.0)
    fleet.hear(whole("b", person("3", "ann"), person("4", "eve", Role.HOST)), 0.0)
    assert fleet.viewers("r", ["ann", "cat"]) == 3
    assert fleet.viewers("other", []) == 0
    assert {p.client for p in fleet.people("r")} == {"1", "2", "3", "4"}
    assert fleet.hear(Word("a", left=[("r", "1")]), 1.0) == {"r"}
    assert fleet.viewers("r", []) == 2  # ann is still at b
    fleet.hear(Word("b", left=[("r", "3")]), 1.0)
    assert fleet.viewers("r", []) == 1


def test_changes_of_a_worker_never_heard_whole_are_not_taken_for_all_it_has() -> None:
    fleet = Fleet("m")
    assert fleet.hear(Word("a", [person("1")]), 0.0) == set()
    assert fleet.viewers("r", []) == 0
    assert fleet.size == 2
    fleet.hear(whole("a", person("1"), person("2")), 0.1)
    assert fleet.viewers("r", []) == 2


def test_a_whole_word_replaces_what_was_known() -> None:
    fleet = Fleet("m")
    fleet.hear(whole("a", person("1"), person("2")), 0.0)
    assert fleet.hear(whole("a", person("2")), 1.0) == {"r"}
    assert fleet.viewers("r", []) == 1


def test_silent_worker_is_forgotten_with_its_people() -> None:
    fleet = Fleet("m")
    fleet.hear(whole("a", person("1")), 0.0)
    fleet.hear(whole("b", person("2")), 0.0)
    fleet.hear(Word("b"), SILENCE_S)
    assert fleet.expire(SILENCE_S) == set()
    assert fleet.expire(SILENCE_S + 0.1) == {"r"}
    assert fleet.viewers("r", []) == 1
    assert fleet.size == 2


def test_nobody_is_silent_while_nobody_could_be_heard() -> None:
    fleet = Fleet("m")
    fleet.hear(whole("a", person("1")), 0.0)
    fleet.excuse(60.0)
    assert fleet.expire(60.0 + SILENCE_S) == set()
    assert fleet.viewers("r", []) == 1


def test_goodbye_is_believed_at_once() -> None:
    fleet = Fleet("m")
    fleet.hear(whole("a", person("1")), 0.0)
    assert fleet.hear(Word("a", is_leaving=True), 0.1) == {"r"}
    assert fleet.size == 1


def test_smallest_name_is_the_herald() -> None:
    def is_herald(*words: tuple[str, float], now: float = 0.0) -> bool:
        fleet = Fleet("m")
        for worker, at in words:
            fleet.hear(Word(worker), at)
        fleet.expire(now)
        return fleet.is_herald

    assert is_herald()
    assert is_herald(("z", 0.0))
    assert not is_herald(("z", 0.0), ("a", 0.0))
    late = SILENCE_S + 1
    assert is_herald(("a", 0.0), ("z", late), now=late)


def test_own_words_are_no_news() -> None:
    fleet = Fleet("m")
    assert fleet.hear(whole("m", person("1")), 0.0) == set()
    assert fleet.size == 1


def test_words_survive_the_wire() -> None:
    word = Word("a", [person("1")], [("r", "2")], is_asking=True)
    assert decode_word(encode_word(word)) == word
