"""Fail if a test was skipped for a reason that is not expected of this run: what is not tested here, nobody tests."""

import sys
import xml.etree.ElementTree as ElementTree

EXPECTED = ("root may write everywhere", "gfloat's source distribution is not available")  # how reasons begin

tests = list(ElementTree.parse(sys.argv[1]).iter("testcase"))
skipped = [
    (test.get("classname"), test.get("name"), mark.get("message"))
    for test in tests
    for mark in test.iter("skipped")
    if mark.get("type") != "pytest.xfail"
]
for where, name, reason in skipped:
    print(f"skipped: {where}::{name}: {reason}")
unexpected = [reason for _, _, reason in skipped if not (reason or "").startswith(EXPECTED)]
sys.exit(f"{len(unexpected)} of {len(tests)} tests did not run" if unexpected or not tests else 0)
