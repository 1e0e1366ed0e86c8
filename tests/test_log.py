"""One line a record, ISO-8601, JSON on request, reopened on SIGHUP."""

import json
import logging
from datetime import datetime

import pytest

from pyfastpath import log
from pyfastpath.errors import ConfigError
from pyfastpath.types import Secret


@pytest.fixture
def root_logger():
    """pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    for handler in handlers:
        root.removeHandler(handler)
    yield root
    for handler in root.handlers[:]:
        root.removeHandler(handler)
        handler.close()
    for handler in handlers:
        root.addHandler(handler)
    root.setLevel(level)


def record_lines(tmp_path, form, emit):
    file = tmp_path / "relay.log"
    log.setup("debug", form, str(file))
    emit(logging.getLogger("pyfastpath.test"))
    return file.read_text().splitlines()


def emit_all(logger):
    logger.info("two\nlines", extra={"shard": 3, "key": Secret(b"hunter2-hunter2")})
    try:
        int("broken\r\nwall")
    except ValueError:
        logger.exception("caught")


def test_text_is_one_iso_8601_line_a_record(tmp_path, root_logger):
    lines = record_lines(tmp_path, "text", emit_all)
    assert len(lines) == 2
    for line in lines:
        time = line.split(" ", maxsplit=1)[0]
        assert datetime.fromisoformat(time).utcoffset().total_seconds() == 0
    assert "info pyfastpath.test: two\\nlines shard=3 key=Secret(redacted)" in lines[0]
    assert "ValueError" in lines[1]


def test_json_is_one_object_a_record(tmp_path, root_logger):
    first, second = map(json.loads, record_lines(tmp_path, "json", emit_all))
    assert first["message"] == "two\nlines"
    assert (first["level"], first["logger"], first["shard"]) == ("info", "pyfastpath.test", 3)
    assert first["key"] == "Secret(redacted)"
    assert datetime.fromisoformat(first["time"])
    assert "ValueError" in second["exception"]


def test_reopen_goes_on_in_a_new_file_after_rotation(tmp_path, root_logger):
    file = tmp_path / "relay.log"
    handler = log.setup("info", "text", str(file))
    logging.getLogger("a").info("before")
    file.rename(tmp_path / "relay.log.1")
    logging.getLogger("a").info("still the old one")
    handler.reopen()
    logging.getLogger("a").info("after")
    assert "after" in file.read_text()
    assert "before" not in file.read_text()
    assert "still the old one" in (tmp_path / "relay.log.1").read_text()


def test_a_log_that_cannot_be_reopened_goes_on_where_it_was(tmp_path, root_logger):
    folder = tmp_path / "log"
    folder.mkdir()
    handler = log.setup("info", "text", str(folder / "relay.log"))
    folder.rename(tmp_path / "moved")
    handler.reopen()
    logging.getLogger("a").info("after")
    said = (tmp_path / "moved" / "relay.log").read_text()
    assert "not reopened: log_file: cannot open" in said
    assert "after" in said


def test_a_full_disk_costs_records_and_the_next_one_says_how_many(tmp_path, root_logger, capsys):
    file = tmp_path / "relay.log"
    file.symlink_to("/dev/full")
    handler = log.setup("info", "text", str(file))
    for _ in range(3):
        logging.getLogger("a").info("lost")
    file.unlink()
    handler.reopen()
    logging.getLogger("a").info("after")
    first, second = file.read_text().splitlines()
    assert first.endswith("after")
    assert "the disk did not take 3 records" in second
    assert capsys.readouterr().err == ""


def test_a_log_that_cannot_be_opened_is_a_mistake_of_the_configuration(tmp_path, root_logger):
    with pytest.raises(ConfigError, match=r"log_file: cannot open .*: Is a directory\. Name a file"):
        log.setup("info", "text", str(tmp_path))


def test_the_level_changes_while_running(tmp_path, root_logger):
    file = tmp_path / "relay.log"
    log.setup("warning", "text", str(file))
    logging.getLogger("a").info("hidden")
    log.set_level("info")
    logging.getLogger("a").info("shown")
    with pytest.raises(KeyError):
        log.set_level("loud")
    assert file.read_text().count("\n") == 1


def test_setup_twice_logs_once(tmp_path, root_logger):
    file = tmp_path / "relay.log"
    log.setup("info", "text", str(file))
    log.setup("info", "text", str(file))
    logging.getLogger("a").info("once")
    assert file.read_text().count("once") == 1
