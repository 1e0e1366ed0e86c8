"""JUnit XML as a CI system reads it."""

from xml.etree import ElementTree

from pyfastpath.tools.junit import Case, junit


def test_cases_are_counted_and_told():
    text = junit(
        "bench",
        [
            Case("loss>0.001", output="loss is 0", seconds=1.5),
            Case("p99_us>200", failure="p99_us is 312\nsecond line", seconds=2),
            Case("the run", error="the rate was not held"),
        ],
        properties={"commit": "abc"},
    )
    assert text.startswith('<?xml version="1.0" encoding="UTF-8"?>')
    root = ElementTree.fromstring(text)
    suite = root.find("testsuite")
    assert root.tag == "testsuites"
    assert suite is not None
    assert suite.attrib == {
        "name": "bench",
        "tests": "3",
        "failures": "1",
        "errors": "1",
        "skipped": "0",
        "time": "3.500",
    }
    passed, failed, broken = suite.findall("testcase")
    assert passed.attrib == {"classname": "bench", "name": "loss>0.001", "time": "1.500"}
    assert passed.findtext("system-out") == "loss is 0"
    assert passed.find("failure") is None
    failure = failed.find("failure")
    assert failure is not None
    assert failure.attrib == {"message": "p99_us is 312"}
    assert failure.text == "p99_us is 312\nsecond line"
    assert broken.find("error") is not None
    assert suite.find("properties/property").attrib == {"name": "commit", "value": "abc"}


def test_what_xml_cannot_carry_is_replaced():
    text = junit("a<b", [Case('quote " & \x00', failure="bell \x07 \ud800 end", output="ü ✓")])
    case = ElementTree.fromstring(text.encode()).find("testsuite/testcase")
    assert case is not None
    assert case.attrib["classname"] == "a<b"
    assert case.attrib["name"] == 'quote " & \ufffd'
    assert case.findtext("failure") == "bell \ufffd \ufffd end"
    assert case.findtext("system-out") == "ü ✓"


def test_no_case_is_a_file_too():
    suite = ElementTree.fromstring(junit("empty", [])).find("testsuite")
    assert suite is not None
    assert suite.attrib["tests"] == "0"
