"""What RPC parameters must look like, and the sentence a caller gets when they do not.

Types and ranges are checked by msgspec while it parses: a float or a boolean is not an
integer here. Rules between fields are checked after. Unknown fields are ignored, but for
`lot.create`: there a misspelt `reserve` would cost somebody money.
"""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal, TypeVar

import msgspec
from msgspec import Meta

from interact.increments import MAX_AMOUNT, MAX_ROWS, increment_problem
from interact.lot_events import LotSpec, SoftClose, SoftCloseMode
from interact.protocol import Reason, Refused

MIN_DURATION_MS: Final = 100
"""Shorter than anybody can bid; short enough for tests."""

MAX_DURATION_MS: Final = 7 * 24 * 3600 * 1000
MAX_SOFT_CLOSE_MS: Final = 24 * 3600 * 1000
MAX_TITLE: Final = 200
MAX_KEY: Final = 128
MAX_PARAMS_BYTES: Final = 16_384
MAX_CANCEL_REASON: Final = 500
MAX_TAPS: Final = 1_000
"""Taps in one call; the rate cap counts far fewer, so more only wastes bytes."""

Amount = Annotated[int, Meta(ge=1, le=MAX_AMOUNT)]
_Offer = Annotated[int, Meta(ge=-MAX_AMOUNT, le=MAX_AMOUNT)]
"""What somebody bids. Nothing and less is a whole number too: the rules call it too low."""
_FromPrice = Annotated[int, Meta(ge=0, le=MAX_AMOUNT)]
_SoftCloseMs = Annotated[int, Meta(ge=1, le=MAX_SOFT_CLOSE_MS)]
_Word = Annotated[str, Meta(pattern=r"^[^\s\x00-\x1f\x7f]{1,32}\Z")]
_LotName = Annotated[str, Meta(min_length=1, max_length=64)]
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


class SoftCloseParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A price-moving bid in the last `window_ms` extends by the mode."""

    window_ms: _SoftCloseMs
    extend_ms: _SoftCloseMs
    mode: Literal["reset", "add"]


class LotCreateParams(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`lot.create`, contract §4, and `grid`: take amounts on the increment grid only."""

    title: Annotated[str, Meta(min_length=1, max_length=MAX_TITLE)]
    format: Literal["english"]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}\Z")]
    start_price: Amount
    increment: (
        Amount | Annotated[list[tuple[_FromPrice, Amount]], Meta(min_length=1, max_length=MAX_ROWS)]
    )
    duration_ms: Annotated[int, Meta(ge=MIN_DURATION_MS, le=MAX_DURATION_MS)]
    reserve: Amount | None = None
    buy_now: Amount | None = None
    soft_close: SoftCloseParams | None = None
    grid: bool = False


class LotParams(msgspec.Struct, frozen=True):
    """`lot.start`, `lot.state`."""

    lot: _LotName


class LotCancelParams(msgspec.Struct, frozen=True):
    """`lot.cancel`; the reason is shown to everybody."""

    lot: _LotName
    reason: Annotated[str, Meta(min_length=1, max_length=MAX_CANCEL_REASON)]


class BidPlaceParams(msgspec.Struct, frozen=True):
    """`bid.place`."""

    lot: _LotName
    amount: _Offer
    key: object = None


class BidMaxParams(msgspec.Struct, frozen=True):
    """`bid.max`."""

    lot: _LotName
    max: _Offer
    key: object = None


class CheerTapParams(msgspec.Struct, frozen=True):
    """`cheer.tap`; kind and team are 1-32 characters without white space (an emoji is fine)."""

    kind: _Word
    count: Annotated[int, Meta(ge=1, le=MAX_TAPS)]
    team: _Word | None = None


_Params = TypeVar("_Params", bound=msgspec.Struct)


def reader(kind: type[_Params]) -> msgspec.json.Decoder[_Params]:
    """A decoder for `parse`; made once per method."""
    return msgspec.json.Decoder(kind)


def parse(decoder: msgspec.json.Decoder[_Params], params: bytes) -> _Params:
    """The parameters, or Refused with BAD_REQUEST and what is wrong with them."""
    if len(params) > MAX_PARAMS_BYTES:
        raise Refused(Reason.BAD_REQUEST, f"more than {MAX_PARAMS_BYTES} bytes of parameters")
    try:
        return decoder.decode(params or b"{}")
    except msgspec.ValidationError as error:
        raise Refused(Reason.BAD_REQUEST, _sentence(str(error))) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Refused(Reason.BAD_REQUEST, "the parameters are not valid JSON") from None


def _sentence(problem: str) -> str:
    """`Expected `int`, got `bool` - at `$.amount`` as `amount: expected int, got bool`."""
    what, _, path = problem.partition(" - at ")
    what = what.replace("`", "")
    field = path.strip("`").removeprefix("$").removeprefix(".")
    return f"{field}: {what[:1].lower()}{what[1:]}" if field else what


def check_key(key: object) -> str:
    """The key, or Refused with BAD_KEY where it is missing or no idempotency key."""
    if not isinstance(key, str) or not 1 <= len(key) <= MAX_KEY:
        raise Refused(Reason.BAD_KEY, f"key must be a text of 1 to {MAX_KEY} characters")
    return key


def check_text(field: str, text: str) -> str:
    """`text` without white space around it; refused where nothing shown would be left."""
    text = text.strip()
    if not text or _CONTROL.search(text):
        raise Refused(
            Reason.BAD_REQUEST, f"{field} must have visible characters and no control characters"
        )
    return text


def lot_spec(params: LotCreateParams) -> LotSpec:
    """The lot asked for. Refused with BAD_REQUEST where its fields contradict each other."""
    start, reserve, buy_now = params.start_price, params.reserve, params.buy_now
    problem = increment_problem(params.increment, start)
    if problem is None and reserve is not None and reserve < start:
        problem = "reserve must not be below start_price"
    if problem is None and buy_now is not None and buy_now <= start:
        problem = "buy_now must be above start_price"
    if problem is None and buy_now is not None and reserve is not None and buy_now < reserve:
        problem = "buy_now must not be below reserve"
    if problem is not None:
        raise Refused(Reason.BAD_REQUEST, problem)
    soft = params.soft_close
    return LotSpec(
        title=check_text("title", params.title),
        format=params.format,
        currency=params.currency,
        start_price=start,
        increment=params.increment,
        duration_ms=params.duration_ms,
        reserve=reserve,
        buy_now=buy_now,
        soft_close=None
        if soft is None
        else SoftClose(soft.window_ms, soft.extend_ms, SoftCloseMode(soft.mode)),
        grid=params.grid,
    )
