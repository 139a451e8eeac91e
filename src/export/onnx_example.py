"""Classifies images of single white blood cells with ONNX files written by `wbc export`; averages several files.

    pip install onnxruntime numpy pillow
    python onnx_example.py fold-*.onnx -- cell.jpg ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path):
    """The model and the metadata of its file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["config"])


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


def probabilities(session, images):
    """uint8 [n, size, size, 3] to float32 [n, classes]."""
    return session.run(["probabilities"], {"images": images})[0]


if __name__ == "__main__":
    cut = sys.argv.index("--")
    models = [load(path) for path in sys.argv[1:cut]]
    config = models[0][1]
    images = np.stack([read(path, config) for path in sys.argv[cut + 1 :]])
    mean = np.mean([probabilities(session, images) for session, _ in models], axis=0)
    for path, row in zip(sys.argv[cut + 1 :], mean):
        print(path, config["classes"][row.argmax()], f"{row.max():.3f}")
