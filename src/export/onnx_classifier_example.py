"""Classifies measured white blood cells with ONNX files written by `wbc export`; averages several files.

    wbc features --dataset NAME        # data/NAME/features.parquet
    pip install onnxruntime numpy pyarrow
    python onnx_example.py fold-*.onnx -- data/NAME/features.parquet
"""

import json
import sys

import numpy as np
import onnxruntime
import pyarrow.parquet as pq


def load(path):
    """The model and the metadata of its file."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session, json.loads(session.get_modelmeta().custom_metadata_map["config"])


def read(path, config):
    """The names of the cells, and their features: float32 [n, features], NaN where one is not defined."""
    table = pq.read_table(path)
    columns = [table[name].to_numpy().astype(np.float32) for name in config["features"]]
    return table["image_id"].to_pylist(), np.stack(columns, axis=1)


def probabilities(session, features):
    """float32 [n, features] to float32 [n, classes]."""
    return session.run(["probabilities"], {"features": features})[0]


if __name__ == "__main__":
    cut = sys.argv.index("--")
    models = [load(path) for path in sys.argv[1:cut]]
    config = models[0][1]
    names, features = read(sys.argv[cut + 1], config)
    mean = np.mean([probabilities(session, features) for session, _ in models], axis=0)
    for name, row in zip(names, mean):
        print(name, config["classes"][row.argmax()], f"{row.max():.3f}")
