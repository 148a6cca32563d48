"""Fail if a test was skipped for want of something that this run should have."""

import sys
import xml.etree.ElementTree as ElementTree

tests = list(ElementTree.parse(sys.argv[1]).iter("testcase"))
skipped = [
    (test.get("classname"), test.get("name"), mark.get("message"))
    for test in tests
    for mark in test.iter("skipped")
]
for where, name, reason in skipped:
    print(f"skipped: {where}::{name}: {reason}")
sys.exit(f"{len(skipped)} of {len(tests)} tests did not run" if skipped or not tests else 0)
