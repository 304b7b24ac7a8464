"""What a run is: its configuration, classes, folders and weights, from a file, a checkpoint or both."""

from __future__ import annotations

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from fgfa.method import references as fgfa_references
from lib.config import ConfigError, load_config
from lib.data.classes import IMAGENET_VID, ClassListError
from lib.data.image_sets import DatasetError
from lib.engine.checkpoint import CheckpointError, CheckpointFolder
from lib.engine.run import open_run
from lib.engine.testing import folder_suffix
from lib.files import FolderInUseError
from lib.models.inference_form import prepare_for_inference
from tests.models.small import small_rfcn
from tests.models.small_checkpoints import (
    CLASSES,
    METHODS,
    identity_of,
    small_method_config,
    write_checkpoint,
    write_old_checkpoint,
)

CPU = torch.device("cpu")
RFCN = METHODS["rfcn"]


@pytest.fixture
def cfg_file(tmp_path):
    """The small network's configuration, as far as it differs from the defaults, as YAML."""
    file = tmp_path / "small_file.yaml"
    file.write_text(
        f"output_path: {tmp_path / 'out'}\n"
        "SCALES: [[96, 128]]\n"
        "network: {DEPTH: 18, WIDTH: 16, FEAT_DIM: 32, ANCHOR_RATIOS: [0.5, 1], ANCHOR_SCALES: [2, 4]}\n"
        "dataset: {image_set: my_training, test_image_set: my_test}\n"
        "TRAIN: {end_epoch: 3, model_prefix: mine}\n"
    )
    return str(file)


def class_file(tmp_path, text="n1 cat\nn2 dog\nn3 horse\nn4 cow\nn5 bird\n"):
    file = tmp_path / "classes.txt"
    file.write_text(text)
    return f"dataset.CLASSES={file}"


def test_folders_are_named_as_in_the_originals(cfg_file, tmp_path):
    run = open_run(RFCN, CPU, cfg_file, needs_weights=False)
    assert run.train_folder == tmp_path / "out" / "small_file" / "my_training"
    assert run.test_folder() == tmp_path / "out" / "small_file" / "my_test"
    assert run.checkpoints.of_epoch(2) == run.train_folder / "mine-0002.pth"
    assert run.weights is None


def test_what_is_special_about_a_test_has_its_own_folder(cfg_file):
    """So that none replaces the results of another, or what an interrupted one has done."""
    special = [{}, {"flow": "zero"}, {"flow": "true"}, {"videos": 2}, {"videos": 3}, {"flow": "zero", "videos": 2}]
    runs = [open_run(RFCN, CPU, cfg_file, None, more, None, False) for more in ([], ["TEST.SEQ_NMS=true"])]
    names = [run.test_folder(folder_suffix(**options)).name for run in runs for options in special]
    assert names[0] == "my_test"
    assert len(set(names)) == len(names)


def test_a_checkpoint_that_says_what_it_is_needs_no_configuration(tmp_path):
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, overrides=["TEST.NMS=0.45"], weights=str(path))
    assert (run.weights, run.name, run.trained_classes()) == (path, "small", CLASSES)
    expected = small_method_config("rfcn")
    expected.TEST.NMS = 0.45
    assert run.cfg == expected
    model = run.load_model(run.trained_classes())
    assert not model.training
    expected = prepare_for_inference(small_rfcn()).state_dict()
    assert list(model.state_dict()) == list(expected)
    assert all(torch.equal(value, expected[name]) for name, value in model.state_dict().items())


def test_presets_change_what_a_checkpoint_says(tmp_path):
    (tmp_path / "fast.yaml").write_text("TEST: {max_per_image: 5}")
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, presets=[str(tmp_path / "fast.yaml")], weights=str(path))
    assert (run.name, run.cfg.TEST.max_per_image, run.cfg.network.WIDTH) == ("small_fast", 5, 16)
    unnamed = write_checkpoint(tmp_path / "my weights.pth", "rfcn", name="")
    assert open_run(RFCN, CPU, weights=str(unnamed)).name == "my weights"


def test_a_configuration_file_takes_the_place_of_the_checkpoints(cfg_file, tmp_path):
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, cfg_file, weights=str(path))
    assert (run.name, run.cfg.dataset.test_image_set) == ("small_file", "my_test")
    assert run.trained_classes() == CLASSES, "the weights still know what they were trained on"


def test_a_key_of_a_later_version_names_the_checkpoint(tmp_path):
    identity = identity_of("rfcn")
    identity.config["TRAIN"]["FROM_THE_FUTURE"] = 1
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    content = torch.load(path, weights_only=True) | identity.to_content()
    torch.save(content, path)
    with pytest.raises(ConfigError, match=r"configuration in .*a\.pth: unknown key 'TRAIN.FROM_THE_FUTURE'"):
        open_run(RFCN, CPU, weights=str(path))


def test_an_older_checkpoint_needs_a_configuration(cfg_file, tmp_path):
    path = write_old_checkpoint(tmp_path / "old.pth", "rfcn")
    with pytest.raises(ConfigError, match=r"old\.pth: no configuration; it does not say which .*: give --cfg"):
        open_run(RFCN, CPU, weights=str(path))
    run = open_run(RFCN, CPU, cfg_file, overrides=[class_file(tmp_path)], weights=str(path))
    assert run.identity is None
    assert run.trained_classes() == CLASSES
    run.load_model(run.trained_classes())


def test_no_configuration_and_no_weights_at_all(tmp_path):
    with pytest.raises(ConfigError, match="command line: no configuration; give one with --cfg"):
        open_run(RFCN, CPU)
    with pytest.raises(CheckpointError, match=r"none\.pth: there is no such file; give a checkpoint with --weights"):
        open_run(RFCN, CPU, weights=str(tmp_path / "none.pth"))


@pytest.mark.parametrize("with_cfg", [True, False])
def test_another_methods_checkpoint_is_refused(cfg_file, tmp_path, with_cfg):
    path = write_checkpoint(tmp_path / "a.pth", "dff")
    with pytest.raises(CheckpointError, match=r"a\.pth: holds a detector of method 'dff', not 'rfcn'; .* in dff/"):
        open_run(RFCN, CPU, cfg_file if with_cfg else None, weights=str(path))


def test_the_checkpoint_of_the_last_epoch_is_tested_unless_another_is_named(cfg_file, tmp_path):
    folder = CheckpointFolder(tmp_path / "out" / "small_file" / "my_training", "mine")
    with pytest.raises(CheckpointError, match=r"mine-0003\.pth: there is no such file; train first, or .* --weights"):
        open_run(RFCN, CPU, cfg_file)
    for epoch in (2, 3, 5):
        write_checkpoint(folder.of_epoch(epoch), "rfcn")
    run = open_run(RFCN, CPU, cfg_file)
    assert run.weights == folder.of_epoch(3), "TRAIN.end_epoch"
    assert run.identity.method == "rfcn"
    assert open_run(RFCN, CPU, cfg_file, overrides=["TRAIN.end_epoch=5"]).weights == folder.of_epoch(5)
    assert open_run(RFCN, CPU, cfg_file, overrides=["TEST.test_epoch=2"]).weights == folder.of_epoch(2)


def test_the_originals_weights_are_found_too(cfg_file, tmp_path):
    folder = CheckpointFolder(tmp_path / "out" / "small_file" / "my_training", "mine")
    folder.folder.mkdir(parents=True)
    (folder.folder / "mine-0003.params").write_bytes(b"as far as open_run is concerned")
    with pytest.raises(CheckpointError):
        open_run(RFCN, CPU, cfg_file)  # it is found, and it is damaged
    write_checkpoint(folder.of_epoch(3), "rfcn")
    assert open_run(RFCN, CPU, cfg_file).weights.suffix == ".pth", "our own, where both are there"


@pytest.mark.parametrize(
    ("classes", "said"),
    [
        ("n1 cat\nn2 dog\nn3 sheep\nn4 cow\nn5 bird\n", r"class 3 is 'horse' .* in .*a\.pth, and 'sheep' .* in .*txt"),
        ("n1 cat\nn2 dog\nn9 horse\nn4 cow\nn5 bird\n", r"class 3 is 'horse' \(annotated as 'n3'\).*annotated as 'n9'"),
        ("n2 dog\nn1 cat\nn3 horse\nn4 cow\nn5 bird\n", r"class 1 is 'cat' .*, and 'dog'"),
        ("n1 cat\nn2 dog\nn3 horse\n", r"class 4 is 'cow' .*, and no such class"),
        ("n1 cat\nn2 dog\nn3 horse\nn4 cow\nn5 bird\nn6 fox\n", r"class 6 is no such class in .*, and 'fox'"),
    ],
)
def test_other_classes_than_the_weights_were_trained_on_are_refused(tmp_path, classes, said):
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, overrides=[class_file(tmp_path, classes)], weights=str(path))
    with pytest.raises(ClassListError, match=said):
        run.dataset_classes()
    assert run.trained_classes() == CLASSES


def test_the_same_classes_are_no_problem(tmp_path):
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, overrides=[class_file(tmp_path)], weights=str(path))
    assert run.dataset_classes() == CLASSES


@pytest.mark.parametrize("with_identity", [True, False])
def test_a_data_set_that_is_missing_is_not_called_one_with_other_classes(cfg_file, tmp_path, with_identity):
    where = [f"dataset.dataset_path={tmp_path / 'nowhere'}", "dataset.NUM_CLASSES=6"]
    weights = str(write_checkpoint(tmp_path / "a.pth", "rfcn")) if with_identity else None
    run = open_run(RFCN, CPU, cfg_file, overrides=where, weights=weights, needs_weights=False)
    with pytest.raises(DatasetError, match=r"^there is no folder '.*nowhere'; correct dataset\.dataset_path"):
        run.dataset_classes()
    (tmp_path / "nowhere").mkdir()
    with pytest.raises(DatasetError, match=r"is '.*nowhere' the folder with Data.*correct dataset\.dataset_path"):
        run.dataset_classes()
    run = open_run(RFCN, CPU, cfg_file, overrides=where[:1], weights=weights, needs_weights=False)
    assert run.trained_classes() == (CLASSES if with_identity else IMAGENET_VID), "which needs no data"


def test_a_number_of_classes_is_checked(cfg_file, tmp_path):
    def run(number):
        overrides = [class_file(tmp_path), f"dataset.NUM_CLASSES={number}"]
        return open_run(RFCN, CPU, cfg_file, overrides=overrides, needs_weights=False)

    assert run(6).dataset_classes() == run(0).dataset_classes() == CLASSES
    with pytest.raises(ConfigError, match="'dataset.NUM_CLASSES' is 31, but the class list has 5 classes"):
        run(31).dataset_classes()


def test_random_weights_follow_the_seed(cfg_file, tmp_path):
    runs = [open_run(RFCN, CPU, cfg_file, overrides=[f"TRAIN.SEED={seed}"], needs_weights=False) for seed in (0, 0, 1)]
    states = [run.load_model(CLASSES).state_dict() for run in runs]
    name = "features.feat_conv_3x3.conv.weight"
    assert torch.equal(states[0][name], states[1][name])
    assert not torch.equal(states[0][name], states[2][name])


def test_a_checkpoint_of_another_size_is_refused(cfg_file, tmp_path):
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    run = open_run(RFCN, CPU, cfg_file, overrides=["network.WIDTH=8"], weights=str(path))
    with pytest.raises(CheckpointError, match=r"a\.pth: does not fit this model"):
        run.load_model(CLASSES)


def test_a_run_says_what_its_checkpoints_are(cfg_file):
    run = open_run(RFCN, CPU, cfg_file, overrides=["TRAIN.lr=0.5"], needs_weights=False)
    identity = run.identify(CLASSES)
    assert (identity.method, identity.name, identity.classes) == ("rfcn", "small_file", CLASSES)
    assert identity.config["TRAIN"]["lr"] == 0.5
    assert load_config(None, base=identity.config) == run.cfg


def test_one_run_at_a_time_and_a_log_in_its_folder(cfg_file):
    run = open_run(RFCN, CPU, cfg_file, needs_weights=False)
    for opened, other, log in ((run.training, run.testing, "train.log"), (run.testing, run.training, "test.log")):
        with opened() as folder:
            logging.getLogger("lib.test").info("a line for %s", log)
            with pytest.raises(FolderInUseError), opened():
                pass
            with other():
                pass
        assert f"a line for {log}" in (folder / log).read_text()
    with run.testing("_zero_flow") as special, run.testing() as plain:
        assert special != plain


def test_a_training_and_a_test_of_one_set_do_not_share_a_folder_by_mistake(cfg_file):
    """Where both sets are the same, the folder is too, and only one of them runs at a time."""
    run = open_run(RFCN, CPU, cfg_file, overrides=["dataset.test_image_set=my_training"], needs_weights=False)
    with run.training(), pytest.raises(FolderInUseError), run.testing():
        pass


def test_two_neighbours_need_two_offsets():
    with pytest.raises(ConfigError, match="MAX_OFFSET.*both -3"):
        fgfa_references(load_config(None, ["TRAIN.MIN_OFFSET=-3", "TRAIN.MAX_OFFSET=-3"]))
    choose = fgfa_references(load_config(None, ["TEST.KEY_FRAME_INTERVAL=1", "TEST.CAUSAL=true"]))
    assert sorted(choose(5, 10, np.random.RandomState(0))) == [4, 5]


def test_a_method_of_its_own(tmp_path):
    """Whoever adds a method gives its name and how it is built, nothing is registered."""
    mine = replace(RFCN, name="mine")
    path = write_checkpoint(tmp_path / "a.pth", "rfcn")
    content = torch.load(path, weights_only=True) | {"method": "mine"}
    torch.save(content, path)
    assert open_run(mine, CPU, weights=str(path)).identity.method == "mine"
    with pytest.raises(CheckpointError, match="method 'mine', not 'rfcn'"):
        open_run(RFCN, CPU, weights=str(path))
