"""What fuzzing kept or once found passes on every build of the data plane, the sanitizers' included."""

import pytest

from tests.fuzz import corpus

NAMES = [name for name in corpus.names() if corpus.load(name).ON_DATA_PLANE]


@pytest.mark.parametrize("name", NAMES)
def test_the_inputs_of_a_target_pass(name: str) -> None:
    target = corpus.load(name)
    for data in corpus.inputs(target):
        target.one_input(data)
