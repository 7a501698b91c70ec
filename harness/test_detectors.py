"""torchvision's own Faster R-CNN and Mask R-CNN on an exported encoder, on the imagery that trees and buildings are labelled in."""

import csv
import json
import math
import os
import pathlib

from conftest import FOLDERS
import numpy as np
import pytest
import rasterio
import rasterio.features
import torch
from torchvision.models.detection.faster_rcnn import FasterRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.mask_rcnn import MaskRCNN
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import box_iou

from rsfm_jax.torch.folders import open_encoder
from rsfm_jax.torch.images import ImageEncoder
from rsfm_jax.torch.torchvision import PhysicalTransform, detector
from rsfm_jax.torch.tuning import freeze

IMAGERY = pathlib.Path(os.environ.get("RSFM_SHARED_DATA", pathlib.Path(__file__).resolve().parents[2] / "shared" / "data"))
FOLDER = FOLDERS / "detectors-rsfm"
CROWNS, ROOFS = (16, 32, 64, 96, 128), (24, 48, 96, 128, 192)  # anchors
pytestmark = pytest.mark.skipif(not FOLDER.is_dir() or not IMAGERY.is_dir(), reason=f"no {FOLDER.name} or no imagery at {IMAGERY}")


def crop(image, boxes, top, left, height, width, masks=None):
    """A window of an image with the boxes (and masks) of which half or more lies in it."""
    boxes = boxes - torch.tensor([left, top, left, top], dtype=torch.float32)
    inside = boxes.clone()
    inside[:, 0::2], inside[:, 1::2] = boxes[:, 0::2].clamp(0, width), boxes[:, 1::2].clamp(0, height)
    area, whole = ((x[:, 2:] - x[:, :2]).clamp(min=0).prod(dim=1) for x in (inside, boxes))
    kept = area > 0.5 * whole
    target = {"boxes": inside[kept], "labels": torch.ones(int(kept.sum()), dtype=torch.int64)}
    if masks is not None:
        target["masks"] = masks[kept][:, top : top + height, left : left + width]
    return image[:, top : top + height, left : left + width], target


@pytest.fixture(scope="module")
def trees():
    """Images of NEON's camera of different sizes, in digital numbers, and their tree boxes."""
    folder = IMAGERY / "deepforest_neon_osbs"
    with rasterio.open(folder / "OSBS_029.tif") as file:
        image = torch.from_numpy(file.read().astype(np.float32))
    image[image == 255] = math.nan  # nodata
    with (folder / "OSBS_029_treeboxes.csv").open() as rows:
        boxes = torch.tensor([[float(row[key]) for key in ("xmin", "ymin", "xmax", "ymax")] for row in csv.DictReader(rows)])
    assert len(boxes) == 61
    images, targets = zip(crop(image, boxes, 0, 0, 200, 200), crop(image, boxes, 190, 150, 210, 230), strict=True)
    assert min(len(target["boxes"]) for target in targets) >= 8
    return list(images), list(targets)


@pytest.fixture(scope="module")
def buildings():
    """A panchromatic image of Atlanta, one band, and its buildings' masks."""
    folder = IMAGERY / "solaris_sn4_atlanta"
    with rasterio.open(folder / "sample_geotiff.tif") as file:
        image, transform = torch.from_numpy(file.read().astype(np.float32)), file.transform
    image[image == 0] = math.nan
    shapes = [feature["geometry"] for feature in json.loads((folder / "geotiff_labels.geojson").read_text())["features"]]
    masks = np.stack([rasterio.features.rasterize([shape], image.shape[-2:], transform=transform, dtype="uint8") for shape in shapes])
    masks = torch.from_numpy(masks[masks.sum(axis=(1, 2)) > 100])
    boxes = []
    for mask in masks:
        rows, columns = mask.any(dim=1).nonzero(), mask.any(dim=0).nonzero()
        boxes.append([int(columns.min()), int(rows.min()), int(columns.max()) + 1, int(rows.max()) + 1])
    boxes = torch.tensor(boxes, dtype=torch.float32)
    middle = ((boxes[:, :2] + boxes[:, 2:]) / 2).median(dim=0).values.long()
    left, top = ((middle - 128).clamp(0, image.shape[-1] - 256)).tolist()
    cropped, target = crop(image, boxes, top, left, 256, 256, masks)
    assert len(target["boxes"]) >= 3
    return [cropped], [target]


def encoder(sensor, gsd_m):
    return ImageEncoder(open_encoder(FOLDER), sensor, gsd_m=gsd_m)


def tree_detector(**options):
    return detector(encoder("neon_rgb", 0.1), 2, channels=32, anchors_px=CROWNS, **options)


def building_detector():
    return detector(encoder("worldview2_pan", 0.5), 2, masks=True, channels=32, anchors_px=ROOFS)


def train(model, images, targets, steps, lr=2e-3):
    """Total losses of full-batch steps."""
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr)
    model.train()
    totals = []
    for _ in range(steps):
        losses = model(images, targets)
        assert all(bool(torch.isfinite(loss)) for loss in losses.values())
        total = sum(losses.values())
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        totals.append(float(total.detach()))
    return totals


def gradients(model):
    """Names of the parameters, of those that a gradient above 0 reaches."""
    parameters = dict(model.named_parameters())
    return set(parameters), {name for name, p in parameters.items() if p.grad is not None and bool(p.grad.abs().max() > 0)}


def test_values_and_sizes_reach_the_encoder_as_they_are(trees):
    """And what is padded is no observation; torchvision's own transform would change all three."""
    images, targets = trees
    model, seen = tree_detector(), []
    model.backbone.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    model.train()(images, targets)
    (batch,) = seen
    assert batch.shape == (2, 3, 224, 256)
    for padded, image in zip(batch, images, strict=True):
        height, width = image.shape[-2:]
        assert torch.equal(torch.nan_to_num(padded[:, :height, :width], nan=-1), torch.nan_to_num(image, nan=-1))
        assert bool(padded[:, height:].isnan().all())
        assert bool(padded[:, :, width:].isnan().all())
    real = model.backbone.encode.images.encode(batch).real.unflatten(1, (28, 32))
    assert bool(real[0, :25, :25].all())
    assert not bool(real[0, 25:].any())
    assert not bool(real[0, :, 25:].any())
    given, changed = model.transform(images, targets)
    assert isinstance(given, ImageList)
    assert given.image_sizes == [(200, 200), (210, 230)]
    assert all(torch.equal(new["boxes"], old["boxes"]) for new, old in zip(changed, targets, strict=True))


@pytest.mark.parametrize(
    ("mean", "std", "words"),
    [
        ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225), r"'neon_rgb', band 'R': .* are outside \[0, 255\] dn"),  # torchvision's defaults
        ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), r"'neon_rgb', band 'R': .* normalised already\?"),
    ],
)
def test_torchvisions_own_normalising_does_not_pass_in_silence(trees, mean, std, words):
    images, targets = trees
    model = tree_detector()
    model.transform = GeneralizedRCNNTransform(200, 256, list(mean), list(std))
    with pytest.raises(ValueError, match=words):
        model.train()(images, targets)


def test_a_step_reaches_the_pyramid_and_the_encoder(trees):
    model = tree_detector()
    train(model, *trees, steps=1)
    names, reached = gradients(model)
    assert {name for name in names if name.startswith("backbone.pyramid.")} <= reached
    of_other_inputs = {name for name, p in model.named_parameters() if not p.requires_grad}
    assert of_other_inputs == {name for name in names if "worldview2_pan" in name}
    encoders = {name for name in names - of_other_inputs if name.startswith("backbone.encode.")}
    untold = {name for name in encoders if ".time.proj." in name or ".place.proj." in name}  # dates and places are unknown here
    assert encoders - reached == untold
    assert any(name.startswith("backbone.encode.images.encoder.patch_embed.neon_rgb") for name in reached)


def test_a_frozen_encoder_stays(trees):
    model = tree_detector()
    freeze(model.backbone.encode)
    before = {name: x.clone() for name, x in model.backbone.encode.state_dict().items()}
    totals = train(model, *trees, steps=5)
    assert totals[-1] < totals[0]
    assert all(torch.equal(x, before[name]) for name, x in model.backbone.encode.state_dict().items())


def test_trees_are_learnt(trees):
    """Faster R-CNN on two images of different sizes: finds crowns that it was shown, within the images."""
    images, targets = trees
    model = tree_detector()
    assert type(model) is FasterRCNN
    totals = train(model, images, targets, steps=60)
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])
    with torch.no_grad():
        found = model.eval()(images)
    for image, target, result in zip(images, targets, found, strict=True):
        check_within(result["boxes"], image)
        best = box_iou(target["boxes"], result["boxes"][result["scores"] > 0.3]).max(dim=1).values
        assert float((best > 0.5).float().mean()) > 0.5


def test_buildings_are_learnt_with_their_masks(buildings):
    """Mask R-CNN on an image of one band."""
    images, (target,) = buildings
    model = building_detector()
    assert type(model) is MaskRCNN
    totals = train(model, images, [target], steps=60)
    assert np.mean(totals[-5:]) < 0.6 * np.mean(totals[:5])
    with torch.no_grad():
        (result,) = model.eval()(images)
    check_within(result["boxes"], images[0])
    assert result["masks"].shape == (len(result["boxes"]), 1, 256, 256)
    assert bool(((result["masks"] >= 0) & (result["masks"] <= 1)).all())
    covered = (result["masks"][result["scores"] > 0.5, 0] > 0.5).any(dim=0)
    labelled = target["masks"].any(dim=0)
    assert float(labelled.float().mean()) < 0.1
    assert float((covered & labelled).sum() / (covered | labelled).sum()) > 0.25


def check_within(boxes, image):
    height, width = image.shape[-2:]
    assert len(boxes) > 0
    assert bool((boxes >= 0).all())
    assert float(boxes[:, 0::2].max()) <= width
    assert float(boxes[:, 1::2].max()) <= height
    assert bool((boxes[:, 2:] > boxes[:, :2]).all())


def test_wrong_values_and_options_are_refused(trees):
    images, targets = trees
    with pytest.raises(ValueError, match=r"images are \(2, 3, 224, 256\); expected \(B, 1, H, W\)"):
        building_detector().train()(images, targets)
    with pytest.raises(ValueError, match=r"min_size is not to be given: the encoder takes physical values at its own pixel size"):
        tree_detector(min_size=800)
    with pytest.raises(ValueError, match=r"anchors_px has 2 sizes; expected 5, one for each map from p2 to p6"):
        detector(encoder("neon_rgb", 0.1), 2, anchors_px=(32, 64))


def test_options_of_torchvision_are_passed_on():
    model = tree_detector(box_detections_per_img=7)
    assert model.roi_heads.detections_per_img == 7
    assert isinstance(model.transform, PhysicalTransform)
    assert model.transform.size_divisible == 32
