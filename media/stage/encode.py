"""H.264 and Opus by PyAV, set for WebRTC: no B-frames, no look-ahead, key frames on request."""

from __future__ import annotations

from fractions import Fraction
from typing import Final

import av
from av.audio.codeccontext import AudioCodecContext
from av.video.codeccontext import VideoCodecContext
from av.video.frame import PictureType

from media.stage.music import FRAME, I16, RATE
from media.stage.planes import U8

VIDEO_CLOCK: Final = 90_000
H264_PROFILE: Final = "42e01f"
"""Constrained baseline, level 3.1: what every browser offers and decodes."""


class VideoEncoder:
    """One camera's picture, encoded once for everybody.

    About 3-4 ms of CPU a frame at 960 x 540. Not thread-safe; releases the interpreter
    lock while x264 works.
    """

    def __init__(
        self, width: int, height: int, fps: int, bitrate_bps: int, key_interval_s: float = 1.0
    ) -> None:
        context = av.CodecContext.create("libx264", "w")
        assert isinstance(context, VideoCodecContext)
        context.width, context.height = width, height
        context.pix_fmt = "yuv420p"
        context.time_base = Fraction(1, VIDEO_CLOCK)
        context.framerate = Fraction(fps)
        kbps = bitrate_bps // 1000
        context.options = {
            "preset": "superfast",
            "tune": "zerolatency",
            "profile": "baseline",
            "level": "3.1",
            "crf": "23",
            "maxrate": f"{kbps}k",
            "bufsize": f"{kbps // 2}k",
            "forced-idr": "1",
            "x264-params": f"threads=1:scenecut=0:keyint={round(fps * key_interval_s)}:bframes=0"
            ":colormatrix=smpte170m:transfer=smpte170m:colorprim=smpte170m:range=tv",
        }
        self._context = context
        self._wants_key = False

    def request_key(self) -> None:
        """Make the next frame a key frame."""
        self._wants_key = True

    def encode(self, planes: U8, pts: int) -> bytes:
        """One access unit (Annex B) of an I420 picture; `pts` in 90 kHz ticks, rising."""
        frame = av.VideoFrame.from_numpy_buffer(planes, format="yuv420p")
        frame.pts = pts
        frame.time_base = self._context.time_base
        if self._wants_key:
            frame.pict_type = PictureType.I
            self._wants_key = False
        return b"".join(bytes(packet) for packet in self._context.encode(frame))


class AudioEncoder:
    """Stereo Opus in frames of 20 ms."""

    def __init__(self, bitrate_bps: int = 96_000) -> None:
        context = av.CodecContext.create("libopus", "w")
        assert isinstance(context, AudioCodecContext)
        context.sample_rate = RATE
        context.layout = "stereo"
        context.format = "s16"
        context.bit_rate = bitrate_bps
        context.options = {
            "application": "audio",
            "frame_duration": "20",
            "fec": "1",
            "packet_loss": "5",
        }
        self._context = context

    def encode(self, samples: I16, pts: int) -> list[bytes]:
        """Opus packets ready after FRAME more samples (FRAME x 2); `pts` in samples."""
        frame = av.AudioFrame.from_ndarray(samples.reshape(1, -1), format="s16", layout="stereo")
        frame.sample_rate = RATE
        frame.pts = pts
        frame.time_base = Fraction(1, RATE)
        assert frame.samples == FRAME
        return [bytes(packet) for packet in self._context.encode(frame)]
