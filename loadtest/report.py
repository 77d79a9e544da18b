"""Figures of one run: as text, as JSON, and as one HTML page with its plots in it."""

from __future__ import annotations

import html
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

_WIDTH: Final = 640
_HEIGHT: Final = 220
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c1a22; --soft: #6c6878; --line: #d9d5e0;
  --mark: #d9652b; --paper: #faf8f5 }
@media (prefers-color-scheme: dark) { :root { --ink: #efecf4; --soft: #9a95a8; --line: #35323f;
  --mark: #ff9b5e; --paper: #16141b } }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); background: var(--paper);
  max-width: 720px; margin: 3rem auto; padding: 0 1rem }
h1 { font-size: 1.6rem; margin: 0 0 .2rem } h2 { font-size: 1rem; margin: 2.2rem 0 .4rem }
p, figcaption { color: var(--soft); margin: .2rem 0 } code { font-size: .85em }
table { border-collapse: collapse; width: 100%; margin-top: 1.4rem;
  font-variant-numeric: tabular-nums }
td { padding: .38rem 0; border-bottom: 1px solid var(--line) } td + td { text-align: right }
figure { margin: 0 } svg { width: 100%; height: auto }
svg text { fill: var(--soft); font-size: 12px }
svg .grid { stroke: var(--line) } svg .mark { stroke: var(--mark); fill: none; stroke-width: 2 }
"""


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0-1) of `values` lie; NaN without values."""
    if not values:
        return float("nan")
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    low = int(position)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (position - low)


def machine() -> str:
    """This machine, Python and commit in one line."""
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    except OSError:
        pass  # not Linux: the platform's word stands
    commit = "unknown"
    try:
        root = Path(__file__).parent
        commit = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        pass  # an installed package has no history
    cores = os.cpu_count()
    system = f"{platform.system()} {platform.release()}"
    return f"{model}, {cores} cores, {system}, Python {platform.python_version()}, commit {commit}"


@dataclass
class Report:
    """What a scenario found out."""

    title: str
    command: str
    figures: dict[str, float | int | str | None] = field(default_factory=dict)
    samples: dict[str, list[float]] = field(default_factory=dict)
    """Name with unit: every single measurement; plotted as a distribution."""
    notes: list[str] = field(default_factory=list)
    made_at: str = field(default_factory=lambda: time.strftime("%Y-%m-%d %H:%M:%S %z"))
    ok: bool = True

    def add_samples(self, name: str, values: list[float]) -> None:
        """Keep `values` and put their median, p95, p99 and maximum among the figures."""
        self.samples[name] = values
        for word, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99), ("max", 1.0)):
            self.figures[f"{name} {word}"] = round(percentile(values, share), 3) if values else None

    def to_json(self) -> str:
        """Everything, for programs."""
        data: dict[str, Any] = {
            "title": self.title,
            "command": self.command,
            "made_at": self.made_at,
            "machine": machine(),
            "ok": self.ok,
            "figures": self.figures,
            "samples": self.samples,
            "notes": self.notes,
        }
        return json.dumps(data, ensure_ascii=False, indent=1)

    def to_text(self) -> str:
        """Figures in two columns."""
        width = max((len(name) for name in self.figures), default=0)
        lines = [self.title, ""]
        lines += [f"  {name.ljust(width)}  {_shown(value)}" for name, value in self.figures.items()]
        lines += [""] + [f"  {note}" for note in self.notes]
        return "\n".join(lines)

    def to_markdown(self) -> str:
        """A table for docs/benchmarks.md."""
        lines = [
            f"### {self.title}",
            "",
            f"`{self.command}`",
            "",
            "| figure | value |",
            "|---|---:|",
        ]
        lines += [f"| {name} | {_shown(value)} |" for name, value in self.figures.items()]
        lines += ["", *self.notes, ""]
        return "\n".join(lines)

    def to_html(self) -> str:
        """One page that needs nothing else."""
        rows = "".join(
            f"<tr><td>{html.escape(name)}</td><td>{html.escape(_shown(value))}</td></tr>"
            for name, value in self.figures.items()
        )
        plots = "".join(
            f"<h2>{html.escape(name)}</h2><figure>{_distribution(values)}"
            f"<figcaption>{len(values)} measurements; share at or below</figcaption></figure>"
            for name, values in self.samples.items()
            if len(values) > 1
        )
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
            f'content="width=device-width"><title>{html.escape(self.title)}</title>'
            f"<style>{_STYLE}</style><h1>{html.escape(self.title)}</h1>"
            f"<p>{html.escape(self.made_at)}</p><p>{html.escape(machine())}</p>"
            f"<p><code>{html.escape(self.command)}</code></p>"
            f"<table>{rows}</table>{notes}{plots}</html>"
        )


def _shown(value: float | int | str | None) -> str:
    if value is None:
        return "none"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return value if isinstance(value, str) else f"{value:,}"


def _distribution(values: list[float]) -> str:
    """A cumulative distribution as SVG, the highest percent of values cut off."""
    top = max(percentile(values, 0.995), 1e-9)
    left, bottom, right = 36, 24, 12
    w, h = _WIDTH - left - right, _HEIGHT - bottom - 10
    parts = [f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img">']
    for share in (0, 0.5, 0.95, 1):
        y = 10 + h * (1 - share)
        parts.append(
            f'<line class="grid" x1="{left}" x2="{_WIDTH - right}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        if share != 1:
            parts.append(f'<text x="0" y="{y + 4:.1f}">{share:.0%}</text>')
    for step in range(5):
        x = left + w * step / 4
        parts.append(
            f'<text x="{x:.1f}" y="{_HEIGHT - 6}" text-anchor="middle">{top * step / 4:.3g}</text>'
        )
    ordered = sorted(values)
    count = len(ordered)
    keep = range(0, count, max(count // 400, 1))
    points = " ".join(
        f"{left + w * min(ordered[i] / top, 1):.1f},{10 + h * (1 - (i + 1) / count):.1f}"
        for i in keep
    )
    parts.append(f'<polyline class="mark" points="{points}"/></svg>')
    return "".join(parts)
