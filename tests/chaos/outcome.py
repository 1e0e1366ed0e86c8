"""What a fault did to live calls: the figures of one row of docs/reliability.md, and what each means."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any


class InvalidRunError(AssertionError):
    """The load tools themselves failed, so that nothing can be said of the relay."""


class CannotRunError(Exception):
    """This machine lacks what a scenario needs; the message says what."""


@dataclass(frozen=True)
class Outcome:
    """One fault under one load. All counts are datagrams of confirmed flows, summed over all repeats.

    fault           what was done, in a few words
    load            "20,000/s over 2,000 flows, plain, up"
    repeats         how often it was done under this load
    sent            probes that the generator's kernel took
    arrived         of these, how many came to their end at least once: the sink (up), or the generator that
                    had sent them (echo, so a loss in either direction counts)
    lost            sent - arrived, when nothing moved any more
    duplicated      arrivals of a probe that had arrived before, at either end
    misrouted       arrivals where they do not belong: at another backend, or back at another client
    kernel_dropped  what the kernel threw away at the relay's sockets because their buffers were full. It does
                    not say whose: with other senders beside the load, hostile ones too, not all are in lost
    recovery_ms     the worst of all repeats: the longest silence after the fault, a time in which no probe at
                    all arrived. Without any gap that is the distance of two batches, about 1 ms. Of overload:
                    how long something was still lost after it. None: the fault was none that could silence a
                    relay
    memory_mib      the most seen of the relay's processes together: private pages of each, shared tables once
    note            what else a reader should know
    invalid         why the load tools, not the relay, spoilt the run; empty when they did their work
    broken          which promise the relay did not keep; empty when it kept all that the scenario asked for
    """

    fault: str
    load: str
    repeats: int
    sent: int
    arrived: int
    lost: int
    duplicated: int
    misrouted: int
    kernel_dropped: int
    recovery_ms: float | None
    memory_mib: float | None
    note: str = ""
    invalid: str = ""
    broken: str = ""

    def promising(self, kept: bool, promise: str) -> Outcome:
        """The same figures, with `promise` among the broken ones unless it was kept."""
        return self if kept else replace(self, broken="; ".join(filter(None, (self.broken, promise))))

    def promising_nothing_lost(self, *, beyond_kernel: bool = False) -> Outcome:
        """Promises that everything arrived, and nothing where it does not belong. beyond_kernel: what the
        kernel dropped at the relay's full sockets is forgiven, and said."""
        forgiven = self.kernel_dropped if beyond_kernel else 0
        return (
            (self.doubting() if beyond_kernel else self)
            .promising(self.sent > 0, "nothing was sent, so nothing is shown")
            .promising(self.lost <= forgiven, "nothing is lost")
            .promising(self.misrouted == 0, "nothing is misrouted")
        )

    def promising_calls_whole(self) -> Outcome:
        """What every attack has to leave whole. What the kernel dropped is forgiven, and said."""
        return (
            self.doubting()
            .promising(self.lost <= self.kernel_dropped, "the relay drops nothing of a live call")
            .promising(self.misrouted == 0, "nothing is misrouted")
        )

    def doubting(self) -> Outcome:
        """With a word on what cannot be known: the kernel may have dropped anybody's."""
        if not self.kernel_dropped:
            return self
        doubt = f"not provable: whose {self.kernel_dropped:,} datagrams the kernel dropped, it does not say"
        return replace(self, note="; ".join(filter(None, (self.note, doubt))))

    def assert_kept(self) -> None:
        """Every promise was kept; InvalidRunError when generator or sink could not keep up."""
        if self.invalid:
            raise InvalidRunError(self.sentence())
        assert not self.broken, self.sentence()

    def assert_nothing_lost(self, *, beyond_kernel: bool = False) -> None:
        """promising_nothing_lost, asserted."""
        self.promising_nothing_lost(beyond_kernel=beyond_kernel).assert_kept()

    def sentence(self) -> str:
        """The row as a line of text."""
        recovery = "" if self.recovery_ms is None else f", recovered in {self.recovery_ms:,.1f} ms"
        memory = "" if self.memory_mib is None else f", {self.memory_mib:,.0f} MiB"
        note = f" ({self.note})" if self.note else ""
        wrong = f" INVALID: {self.invalid}" if self.invalid else ""
        broken = f" BROKEN PROMISE: {self.broken}" if self.broken else ""
        return (
            f"{self.fault} x {self.repeats}, {self.load}: sent {self.sent:,}, lost {self.lost:,}, "
            f"duplicated {self.duplicated:,}, misrouted {self.misrouted:,}, kernel drops "
            f"{self.kernel_dropped:,}{recovery}{memory}{note}{wrong}{broken}"
        )

    def as_dict(self) -> dict[str, Any]:
        """For the result file."""
        return asdict(self)
