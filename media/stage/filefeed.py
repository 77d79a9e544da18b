"""**Shell**: any video file as a camera, looped.

H.264 of Baseline or Main profile without B-frames passes through as it is. Everything else
(High profile too: browsers offer no 6400xx in WebRTC) is decoded, scaled to at most 1280
pixels of width and encoded anew. Sound becomes Opus unless the file has none.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Final

import av
import numpy as np
from av.audio.stream import AudioStream
from av.bitstream import BitStreamFilterContext
from av.container import InputContainer
from av.packet import Packet
from av.stream import Stream
from av.video.stream import VideoStream

from media.stage.encode import VIDEO_CLOCK, AudioEncoder, VideoEncoder
from media.stage.feed import BITRATE_BPS, Kind, Sink, Unit, is_key
from media.stage.music import FRAME, RATE

MAX_WIDTH: Final = 1280
MAX_FPS: Final = 30
_PROBE_PACKETS: Final = 120
_EPOCH_S: Final = 1_700_000_000  # keeps encoder time stamps small
_PASSES: Final = ("Baseline", "Constrained Baseline", "Main")


class BadSource(ValueError):
    """The file cannot be a camera; the message says why, for a person."""


def passes_through(path: Path) -> bool:
    """Whether the file's pictures can be sent as they are. Raises `BadSource`."""
    with _open(path) as container:
        stream = _video(container, path)
        context = stream.codec_context
        if context.name != "h264" or context.pix_fmt not in ("yuv420p", "yuvj420p"):
            return False
        if context.profile not in _PASSES or context.has_b_frames:
            return False
        for count, packet in enumerate(container.demux(stream)):
            if packet.pts is not None and packet.pts != packet.dts:
                return False
            if count >= _PROBE_PACKETS:
                break
    return True


class FileFeed:
    """One camera that shows a file over and over."""

    def __init__(self, camera: str, path: Path, bitrate_bps: int = BITRATE_BPS) -> None:
        """Raises `BadSource` where the file has no picture that can be read."""
        self.cameras = (camera,)
        self._camera = camera
        self._path = path
        self._bitrate_bps = bitrate_bps
        self.is_passed_through = passes_through(path)
        with _open(path) as container:
            self.has_audio = bool(container.streams.audio)
        self._stopping = threading.Event()
        self._wants_key = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self, sink: Sink) -> None:
        """Start to play, from the file's beginning."""
        self._thread = threading.Thread(
            target=self._play, args=(sink,), name=f"file-{self._camera}", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Stop and wait for the thread."""
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()

    def request_key(self, camera: str) -> None:
        """Ask for a key frame; a file that passes through sends them when it has them."""
        self._wants_key.set()

    def _play(self, sink: Sink) -> None:
        maker: _Copy | _Transcode
        maker = (
            _Copy() if self.is_passed_through else _Transcode(self._bitrate_bps, self._wants_key)
        )
        sound = _Sound() if self.has_audio else None
        start_s = time.time() + 0.1
        while not self._stopping.is_set():
            end_s = start_s
            with _open(self._path) as container:
                video = _video(container, self._path)
                maker.begin(video)
                if sound is not None:
                    sound.begin(container.streams.audio[0], start_s)
                zero_s: float | None = None
                for packet in container.demux([video, *container.streams.audio[:1]]):
                    if zero_s is None and packet.pts is not None:
                        zero_s = float(packet.pts * packet.time_base)
                    if packet.stream.type == "audio":
                        if sound is not None:
                            for unit in sound.take(packet):
                                sink(unit)
                        continue
                    for at_s, data in maker.take(packet, start_s - (zero_s or 0.0)):
                        if self._stopping.wait(max(at_s - time.time(), 0)):
                            return
                        sink(Unit(self._camera, Kind.VIDEO, data, at_s, is_key(data)))
                        end_s = max(end_s, at_s)
            start_s = max(end_s + 1 / MAX_FPS, time.time())


class _Copy:
    """Pictures as the file has them, with parameter sets in band."""

    def begin(self, stream: VideoStream) -> None:
        """The file was opened (again)."""
        self._annex_b = BitStreamFilterContext("h264_mp4toannexb", stream)

    def take(self, packet: Packet[Stream], offset_s: float) -> Iterator[tuple[float, bytes]]:
        """Access units and the time they show, of one packet (an empty one ends the file)."""
        for ready in self._annex_b.filter(packet if packet.size else None):
            if ready.pts is not None:
                yield offset_s + float(ready.pts * ready.time_base), bytes(ready)


class _Transcode:
    """Pictures decoded, made smaller where needed, and encoded anew."""

    def __init__(self, bitrate_bps: int, wants_key: threading.Event) -> None:
        self._bitrate_bps = bitrate_bps
        self._wants_key = wants_key
        self._encoder: VideoEncoder | None = None
        self._size = (0, 0)
        self._last_s = 0.0

    def begin(self, stream: VideoStream) -> None:
        """The file was opened (again)."""
        self._decoder = stream.codec_context
        self._time_base = stream.time_base or Fraction(1, VIDEO_CLOCK)
        scale = min(1.0, MAX_WIDTH / stream.codec_context.width)
        width = max(int(stream.codec_context.width * scale) & ~15, 16)
        height = max(int(stream.codec_context.height * scale) & ~3, 16)
        if self._encoder is None:
            self._size = (width, height)
            self._encoder = VideoEncoder(width, height, MAX_FPS, self._bitrate_bps)

    def take(self, packet: Packet[Stream], offset_s: float) -> Iterator[tuple[float, bytes]]:
        """Access units and the time they show; frames too close together are left out."""
        assert self._encoder is not None
        for frame in self._decoder.decode(packet if packet.size else None):
            if frame.pts is None:
                continue
            at_s = offset_s + float(frame.pts * self._time_base)
            if at_s < self._last_s + 0.9 / MAX_FPS:
                continue
            self._last_s = at_s
            if self._wants_key.is_set():
                self._wants_key.clear()
                self._encoder.request_key()
            small = frame.reformat(*self._size, format="yuv420p").to_ndarray().astype(np.uint8)
            pts = int((at_s - _EPOCH_S) * VIDEO_CLOCK)
            yield at_s, self._encoder.encode(small, pts)


class _Sound:
    """A file's sound as Opus, placed where the file's pictures start."""

    def __init__(self) -> None:
        self._encoder = AudioEncoder()
        self._pts = 0

    def begin(self, stream: AudioStream, start_s: float) -> None:
        """The file begins (again) at `start_s`."""
        self._decoder = stream.codec_context
        self._start_s = start_s
        self._made = 0
        self._resampler = av.AudioResampler("s16", "stereo", RATE, frame_size=FRAME)

    def take(self, packet: Packet[Stream]) -> Iterator[Unit]:
        """Sound of one packet, in frames of 20 ms."""
        for frame in self._decoder.decode(packet if packet.size else None):
            frame.pts = None
            for part in self._resampler.resample(frame):
                if part.samples != FRAME:
                    continue
                at_s = self._start_s + self._made / RATE
                self._made += FRAME
                self._pts += FRAME
                samples = part.to_ndarray().astype(np.int16).reshape(FRAME, 2)
                for data in self._encoder.encode(samples, self._pts):
                    yield Unit(None, Kind.AUDIO, data, at_s)


def _open(path: Path) -> InputContainer:
    try:
        return av.open(str(path))
    except (OSError, av.FFmpegError) as error:
        raise BadSource(f"cannot read {path}: {error}") from error


def _video(container: InputContainer, path: Path) -> VideoStream:
    if not container.streams.video:
        raise BadSource(f"{path} has no picture")
    return container.streams.video[0]
