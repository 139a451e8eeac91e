"""Classifies images of single white blood cells with ONNX files written by `wbc export`; averages several files.

    pip install onnxruntime numpy pillow
    python onnx_example.py fold-*.onnx -- cell.jpg ...
"""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image


def load(path):
    """The model and the metadata of its file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["config"])


def read(path, config):
    """The central square of an image, resized: uint8 [size, size, 3], RGB."""
    image = Image.open(path).convert("RGB")
    settings, side = config["preprocess"], min(image.size)
    if settings["cut"] != "whole":
        side = min(side, settings["centre_px"])
    left, top = (image.width - side) // 2, (image.height - side) // 2
    size = settings["size_px"]
    return np.asarray(image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.BILINEAR))


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
