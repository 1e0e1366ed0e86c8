"""What of the model the data plane's decision never meets: it is settled by arrival and by the trunk."""

from pyfastpath.relay.decision import RelayModel
from pyfastpath.relay.rules import Backend, Route, Tables
from pyfastpath.types import Endpoint
from pyfastpath.wire import stun
from pyfastpath.wire.trunk import FlowClosed, Ping, Record, build_control

CLIENT = Endpoint.parse("198.51.100.1:1000")
REQUEST = stun.build_binding_request(bytes(12), b"alice:client")


def model() -> RelayModel:
    tables = Tables(
        routes={b"alice": Route(0, 9999)}, backends={0: Backend(Endpoint.parse("192.0.2.1:5000"), "trunk")}
    )
    return RelayModel(tables=tables, ingresses=[1])


def test_an_ingress_that_is_not_configured() -> None:
    relay = model()
    assert relay.from_client(0, CLIENT, 0, REQUEST, 1000, 0).reason == "unknown_ingress"
    assert relay.from_client(0, CLIENT, 1, REQUEST, 1000, 0).action == "forward"
    record = Record(b"\x80", CLIENT, ingress=0, confirmed=True)
    assert relay.from_trunk_record(0, 0, record, 1000).reason == "unknown_ingress"


def test_a_link_without_a_key_outside_loopback_teaches_nothing() -> None:
    record = Record(b"\x80", CLIENT, ingress=1, confirmed=True)
    assert model().from_trunk_record(0, 0, record, 1000, trusted=False).reason == "unknown_flow"
    assert model().from_trunk_record(0, 0, record, 1000, trusted=True).action == "forward"


def test_control_records_are_for_the_relay_itself() -> None:
    relay = model()
    taught = Record(b"\x80", CLIENT, ingress=1, confirmed=True)
    relay.from_trunk_record(0, 0, taught, 1000)
    for control in (Ping(bytes(8)), FlowClosed()):
        record = Record(build_control(control), CLIENT, ingress=1, control=True)
        assert relay.from_client(0, CLIENT, 1, b"\x80", 1000, 0).action == "forward"
        assert relay.from_trunk_record(0, 0, record, 1000).action == "punt"
    assert relay.from_client(0, CLIENT, 1, b"\x80", 1000, 0).reason == "unknown_flow"
