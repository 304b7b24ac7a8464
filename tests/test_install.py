"""Installing: what pip is told to fetch, against which torch the extension is built, and docs/install.md."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lib.version import __version__
from tests.test_house import SHELL_SCRIPTS, SOURCES, _messages

ROOT = Path(__file__).resolve().parents[1]
INSTALL = ROOT / "tools" / "install"
PAGE = (ROOT / "docs" / "install.md").read_text(encoding="utf-8")


def load(name: str, monkeypatch):
    monkeypatch.setattr(sys, "path", [str(INSTALL), *sys.path])
    spec = importlib.util.spec_from_file_location(name, INSTALL / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def put(folder: Path, name: str, version: str) -> None:
    """What pip leaves of an installed package."""
    info = folder / f"{name.replace('-', '_')}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")


@pytest.fixture
def backend(monkeypatch, tmp_path):
    """The build backend, installing into the empty folder `tmp_path`."""
    module = load("build_backend", monkeypatch)
    monkeypatch.setattr(module, "target_folders", lambda: [str(tmp_path)])
    return module


def test_torch_is_fetched_only_where_there_is_none(backend, tmp_path):
    hooks = [getattr(backend, f"get_requires_for_build_{kind}") for kind in ("wheel", "editable", "sdist")]
    for hook in hooks:
        assert [name for name in hook() if name.startswith("torch")] == ["torch>=2.11"]
    put(tmp_path, "torch", "2.12.0+cpu")
    for hook in hooks:
        assert [name for name in hook() if name.startswith("torch")] == []
        assert {re.match(r"\w+", name).group() for name in hook()} == {"setuptools", "cython", "ninja"}


def test_the_build_imports_the_installed_torch_after_its_own_packages(backend, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", ["/of/the/build"])
    backend.show_installed_packages()
    assert sys.path == ["/of/the/build"], "there is no torch"
    put(tmp_path, "torch", "2.12.0")
    backend.show_installed_packages()
    backend.show_installed_packages()
    assert sys.path == ["/of/the/build", str(tmp_path)]


def test_an_old_python_is_named(backend, monkeypatch):
    monkeypatch.setattr(backend.sys, "version_info", (3, 9, 18))
    with pytest.raises(SystemExit, match=r"flow-vod needs Python 3\.10 or newer; this is "):
        backend.get_requires_for_build_wheel()


def test_an_old_setuptools_is_named():
    """setuptools' own message is of a conflict in pyproject.toml."""
    build = (
        "import runpy, setuptools; setuptools.__version__ = '65.5.0'; runpy.run_path('setup.py', run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", build], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "setuptools 65.5.0 is too old for pyproject.toml. Run: pip install 'setuptools>=77'\n"


@pytest.mark.parametrize("version", ["2.12.0", "2.12.1+cpu", "2.12.0a0+git12", "2.12.0.dev20260101+cu130"])
def test_the_package_asks_for_the_torch_that_it_was_built_against(version, monkeypatch, tmp_path):
    assert load("dependencies", monkeypatch).requirements(version, [str(tmp_path)])[0] == "torch==2.12.*"


@pytest.mark.parametrize("name", ["opencv-python", "opencv-python-headless", "opencv-contrib-python"])
def test_only_one_opencv_is_asked_for(name, monkeypatch, tmp_path):
    put(tmp_path, name, "5.0.0.93")
    asked = load("dependencies", monkeypatch).requirements("2.12.0", [str(tmp_path)])
    assert [entry for entry in asked if "opencv" in entry] == [f"{name}>=5.0"]


def test_the_package_has_the_version_that_the_code_says():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert f'\nversion = "{__version__}"\n' in text


def versions(path: Path) -> dict[str, str]:
    """Package -> version of every pin that is for the newest Python."""
    pins = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        match = re.match(r"([\w-]+)==([\w.]+)", line)
        if match and "<" not in line:
            pins[match.group(1)] = match.group(2)
    return pins


def number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def test_the_ranges_hold_what_the_tests_run_with(monkeypatch):
    dependencies = load("dependencies", monkeypatch)
    oldest, newest = versions(INSTALL / "oldest.txt"), versions(ROOT / "requirements.txt")
    for entry in (dependencies.TORCH, dependencies.OPENCV, *dependencies.RANGES, *dependencies.BUILD):
        name, bound = entry.split(">=")
        old = oldest.get(name) or oldest[f"{name}-headless"]
        assert number(old)[: len(number(bound))] == number(bound), f"{name}: the bound is what is tested as the oldest"
        assert number(newest[name]) >= number(old)


def test_pyproject_says_the_same(monkeypatch):
    content = pytest.importorskip("tomllib").loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    dependencies = load("dependencies", monkeypatch)
    assert content["build-system"]["requires"] == list(dependencies.BUILD)
    oldest = ".".join(map(str, dependencies.OLDEST_PYTHON))
    assert content["project"]["requires-python"] == f">={oldest}"
    table = dict(re.findall(r"^\| (\w+) \| ([\d.]+) \|", PAGE, re.MULTILINE))
    assert table == {"Python": oldest, "torch": versions(INSTALL / "oldest.txt")["torch"]}


def flags(system: str, sanitizers: tuple[str, ...] = ()) -> dict[str, list]:
    """What setup.py's functions give on another system; the file itself would build."""
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    tree.body = [node for node in tree.body if getattr(node, "name", "") in ("compiler_flags", "openmp_flags")]
    names = {"WINDOWS": system == "win32", "MACOS": system == "darwin", "SANITIZERS": sanitizers}
    exec(compile(tree, "setup.py", "exec"), names)
    return {"compiler": names["compiler_flags"](), "openmp": names["openmp_flags"]()}


def test_every_compiler_gets_flags_that_it_knows():
    assert all(flag.startswith("/") for flag in flags("win32")["compiler"] + flags("win32")["openmp"][0])
    for system in ("linux", "darwin"):
        assert "-ffp-contract=off" in flags(system)["compiler"]
    assert "-O3" in flags("linux")["compiler"]
    assert {"-O1", "-fsanitize=address"} <= set(flags("linux", ("-fsanitize=address",))["compiler"])
    assert flags("linux")["openmp"] == (["-fopenmp"], ["-fopenmp"])
    assert flags("darwin")["openmp"] == ([], [])


def test_every_folder_of_lib_is_a_package():
    """find_packages leaves out folders without __init__.py."""
    folders = {path.parent for path in (ROOT / "lib").rglob("*.py")}
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


def test_the_page_quotes_messages_that_exist():
    """Headings are our own messages, word for word, or say whose they are."""
    sections = re.split(r"^### `", PAGE, flags=re.M)[1:]
    ours = "\n".join(map(_messages, [path for path in SOURCES if path.parts[-2] != "tests"] + SHELL_SCRIPTS))
    assert len(sections) >= 10
    for section in sections:
        heading, _, body = section.partition("`\n")
        if not body.lstrip().startswith("From "):
            lost = [part for part in heading.split("…") if part.strip(" .") and part.strip() not in ours]
            assert not lost, f"docs/install.md quotes '{heading}', and no source says {lost}"


def test_what_the_page_names_is_there():
    for path in re.findall(r"\b(?:tools|tests|docs)/[\w./-]+\.\w+", PAGE):
        assert (ROOT / path).is_file(), path
    headings = {re.sub(r"[^\w -]", "", h).lower().replace(" ", "-") for h in re.findall(r"^#+ (.+)$", PAGE, re.M)}
    assert set(re.findall(r"\]\(#([\w-]+)\)", PAGE)) <= headings
    scripts = {path.stem for path in (ROOT / "rfcn").glob("*.py") if "__main__" in path.read_text(encoding="utf-8")}
    assert scripts == set(re.findall(r"`(\w+)`", PAGE[PAGE.index("`rfcn`, `dff`") :].split(".")[0])) - {
        "rfcn", "dff", "fgfa",
    }  # fmt: skip
