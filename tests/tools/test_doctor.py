"""The doctor's findings on made-up environments."""

from __future__ import annotations

import sys

import pytest

from tools import doctor


def _levels(findings):
    return [(finding.level, finding.subject) for finding in findings]


def test_pins_are_those_of_this_python(tmp_path, monkeypatch):
    path = tmp_path / "requirements.txt"
    path.write_text('# why\na==1.0\nb==2.0; python_version >= "3.11"\nb==1.5; python_version < "3.11"\nc-d==3\n')
    monkeypatch.setattr(sys, "version_info", (3, 10, 4, "final", 0))
    assert list(doctor.pinned(path)) == [("a", "1.0"), ("b", "1.5"), ("c-d", "3")]
    monkeypatch.setattr(sys, "version_info", (3, 12, 0, "final", 0))
    assert list(doctor.pinned(path)) == [("a", "1.0"), ("b", "2.0"), ("c-d", "3")]


def test_packages(tmp_path, monkeypatch):
    path = tmp_path / "requirements.txt"
    path.write_text("here==1.0\nother==2.0\nabsent==3.0\n")
    versions = {"here": "1.0+cpu", "other": "2.5"}

    def version(name):
        if name not in versions:
            raise doctor.metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(doctor.metadata, "version", version)
    found = list(doctor.check_packages(path))
    assert _levels(found) == [("note", "other"), ("fault", "packages"), ("ok", "packages")]
    assert "2.5; the tests ran with 2.0" in found[0].text
    assert "absent" in found[1].text
    assert found[2].text.startswith("1 as pinned")


def test_old_python(monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 8, 1, "final", 0))
    assert _levels(doctor.check_python()) == [("fault", "Python")]


def test_missing_extension_names_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "lib.ops", None)  # importing it raises ImportError now
    (finding,) = doctor.check_extension()
    assert finding.level == "fault"
    assert "pip install --no-build-isolation -e ." in finding.cure


def test_configured_paths(tmp_path):
    overrides = [f"dataset.dataset_path={tmp_path}", f"network.pretrained={tmp_path / 'weights.pth'}"]
    found = list(doctor.check_configured(None, overrides))
    assert _levels(found) == [("note", "data set"), ("note", "backbone weights")]
    assert all(finding.cure for finding in found)
    for name in ("Annotations", "Data", "ImageSets"):
        (tmp_path / name).mkdir()
    (tmp_path / "weights.pth").touch()
    (tmp_path / "ImageSets" / "VID_val_videos.txt").write_text("val/a 1 0 12\n")
    overrides.append("dataset.image_set=DET_train_30classes")
    assert _levels(doctor.check_configured(None, overrides)) == [
        ("ok", "data set"),
        ("note", "image set DET_train_30classes"),
        ("ok", "image set VID_val_videos"),
        ("ok", "backbone weights"),
    ]


def test_bad_configuration_is_a_finding():
    (finding,) = doctor.check_configured("absent.yaml", [])
    assert finding.level == "fault"
    assert "absent.yaml" in finding.text


def test_check_that_cannot_run_does_not_stop_the_others(monkeypatch, capsys):
    def needs_a_package():
        raise ImportError("No module named 'cv2'")
        yield

    monkeypatch.setattr(doctor, "check_video", needs_a_package)
    monkeypatch.setattr(doctor, "check_torch", lambda: iter(()))
    assert doctor.main([]) == 1
    printed = capsys.readouterr().out
    assert "fault video: cannot be checked: No module named 'cv2'" in printed
    assert "data set" in printed


def test_missing_system_library_names_its_package(monkeypatch):
    def needs_a_library():
        raise ImportError("libGL.so.1: cannot open shared object file: No such file or directory")
        yield

    monkeypatch.setattr(doctor, "check_video", needs_a_library)
    (finding,) = (finding for finding in doctor.findings(None, []) if finding.subject == "video")
    assert "apt install libgl1" in finding.cure


@pytest.mark.parametrize("name", ["mp4", "webm"])
def test_video_is_tried_out(name):
    assert ("ok", True) in [(level, subject.endswith(name)) for level, subject in _levels(doctor.check_video())]
