"""A drain by the clock: when it refuses, when it is over, and which of two orders holds."""

from pyfastpath.relay.draining import Drain, begun, ending


def test_a_drain_without_notice_refuses_at_once_and_waits_for_ever() -> None:
    drain = begun(None, 100.0)
    assert drain == Drain(100.0)
    assert drain.refuses(100.0)
    assert drain.left_s(1e9) is None
    assert not drain.is_over(1e9, live=1)
    assert drain.is_done(100.0, live=0)
    assert drain.is_over(100.0, live=0)


def test_new_flows_may_come_until_the_notice_is_over() -> None:
    drain = begun(None, 100.0, notice_s=5.0)
    assert not drain.refuses(104.9)
    assert not drain.is_done(104.9, live=0)
    assert drain.refuses(105.0)
    assert drain.is_done(105.0, live=0)


def test_at_the_deadline_it_is_over_but_not_done() -> None:
    drain = begun(None, 100.0, wait_s=30.0)
    assert drain.left_s(110.0) == 20.0
    assert not drain.is_over(129.9, live=1)
    assert drain.is_over(130.0, live=1)
    assert not drain.is_done(130.0, live=1)
    assert drain.left_s(140.0) == 0.0


def test_a_second_order_takes_no_refusal_back_and_sets_the_deadline_anew() -> None:
    first = begun(None, 100.0, wait_s=30.0)
    assert begun(first, 110.0, notice_s=60.0, wait_s=60.0) == Drain(100.0, 170.0)
    assert begun(first, 110.0) == Drain(100.0)
    announced = begun(None, 100.0, notice_s=60.0)
    assert begun(announced, 110.0, notice_s=5.0) == Drain(115.0)


def test_who_was_told_to_end_refuses_now_and_keeps_the_earlier_deadline() -> None:
    assert ending(None, 100.0, 30.0) == Drain(100.0, 130.0, ends=True)
    assert ending(begun(None, 100.0, notice_s=60.0), 100.0, 30.0) == Drain(100.0, 130.0, ends=True)
    assert ending(begun(None, 100.0, wait_s=10.0), 105.0, 30.0) == Drain(105.0, 110.0, ends=True)
    assert ending(begun(None, 100.0, wait_s=600.0), 105.0, 30.0) == Drain(105.0, 135.0, ends=True)


def test_an_operators_order_does_not_spare_a_process_that_has_to_end() -> None:
    told = ending(None, 100.0, 30.0)
    assert begun(told, 110.0, wait_s=600.0) == Drain(100.0, 710.0, ends=True)
    assert begun(told, 110.0) == told
