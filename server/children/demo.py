"""The demo's process: cameras and bots that are clients like any other."""

from __future__ import annotations

from pathlib import Path

from server.children import DemoChild
from server.children.runtime import Fatal, Runtime, run_child
from server.demo import Demo, DemoFailed, DemoSettings
from server.demo_screen import Terminal


async def _main(settings: DemoChild, runtime: Runtime) -> None:
    demo = Demo(
        DemoSettings(
            base_url=settings.base_url,
            public_url=settings.public_url,
            data=Path(settings.data),
            room=settings.room,
            sources=tuple(Path(source) for source in settings.sources),
            bots=settings.bots,
            ca=Path(settings.ca) if settings.ca else None,
        ),
        Terminal(),
    )
    runtime.ready()
    try:
        await demo.run(runtime.stop)
    except DemoFailed as error:
        raise Fatal(str(error)) from None


if __name__ == "__main__":
    run_child(DemoChild, _main)
