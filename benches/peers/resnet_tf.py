"""Times Keras's ResNet50, whose convolutions have biases, in TensorFlow as a compiled graph, and prints the medians as
JSON. Argument: number of threads."""

import json
import os
import resource
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
import numpy as np
import tensorflow as tf

from timing import median

threads = int(sys.argv[1])
tf.config.threading.set_intra_op_parallelism_threads(threads)
model = tf.keras.applications.ResNet50(weights=None, classes=5, classifier_activation=None)
assert sum(int(np.prod(w.shape)) for w in model.trainable_variables) == 23_544_837
cross_entropy = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
sgd = tf.keras.optimizers.SGD(1e-3, momentum=0.9, weight_decay=1e-4)
sgd.build(model.trainable_variables)


@tf.function
def step(x, y):
    with tf.GradientTape() as tape:
        loss = cross_entropy(y, model(x, training=True))
    sgd.apply_gradients(zip(tape.gradient(loss, model.trainable_variables), model.trainable_variables))
    return loss


@tf.function
def infer(x):
    return tf.nn.softmax(model(x, training=False))


rng = np.random.default_rng(0)
x = tf.constant(rng.normal(size=(32, 224, 224, 3)).astype(np.float32))
y = tf.constant(rng.integers(0, 5, 32))
seconds = median(lambda: step(x, y).numpy(), least=3)
memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2
print(json.dumps({
    "resnet50_step_b32_s": seconds,
    "resnet50_infer_b32_images_per_s": 32 / median(lambda: infer(x).numpy(), least=3),
    "resnet50_memory_gib": memory,
}))
