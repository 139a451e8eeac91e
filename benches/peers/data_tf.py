"""Times tf.data from files to batches of 128 x 128 px and prints images/s as JSON. Arguments: number of threads, folder
of JPEG images, folder of BMP images."""

import glob
import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf

from timing import median

threads = int(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(threads)


def jpeg(path):
    # This decodes only what the crop needs, and is the fastest way in tf.data.
    return tf.io.decode_and_crop_jpeg(tf.io.read_file(path), [80, 80, 200, 200], channels=3)


def bmp(path):
    return tf.io.decode_bmp(tf.io.read_file(path), channels=3)[188:388, 260:460]


results = {}
FORMATS = (("jpeg", jpeg, sys.argv[2] + "/**/*.jpg"), ("bmp", bmp, sys.argv[3] + "/**/Main*/**/*.bmp"))
for name, decode, pattern in FORMATS:
    paths = sorted(glob.glob(pattern, recursive=True))
    out = np.empty((len(paths), 128, 128, 3), np.float32)

    def load(path):
        return (tf.image.resize(decode(path), [128, 128]) - 127.5) / 127.5

    pipeline = tf.data.Dataset.from_tensor_slices(paths).map(load, num_parallel_calls=threads).batch(64).prefetch(2)

    def run():
        start = 0
        for batch in pipeline:
            out[start : start + len(batch)] = batch.numpy()
            start += len(batch)

    results[f"{name}_images_per_s"] = len(paths) / median(run)
print(json.dumps(results))
