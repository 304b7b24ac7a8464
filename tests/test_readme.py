"""The README's commands: their scripts, configurations and options exist; its links and pictures are there."""

import importlib
import re
import shlex
from pathlib import Path

import pytest

from lib.config import load_config

ROOT = Path(__file__).resolve().parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")


def commands():
    """Every command of the README's bash blocks, split as a shell splits it, comments left out."""
    for block in re.findall(r"```bash\n(.*?)```", TEXT, re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words:
                yield words


PYTHON = [words[1:] for words in commands() if words[0].endswith("python")]


def test_the_two_set_up_commands_come_first():
    assert list(commands())[:2] == [["bash", "tools/quickstart.sh"], ["bash", "tools/run_tests.sh"]]
    for words in commands():
        if words[0] == "bash":
            assert (ROOT / words[1]).is_file()


@pytest.mark.parametrize("words", PYTHON, ids=lambda words: words[0])
def test_options_and_configurations_of_a_command_exist(words, capsys):
    script = Path(words[0])
    assert (ROOT / script).is_file()
    module = importlib.import_module(".".join(script.with_suffix("").parts))
    with pytest.raises(SystemExit) as stop:
        module.main(["--help"])
    assert stop.value.code == 0
    known = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {word for word in words if word.startswith("--")} <= known
    if "--cfg" in words:
        load_config(ROOT / words[words.index("--cfg") + 1], [word for word in words if re.match(r"[\w.]+=", word)])


def test_python_commands_were_found():
    assert len(PYTHON) >= 5


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", TEXT))))
def test_what_the_readme_links_to_is_there(target):
    assert (ROOT / target).exists()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:configs|tools|rfcn|experiments)/[\w./-]+)`", TEXT))))
def test_what_the_readme_names_is_there(path):
    assert (ROOT / path).exists()
