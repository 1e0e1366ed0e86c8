"""The three crowds really are what they are called: the relay's own counters say so."""

import pytest

from bench import newcomers


def test_every_crowd_is_treated_as_it_must_be(monkeypatch):
    monkeypatch.setattr(newcomers, "CLIENTS", 2000)
    found = newcomers.one_round()
    assert set(found) == set(newcomers.NAMES)
    assert all(ns > 0 for ns in found.values())


def test_a_failure_is_a_reason_not_a_figure(monkeypatch):
    def fail():
        raise RuntimeError("no memory")

    monkeypatch.setattr(newcomers, "one_round", fail)
    left_out = []
    assert newcomers.newcomers(left_out, 1) == []
    assert left_out == ["newcomers: no memory"]


def test_a_crowd_that_was_not_refused_is_no_figure(monkeypatch):
    monkeypatch.setattr(newcomers, "CLIENTS", 500)
    monkeypatch.setattr(newcomers, "FORGED_KEY", newcomers.KEY)
    with pytest.raises(RuntimeError, match="forged: the relay dealt so with 0 of 500"):
        newcomers.one_round()
