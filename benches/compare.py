"""Compares `wbc bench` with TensorFlow, PyTorch, OpenCV and pyarrow on the same machine; prints a table in Markdown.

    cargo build --release && python benches/compare.py

Needs Python 3.10 or later. The first time, it also needs a network: it installs the other programs in target/peers/.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import venv

ROOT = pathlib.Path(__file__).resolve().parent.parent
PEERS = ROOT / "benches" / "peers"
PACKAGES = {
    "tensorflow": ["tensorflow-cpu"],
    "torch": ["torch", "torchvision", "numpy"],
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


def python(name, folder):
    """The interpreter of a virtual environment with the packages of `name`, which is created if needed."""
    interpreter = folder / name / "bin" / "python"
    if not interpreter.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([interpreter, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
    return interpreter


def run_json(command):
    """Runs a command and returns the JSON that it prints last."""
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
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
    options = arguments.parse_args()
    wbc, threads = str(ROOT / "target" / "release" / "wbc"), str(options.threads)
    pythons = {name: python(name, options.venvs) for name in PACKAGES}
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout, images in (("cuk", "1000"), ("lisc", "60")):
            command = [wbc, "--workspace", folder, "synth", "--layout", layout, "--images", images, "--name", layout]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        data = [f"{folder}/raw/cuk", f"{folder}/raw/lisc"]
        programs = {
            "wbc": [[wbc, "bench", "--json", "--threads", threads]],
            "TensorFlow": [
                [pythons["tensorflow"], PEERS / script, threads, *data]
                for script in ("wnet_tf.py", "resnet_tf.py", "data_tf.py")
            ],
            "PyTorch": [
                [pythons["torch"], PEERS / script, threads] for script in ("wnet_torch.py", "resnet_torch.py")
            ],
            "OpenCV, pyarrow": [[pythons["data"], PEERS / "data_cv.py", threads, *data]],
        }
        for round in range(options.rounds):
            for name, commands in programs.items():
                print(f"round {round + 1}: {name}", file=sys.stderr)
                for command in commands:
                    for key, value in run_json([str(c) for c in command]).items():
                        runs.setdefault((name, key), []).append(value)

    def median(name, key):
        values = [v for v in runs.get((name, key), []) if isinstance(v, (int, float))]
        return sorted(values)[len(values) // 2] if values else None

    others = [name for name in programs if name != "wbc"]
    print("| | wbc | " + " | ".join(others) + " | wbc is faster by |")
    print("| --- " * (len(others) + 3) + "|")
    for key, description, more_is_better in ROWS:
        ours, theirs = median("wbc", key), [median(name, key) for name in others]
        best = (max if more_is_better else min)(t for t in theirs if t)
        ratio = ours / best if more_is_better else best / ours
        show = lambda v: "" if v is None else f"{v:,.1f}" if v < 1000 else f"{v:,.0f}"
        print(f"| {description} | {show(ours)} | " + " | ".join(map(show, theirs)) + f" | {ratio:.2f} x |")


if __name__ == "__main__":
    main()
