"""The arrows between modules, held by reading the imports.

A module imports only from layers below its own. A new module is placed in ``LAYERS`` once, deliberately.
"""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the bottom up. A package named here (formats, report, hardware) is one layer; inside, modules are free.
LAYERS = {
    "ggd": (
        {"_kernels"},
        {"_counting", "_gamma", "_cells", "_storing", "arrays"},
        {"sampling", "goodness"},
        {"distribution", "torch_distribution", "torch_callbacks", "torch_shards"},
        {"histogram", "quantizer", "result", "rivals"},
        {"floats", "grouped", "optimal", "theory", "prior", "rival_fits"},
        {"shrinkage"},
        {"torch_steps"},
        {"estimate", "rates"},
        {"asymmetric"},
        {"families", "reshaping"},
        {"groups"},
        {"survey"},
        {"findings"},
        {"torch_constraint"},
        {"torch_signals"},
        {"torch", "__main__"},
    ),
    "rf8sim": (
        {"_version"},
        {"_base"},
        {"_kernels"},
        {"formats"},
        {"reference"},
        {"codec"},
        {"quantization"},
        {"arithmetic"},
        {"entropy"},
        {"checkpoints"},
        {"compression"},
        {"models"},
        {"studies"},
        {"hardware"},
        {"report"},
        {"torch"},
        {"cli"},
        {"__main__"},
    ),
}
REFERENCE_USERS = {"rf8sim.arithmetic", "rf8sim.hardware"}  # builders of tables that must be exact
TORCH_USERS = {
    "ggd.arrays",
    "ggd.torch",
    "ggd.torch_constraint",
    "ggd.torch_signals",
    "ggd.torch_steps",
    "ggd.torch_shards",
    "ggd.torch_distribution",
    "ggd.torch_callbacks",
    "rf8sim.torch",
    "rf8sim.checkpoints.readers.torch",
}  # the adapters, the reader of PyTorch's files, and what takes a tensor that the caller has
ADAPTER_USERS = {"rf8sim.cli._model_evaluation"}  # the command that runs a model of PyTorch, once it is asked to
LIGHT = ("rf8sim", "ggd", "rf8sim.cli")
HEAVY = ("numba", "scipy", "matplotlib", "ml_dtypes", "torch", "jinja2")
TEXT = {
    ".py",
    ".md",
    ".toml",
    ".yaml",
    ".yml",
    ".json",
    ".csv",
    ".j2",
    ".html",
    ".svg",
    ".v",
    ".sv",
    ".sh",
    "",
}
ABSOLUTE = re.compile(r"(?<![\w.}/])/(?:home|root|Users|work|mnt|workspace)/\w|\b[A-Z]:\\\w")


def modules(root: Path) -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and the path of every module of the two packages."""
    for package in LAYERS:
        for path in sorted((root / package).rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(root: Path, name: str, path: Path) -> Iterator[tuple[int, str]]:
    """Yield the line and the dotted name of everything a module imports, wherever the statement stands."""
    package = name if path.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            source = ".".join([*above, *([node.module] if node.module else [])])
            for alias in node.names:
                inner = root.joinpath(*source.split("."), alias.name)
                submodule = inner.is_dir() or inner.with_suffix(".py").is_file()
                yield node.lineno, f"{source}.{alias.name}" if submodule else source


def layer(name: str) -> int | None:
    """Return a module's layer: None if it has no place, above all for a package's own ``__init__``."""
    package, _, rest = name.partition(".")
    layers = LAYERS[package]
    if not rest:
        return len(layers)
    return next((index for index, names in enumerate(layers) if rest.split(".")[0] in names), None)


def violations(root: Path) -> list[str]:
    """List every import that breaks a rule."""
    found = []
    for name, path in modules(root):
        own = layer(name)
        package, _, inside = name.partition(".")
        where = path.relative_to(root).as_posix()
        if own is None:
            found.append(f"{where}: module has no layer")
            continue
        for line, target in imports(root, name, path):
            other, _, target_inside = target.partition(".")
            at = f"{where}:{line}: {name} imports {target}"
            if other == "numba" and not inside.startswith("_kernels"):
                found.append(f"{at}: numba belongs in _kernels")
            if other == "torch" and name not in TORCH_USERS and name.rpartition(".")[0] not in TORCH_USERS:
                found.append(f"{at}: not a user of PyTorch")
            if other not in LAYERS:
                continue
            if inside.startswith("_kernels"):
                found.append(f"{at}: kernels import nothing of the project")
            if package == "ggd" and other == "rf8sim":
                found.append(f"{at}: ggd stands alone")
            adapter = f"{other}.torch"
            outside = name not in ADAPTER_USERS and not f"{name}.".startswith(f"{adapter}.")
            if f"{target}.".startswith(f"{adapter}.") and outside:
                found.append(f"{at}: nothing imports an adapter")
            oracle = f"{target}.".startswith("rf8sim.reference.")
            if oracle and ".".join(name.split(".")[:2]) not in {"rf8sim.reference", *REFERENCE_USERS}:
                found.append(f"{at}: the oracle is for tests and exact table builders")
            if other == package and target_inside:
                below = layer(target)
                folder, target_folder = (dotted.split(".")[0] for dotted in (inside, target_inside))
                if folder != target_folder and (below is None or below >= own):
                    found.append(f"{at}: not a layer below")
    return found


def test_arrows():
    assert violations(ROOT) == []


def test_every_module_is_read():
    names = dict(modules(ROOT))
    assert {
        "rf8sim",
        "rf8sim.codec.codec",
        "rf8sim._kernels.codec",
        "rf8sim.formats.base",
        "ggd",
        "ggd.distribution",
    } <= set(names)
    seen = {target for name, path in names.items() for _, target in imports(ROOT, name, path)}
    assert {"rf8sim._kernels.plain", "rf8sim.formats", "ggd", "numba"} <= seen


@pytest.mark.parametrize(
    ("module", "source", "rule"),
    [
        ("ggd/distribution.py", "import rf8sim", "ggd stands alone"),
        ("ggd/estimate.py", "def f():\n    from rf8sim.codec.codec import encode", "ggd stands alone"),
        ("rf8sim/_kernels/codec.py", "from ..formats import get_format", "kernels import nothing"),
        ("rf8sim/_kernels/codec.py", "import ggd", "kernels import nothing"),
        ("rf8sim/codec/codec.py", "from ..quantization.scaling import quantize", "not a layer below"),
        ("rf8sim/codec/codec.py", "from ..quantization import scaling", "not a layer below"),
        ("rf8sim/formats/base.py", "from ..codec.codec import encode", "not a layer below"),
        ("rf8sim/formats/base.py", "from .. import codec", "not a layer below"),
        (
            "rf8sim/studies/experiment.py",
            "if TYPE_CHECKING:\n    from ..report.sections import Table",
            "not a layer below",
        ),
        ("rf8sim/quantization/scaling.py", "import rf8sim.report", "not a layer below"),
        ("rf8sim/codec/codec.py", "from ..reference import encode", "the oracle"),
        ("rf8sim/codec/codec.py", "from ..reference.rounding import round_value", "the oracle"),
        ("rf8sim/cli/measure.py", "def f():\n    from .. import torch", "nothing imports an adapter"),
        ("rf8sim/cli/measure.py", "def f():\n    import torch", "not a user of PyTorch"),
        ("rf8sim/codec/codec.py", "from ..torch.fake import fake_quantize", "nothing imports an adapter"),
        ("rf8sim/codec/codec.py", "from numba import njit", "numba belongs in _kernels"),
        ("rf8sim/extra.py", "", "module has no layer"),
    ],
)
def test_a_broken_arrow_is_seen(tmp_path, module, source, rule):
    """Negative control: a small tree that is right, then the same with one wrong import."""
    good = {
        "ggd/__init__.py": "",
        "ggd/_kernels.py": "import numba",
        "ggd/distribution.py": "from ggd import _kernels",
        "ggd/estimate.py": "from .distribution import GGD",
        "rf8sim/__init__.py": "from .codec.codec import encode",
        "rf8sim/_kernels/codec.py": "import numba",
        "rf8sim/formats/__init__.py": "from .base import Format",
        "rf8sim/formats/base.py": "import ggd",
        "rf8sim/reference/__init__.py": "from ..formats import Format",
        "rf8sim/codec/codec.py": "from .._kernels import codec\nfrom ..formats.base import Format",
        "rf8sim/quantization/scaling.py": "from ..codec.codec import encode",
        "rf8sim/studies/experiment.py": "from ..quantization import scaling",
        "rf8sim/report/__init__.py": "from ..studies.experiment import run",
        "rf8sim/torch/__init__.py": "import torch\nfrom ..codec.codec import encode",
        "rf8sim/cli/measure.py": "from .. import report",
    }
    for path, text in good.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert violations(tmp_path) == []
    (tmp_path / module).write_text(f"{good.get(module, '')}\n{source}\n")
    found = violations(tmp_path)
    assert found
    assert all(line.startswith(module) for line in found)
    assert any(rule in line for line in found)


@pytest.mark.parametrize("name", LIGHT)
def test_import_is_light(name):
    code = f"import sys, {name}; print(*sorted({set(HEAVY)!r} & set(sys.modules)))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.split() == []


def texts(root: Path) -> Iterator[Path]:
    """Yield the text files of the checkout, generated and hidden ones left out."""
    for path in sorted(root.rglob("*")):
        parts = path.relative_to(root).parts
        hidden = any(part.startswith(".") and part != ".ci" for part in parts)
        if path.is_file() and not hidden and path.suffix in TEXT and not {"__pycache__", "build", "dist"} & {*parts}:
            yield path


def absolute_paths(root: Path) -> list[str]:
    """List the lines that carry a path of somebody's machine."""
    return [
        f"{path.relative_to(root).as_posix()}:{number}: {match[0]}"
        for path in texts(root)
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if (match := ABSOLUTE.search(line))
    ]


def test_no_absolute_path():
    assert absolute_paths(ROOT) == []


def test_an_absolute_path_is_seen(tmp_path):
    (tmp_path / "good.py").write_text("path = 'https://example.org/home/page'; other = 'a/root/b'\n")
    (tmp_path / "bad.py").write_text("path = '" + "/home" + "/somebody/data'\n")
    assert absolute_paths(tmp_path) == ["bad.py:1: " + "/home" + "/s"]
