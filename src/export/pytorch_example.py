"""Classifies images of single white blood cells in PyTorch with files written by `wbc export`; averages several files.

    pip install torch torchvision safetensors numpy pillow
    python pytorch_example.py fold-*.safetensors -- cell.jpg ...
"""

import json
import sys

import numpy as np
import torch
from PIL import Image, ImageOps
from safetensors import safe_open
from torch import nn


class WNet(nn.Module):
    """W-Net (Jung et al. 2019), without dropout, which is only used in training."""

    def __init__(self, size, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 16, 3, padding=1)
        self.conv2 = nn.Conv2d(16, 32, 3, padding=1)
        self.conv3 = nn.Conv2d(32, 64, 3, padding=1)
        self.fc1 = nn.Linear(64 * (size // 8) ** 2, 1024)
        self.fc2 = nn.Linear(1024, classes)

    def forward(self, x):
        for convolution in (self.conv1, self.conv2, self.conv3):
            x = nn.functional.max_pool2d(convolution(x).relu(), 2)
        return self.fc2(self.fc1(x.flatten(1)).relu())


def load(path):
    """The model, ready to predict, and the metadata of its file."""
    with safe_open(path, framework="pt") as file:
        config = json.loads(file.metadata()["config"])
        state = {name: file.get_tensor(name) for name in file.keys()}
    if config["model"] == "wnet":
        model = WNet(config["preprocess"]["size_px"], len(config["classes"]))
    else:
        from torchvision.models import resnet50

        model = resnet50(num_classes=len(config["classes"]))
    model.load_state_dict(state)
    return model.eval(), config


def read(path, config):
    """An image of one cell, cut as the training images were and resized: uint8 [size, size, 3], RGB."""
    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    settings = config["preprocess"]
    size, cut = settings["size_px"], settings["cut"]
    if cut == "cell":
        sys.exit("This model takes cells that wbc has segmented: use wbc predict.")
    if cut in ("auto", "centre"):
        side = min(*image.size, settings["centre_px"])
    else:  # The whole image; for "box", it has to be cut around the cell already. Where not square, edges are repeated.
        side = max(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    columns = np.clip(np.arange(left, left + side), 0, image.width - 1)
    rows = np.clip(np.arange(top, top + side), 0, image.height - 1)
    square = Image.fromarray(np.asarray(image)[rows[:, None], columns])
    return np.asarray(square.resize((size, size), Image.Resampling.BILINEAR))


@torch.inference_mode()
def probabilities(model, config, images):
    """uint8 [n, size, size, 3] to float32 [n, classes]."""
    x = torch.from_numpy(images.astype(np.float32)).permute(0, 3, 1, 2)
    normalise = config["normalise"]
    if normalise["kind"] == "image":
        mean = x.mean((1, 2, 3), keepdim=True)
        deviation = x.var((1, 2, 3), unbiased=False, keepdim=True).clamp(min=1).sqrt()
    else:
        mean, deviation = (torch.tensor(normalise[key]).view(1, 3, 1, 1) for key in ("mean", "deviation"))
    return model((x - mean) / deviation).softmax(1).numpy()


if __name__ == "__main__":
    cut = sys.argv.index("--")
    models = [load(path) for path in sys.argv[1:cut]]
    config = models[0][1]
    images = np.stack([read(path, config) for path in sys.argv[cut + 1 :]])
    mean = np.mean([probabilities(model, own, images) for model, own in models], axis=0)
    for path, row in zip(sys.argv[cut + 1 :], mean):
        print(path, config["classes"][row.argmax()], f"{row.max():.3f}")
