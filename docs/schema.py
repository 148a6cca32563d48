"""Write the JSON Schema of ``report.json`` from its declaration; with ``--check`` only compare."""

import json
import sys
from pathlib import Path

from rf8sim.quantization.records import json_schema
from rf8sim.report.sections.contents import Report
from rf8sim.studies.experiment import SCHEMA_VERSION

TARGET = Path(__file__).with_name("report.schema.json")


def text() -> str:
    """Return the schema as the text of its file."""
    schema = json_schema(Report, f"report.json of rf8sim report, version {SCHEMA_VERSION}")
    return json.dumps(schema, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str]) -> int:
    """Write or check the file; return 1 if it differs from the declaration."""
    if arguments not in ([], ["--check"]):
        print("usage: python docs/schema.py [--check]", file=sys.stderr)
        return 2
    if not arguments:
        TARGET.write_text(text(), encoding="utf-8")
    elif TARGET.read_text(encoding="utf-8") != text():
        print(f"{TARGET.name} differs from the declaration: run python docs/schema.py", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
