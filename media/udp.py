"""One UDP socket, many peers: datagrams in and out a burst at a time.

A burst is read with one `recvmmsg` and answered with one `sendmmsg`; packets of one
viewer that leave together become one message that the kernel cuts into datagrams
(UDP_SEGMENT, "GSO"), which costs a third of sending them one by one. All buffers and
message headers are made once. C is called through cffi's ABI mode, so no compiler is
needed; where the platform or kernel lacks a call the next plainer way is taken, once,
at start (`open_port`).

Ownership: one `UdpPort` belongs to one event loop and is used from its thread only.
What `receive` returned is valid until the next `receive`; what is written to `out` may
be overwritten after `flush`.

Linux: recvmmsg(2), sendmmsg(2), udp(7) UDP_SEGMENT.
"""

from __future__ import annotations

import errno
import select
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from enum import StrEnum
from typing import Any, Final

import cffi

RECEIVE_SLOTS: Final = 64
"""Datagrams one `receive` takes at most."""

SLOT_BYTES: Final = 2048
"""Room for one received datagram; Ethernet's 1,500 and a safety margin."""

OUT_BYTES: Final = 512 * 1024
"""Send buffer. Small enough to stay in a core's second-level cache."""

MAX_MESSAGES: Final = 512
"""Messages one `sendmmsg` takes; the kernel's own limit is 1,024."""

MAX_SEGMENTS: Final = 64
"""Datagrams in one GSO message: UDP_MAX_SEGMENTS of kernels before 6.9."""

MAX_GSO_BYTES: Final = 65_000
"""Bytes in one GSO message, below IP's 65,535 less headers."""

SOCKET_BUFFER_BYTES: Final = 4 * 1024 * 1024
"""Asked of the kernel in both directions; it grants what net.core.*mem_max allows."""

_FULL_WAIT_MS: Final = 2
"""How long one flush waits for a full socket buffer before it drops the rest."""

_SOL_UDP: Final = 17
_UDP_SEGMENT: Final = 103
_ADDRESS_BYTES: Final = 32
_MSG_DONTWAIT: Final = 0x40

_PACK_VECTOR: Final = struct.Struct("=QQ").pack_into
_PACK_SEGMENT: Final = struct.Struct("=H").pack_into
# Offsets in the structures below on 64-bit Linux; `has_batches` compares them with cffi's.
_WORD_CONTROL_SIZE: Final = 5
_CONTROL_STEP: Final = 24
_CONTROL_DATA: Final = 16

_CDEF: Final = """
struct iovec { void *iov_base; size_t iov_len; };
struct msghdr {
    void *msg_name; unsigned int msg_namelen;
    struct iovec *msg_iov; size_t msg_iovlen;
    void *msg_control; size_t msg_controllen;
    int msg_flags;
};
struct mmsghdr { struct msghdr msg_hdr; unsigned int msg_len; };
struct segment_control {
    size_t cmsg_len; int cmsg_level; int cmsg_type;
    uint16_t segment_bytes; uint8_t padding[6];
};
int recvmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags, void *timeout);
int sendmmsg(int fd, struct mmsghdr *messages, unsigned int count, int flags);
"""


Run = tuple[int, int, int, int]
"""(start relative to its burst, bytes, segment bytes, datagrams) of one GSO message."""


class SendMode(StrEnum):
    """How datagrams leave, best first. Chosen at start, shown in the statistics."""

    GSO = "gso"
    SENDMMSG = "sendmmsg"
    SENDTO = "sendto"


class SendError(StrEnum):
    """Why a datagram did not leave."""

    BUFFER_FULL = "buffer_full"
    UNREACHABLE = "unreachable"
    TOO_LONG = "too_long"
    OTHER = "other"


_ERRORS: Final = {
    errno.EAGAIN: SendError.BUFFER_FULL,
    errno.ENOBUFS: SendError.BUFFER_FULL,
    errno.EMSGSIZE: SendError.TOO_LONG,
    errno.ECONNREFUSED: SendError.UNREACHABLE,
    errno.EHOSTUNREACH: SendError.UNREACHABLE,
    errno.ENETUNREACH: SendError.UNREACHABLE,
    errno.EADDRNOTAVAIL: SendError.UNREACHABLE,
    errno.EPERM: SendError.UNREACHABLE,
}


class Destination:
    """A peer's address in every form a send needs. Immutable."""

    __slots__ = ("address", "key", "name", "name_address")

    def __init__(
        self, key: bytes, address: tuple[Any, ...], name: Any = None, name_address: int = 0
    ) -> None:
        self.key = key
        self.address = address
        self.name = name
        """The `sockaddr` for C, kept alive here."""
        self.name_address = name_address

    @property
    def text(self) -> str:
        """`host:port`, for people."""
        host = str(self.address[0]).removeprefix("::ffff:")
        return f"[{host}]:{self.address[1]}" if ":" in host else f"{host}:{self.address[1]}"


class UdpPort:
    """The plain form: one system call a datagram. Works everywhere.

    A caller that sends a run of packets writes them to `out` from `position` on, back
    to back, after `reserve(bytes)`, and then calls `queue`. `send` is for the odd one.
    """

    __slots__ = (
        "_fd",
        "_out_store",
        "errors",
        "flushes",
        "keys",
        "lengths",
        "mode",
        "out",
        "position",
        "received",
        "sent",
        "sent_messages",
        "slots",
        "sock",
        "store",
        "truncated",
    )

    def __init__(self, sock: socket.socket) -> None:
        self.mode = SendMode.SENDTO
        self.sock = sock
        sock.setblocking(False)
        self._fd = sock.fileno()
        self.store = bytearray(RECEIVE_SLOTS * SLOT_BYTES)
        view = memoryview(self.store)
        self.slots = [view[i * SLOT_BYTES : (i + 1) * SLOT_BYTES] for i in range(RECEIVE_SLOTS)]
        """One writable view a slot; datagram i is the first `lengths[i]` bytes of slot i."""
        self.lengths = [0] * RECEIVE_SLOTS
        self.keys: list[bytes] = [b""] * RECEIVE_SLOTS
        """Address of datagram i as an opaque key; `destination` turns it into one to send to."""
        self._out_store = bytearray(OUT_BYTES)
        self.out = memoryview(self._out_store)
        self.position = 0
        # Counters, in datagrams unless said otherwise. Read by the worker's statistics.
        self.received = 0
        self.sent = 0
        self.sent_messages = 0
        self.flushes = 0
        self.truncated = 0
        self.errors: dict[SendError, int] = dict.fromkeys(SendError, 0)

    def receive(self) -> int:
        """Take waiting datagrams, at most `RECEIVE_SLOTS`; their number, 0 when none waits."""
        count = 0
        while count < RECEIVE_SLOTS:
            try:
                length, address = self.sock.recvfrom_into(self.slots[count])
            except (BlockingIOError, InterruptedError):
                break
            except OSError:
                # A late ICMP error of an earlier send; the socket itself is fine.
                continue
            self.lengths[count] = length
            self.keys[count] = _pack_address(self.sock.family, address)
            count += 1
        self.received += count
        return count

    def destination(self, key: bytes) -> Destination:
        """What to send to for the sender of a datagram with this `keys` entry."""
        return Destination(key, _unpack_address(key))

    def reserve(self, length: int) -> int:
        """Make room for `length` bytes in `out`, flushing if need be; where to write them."""
        if self.position + length > OUT_BYTES:
            self.flush()
        return self.position

    def queue(self, to: Destination, start: int, length: int, segment: int, count: int) -> None:
        """Send `out[start:start + length]`: `count` datagrams of `segment` bytes, the last of
        what is left. At most `MAX_SEGMENTS` and `MAX_GSO_BYTES`."""
        out = self.out
        end = start + length
        while start < end:
            stop = min(start + segment, end)
            try:
                self.sock.sendto(out[start:stop], to.address)
                self.sent += 1
            except OSError as error:
                self._count_error(error.errno or 0, 1)
            self.sent_messages += 1
            start = stop
        self.position = end

    def send(self, to: Destination, data: bytes) -> None:
        """Queue one datagram."""
        length = len(data)
        start = self.reserve(length)
        self.out[start : start + length] = data
        self.queue(to, start, length, length, 1)

    def flush(self) -> None:
        """Hand everything queued to the kernel. Called once a burst."""
        self.position = 0

    def _count_error(self, number: int, datagrams: int) -> None:
        self.errors[_ERRORS.get(number, SendError.OTHER)] += datagrams


class BatchPort(UdpPort):
    """Linux: `recvmmsg` and `sendmmsg`, with UDP_SEGMENT messages where the kernel has them."""

    __slots__ = (
        "_control_bytes",
        "_control_size",
        "_controls",
        "_counts",
        "_ffi",
        "_has_control",
        "_in_base",
        "_in_each",
        "_in_headers",
        "_in_messages",
        "_in_names",
        "_in_names_base",
        "_in_names_view",
        "_in_vectors",
        "_message_words",
        "_messages",
        "_out_address",
        "_queued",
        "_recvmmsg",
        "_refill",
        "_segments",
        "_sendmmsg",
        "_to",
        "_vector_bytes",
        "_vector_words",
        "_vectors",
    )

    def __init__(self, sock: socket.socket, *, gso: bool) -> None:
        super().__init__(sock)
        self.mode = SendMode.GSO if gso else SendMode.SENDMMSG
        ffi, libc = _libc()
        self._ffi = ffi
        self._recvmmsg = libc.recvmmsg
        self._sendmmsg = libc.sendmmsg
        # Everything below is referenced from C: kept alive by these fields.
        self._in_base = ffi.from_buffer(self.store)
        self._in_names = bytearray(RECEIVE_SLOTS * _ADDRESS_BYTES)
        self._in_names_base = ffi.from_buffer(self._in_names)
        self._in_vectors = ffi.new("struct iovec[]", RECEIVE_SLOTS)
        self._in_messages = ffi.new("struct mmsghdr[]", RECEIVE_SLOTS)
        self._in_each = [self._in_messages[i] for i in range(RECEIVE_SLOTS)]
        self._in_names_view = memoryview(self._in_names)
        for i, message in enumerate(self._in_each):
            self._in_vectors[i].iov_base = self._in_base + i * SLOT_BYTES
            self._in_vectors[i].iov_len = SLOT_BYTES
            header = message.msg_hdr
            header.msg_name = self._in_names_base + i * _ADDRESS_BYTES
            header.msg_namelen = _ADDRESS_BYTES
            header.msg_iov = self._in_vectors + i
            header.msg_iovlen = 1
        self._in_headers = [message.msg_hdr for message in self._in_each]

        # Headers are filled in with `pack_into` on their memory: a third of the cost of
        # setting the fields one by one.
        self._out_address = int(ffi.cast("uintptr_t", ffi.from_buffer(self._out_store)))
        self._vectors = ffi.new("struct iovec[]", MAX_MESSAGES)
        self._controls = ffi.new("struct segment_control[]", MAX_MESSAGES)
        self._messages = ffi.new("struct mmsghdr[]", MAX_MESSAGES)
        self._vector_bytes = memoryview(ffi.buffer(self._vectors)).cast("B")
        self._message_words = memoryview(ffi.buffer(self._messages)).cast("B").cast("Q")
        self._control_bytes = memoryview(ffi.buffer(self._controls)).cast("B")
        self._vector_words = self._vector_bytes.cast("Q")
        self._segments = self._control_bytes.cast("H")[_CONTROL_DATA // 2 :: _CONTROL_STEP // 2]
        """The segment size of each message."""
        self._control_size = ffi.sizeof("struct segment_control")
        name_bytes = 28 if sock.family == socket.AF_INET6 else 16
        for i in range(MAX_MESSAGES):
            control = self._controls[i]
            control.cmsg_len = ffi.offsetof("struct segment_control", "padding")
            control.cmsg_level = _SOL_UDP
            control.cmsg_type = _UDP_SEGMENT
            header = self._messages[i].msg_hdr
            header.msg_namelen = name_bytes
            header.msg_iov = self._vectors + i
            header.msg_iovlen = 1
            header.msg_control = self._controls + i
        self._has_control = [False] * MAX_MESSAGES
        self._counts = [0] * MAX_MESSAGES
        self._to: list[Destination | None] = [None] * MAX_MESSAGES
        self._queued = 0
        self._refill = 0

    def receive(self) -> int:
        for header in self._in_headers[: self._refill]:
            header.msg_namelen = _ADDRESS_BYTES
        count: int = self._recvmmsg(
            self._fd, self._in_messages, RECEIVE_SLOTS, _MSG_DONTWAIT, self._ffi.NULL
        )
        if count <= 0:
            self._refill = 0
            return 0
        names = self._in_names_view
        lengths = self.lengths
        keys = self.keys
        start = 0
        for i in range(count):
            lengths[i] = self._in_each[i].msg_len
            keys[i] = bytes(names[start : start + self._in_headers[i].msg_namelen])
            start += _ADDRESS_BYTES
        self._refill = count
        self.received += count
        return count

    def destination(self, key: bytes) -> Destination:
        name = self._ffi.new("char[]", key)
        return Destination(key, _unpack_address(key), name, int(self._ffi.cast("uintptr_t", name)))

    def queue(self, to: Destination, start: int, length: int, segment: int, count: int) -> None:
        i = self._queued
        if count > 1:
            if self.mode is not SendMode.GSO:
                self._queue_apart(to, start, length, segment)
                return
            _PACK_SEGMENT(self._control_bytes, i * _CONTROL_STEP + _CONTROL_DATA, segment)
            if not self._has_control[i]:
                self._has_control[i] = True
                self._message_words[i * 8 + _WORD_CONTROL_SIZE] = self._control_size
        elif self._has_control[i]:
            self._has_control[i] = False
            self._message_words[i * 8 + _WORD_CONTROL_SIZE] = 0
        self._message_words[i * 8] = to.name_address
        _PACK_VECTOR(self._vector_bytes, i * 16, self._out_address + start, length)
        self._to[i] = to
        self._counts[i] = count
        self.position = start + length
        self._queued = i = i + 1
        if i == MAX_MESSAGES:
            self._send_queued()

    def takes(self, runs: Sequence[Run]) -> bool:
        """Whether `queue_all` can send such runs: without GSO only single datagrams."""
        return self.mode is SendMode.GSO or len(runs) == sum(run[3] for run in runs)

    def room(self, size: int, messages: int) -> int:
        """How many copies of `size` bytes, `messages` messages each, can be queued from
        `position` on before a flush. Makes room for one at least."""
        copies = min((OUT_BYTES - self.position) // size, (MAX_MESSAGES - self._queued) // messages)
        if copies < 1:
            self.flush()
            copies = min(OUT_BYTES // size, MAX_MESSAGES // messages)
        return copies

    def queue_all(self, to: list[Destination], start: int, size: int, runs: Sequence[Run]) -> None:
        """Send to each of `to` its copy of a burst: they stand in `out` from `start` on,
        `size` bytes each, every one cut into `runs`. At most as many as `room` said."""
        copies = len(to)
        if not copies:
            return
        names = array("Q", [destination.name_address for destination in to])
        words, vectors = self._message_words, self._vector_words
        begin = self._out_address + start
        i = self._queued
        for offset, length, segment, count in runs:
            end = i + copies
            words[8 * i : 8 * end : 8] = names
            base = begin + offset
            vectors[2 * i : 2 * end : 2] = array("Q", range(base, base + copies * size, size))
            vectors[2 * i + 1 : 2 * end : 2] = array("Q", (length,)) * copies
            control = 0
            if count > 1:
                self._segments[i:end] = array("H", (segment,)) * copies
                control = self._control_size
            words[8 * i + _WORD_CONTROL_SIZE : 8 * end : 8] = array("Q", (control,)) * copies
            self._has_control[i:end] = [count > 1] * copies
            self._to[i:end] = to
            self._counts[i:end] = [count] * copies
            i = end
        self._queued = i
        self.position = start + copies * size
        if i == MAX_MESSAGES:
            self._send_queued()

    def _queue_apart(self, to: Destination, start: int, length: int, segment: int) -> None:
        end = start + length
        while start < end:
            size = min(segment, end - start)
            self.queue(to, start, size, size, 1)
            start += size

    def flush(self) -> None:
        if self._queued:
            self._send_queued()
            self.flushes += 1
        self.position = 0

    def _send_queued(self) -> None:
        """Give all queued messages to the kernel; `position` stays, so runs may go on."""
        total = self._queued
        done = 0
        waited = False
        while done < total:
            sent: int = self._sendmmsg(self._fd, self._messages + done, total - done, _MSG_DONTWAIT)
            if sent > 0:
                self.sent += sum(self._counts[done : done + sent])
                self.sent_messages += sent
                done += sent
                continue
            number = self._ffi.errno
            if number == errno.EINTR:
                continue
            if number in (errno.EAGAIN, errno.ENOBUFS):
                if not waited:
                    waited = True
                    select.select((), (self._fd,), (), _FULL_WAIT_MS / 1000)
                    continue
                self._count_error(number, sum(self._counts[done:total]))
                break
            if self._counts[done] > 1 and number in (errno.EIO, errno.EINVAL, errno.EMSGSIZE):
                # A network device without checksum offload refuses UDP_SEGMENT (EIO), and a
                # path with a smaller MTU refuses the segment size: send this one unjoined.
                if number == errno.EIO:
                    self.mode = SendMode.SENDMMSG
                self._send_apart(done)
            else:
                self._count_error(number, self._counts[done])
            done += 1
        self._queued = 0

    def _send_apart(self, index: int) -> None:
        """Send the segments of one refused GSO message as datagrams of their own."""
        to = self._to[index]
        assert to is not None
        vector = self._vectors[index]
        segment = self._controls[index].segment_bytes
        address = to.address
        data = self._ffi.buffer(vector.iov_base, vector.iov_len)
        for start in range(0, vector.iov_len, segment):
            try:
                self.sock.sendto(data[start : start + segment], address)
                self.sent += 1
                self.sent_messages += 1
            except OSError as error:
                self._count_error(error.errno or 0, 1)


def open_port(sock: socket.socket, *, best: SendMode = SendMode.GSO) -> UdpPort:
    """Wrap a bound UDP socket in the fastest way to drive it that this machine has.

    `best` caps the choice (tests and comparisons). The socket becomes non-blocking and
    gets large buffers; it stays the caller's to close.
    """
    for option in (socket.SO_RCVBUF, socket.SO_SNDBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER_BYTES)
    if best is SendMode.SENDTO or not has_batches():
        return UdpPort(sock)
    return BatchPort(sock, gso=best is SendMode.GSO and has_gso(sock.family))


def has_batches() -> bool:
    """Whether recvmmsg and sendmmsg can be called with the layouts above."""
    if not sys.platform.startswith("linux") or struct.calcsize("P") != 8:
        return False
    try:
        ffi, libc = _libc()
        is_known_layout = (
            ffi.sizeof("struct mmsghdr") == 64
            and ffi.sizeof("struct iovec") == 16
            and ffi.offsetof("struct msghdr", "msg_controllen") == 8 * _WORD_CONTROL_SIZE
            and ffi.sizeof("struct segment_control") == _CONTROL_STEP
            and ffi.offsetof("struct segment_control", "segment_bytes") == _CONTROL_DATA
        )
        return is_known_layout and bool(libc.recvmmsg) and bool(libc.sendmmsg)
    except (OSError, AttributeError):
        return False


def has_gso(family: int) -> bool:
    """Whether the kernel cuts UDP_SEGMENT messages: tried on a socket pair over loopback."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    control = [(_SOL_UDP, _UDP_SEGMENT, struct.pack("=H", 4))]
    try:
        with (
            socket.socket(family, socket.SOCK_DGRAM) as a,
            socket.socket(family, socket.SOCK_DGRAM) as b,
        ):
            b.bind((host, 0))
            b.settimeout(0.5)
            a.sendmsg([b"onetwo"], control, 0, b.getsockname())
            return b.recv(64) == b"onet" and b.recv(64) == b"wo"
    except OSError:
        return False


def _libc() -> tuple[cffi.FFI, Any]:
    global _loaded
    if _loaded is None:
        ffi = cffi.FFI()
        ffi.cdef(_CDEF)
        _loaded = (ffi, ffi.dlopen(None))
    return _loaded


_loaded: tuple[cffi.FFI, Any] | None = None


def _pack_address(family: int, address: tuple[Any, ...]) -> bytes:
    """A Python address as the platform's `sockaddr` bytes (also the peer key)."""
    host, port = address[0], address[1]
    head = struct.pack("=H", family) if sys.platform != "darwin" else bytes((0, family))
    if family == socket.AF_INET6:
        flow = address[2] if len(address) > 2 else 0
        scope = address[3] if len(address) > 3 else 0
        packed = socket.inet_pton(family, host.split("%")[0])
        return head + struct.pack("!HI", port, flow) + packed + struct.pack("=I", scope)
    return head + struct.pack("!H", port) + socket.inet_aton(host) + bytes(8)


def _unpack_address(key: bytes) -> tuple[Any, ...]:
    port, flow = struct.unpack_from("!HI", key, 2)
    if len(key) >= 28:
        (scope,) = struct.unpack_from("=I", key, 24)
        return (socket.inet_ntop(socket.AF_INET6, key[8:24]), port, flow, scope)
    return (socket.inet_ntoa(key[4:8]), port)
