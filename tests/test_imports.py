"""Imports point one way, as docs/architecture.md says. Read from the source, so that nothing has to be importable."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
OURS = ("lib", "rfcn", "dff", "fgfa", "experiments", "tools", "tests")
METHODS = ("rfcn", "dff", "fgfa")
BASE = ("lib.config", "lib.structures", "lib.boxes", "lib.errors", "lib.files", "lib.version")

# What the modules under each name may import of ours, besides what lies under the same name. The longest name counts.
ALLOWED: dict[str, tuple[str, ...]] = {
    "lib": ("lib.version", "lib.video_detector"),
    "lib.errors": (),
    "lib.version": (),
    "lib.files": ("lib.errors",),
    "lib.config": ("lib.errors", "lib.files"),
    "lib.host_memory": (),
    "lib.command_line": ("lib.errors", "lib.host_memory"),
    "lib.structures": ("lib.errors",),
    "lib.boxes": ("lib.errors",),
    "lib.ops": BASE,
    "lib.models": (*BASE, "lib.ops"),
    "lib.data": BASE,
    "lib.evaluation": BASE,
    "lib.visualize": BASE,
    "lib.report": (*BASE, "lib.evaluation", "lib.data", "lib.visualize"),
    "lib.importing": (*BASE, "lib.data", "lib.evaluation"),
    "lib.synthetic": (*BASE, "lib.data"),
    "lib.pretraining": (*BASE, "lib.data", "lib.synthetic"),
    "lib.checkpoints": (*BASE, "lib.models.mxnet_names"),
    "lib.engine": ("lib",),
    "lib.video_detector": ("lib",),
    **dict.fromkeys(METHODS, ("lib",)),
    "experiments": ("lib", *METHODS),
    "tools": ("lib", *METHODS, "experiments"),
}


def under(module: str, name: str) -> bool:
    """Whether `module` is `name` or lies below it."""
    return module == name or module.startswith(f"{name}.")


def module_name(path: Path, root: Path) -> str:
    parts = path.relative_to(root).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported(tree: ast.AST, module: str, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of what a source imports of ours, also inside functions and by a name in a string."""
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                kept = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*kept, *([base] if base else [])])
            names = [f"{base}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if called in ("import_module", "__import__"):
                names = [str(node.args[0].value)]
        yield from ((node.lineno, name) for name in names if name.split(".")[0] in OURS)


def defines_network(tree: ast.AST) -> bool:
    """Whether a source defines a class derived from `Module`."""
    return any(
        isinstance(node, ast.ClassDef) and any(ast.unparse(base).split(".")[-1] == "Module" for base in node.bases)
        for node in ast.walk(tree)
    )


def violations(root: Path) -> list[str]:
    """`file:line: module imports name` for every import under `root` that the rule forbids."""
    paths = [path for top in OURS if top != "tests" for path in sorted((root / top).rglob("*.py"))]
    trees = {path: ast.parse(path.read_text(encoding="utf-8"), str(path)) for path in paths}
    networks = [
        name
        for path, tree in trees.items()
        if under(name := module_name(path, root), "lib.models") and defines_network(tree)
    ]
    found = []
    for path, tree in trees.items():
        module = module_name(path, root)
        for line, name in imported(tree, module, path.name == "__init__.py"):
            if not _allowed(module, name, networks):
                found.append(f"{path.relative_to(root)}:{line}: {module} imports {name}")
    return found


def _allowed(module: str, name: str, networks: list[str]) -> bool:
    layer = max((key for key in ALLOWED if under(module, key)), key=len)
    if layer == "lib" and module != "lib":
        return False  # a part of lib that the rule does not know
    if layer == "lib.engine" and any(under(name, network) for network in networks):
        return False
    own = () if layer == "lib" else (layer,)
    return any(under(name, target) for target in (*own, *ALLOWED[layer]))


def test_the_tree_follows_the_rule():
    found = violations(ROOT)
    assert not found, "imports against the direction of docs/architecture.md:\n" + "\n".join(found)


def test_every_part_of_lib_is_named_in_the_rule():
    parts = {
        f"lib.{path.stem}"
        for path in (ROOT / "lib").iterdir()
        if path.suffix == ".py" or (path / "__init__.py").is_file()
    }
    assert parts - {"lib.__init__"} <= set(ALLOWED)


NETWORK = "from torch import nn\nclass ResNet(nn.Module):\n    pass\n"


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("lib/config.py", "import lib.data"),
        ("lib/boxes.py", "from lib.structures import Frame"),
        ("lib/errors.py", "from lib import config"),
        ("lib/data/a.py", "from lib.ops import nms"),
        ("lib/data/a.py", "from lib.evaluation import report"),
        ("lib/data/a.py", "from ..visualize import draw"),
        ("lib/data/__init__.py", "from ..visualize import draw"),
        ("lib/evaluation/a.py", "import lib.data.classes"),
        ("lib/visualize/a.py", "from lib import data"),
        ("lib/ops/a.py", "from lib.models.resnet import ResNet"),
        ("lib/models/a.py", "def late():\n    from lib.data import loader"),
        ("lib/models/a.py", "import importlib\nimportlib.import_module('rfcn.model')"),
        ("lib/engine/a.py", "from lib.models.resnet import ResNet"),
        ("lib/engine/a.py", "from lib.models import resnet"),
        ("lib/engine/a.py", "import lib.models.resnet as network"),
        ("lib/engine/a.py", "from rfcn.model import build_rfcn"),
        ("dff/model.py", "from rfcn.model import RFCN"),
        ("fgfa/test.py", "import dff"),
        ("rfcn/a.py", "from experiments.rfcn import rfcn_test"),
        ("rfcn/a.py", "from tools.doctor import main"),
        ("experiments/rfcn/a.py", "from tools import doctor"),
        ("tools/a.py", "from tests.conftest import SHARED"),
        ("lib/new_part/a.py", "from lib.config import Config"),
    ],
)
def test_checker_finds_a_violation(tmp_path, file, source):
    for name, text in (("lib/models/resnet.py", NETWORK), (file, source)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = violations(tmp_path)
    assert len(found) == 1
    assert found[0].startswith(f"{file}:")


@pytest.mark.parametrize(
    ("file", "source"),
    [
        ("lib/config.py", "from lib.errors import InputError\nimport yaml"),
        ("lib/data/a.py", "from lib import boxes\nfrom lib.data.b import c\nfrom . import d"),
        ("lib/models/a.py", "from lib.ops import nms\nfrom lib.models.resnet import ResNet"),
        ("lib/engine/a.py", "from lib.models.postprocess import PostProcess\nfrom lib.data import video"),
        ("dff/model.py", "from lib.models.resnet import ResNet\nfrom dff.key_frames import KeyFrames"),
        ("experiments/dff/a.py", "from dff.test import main\nfrom rfcn.model import build_rfcn"),
        ("tools/a.py", "from fgfa.model import FGFA\nimport library"),
        ("tests/test_a.py", "from tools.doctor import main"),
    ],
)
def test_checker_lets_the_rest_pass(tmp_path, file, source):
    for name, text in (("lib/models/resnet.py", NETWORK), (file, source)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert violations(tmp_path) == []
