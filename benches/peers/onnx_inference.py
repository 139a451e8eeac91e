"""Times prediction of W-Net and ResNet50 from ONNX files and prints the medians as JSON. Arguments: number of threads,
the program (onnxruntime or openvino), and f32 or bf16 (OpenVINO alone)."""

import json
import pathlib
import sys
import tempfile

import numpy as np
import torch
import torch.nn as nn
import torchvision

from timing import median

threads, program, precision = int(sys.argv[1]), sys.argv[2], sys.argv[3]


def block(c_in, c_out):
    return [nn.Conv2d(c_in, c_out, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2, 2)]


def wnet():
    head = [nn.Flatten(), nn.Linear(16384, 1024), nn.ReLU(), nn.Linear(1024, 5)]
    return nn.Sequential(*block(3, 16), *block(16, 32), *block(32, 64), *head)


def session(path):
    """A function that predicts a batch."""
    if program == "onnxruntime":
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        model = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda x: model.run(None, {"x": x})
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": precision}
    request = openvino.Core().compile_model(str(path), "CPU", settings).create_infer_request()
    return lambda x: request.infer({0: x})


results = {}
with tempfile.TemporaryDirectory() as folder:
    for name, model, n, size in (
        ("wnet_infer_b64_images_per_s", wnet(), 64, 128),
        ("resnet50_infer_b32_images_per_s", torchvision.models.resnet50(num_classes=5), 32, 224),
    ):
        model = nn.Sequential(model, nn.Softmax(1)).eval()
        path = pathlib.Path(folder) / "model.onnx"
        x = torch.randn(n, 3, size, size)
        torch.onnx.export(model, x, path, dynamo=False, input_names=["x"])
        predict, x = session(path), np.ascontiguousarray(x.numpy())
        results[name] = n / median(lambda: predict(x))
print(json.dumps(results))
