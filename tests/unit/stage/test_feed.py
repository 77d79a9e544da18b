"""Encoders and feeds: key frames when asked, no B-frames, sound in step, files as cameras."""

from __future__ import annotations

import queue
import threading
import time
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.audio.stream import AudioStream
from av.video.stream import VideoStream

from media.stage.encode import AudioEncoder, VideoEncoder
from media.stage.feed import Kind, StageFeed, Ticker, Unit, is_key
from media.stage.filefeed import BadSource, FileFeed, passes_through
from media.stage.music import FRAME, LOOP_S, RATE, Music
from media.stage.planes import Picture


def write_file(path: Path, codec: str, options: dict[str, str], sound: bool = False) -> None:
    """Ten pictures a second for one second, with sound where asked."""
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=10, options=options)
        assert isinstance(video, VideoStream)
        video.width, video.height, video.pix_fmt = 160, 120, "yuv420p"
        audio = container.add_stream("aac", rate=44100) if sound else None
        for n in range(10):
            image = np.full((180, 160), 60 + n * 10, np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="yuv420p")))
        container.mux(video.encode())
        if audio is not None:
            assert isinstance(audio, AudioStream)
            for n in range(43):
                frame = av.AudioFrame.from_ndarray(
                    np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
                )
                frame.sample_rate, frame.pts, frame.time_base = 44100, n * 1024, Fraction(1, 44100)
                container.mux(audio.encode(frame))
            container.mux(audio.encode())


def take(units: queue.Queue[Unit], count: int) -> list[Unit]:
    return [units.get(timeout=20) for _ in range(count)]


def test_encoder_gives_one_unit_a_picture_and_keys_on_request() -> None:
    encoder = VideoEncoder(160, 120, 25, 300_000)
    picture = Picture(160, 120)
    keys = []
    for n in range(40):
        if n == 7:
            encoder.request_key()
        unit = encoder.encode(picture.data, n * 3600)
        assert unit
        keys.append(is_key(unit))
    assert [n for n, key in enumerate(keys) if key] == [0, 7, 32]


def test_opus_frame_is_twenty_ms() -> None:
    encoder, music = AudioEncoder(), Music()
    packets = [p for n in range(10) for p in encoder.encode(music.samples(n * FRAME), n * FRAME)]
    assert len(packets) >= 9
    assert all(packet[0] & 3 == 0 for packet in packets), "one frame a packet (RFC 6716 §3.1)"


def test_music_loops_without_seam_and_ticks_on_the_second() -> None:
    music = Music()
    length = int(LOOP_S * RATE)
    around = music.samples(length - 10, 20).astype(int)
    assert np.abs(np.diff(around, axis=0)).max() < 3000
    with_tick = music.samples(5 * RATE - 480, FRAME).astype(int)
    spectrum = np.abs(np.fft.rfft(with_tick[480:, 0] * np.hanning(480)))
    before = np.abs(np.fft.rfft(with_tick[:480, 0] * np.hanning(480)))
    bin_1760 = round(1760 * 480 / RATE)
    assert spectrum[bin_1760] > 3 * before[bin_1760]


def test_ticker_leaves_out_what_is_over() -> None:
    stopping = threading.Event()
    ticker = iter(Ticker(50, stopping))
    first = next(ticker)
    time.sleep(0.1)  # the work of this tick takes five ticks' time
    second = next(ticker)
    assert second - first >= 5
    assert ticker.skipped >= 4
    stopping.set()
    with pytest.raises(StopIteration):
        next(ticker)


def test_stage_gives_every_camera_the_same_moments_and_one_sound() -> None:
    units: queue.Queue[Unit] = queue.Queue()
    feed = StageFeed(("wide", "crowd"), fps=5)
    feed.start(units.put)
    try:
        seen: dict[str | None, list[Unit]] = {"wide": [], "crowd": [], None: []}
        while min(len(seen["wide"]), len(seen["crowd"])) < 3 or not seen[None]:
            unit = units.get(timeout=30)
            seen[unit.camera].append(unit)
    finally:
        feed.stop()
    assert [u.at_s for u in seen["wide"][:3]] == [u.at_s for u in seen["crowd"][:3]]
    assert seen["wide"][0].is_key
    assert all(u.kind is Kind.AUDIO for u in seen[None])


@pytest.mark.parametrize(
    ("codec", "options", "passes"),
    [
        ("libx264", {"profile": "baseline", "bf": "0"}, True),
        ("libx264", {"profile": "high", "bf": "2"}, False),
        ("mpeg4", {}, False),
    ],
)
def test_file_plays_and_loops(
    tmp_path: Path, codec: str, options: dict[str, str], passes: bool
) -> None:
    path = tmp_path / "clip.mp4"
    write_file(path, codec, options, sound=True)
    assert passes_through(path) is passes
    feed = FileFeed("clip", path)
    assert feed.has_audio
    units: queue.Queue[Unit] = queue.Queue()
    feed.start(units.put)
    try:
        pictures: list[Unit] = []
        sounds = 0
        while len(pictures) < 14:  # more than the file holds: it began again
            unit = units.get(timeout=20)
            if unit.kind is Kind.VIDEO:
                pictures.append(unit)
            else:
                sounds += 1
    finally:
        feed.stop()
    times = [u.at_s for u in pictures]
    assert times == sorted(times)
    assert pictures[0].is_key
    assert sounds > 20


def test_file_without_picture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "words.txt"
    path.write_text("not a film")
    with pytest.raises(BadSource, match=r"words\.txt"):
        FileFeed("clip", path)
