"""`wbc bench` beside what its users would run instead, in one sitting, as a table of ratios.

    cargo build --release && python benches/compare.py

Needs Python 3.10 or later and, the first time, a network: TensorFlow and PyTorch go into target/peers/.
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
NEEDS = {
    "tensorflow": ["tensorflow-cpu"],
    "torch": ["torch", "torchvision", "numpy"],
    "data": ["numpy", "pillow", "opencv-python-headless", "pyarrow", "blake3", "simplejpeg"],
}
ROWS = [
    ("wnet_step_b5_ms", "W-Net, training step of 5 images, ms", False),
    ("wnet_step_b32_ms", "W-Net, training step of 32 images, ms", False),
    ("wnet_infer_b64_images_per_s", "W-Net, inference in batches of 64, images/s", True),
    ("resnet50_step_b32_s", "ResNet50, training step of 32 images, s", False),
    ("resnet50_infer_b32_images_per_s", "ResNet50, inference in batches of 32, images/s", True),
    ("jpeg_images_per_s", "JPEG 360 x 361: decode, cut, resize, images/s", True),
    ("bmp_images_per_s", "BMP 720 x 576: decode, cut, resize, images/s", True),
    ("ingest_images_per_s", "ingest to manifest, images/s", True),
    ("check_images_per_s", "check (peer: decoding alone), images/s", True),
]


def python_of(name, folder):
    python = folder / name / "bin" / "python"
    if not python.exists():
        venv.create(folder / name, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *NEEDS[name]], check=True)
    return python


def last_json(command):
    text = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    return json.loads(text if text.startswith("{\n") else text.splitlines()[-1])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--threads", type=int, default=2)
    arguments.add_argument("--rounds", type=int, default=1, help="times each program runs, one after the other")
    arguments.add_argument("--venvs", type=pathlib.Path, default=ROOT / "target" / "peers")
    options = arguments.parse_args()
    wbc, threads = str(ROOT / "target" / "release" / "wbc"), str(options.threads)
    pythons = {name: python_of(name, options.venvs) for name in NEEDS}
    runs = {}
    with tempfile.TemporaryDirectory() as folder:
        for layout, images in (("cuk", "1000"), ("lisc", "60")):
            command = [wbc, "--workspace", folder, "synth", "--layout", layout, "--images", images, "--name", layout]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        data = [f"{folder}/raw/cuk", f"{folder}/raw/lisc"]
        programs = {
            "wbc": [[wbc, "bench", "--json", "--threads", threads]],
            "TensorFlow": [[pythons["tensorflow"], PEERS / p, threads, *data] for p in ("wnet_tf.py", "resnet_tf.py", "data_tf.py")],
            "PyTorch": [[pythons["torch"], PEERS / p, threads] for p in ("wnet_torch.py", "resnet_torch.py")],
            "OpenCV, pyarrow": [[pythons["data"], PEERS / "data_cv.py", threads, *data]],
        }
        for round in range(options.rounds):
            for name, commands in programs.items():
                print(f"round {round + 1}: {name}", file=sys.stderr)
                for command in commands:
                    for key, value in last_json([str(c) for c in command]).items():
                        runs.setdefault((name, key), []).append(value)

    def middle(name, key):
        values = [v for v in runs.get((name, key), []) if isinstance(v, (int, float))]
        return sorted(values)[len(values) // 2] if values else None

    peers = [name for name in programs if name != "wbc"]
    print("| | wbc | " + " | ".join(peers) + " | wbc is |")
    print("| --- " * (len(peers) + 3) + "|")
    for key, what, more_is_better in ROWS:
        ours, theirs = middle("wbc", key), [middle(name, key) for name in peers]
        best = (max if more_is_better else min)(t for t in theirs if t)
        ratio = ours / best if more_is_better else best / ours
        show = lambda v: "" if v is None else f"{v:,.1f}" if v < 1000 else f"{v:,.0f}"
        print(f"| {what} | {show(ours)} | " + " | ".join(map(show, theirs)) + f" | {ratio:.2f} x |")


if __name__ == "__main__":
    main()
