"""The player's agenda against a sorted list."""

import heapq
import random

import pytest
from fastpath._testing.playing import Agenda


@pytest.mark.parametrize("spread", [1, 10, 10**12])
def test_the_earliest_comes_first(spread):
    random_ = random.Random(spread)
    agenda, model, free = Agenda(200), [], list(range(200))
    for _ in range(5_000):
        if model and (not free or random_.random() < 0.48):
            due_of = {session: due for due, session in model}
            session = agenda.take()
            assert due_of[session] == model[0][0]
            model.remove((due_of[session], session))
            heapq.heapify(model)
            free.append(session)
        else:
            session, due = free.pop(), random_.randrange(spread)
            agenda.add(due, session)
            heapq.heappush(model, (due, session))
        assert len(agenda) == len(model)
