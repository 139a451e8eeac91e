"""Times OpenCV from files to an array of 128 x 128 px; Pillow, BLAKE3 and pyarrow from files to a manifest; and
decoding by libjpeg-turbo. Prints images/s as JSON. Arguments: number of threads, folder of JPEG images, folder of BMP images."""

import glob
import io
import json
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor

import blake3
import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import simplejpeg
from PIL import Image

from timing import median

threads = int(sys.argv[1])
cv2.setNumThreads(1)
pool = ThreadPoolExecutor(threads)
jpegs = sorted(glob.glob(sys.argv[2] + "/**/*.jpg", recursive=True))
bmps = sorted(glob.glob(sys.argv[3] + "/**/Main*/**/*.bmp", recursive=True))


def rate(paths, work):
    def run():
        list(pool.map(work, range(len(paths)), chunksize=8))

    return len(paths) / median(run)


results = {}
for name, paths in (("jpeg", jpegs), ("bmp", bmps)):
    out = np.empty((len(paths), 128, 128, 3), np.float32)

    def load(i):
        image = cv2.imread(paths[i], cv2.IMREAD_COLOR)
        top, left = (image.shape[0] - 200) // 2, (image.shape[1] - 200) // 2
        small = cv2.resize(image[top : top + 200, left : left + 200], (128, 128), interpolation=cv2.INTER_LINEAR)
        np.multiply(cv2.cvtColor(small, cv2.COLOR_BGR2RGB) - np.float32(127.5), np.float32(1 / 127.5), out=out[i])

    results[f"{name}_images_per_s"] = rate(paths, load)


def decode(i):
    with open(jpegs[i], "rb") as file:
        simplejpeg.decode_jpeg(file.read(), colorspace="RGB")


# The part of `wbc check` that other programs have as well.
results["check_images_per_s"] = rate(jpegs, decode)


def describe(path):
    with open(path, "rb") as file:
        data = file.read()
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
    return path, os.path.basename(os.path.dirname(path)), width, height, len(data), blake3.blake3(data).hexdigest()


def ingest():
    paths = sorted(os.path.join(folder, name) for folder, _, names in os.walk(sys.argv[2]) for name in names)
    columns = zip(*[describe(path) for path in paths if path.endswith(".jpg")])
    names = ["path", "class", "width", "height", "bytes", "hash"]
    with tempfile.TemporaryDirectory() as folder:
        pq.write_table(pa.table({n: list(c) for n, c in zip(names, columns)}), folder + "/manifest.parquet")


# With one thread: more are slower, because of the interpreter's lock.
results["ingest_images_per_s"] = len(jpegs) / median(ingest)
print(json.dumps(results))
