"""What holds for every test: which build is under test, and what a skip means."""

import os
from pathlib import Path

import hypothesis
import pytest

CI = bool(os.environ.get("FASTPATH_CI"))

# No test depends on a time: a busy machine makes an example slow, not wrong.
hypothesis.settings.register_profile("fastpath", deadline=None)
hypothesis.settings.load_profile("fastpath")


def pytest_report_header() -> str:
    profile = os.environ.get("FASTPATH_PROFILE", "release")
    return f"fastpath: {profile} build" + (", a skip is a failure (FASTPATH_CI)" if CI else "")


def pytest_sessionstart() -> None:
    """`make debug` that silently tested the release build would prove nothing."""
    profile = os.environ.get("FASTPATH_PROFILE")
    if profile is None:
        return
    import fastpath

    found = Path(str(fastpath.__file__)).parts
    if profile != "release" and ("build", profile, "lib") != found[-5:-2]:
        pytest.exit(
            f"FASTPATH_PROFILE={profile}, but fastpath was imported from {fastpath.__file__}", returncode=4
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """On a user's machine a missing browser skips a test with the reason; in CI that reason is a failure."""
    report = yield
    if CI and report.skipped and not hasattr(report, "wasxfail"):
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid}: {reason}\nFASTPATH_CI is set: nothing may be skipped."
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector):
    """The same for a module that skips itself while it is collected (pytest.importorskip)."""
    report = yield
    if CI and report.skipped:
        report.outcome = "failed"
        report.longrepr = (
            f"{collector.nodeid}: {report.longrepr}\nFASTPATH_CI is set: nothing may be skipped."
        )
    return report
