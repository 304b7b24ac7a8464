import re

import cv2
import numpy as np
import pytest
import torch

from lib.data.image_sets import DatasetError
from lib.data.transforms import ImageError
from lib.engine.weights import load_backbone
from lib.errors import InputError
from lib.files import OutputError
from lib.models.resnet import ResNet
from lib.pretraining.crops import Crops, crop_loader, regions_of_folder, split
from tools.pretrain_backbone import main

COLOURS = {"blue": (200, 40, 40), "green": (40, 200, 40)}  # B, G, R
SMALL = ["--width", "4", "--size", "32", "--batch", "4", "--workers", "0", "--device", "cpu", "--lr", "0.01"]


def picture(colour, rng):
    image = np.empty((48, 64, 3), np.uint8)
    image[:] = colour
    return np.clip(image + rng.integers(-30, 30, image.shape), 0, 255).astype(np.uint8)


@pytest.fixture
def image_folder(tmp_path):
    """Ten images of each of two classes that differ in colour."""
    rng = np.random.default_rng(0)
    for name, colour in COLOURS.items():
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(10):
            cv2.imwrite(str(tmp_path / "images" / name / f"{i}.png"), picture(colour, rng))
    return tmp_path / "images"


@pytest.fixture
def detection_set(tmp_path):
    """Twelve stills in the ILSVRC2015 layout: a coloured square on noise, a speck too small to learn from, and
    an object outside the class list."""
    root, rng = tmp_path / "set", np.random.default_rng(1)
    for folder in ("ImageSets", "Data/DET", "Annotations/DET"):
        (root / folder).mkdir(parents=True)
    for i in range(12):
        image = rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)
        name = list(COLOURS)[i % 2]
        image[20:60, 30:70] = COLOURS[name]
        cv2.imwrite(str(root / "Data" / "DET" / f"{i}.JPEG"), image)
        objects = [(name, 30, 20, 69, 59), (name, 1, 1, 6, 6), ("stranger", 10, 10, 50, 50)]
        text = "".join(
            f"<object><name>{what}</name><bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for what, x1, y1, x2, y2 in objects
        )
        xml = f"<annotation><size><width>100</width><height>80</height></size>{text}</annotation>"
        (root / "Annotations" / "DET" / f"{i}.xml").write_text(xml)
    (root / "ImageSets" / "DET_train_30classes.txt").write_text("".join(f"{i} 1\n" for i in range(12)))
    (root / "classes.txt").write_text("\n".join(COLOURS))
    return root


def accuracy_said(output):
    return float(re.search(r"accuracy on held-out images (\S+)", output)[1])


def test_folder_of_images(image_folder, tmp_path, capsys):
    out = tmp_path / "made" / "net.pth"
    arguments = ["--data", str(image_folder), "--out", str(out), "--epochs", "6", *SMALL]
    main(arguments)
    output = capsys.readouterr().out
    assert "18 images to learn from, 2 held out, 2 classes" in output
    assert accuracy_said(output) == 1.0
    log = (out.parent / "net_training" / "train.log").read_text()
    assert len(re.findall(r"validation at epoch \d\.000: accuracy", log)) == 6
    written = out.read_bytes()
    main([*arguments, "--resume"])  # all done: nothing changes
    assert accuracy_said(capsys.readouterr().out) == 1.0
    assert out.read_bytes() == written


def test_objects_of_a_detection_set_become_a_frozen_backbone(detection_set, tmp_path, capsys):
    out = tmp_path / "net.pth"
    arguments = ["--data", str(detection_set), "--image-set", "DET_train_30classes", "--out", str(out)]
    main([*arguments, "--epochs", "1", "--optimizer", "sgd", *SMALL])
    assert "10 images to learn from, 2 held out, 2 classes" in capsys.readouterr().out
    state = torch.load(out, weights_only=True)
    assert not [name for name in state if "classifier" in name or "num_batches" in name]
    assert float((state["bn_conv1.running_var"] - 1).abs().max()) > 0.01  # the statistics were trained
    frozen, trained = ResNet(18, 4, norm="frozen"), ResNet(18, 4, norm="trained")
    load_backbone(frozen, out)
    load_backbone(trained, out)
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(frozen(images), trained.eval()(images), rtol=1e-4, atol=1e-4)


def test_half_precision_rounds_the_weights_and_keeps_the_statistics(image_folder, tmp_path):
    files = [tmp_path / "whole.pth", tmp_path / "half.pth"]
    for out, more in zip(files, ([], ["--half"]), strict=True):
        main(["--data", str(image_folder), "--out", str(out), "--epochs", "1", *more, *SMALL])
    whole, half = (torch.load(file, weights_only=True) for file in files)
    assert whole.keys() == half.keys()
    for name, value in whole.items():
        expected = value if "running" in name else value.half()
        assert half[name].dtype == expected.dtype
        assert torch.equal(half[name], expected)
    load_backbone(ResNet(18, 4), files[1])


@pytest.mark.parametrize("option", ["--epochs=0", "--batch=0", "--width=0", "--size=-3", "--lr=0", "--workers=-1"])
def test_numbers_that_make_no_sense_are_refused(tmp_path, capsys, option):
    with pytest.raises(SystemExit) as stop:
        main(["--data", "nowhere", "--out", str(tmp_path / "net.pth"), *SMALL, option])
    assert stop.value.code == 2
    assert f"argument {option.partition('=')[0]}: must be" in capsys.readouterr().err


def test_where_nothing_can_be_written_nothing_is_begun(image_folder, tmp_path):
    (tmp_path / "net.pth").mkdir()
    with pytest.raises(OutputError, match=r"net\.pth: is a folder"):
        main(["--data", str(image_folder), "--out", str(tmp_path / "net.pth"), *SMALL])
    assert not (tmp_path / "net_training").exists()


@pytest.mark.parametrize("where", ["nowhere", "images/blue"])
def test_a_folder_that_cannot_serve_is_named(image_folder, tmp_path, where):
    with pytest.raises(InputError, match=re.escape(str(tmp_path / where))):
        main(["--data", str(tmp_path / where), "--out", str(tmp_path / "net.pth"), *SMALL])
    assert not (tmp_path / "net.pth").exists()


def test_crops_depend_on_seed_epoch_and_place_only(image_folder):
    regions = regions_of_folder(image_folder)

    def batches(epoch, start=0, workers=0, seed=0):
        crops = Crops(regions, 24, (0.0, 0.0, 0.0), augment=True, seed=seed)
        return list(crop_loader(crops, epoch, 8, start, workers))

    whole, later = batches(1), batches(1, start=1, workers=1)
    assert [len(batch) for batch in whole] == [8, 8, 4]
    assert len(later) == 2
    for a, b in zip(whole[1:], later, strict=True):
        assert torch.equal(a.images, b.images)
        assert torch.equal(a.labels, b.labels)
    for other in (batches(2), batches(1, seed=1)):
        assert not torch.equal(whole[0].images, other[0].images)


def test_videos_are_not_divided(image_folder):
    regions = regions_of_folder(image_folder)
    regions.groups[:] = np.arange(20) // 5
    learnt, held_out = split(regions)
    assert (len(learnt), len(held_out)) == (15, 5)
    assert not set(learnt.groups) & set(held_out.groups)
    regions.groups[:] = 7
    with pytest.raises(DatasetError, match="too few"):
        split(regions)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_named(image_folder, workers):
    (image_folder / "blue" / "3.png").write_bytes(b"not an image")
    crops = Crops(regions_of_folder(image_folder), 24, (0.0, 0.0, 0.0))
    with pytest.raises(ImageError, match=r"^[^\n]*3\.png: not a readable image[^\n]*$"):
        list(crop_loader(crops, 0, 8, workers=workers))


def test_an_unaugmented_crop_is_the_square_around_the_object(tmp_path):
    image = np.zeros((60, 80, 3), np.uint8)
    image[20:40, 30:50] = (10, 20, 30)
    (tmp_path / "a").mkdir()
    cv2.imwrite(str(tmp_path / "a" / "0.png"), image)
    regions = regions_of_folder(tmp_path)
    regions.boxes[:] = (30, 20, 49, 39)  # 20 pixels; the square is 24: two black ones on each side
    found, label = Crops(regions, 24, (1.0, 2.0, 3.0))[0, 0]
    assert label == 0
    expected = np.zeros((24, 24, 3), np.float32)
    expected[2:22, 2:22] = (30, 20, 10)
    np.testing.assert_array_equal(found.numpy(), (expected - (3.0, 2.0, 1.0)).transpose(2, 0, 1))
