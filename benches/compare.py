"""Compares `wbc bench` with TensorFlow, PyTorch, ONNX Runtime, OpenVINO, OpenCV and pyarrow on the same machine; prints a
table in Markdown. The others are configured as their documents advise: PyTorch with channels last, fused optimisers,
autocast for bf16, and an allocator that keeps its memory; OpenVINO by its hint for bf16.

    cargo build --release && python benches/compare.py

Needs Python 3.10 or later. The first time, it also needs a network: it installs the other programs in target/peers/.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "benches" / "peers"
PACKAGES = {
    "tensorflow": ["tensorflow-cpu"],
    "torch": ["torch", "torchvision", "numpy", "onnx", "onnxruntime", "openvino"],
    "data": ["numpy", "pillow", "opencv-python-headless", "pyarrow", "blake3", "simplejpeg"],
}
ROWS = [
    # Key in the JSON output, description, whether more is better.
    ("wnet_step_b5_ms", "W-Net, training step of 5 images, ms", False),
    ("wnet_step_b32_ms", "W-Net, training step of 32 images, ms", False),
    ("wnet_infer_b64_images_per_s", "W-Net, inference in batches of 64, images/s", True),
    ("resnet50_step_b32_s", "ResNet50, training step of 32 images, s", False),
    ("resnet50_infer_b32_images_per_s", "ResNet50, inference in batches of 32, images/s", True),
    ("jpeg_images_per_s", "JPEG 360 x 361: decode, cut, resize, images/s", True),
    ("bmp_images_per_s", "BMP 720 x 576: decode, cut, resize, images/s", True),
    ("ingest_images_per_s", "ingest to manifest, images/s", True),
    ("check_images_per_s", "check (others: decoding alone), images/s", True),
]


# glibc's allocator otherwise returns large arrays to the system after every step.
KEEP_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": "4294967296",
    "MALLOC_TRIM_THRESHOLD_": "17179869184",
    "MALLOC_TOP_PAD_": "268435456",
}


def python(name, folder):
    """The interpreter of a virtual environment with the packages of `name`, which is created if needed."""
    interpreter = folder / name / "bin" / "python"
    if not interpreter.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
    return interpreter


def run_json(command):
    """Runs a command and returns the JSON that it prints last."""
    environment = {**os.environ, **KEEP_MEMORY}
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout.strip()
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=2, help="threads of each program [default: 2]")
    arguments.add_argument("--rounds", type=int, default=1, help="how often each program runs [default: 1]")
    arguments.add_argument(
        "--venvs",
        type=pathlib.Path,
        default=ROOT / "target" / "peers",
        help="folder of the virtual environments [default: target/peers]",
    )
    arguments.add_argument("--only", nargs="*", help="names of the columns to measure [default: all]")
    options = arguments.parse_args()
    wbc, threads = str(ROOT / "target" / "release" / "wbc"), str(options.threads)
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout, images in (("cuk", "1000"), ("lisc", "60")):
            command = [wbc, "--workspace", folder, "synth", "--layout", layout, "--images", images, "--name", layout]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        data = [f"{folder}/raw/cuk", f"{folder}/raw/lisc"]
        programs = {
            "wbc f32": [[wbc, "bench", "--json", "--threads", threads]],
            "wbc bf16": [[wbc, "bench", "--json", "--threads", threads, "--precision", "bf16"]],
            "TensorFlow": [
                ["tensorflow", PEERS / script, threads, *data]
                for script in ("wnet_tf.py", "resnet_tf.py", "data_tf.py")
            ],
            **{
                f"PyTorch {precision}": [
                    ["torch", PEERS / script, threads, precision]
                    for script in ("wnet_torch.py", "resnet_torch.py")
                ]
                for precision in ("f32", "bf16")
            },
            **{
                column: [["torch", PEERS / "onnx_inference.py", threads, program, precision]]
                for column, program, precision in (
                    ("ONNX Runtime", "onnxruntime", "f32"),
                    ("OpenVINO f32", "openvino", "f32"),
                    ("OpenVINO bf16", "openvino", "bf16"),
                )
            },
            "OpenCV, pyarrow": [["data", PEERS / "data_cv.py", threads, *data]],
        }
        if options.only is not None:
            programs = {name: commands for name, commands in programs.items() if name in options.only}
        for round in range(options.rounds):
            for name, commands in programs.items():
                print(f"round {round + 1}: {name}", file=sys.stderr)
                for first, *rest in commands:
                    program = python(first, options.venvs) if first in PACKAGES else first
                    for key, value in run_json([str(part) for part in (program, *rest)]).items():
                        runs.setdefault((name, key), []).append(value)

    def median(name, key):
        values = [v for v in runs.get((name, key), []) if isinstance(v, (int, float))]
        return sorted(values)[len(values) // 2] if values else None

    print("| | " + " | ".join(programs) + " | wbc is faster by |")
    print("| --- " * (len(programs) + 2) + "|")
    for key, description, more_is_better in ROWS:
        values = {name: median(name, key) for name in programs}
        # What does not depend on the networks' precision is measured once.
        if "wbc bf16" in values and "wnet" not in key and "resnet" not in key:
            values["wbc bf16"] = None
        best_of = lambda own: (max if more_is_better else min)(
            (v for name, v in values.items() if v and name.startswith("wbc") == own), default=None
        )
        ours, best = best_of(True), best_of(False)
        ratio = "" if not (ours and best) else f"{ours / best if more_is_better else best / ours:.2f} x"
        show = lambda v: "" if v is None else f"{v:,.1f}" if v < 1000 else f"{v:,.0f}"
        print(f"| {description} | " + " | ".join(show(v) for v in values.values()) + f" | {ratio} |")


if __name__ == "__main__":
    main()
