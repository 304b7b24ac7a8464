"""README.md, CONTRIBUTING.md and the pages: their links lead somewhere, and their commands exist with these options."""

from __future__ import annotations

import contextlib
import functools
import importlib
import io
import re
import shlex
from pathlib import Path

import pytest

from lib.checkpoints.torchvision_weights import is_torchvision_name
from lib.config import load_config

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    path
    for folder in (ROOT, ROOT / "docs", ROOT / "data", ROOT / "model")
    for path in folder.glob("*.md")
    if path.name != "CHANGELOG.md"  # it speaks of what was
)
_WRITTEN_BY_A_PAGE = ("mot_to_vid.py", "pair/test.py")  # docs/add-a-dataset.md, docs/add-a-method.md


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def _anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", _text(path), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _links():
    for path in PAGES:
        for target in sorted(set(re.findall(r"\]\(([^)\s]+)\)", _text(path)))):
            if not re.match(r"\w+:", target):
                yield path, target


@pytest.mark.parametrize(("page", "target"), list(_links()), ids=lambda value: str(getattr(value, "name", value)))
def test_link_leads_somewhere(page, target):
    name, _, anchor = target.partition("#")
    path = page.parent / name if name else page
    assert path.exists()
    assert not anchor or anchor in _anchors(path)


def _commands():
    """(page, words) of every Python and bash command: of the bash blocks, and between backquotes."""
    for path in PAGES:
        text = _text(path)
        lines: list[str] = []
        for block in re.findall(r"^```(?:bash)?\n(.*?)^```", text, re.M | re.S):
            whole = re.sub(r"<<'END'\n.*?^END$", "", block, flags=re.M | re.S).replace("\\\n", " ")
            lines += whole.splitlines()
        lines += re.findall(r"(?<!`)`((?:python|bash) [^`]+)`", text)
        for line in lines:
            words = shlex.split(line, comments=True) if re.match(r"(python|bash|torchrun) ", line) else []
            if words[:1] == ["torchrun"]:
                words = ["python", *words[next(n for n, word in enumerate(words) if word.endswith(".py")) :]]
            if words and words[1] not in ("-", "-c", "-m", *_WRITTEN_BY_A_PAGE):
                yield path, words


@functools.cache
def _options(script: str) -> set[str]:
    """The options that a script's help lists."""
    module = importlib.import_module(".".join(Path(script).with_suffix("").parts))
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    return set(re.findall(r"(?<![\w-])--?[a-z][a-z-]*", printed.getvalue()))


@pytest.mark.parametrize(("page", "words"), list(_commands()), ids=lambda value: getattr(value, "name", None))
def test_command_exists_with_its_options(page, words):
    script = words[1]
    assert (ROOT / script).is_file()
    if words[0] != "python" or script.startswith("tests/"):
        return
    assert {word for word in words[2:] if re.match(r"--?[a-z]", word)} <= _options(script) | {"--help"}
    values = {
        option: [words[n + 1] for n, word in enumerate(words) if word == option] for option in ("--cfg", "--preset")
    }
    overrides = [word for word in words[2:] if re.match(r"[\w.]+=[^$<…]+$", word) and "=" not in word.split("=", 1)[0]]
    if "--preset" in _options(script):
        cfg = [ROOT / name for name in values["--cfg"] if name != "..."]
        presets = [ROOT / name for name in values["--preset"] if not name.startswith("data/")]
        load_config(cfg[0] if cfg else None, overrides, presets)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page):
    named = set(
        re.findall(r"`((?:configs|tools|rfcn|dff|fgfa|experiments|lib|tests|csrc|docs)/[\w./-]+\.\w+)`", _text(page))
    )
    assert [name for name in sorted(named) if not (ROOT / name).is_file()] == []


def test_the_answer_on_own_classes_begins_from_weights_that_anybody_can_get():
    """Its command ends in an error for who lacks the originals' backbone, unless it names torchvision's."""
    answer = re.split(r"^### ", _text(ROOT / "docs/faq.md"), flags=re.M)[1]
    assert answer.startswith("How do I train on my own classes?")
    (words,) = (words for page, words in _commands() if page.name == "faq.md" and "dataset.NUM_CLASSES=0" in words)
    assert shlex.join(words[1:]) in answer
    presets = [words[n + 1] for n, word in enumerate(words) if word == "--preset"]
    cfg = load_config(ROOT / words[words.index("--cfg") + 1], words[-2:], [ROOT / name for name in presets])
    assert is_torchvision_name(cfg.network.pretrained)
    assert (cfg.network.STYLE, cfg.dataset.image_set) == ("pytorch", "VID_train_15frames")


def test_the_training_page_lists_every_preset():
    table = _text(ROOT / "docs/training.md").partition("## Presets")[2]
    named = set(re.findall(r"`(?:configs/presets/)?(\w+\.yaml)`", table))
    assert named == {path.name for path in (ROOT / "configs/presets").glob("*.yaml")}


def test_commands_and_links_were_found():
    assert {path.name for path, _ in _commands()} >= {"README.md", "faq.md", "weights.md", "troubleshooting.md"}
    assert len(list(_links())) > 50


def _named_files():
    """Files that docs/architecture.md names with their folder, such as `fgfa/window.py`."""
    names = set(
        re.findall(r"`((?:lib|dff|fgfa|rfcn|tests|tools|csrc)/[\w/]+\.\w+)`", _text(ROOT / "docs/architecture.md"))
    )
    assert len(names) > 15
    return names


def test_the_index_lists_every_page():
    linked = set(re.findall(r"\]\((?:\.\./)?([\w./-]+\.md)", _text(ROOT / "docs/index.md")))
    pages = {path.name for path in (ROOT / "docs").glob("*.md")} - {"index.md"}
    assert sorted(pages - linked) == []


def test_architecture_lists_files_that_exist():
    listed = set(re.findall(r"`(\w+\.(?:py|pyx|sh))`", _text(ROOT / "docs/architecture.md")))
    there = {path.name for top in ("lib", "dff", "fgfa", "rfcn", "tools") for path in (ROOT / top).rglob("*.*")}
    assert len(listed) > 100
    assert sorted(listed - there) == []
