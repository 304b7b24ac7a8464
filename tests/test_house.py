"""Rules of the house that a machine can check: nothing unsafe is read, names say something, every script has help."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
TOPS = ("lib", "rfcn", "dff", "fgfa", "experiments", "tools", "tests")
SOURCES = [ROOT / "setup.py", *(path for top in TOPS for path in sorted((ROOT / top).rglob("*.py")))]
SHELL_SCRIPTS = sorted((ROOT / "tools").glob("*.sh"))
DRAWERS = re.compile(r"(^|_)(utils?|misc|common|helpers?|stuff)(_|$)")


def _is_script(path: Path) -> bool:
    tops = ("rfcn", "dff", "fgfa", "experiments", "tools")
    return path.relative_to(ROOT).parts[0] in tops and "__main__" in path.read_text(encoding="utf-8")


SCRIPTS = [path for path in SOURCES if _is_script(path)]


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def unsafe(source: str) -> list[str]:
    """What a source does that the house forbids, as `line: what`."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ExceptHandler) and node.type is None:
            found.append(f"{node.lineno}: bare except")
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
            if any(name.split(".")[0] in ("pickle", "cPickle", "dill", "joblib", "cloudpickle") for name in names):
                found.append(f"{node.lineno}: pickle")
        elif isinstance(node, ast.Call):
            found += [f"{node.lineno}: {what}" for what in _unsafe_call(node)]
    return found


_RUNS_TEXT = ("eval", "exec", "os.system", "os.popen", "commands.getoutput", "subprocess.getoutput")
_GUESSED_NAMES = ("tempfile.mktemp", "mktemp", "os.tempnam", "os.tmpnam")
_READS_PICKLES = ("pandas.read_pickle", "pd.read_pickle", "shelve.open", "marshal.load", "marshal.loads")


def _unsafe_call(node: ast.Call) -> list[str]:
    called = ast.unparse(node.func)
    options = {option.arg: ast.unparse(option.value) for option in node.keywords}
    if called in _RUNS_TEXT or called.endswith("subprocess.getstatusoutput"):
        return [f"{called} runs a text"]
    if options.get("shell", "False") != "False":
        return [f"{called} with a shell"]
    if called in _GUESSED_NAMES:
        return [f"{called} gives a name that another process can take first"]
    if called in _READS_PICKLES:
        return [f"{called} unpickles"]
    if called in ("yaml.load", "yaml.load_all", "yaml.unsafe_load", "yaml.full_load"):
        return [called]
    if called in ("torch.load", "load_url") and options.get("weights_only") != "True":
        return ["torch.load without weights_only=True"]
    if called in ("np.load", "numpy.load") and options.get("allow_pickle", "False") != "False":
        return ["np.load with allow_pickle"]
    return []


# Tests that run the Python of a page of the documentation, or of a file of the project
RUN_OUR_OWN_TEXT = ("tests/test_install.py", "tests/test_pages.py", "tests/tools/test_export.py")


@pytest.mark.parametrize("path", SOURCES, ids=_name)
def test_source_is_safe(path):
    found = unsafe(path.read_text(encoding="utf-8"))
    if _name(path) in RUN_OUR_OWN_TEXT:
        found = [one for one in found if not one.endswith("exec runs a text")]
    assert not found, f"{_name(path)}: {found}"


@pytest.mark.parametrize(
    "source",
    [
        "import pickle",
        "from pickle import loads",
        "import torch\ntorch.load('x')",
        "torch.load('x', weights_only=False)",
        "yaml.load(f, Loader=yaml.Loader)",
        "np.load('x', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "subprocess.Popen(command, shell=wanted)",
        "os.system('ls')",
        "os.popen('ls')",
        "subprocess.getoutput('ls')",
        "eval('1')",
        "exec(text)",
        "tempfile.mktemp()",
        "shelve.open('x')",
        "marshal.loads(x)",
        "try:\n    pass\nexcept:\n    pass",
    ],
)
def test_checker_finds_what_is_unsafe(source):
    assert len(unsafe(source)) == 1


def test_checker_lets_the_rest_pass():
    safe = (
        "subprocess.run(['ls'], shell=False)\nmodel.eval()\ntempfile.mkstemp()\nyaml.safe_load(f)\n"
        "torch.load('x', weights_only=True)\nnp.load('x', allow_pickle=False)\nnp.load('y')\n"
    )
    assert unsafe(safe + "try:\n    pass\nexcept OSError:\n    pass\n") == []


def test_no_file_is_a_drawer():
    assert [_name(path) for path in SOURCES if DRAWERS.search(path.stem)] == []
    assert all(DRAWERS.search(name) for name in ("utils", "misc", "common", "helpers", "box_utils", "image_util"))
    assert not any(DRAWERS.search(name) for name in ("commands", "structures", "utilisation"))


def test_there_are_scripts_to_check():
    assert {"tools/doctor.py", "rfcn/test.py"} <= {_name(path) for path in SCRIPTS}
    assert SHELL_SCRIPTS


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_script_answers_help_with_an_example(path, monkeypatch, capsys):
    """In this process: a new one would spend seconds on importing torch for each script."""
    monkeypatch.setattr(sys, "argv", [str(path), "--help"])
    monkeypatch.setattr(sys, "path", list(sys.path))
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(path), run_name="__main__")
    assert end.value.code in (0, None)
    text = capsys.readouterr().out
    assert "usage:" in text
    assert re.search(r"Example\b", text), f"{_name(path)}: --help shows no example"


@pytest.mark.parametrize("path", SHELL_SCRIPTS, ids=_name)
def test_shell_script_parses_and_shows_an_example(path):
    checked = subprocess.run(["bash", "-n", str(path)], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stderr
    assert "Example" in path.read_text(encoding="utf-8")


def _messages(path: Path) -> str:
    """All strings of a source, adjacent ones joined; "..." stands for what an f-string fills in."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".sh":
        return text
    strings = []
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.JoinedStr):
            strings.append("".join(part.value if isinstance(part, ast.Constant) else "..." for part in node.values))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            strings.append(node.value)
    return "\n".join(strings)


def test_troubleshooting_quotes_messages_that_exist():
    """Headings of docs/troubleshooting.md are our own messages, word for word, or say whose they are."""
    sections = re.split(r"^### `", (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.M)[1:]
    ours = "\n".join(map(_messages, [path for path in SOURCES if path.parts[-2] != "tests"] + SHELL_SCRIPTS))
    assert len(sections) >= 10
    for section in sections:
        heading, _, body = section.partition("`\n")
        if not body.lstrip().startswith("From "):
            lost = [part for part in heading.split("…") if part.strip() and part.strip() not in ours]
            assert not lost, f"docs/troubleshooting.md quotes '{heading}', and no source says {lost}"
