"""The live screen: asks the relay in a rhythm and lays out the panels. All numbers come from readings.py."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from textual.app import App, ComposeResult
from textual.binding import Binding
from textual.containers import VerticalScroll
from textual.widgets import Footer, Static

from pyfastpath.errors import FastpathError
from pyfastpath.tools.admin import AdminClient
from pyfastpath.tools.top import panels
from pyfastpath.tools.top.readings import Changes, Reading, between, parse_reading

DROP_ROWS = 7
FASTEST_S, SLOWEST_S = 0.25, 16.0


class Top(App[None]):
    """One relay. interval_s: between two looks; rates are taken over the same time."""

    CSS = """
    #traffic, #latency { height: 4; }
    #middle { layout: grid; grid-size: 2; grid-columns: 42 1fr; height: 9; }
    #line { height: 1; }
    #backends { height: 1fr; }
    .gap { margin-top: 1; }
    """
    BINDINGS: ClassVar[list[Binding | tuple[str, str] | tuple[str, str, str]]] = [
        Binding("q", "quit", "quit"),
        Binding("p", "pause", "pause"),
        Binding("plus,equals_sign", "rhythm(0.5)", "faster", key_display="+"),
        Binding("minus", "rhythm(2)", "slower", key_display="-"),
    ]
    ENABLE_COMMAND_PALETTE = False

    def __init__(self, relay: AdminClient, interval_s: float = 1.0) -> None:
        super().__init__()
        self.relay, self.interval_s = relay, interval_s
        self.paused = False
        self.last: Reading | None = None

    def compose(self) -> ComposeResult:
        """Top-down: headline, traffic, latency, workers beside drops, backends."""
        yield Static(id="line", markup=False)
        yield Static(id="traffic", classes="gap")
        yield Static(id="latency")
        with VerticalScroll(id="middle"):
            yield Static(id="workers")
            yield Static(id="drops")
        with VerticalScroll(id="backends"):
            yield Static(id="rows")
        yield Footer()

    def on_mount(self) -> None:
        """Begin to look."""
        self.run_worker(self._watch(), exclusive=True)

    def action_pause(self) -> None:
        """Hold the picture, or go on."""
        self.paused = not self.paused
        if self.paused:
            self.query_one("#line", Static).update(panels.held())

    def action_rhythm(self, factor: float) -> None:
        """The time between two looks, times `factor`."""
        self.interval_s = min(SLOWEST_S, max(FASTEST_S, self.interval_s * factor))

    async def _watch(self) -> None:
        while True:
            if not self.paused:
                await self.look()
            await asyncio.sleep(self.interval_s)

    async def look(self) -> None:
        """One reading, one picture. A relay that does not answer leaves the last one and says so."""
        try:
            said = await asyncio.to_thread(self.relay.get, "counters")
            status = await asyncio.to_thread(self.relay.get, "status")
        except FastpathError as error:
            self.query_one("#line", Static).update(panels.trouble(str(error)))
            return
        if self.paused:  # meanwhile
            return
        reading = parse_reading(said)
        changes = between(self.last or reading, reading)
        self.last = reading
        self.query_one("#line", Static).update(panels.headline(status))
        self._show(changes)
        self.query_one("#rows", Static).update(panels.backends(status["backends"]))

    def _show(self, changes: Changes) -> None:
        self.query_one("#traffic", Static).update(panels.traffic(changes))
        self.query_one("#latency", Static).update(panels.latency(changes))
        self.query_one("#workers", Static).update(panels.workers(changes))
        self.query_one("#drops", Static).update(panels.drops(changes, DROP_ROWS))
