"""What packages say of the project in other words than pyproject.toml is the same."""

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
RECIPE = (ROOT / "packaging" / "conda" / "meta.yaml").read_text(encoding="utf-8")
CONDA_NAMES = {"matplotlib": "matplotlib-base"}


def section(name):
    """The list under a key of the recipe."""
    lines = RECIPE.split(f"\n  {name}:\n")[1].splitlines()
    items = []
    for line in lines:
        if not line.startswith("    - "):
            break
        items.append(line.removeprefix("    - "))
    return items


def test_the_recipe_asks_for_what_the_project_asks_for():
    expected = [f"python {PROJECT['requires-python']}"]
    for dependency in PROJECT["dependencies"]:
        name, bound = re.fullmatch(r"([\w-]+)(>=[\d.]+)", dependency).groups()
        expected.append(f"{CONDA_NAMES.get(name, name)} {bound}")
    assert section("run") == expected
    assert section("host")[0] == expected[0]


def test_the_recipe_has_the_version_the_licence_and_the_command():
    assert f'{{% set version = "{PROJECT["version"]}" %}}' in RECIPE
    assert f"license: {PROJECT['license']}" in RECIPE
    assert section("entry_points") == [f"{name} = {target}" for name, target in PROJECT["scripts"].items()]


def test_the_source_distribution_has_the_recipe():
    tables = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["hatch"]["build"]["targets"]
    assert "packaging" in tables["sdist"]["include"]
