"""SRTP for one peer: unprotect where the packet lies, protect straight into the send buffer.

Receiving is libsrtp's: authentication, decryption, replay window and roll-over counters.
Sending a burst of one track to one viewer is the cost of the whole relay, so with the
AES-GCM profiles it is done here: `cryptography`'s AES-GCM reads the source packet's
payload and writes the viewer's copy into the send buffer, one call a packet and no
copy before it (RFC 7714). The relay knows each outgoing packet's full 48-bit index, so
there is no roll-over state to guess. Other profiles, and SRTCP, stay with libsrtp.
`loadtest/bench/srtp_cost.py` compares the two ways; tests use libsrtp as the oracle.

A nonce is (SSRC, index) under one key: sending an index twice is only safe when the
packet is the same byte for byte, which is what a plain resend is.

RFC 3711 §4.3 (key derivation), RFC 7714 §8-9 (AES-GCM in SRTP), RFC 5764 (profiles).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any, Final, Protocol, TypeAlias

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CTR
from pylibsrtp import Policy, Session
from pylibsrtp._binding import ffi, lib  # type: ignore[import-not-found]  # compiled, no stubs

OutPacket: TypeAlias = tuple[int, int, int, "bytes | memoryview"]
"""One packet of a burst as every viewer's copy needs it: (extended sequence number,
RTP timestamp, 0x80 or 0 for the marker bit, payload)."""

HEADER_BYTES: Final = 12
GCM_TAG_BYTES: Final = 16
MAX_TRAILER_BYTES: Final = 16 + 4
"""Most bytes SRTP or SRTCP add with the profiles below (tag and SRTCP index)."""

_REPLAY_WINDOW: Final = 1024
_KDF_SALT_BYTES: Final = 14
_LABEL_RTP_KEY: Final = 0
_LABEL_RTP_SALT: Final = 2

_HEADER: Final = Struct(">BBHII")
_STATUS_OK: Final = lib.srtp_err_status_ok


class SrtpStatus(IntEnum):
    """libsrtp's verdicts that a peer can cause."""

    AUTH_FAIL = 7
    REPLAY_FAIL = 9
    REPLAY_OLD = 10


@dataclass(frozen=True, slots=True)
class SrtpProfile:
    """A DTLS-SRTP profile: its name in OpenSSL, number in libsrtp, sizes in bytes."""

    name: str
    libsrtp: int
    key_bytes: int
    salt_bytes: int
    tag_bytes: int
    is_gcm: bool


PROFILES: Final = (
    SrtpProfile(
        "SRTP_AEAD_AES_128_GCM", Policy.SRTP_PROFILE_AEAD_AES_128_GCM, 16, 12, GCM_TAG_BYTES, True
    ),
    SrtpProfile(
        "SRTP_AEAD_AES_256_GCM", Policy.SRTP_PROFILE_AEAD_AES_256_GCM, 32, 12, GCM_TAG_BYTES, True
    ),
    SrtpProfile("SRTP_AES128_CM_SHA1_80", Policy.SRTP_PROFILE_AES128_CM_SHA1_80, 16, 14, 10, False),
)
"""What DTLS offers and accepts, best first: GCM costs a third of AES-CM with SHA-1."""


class SrtpKeys:
    """One direction's master key and salt. Never printed."""

    __slots__ = ("key", "profile", "salt")

    def __init__(self, profile: SrtpProfile, key: bytes, salt: bytes) -> None:
        if len(key) != profile.key_bytes or len(salt) != profile.salt_bytes:
            raise ValueError("key or salt of the wrong size for its profile")
        self.profile = profile
        self.key = key
        self.salt = salt

    def session(self, *, inbound: bool) -> Session:
        """A libsrtp session for any SSRC in this direction."""
        policy = Policy(
            key=self.key + self.salt,
            ssrc_type=Policy.SSRC_ANY_INBOUND if inbound else Policy.SSRC_ANY_OUTBOUND,
            srtp_profile=self.profile.libsrtp,
        )
        policy.allow_repeat_tx = True
        policy.window_size = _REPLAY_WINDOW
        return Session(policy)


def split_keys(profile: SrtpProfile, material: bytes, *, is_server: bool) -> tuple[SrtpKeys, ...]:
    """(receive, send) keys from DTLS's exported material. RFC 5764 §4.2."""
    k, s = profile.key_bytes, profile.salt_bytes
    if len(material) != 2 * (k + s):
        raise ValueError("exported keying material of the wrong size")
    client = SrtpKeys(profile, material[:k], material[2 * k : 2 * k + s])
    server = SrtpKeys(profile, material[k : 2 * k], material[2 * k + s :])
    return (client, server) if is_server else (server, client)


def derive(keys: SrtpKeys, label: int, length: int) -> bytes:
    """A session key or salt: AES-CM keyed with the master key. RFC 3711 §4.3.1, 7714 §11."""
    block = bytearray(keys.salt.ljust(_KDF_SALT_BYTES, b"\0") + b"\0\0")
    block[7] ^= label
    encryptor = Cipher(AES(keys.key), CTR(bytes(block))).encryptor()
    return encryptor.update(bytes(length)) + encryptor.finalize()


class SrtpReceiver:
    """Takes protection off received packets, in place."""

    __slots__ = ("_handle", "_length", "_session")

    def __init__(self, keys: SrtpKeys) -> None:
        self._session = keys.session(inbound=True)
        self._handle = self._session._srtp[0]
        self._length = ffi.new("int *")

    def unprotect(self, at: Any, length: int) -> int:
        """Open the RTP packet of `length` bytes at the C pointer `at`; its new length, or
        minus libsrtp's status. Replays and forgeries are refused."""
        n = self._length
        n[0] = length
        status: int = lib.srtp_unprotect(self._handle, at, n)
        return -status if status else int(n[0])

    def unprotect_rtcp(self, at: Any, length: int) -> int:
        """The same for an RTCP compound packet."""
        n = self._length
        n[0] = length
        status: int = lib.srtp_unprotect_rtcp(self._handle, at, n)
        return -status if status else int(n[0])


class SrtpSender(Protocol):
    """Writes protected packets of one peer. Two implementations: `make_sender` chooses."""

    tag_bytes: int
    backend: str

    def protect(
        self,
        out: memoryview,
        at: int,
        packets: Iterable[OutPacket],
        seq_offset: int,
        ts_offset: int,
        payload_type: int,
        ssrc: int,
        extensions: bytes = b"",
    ) -> int:
        """Write every packet of a burst to `out` from `at` on, back to back; the end.

        A packet's wire form is 12 bytes of header, `extensions` (a whole block, the same
        for all of them), its payload and `tag_bytes`. Sequence
        number and timestamp are the source's plus the offsets; the extended sequence
        number plus its offset must lie in 0 .. 2**48 - 1. Called once per track, viewer
        and burst.
        """

    def protect_rtcp(self, packet: bytes) -> bytes:
        """An RTCP compound packet with its protection."""


class _RtcpSender:
    """SRTCP for any profile, by libsrtp."""

    def __init__(self, keys: SrtpKeys) -> None:
        self._session = keys.session(inbound=False)
        self.tag_bytes = keys.profile.tag_bytes

    def protect_rtcp(self, packet: bytes) -> bytes:
        return bytes(self._session.protect_rtcp(packet))


class GcmSender(_RtcpSender):
    """AES-GCM by `cryptography`, from the source payload into the send buffer.

    `encrypt` and `salt` are for `media.fanout`, which does for many lines what `protect`
    does for one.
    """

    backend = "cryptography"

    def __init__(self, keys: SrtpKeys) -> None:
        super().__init__(keys)
        key = derive(keys, _LABEL_RTP_KEY, keys.profile.key_bytes)
        self.encrypt = AESGCM(key).encrypt_into
        self.salt = int.from_bytes(derive(keys, _LABEL_RTP_SALT, keys.profile.salt_bytes), "big")

    def protect(
        self,
        out: memoryview,
        at: int,
        packets: Iterable[OutPacket],
        seq_offset: int,
        ts_offset: int,
        payload_type: int,
        ssrc: int,
        extensions: bytes = b"",
        pack: Any = _HEADER.pack,
    ) -> int:
        encrypt = self.encrypt
        first = 0x90 if extensions else 0x80
        header_bytes = 12 + len(extensions)
        nonce_base = self.salt ^ (ssrc << 48)
        for seq, rtp_ts, marker, payload in packets:
            index = seq + seq_offset
            header = (
                pack(
                    first,
                    marker | payload_type,
                    index & 0xFFFF,
                    (rtp_ts + ts_offset) & 0xFFFFFFFF,
                    ssrc,
                )
                + extensions
            )
            body = at + header_bytes
            end = body + len(payload) + 16
            out[at:body] = header
            encrypt((nonce_base ^ index).to_bytes(12, "big"), payload, header, out[body:end])
            at = end
        return at


class LibSrtpSender(_RtcpSender):
    """Any profile by libsrtp: copy the payload, write the header, protect in place."""

    backend = "libsrtp"

    def __init__(self, keys: SrtpKeys) -> None:
        super().__init__(keys)
        self._handle = self._session._srtp[0]
        self._length = ffi.new("int *")
        self._out: memoryview | None = None
        self._base: Any = None

    def protect(
        self,
        out: memoryview,
        at: int,
        packets: Iterable[OutPacket],
        seq_offset: int,
        ts_offset: int,
        payload_type: int,
        ssrc: int,
        extensions: bytes = b"",
    ) -> int:
        first = 0x90 if extensions else 0x80
        header_bytes = HEADER_BYTES + len(extensions)
        if out is not self._out:
            self._out = out
            # Of the bytearray below the view, which begins where it does: a view that C holds
            # must not end in the cycle collector (CPython 3.11 crashes).
            self._base = ffi.from_buffer(out.obj)
        base = self._base
        n = self._length
        protect = lib.srtp_protect
        pack_into = _HEADER.pack_into
        for seq, rtp_ts, marker, payload in packets:
            body = at + header_bytes
            end = body + len(payload)
            pack_into(
                out,
                at,
                first,
                marker | payload_type,
                (seq + seq_offset) & 0xFFFF,
                (rtp_ts + ts_offset) & 0xFFFFFFFF,
                ssrc,
            )
            if extensions:
                out[at + HEADER_BYTES : body] = extensions
            out[body:end] = payload
            n[0] = end - at
            status = protect(self._handle, base + at, n)
            if status != _STATUS_OK:
                raise ValueError(f"libsrtp refused to protect a packet: status {status}")
            at += n[0]
        return at


def make_sender(keys: SrtpKeys) -> SrtpSender:
    """The faster sender for these keys (see the module's theory)."""
    return GcmSender(keys) if keys.profile.is_gcm else LibSrtpSender(keys)


def slot_pointers(store: bytearray, slot_bytes: int) -> Sequence[Any]:
    """C pointers to the slots of a receive buffer, for `SrtpReceiver`. Made once; keep
    `store` alive as long as they are used."""
    base = ffi.from_buffer(store)
    return [base + start for start in range(0, len(store), slot_bytes)]
