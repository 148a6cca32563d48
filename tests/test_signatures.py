"""No public function has more than eight parameters: what belongs together is one value."""

import ast
import importlib
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MOST = 8

# The list only shrinks: a name that has become short is an error too.
EXCEPTIONS = {
    # The command line: a function has a parameter for each option.
    "rf8sim.cli.compare.compare",
    "rf8sim.cli.compress.plan",
    "rf8sim.cli.compress.prune",
    "rf8sim.cli.compress.tradeoff",
    "rf8sim.cli.compress_model.compress",
    "rf8sim.cli.hardware.vectors",
    "rf8sim.cli.hardware.verify",
    "rf8sim.cli.measure.evaluate",
    "rf8sim.cli.measure.fit",
    "rf8sim.cli.measure.report",
    "rf8sim.cli.schemes.compare_schemes",
    "rf8sim.cli.store.quantize",
}


def modules() -> Iterator[str]:
    """The modules that are public by their names, and whose `__all__` says what is public in them."""
    for package in ("rf8sim", "ggd"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            parts = parts[:-1] if parts[-1] == "__init__" else parts
            if not any(part.startswith("_") for part in parts) and path.stem != "__main__":
                yield ".".join(parts)


def public_functions(module: str) -> Iterator[tuple[str, inspect.Signature]]:
    """The functions named in a module's `__all__`, and the methods of the classes named there, by where they are."""
    loaded = importlib.import_module(module)
    for name in getattr(loaded, "__all__", ()):
        thing = getattr(loaded, name)
        if inspect.isfunction(thing):
            yield f"{thing.__module__}.{name}", inspect.signature(thing)
        elif inspect.isclass(thing) and thing.__module__.split(".")[0] in ("rf8sim", "ggd"):
            for method, function in vars(thing).items():
                if inspect.isfunction(function) and not method.startswith("_"):
                    yield f"{thing.__module__}.{name}.{method}", inspect.signature(function)


def test_no_public_function_has_more_than_eight_parameters() -> None:
    pytest.importorskip("torch")
    counts = {
        name: len([parameter for parameter in signature.parameters if parameter != "self"])
        for module in modules()
        for name, signature in public_functions(module)
    }
    assert len(counts) > 300, "the walk has missed most of the library"
    long = {name for name, count in counts.items() if count > MOST}
    assert not {f"{name}: {counts[name]} parameters" for name in long - EXCEPTIONS}
    assert not EXCEPTIONS - long, "these are short now, or gone: take them off the list"


def test_no_function_of_the_library_has_more_parameters_than_its_kernels() -> None:
    """Private functions too, kernels excepted, which take arrays and numbers only."""
    excepted = {name.rpartition(".")[2] for name in EXCEPTIONS}
    for package in ("rf8sim", "ggd"):
        for path in sorted((ROOT / package).rglob("*.py")):
            if "_kernels" in path.relative_to(ROOT).as_posix():
                continue
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.FunctionDef) and node.name not in {*excepted, "__init__"}:
                    names = node.args.posonlyargs + node.args.args + node.args.kwonlyargs
                    count = sum(argument.arg not in ("self", "cls") for argument in names)
                    assert count <= MOST, f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {count} parameters"
