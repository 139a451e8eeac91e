"""Times W-Net in TensorFlow, as a compiled graph, and prints the medians as JSON. Argument: number of threads."""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf

from timing import median

threads = int(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(threads)
layers = tf.keras.layers
model = tf.keras.Sequential([tf.keras.Input((128, 128, 3))])
for filters in (16, 32, 64):
    model.add(layers.Conv2D(filters, 3, padding="same", activation="relu"))
    model.add(layers.MaxPool2D(2, 2))
    model.add(layers.Dropout(0.4))
for layer in (layers.Flatten(), layers.Dense(1024, activation="relu"), layers.Dropout(0.4), layers.Dense(5)):
    model.add(layer)
assert model.count_params() == 16_806_949
cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
adam = tf.keras.optimizers.Adam(1e-4)
adam.build(model.trainable_variables)


@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = cross_entropy(y, model(x, training=True))
    adam.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    return loss


@tf.function
def infer(x):
    return tf.nn.softmax(model(x, training=False))


rng = np.random.default_rng(0)
images = lambda n: tf.constant(rng.normal(size=(n, 128, 128, 3)).astype(np.float32))
results = {}
for n in (5, 32):
    x, y = images(n), tf.constant(rng.integers(0, 5, n))
    results[f"wnet_step_b{n}_ms"] = 1e3 * median(lambda: step(x, y).numpy())
x = images(64)
results["wnet_infer_b64_images_per_s"] = 64 / median(lambda: infer(x).numpy())
print(json.dumps(results))
