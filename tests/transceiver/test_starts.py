"""Each start of a transceiver has a higher epoch and another incarnation than the one before."""

import json
import os
import stat
from datetime import UTC, datetime

import pytest

from pyfastpath.errors import ConfigError
from pyfastpath.transceiver.starts import CLOCK_ZERO_S, EPOCH_MAX, Start, note_start

NOW_S = datetime(2026, 11, 20, tzinfo=UTC).timestamp()


def test_the_clock_counts_quarter_seconds_since_2020():
    assert datetime(2020, 1, 1, tzinfo=UTC).timestamp() == CLOCK_ZERO_S
    first, second = note_start("", NOW_S), note_start("", NOW_S + 0.25)
    assert second == Start(first.epoch + 1, (first.incarnation + 1) % 16)
    assert first.epoch == (NOW_S - CLOCK_ZERO_S) * 4


@pytest.mark.parametrize("wall_s", [0.0, CLOCK_ZERO_S, NOW_S, 5e9])
def test_every_epoch_fits_32_bits_and_is_not_zero(wall_s, tmp_path):
    for state_dir in ("", str(tmp_path)):
        assert 0 < note_start(state_dir, wall_s).epoch <= EPOCH_MAX


def test_a_folder_remembers_also_when_the_clock_steps_back(tmp_path):
    state_dir = str(tmp_path / "made" / "here")
    starts = [note_start(state_dir, wall_s) for wall_s in (NOW_S, NOW_S, NOW_S - 86_400, NOW_S + 5)]
    assert [start.epoch - starts[0].epoch for start in starts] == [0, 1, 2, 20]
    assert [start.incarnation for start in starts] == [0, 1, 2, 3]
    assert stat.S_IMODE((tmp_path / "made" / "here").stat().st_mode) == 0o700


def test_incarnations_come_round(tmp_path):
    found = [note_start(str(tmp_path), NOW_S).incarnation for _ in range(18)]
    assert found == [*range(16), 0, 1]


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", json.dumps({"starts": "x"}).encode()])
def test_what_cannot_be_read_counts_as_nothing_and_the_clock_leads_on(tmp_path, content):
    (tmp_path / "starts.json").write_bytes(content)
    assert note_start(str(tmp_path), NOW_S) == Start(note_start("", NOW_S).epoch, 0)
    assert note_start(str(tmp_path), NOW_S).incarnation == 1


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file") as caught:
        note_start(str(tmp_path / "file"), NOW_S)
    assert caught.value.key == "state_dir"


def test_nothing_half_written_stays(tmp_path):
    note_start(str(tmp_path), NOW_S)
    assert os.listdir(tmp_path) == ["starts.json"]  # noqa: PTH208 - the names are what is asked for
