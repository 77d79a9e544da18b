"""The channels of one connection: subscribe, unsubscribe, and losing one's place. Pure.

A channel is subscribed to by the server at connect, or by a command of the client's; or
such a command is under way, known by its id, so that an unsubscribe followed by another
subscribe never takes the first one's answer.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import Final

from interact import channels, commands
from interact.channels import KEPT, parse_channel
from interact.effects import Effect, Enter, Join, Leave, Transmit, refuse
from interact.protocol import BusError
from interact.recovery import Joined
from interact.rooms import Caller

SUBSCRIPTION_LOST: Final = 2500
"""Unsubscribe code "insufficient state": SDKs subscribe again and recover."""


class Source(Enum):
    """Who made a subscription; it decides what happens when its position is lost."""

    SERVER = auto()
    CLIENT = auto()


class Subscriptions:
    """One a connection; the connection calls it in the right phases only."""

    __slots__ = ("_by_channel",)

    def __init__(self) -> None:
        self._by_channel: dict[str, Source | int] = {}

    def __len__(self) -> int:
        return len(self._by_channel)

    def clear(self) -> None:
        self._by_channel.clear()

    def at_connect(self, caller: Caller, connect: commands.Connect, command_id: int) -> Join:
        """The server-side subscriptions, with the positions the client brought along."""
        asked = connect.subs or {}
        wanted = tuple(
            (str(channel), asked[channel].since() if channel in asked else None)
            for channel in channels.channels_at_connect(caller)
        )
        for channel, _ in wanted:
            self._by_channel[channel] = Source.SERVER
        return Join(command_id, wanted)

    def subscribe(
        self, caller: Caller, command_id: int, request: commands.Subscribe, most: int
    ) -> list[Effect]:
        """The client wants one more channel, `most` in all."""
        channel = request.channel
        parsed = parse_channel(channel)
        if parsed is None or not channels.may_read(caller, parsed):
            return [refuse(command_id, BusError.PERMISSION_DENIED)]
        if channel in self._by_channel:
            return [refuse(command_id, BusError.ALREADY_SUBSCRIBED)]
        if len(self._by_channel) >= most:
            return [refuse(command_id, BusError.LIMIT_EXCEEDED)]
        if parsed.namespace not in KEPT:
            self._by_channel[channel] = Source.CLIENT
            result = commands.subscription(None)
            return [Transmit(commands.reply(command_id, b"subscribe", result)), Enter(channel)]
        self._by_channel[channel] = command_id
        return [Join(command_id, ((channel, request.since()),))]

    def awaits(self, join: Join) -> bool:
        """Whether the subscribe command that wanted `join` is still under way."""
        return all(self._by_channel.get(c) == join.command_id for c, _ in join.channels)

    def joined(self, join: Join, joined: dict[str, Joined]) -> list[Effect]:
        """History for a subscribe command is read."""
        effects: list[Effect] = []
        for channel, result in joined.items():
            self._by_channel[channel] = Source.CLIENT
            body = commands.subscription(result)
            effects.append(Transmit(commands.reply(join.command_id, b"subscribe", body)))
            effects.append(Enter(channel, result))
        return effects

    def join_failed(self, join: Join) -> list[Effect]:
        """History could not be read; the SDK tries again."""
        for channel, _ in join.channels:
            self._by_channel.pop(channel, None)
        left: list[Effect] = [Leave(channel) for channel, _ in join.channels]
        return [*left, refuse(join.command_id, BusError.INTERNAL)]

    def unsubscribe(self, command_id: int, channel: str) -> list[Effect]:
        """The client wants a channel no more; one it never had is no mistake."""
        done = Transmit(commands.reply(command_id, b"unsubscribe"))
        source = self._by_channel.get(channel)
        if source is None:
            return [done]
        if source is Source.SERVER:
            return [refuse(command_id, BusError.PERMISSION_DENIED)]
        del self._by_channel[channel]
        effects: list[Effect] = [Leave(channel), done]
        if isinstance(source, int):
            # The subscribe under way still gets its reply, though its end was quick.
            effects.insert(0, refuse(source, BusError.BAD_REQUEST))
        return effects

    def position_lost(self, channel: str) -> list[Effect] | None:
        """The feed has a hole. None: only a reconnect helps.

        SDKs forget a server-side subscription when it is taken away; a client-side one
        they subscribe to again on their own, recovering.
        """
        source = self._by_channel.get(channel)
        if source is None:
            return []
        if source is Source.SERVER:
            return None
        del self._by_channel[channel]
        push = commands.unsubscribe_push(channel, SUBSCRIPTION_LOST, "insufficient state")
        return [Leave(channel), Transmit(push)]

    def debug_info(self) -> dict[str, str]:
        """For a person."""
        return {channel: str(source) for channel, source in self._by_channel.items()}
