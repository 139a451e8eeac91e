# %% [markdown]
# # A run's results in pandas
#
# The confusion matrix, recalls and balanced accuracy from the predictions, held against wbc's own metrics, and the
# mistakes that the model was surest of.
#
#     pip install pandas pyarrow
#     python docs/pandas_results.py --workspace data --run pbc-wnet-quick

# %%
import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd

parser = argparse.ArgumentParser(description="A run's results in pandas")
parser.add_argument("--workspace", type=Path, default="data", help="[default: data]")
parser.add_argument("--run", help="name of a run [default: the first]")
args, _ = parser.parse_known_args()  # a notebook has arguments of its own
found = sorted(args.workspace.glob(f"runs/{args.run or '*'}/metrics.parquet"))
if not found:
    parser.error(f"no results of a run {args.run or ''} in {args.workspace}: wbc train makes them")
run = found[0].parent
dataset = json.loads((run / "run.json").read_text())["dataset"]


# %% With Arrow's types, whole numbers that may be missing (a box, the fold of a mean) stay whole numbers.
def read(path):
    return pd.read_parquet(path, dtype_backend="pyarrow")


predictions = read(run / "predictions.parquet")
probabilities = predictions.filter(like="p_").to_numpy(np.float32)
classes = [column.removeprefix("p_") for column in predictions.filter(like="p_")]
predictions["predicted"] = np.take(classes, probabilities.argmax(axis=1))
predictions["confidence"] = probabilities.max(axis=1)
predictions["right"] = predictions["predicted"] == predictions["truth"]
print(f"{run.name}: {len(predictions)} predictions in {predictions['fold'].nunique()} folds")

# %% True classes down, predicted ones across.
confusion = pd.crosstab(predictions["truth"], predictions["predicted"])
confusion = confusion.reindex(index=classes, columns=classes, fill_value=0)
print(confusion, "\n")

# %% Recall by fold; its mean over the classes is a fold's balanced accuracy, and the mean over folds is the run's.
recall = predictions.groupby(["truth", "fold"])["right"].mean().unstack().reindex(classes)
print((100 * recall.astype(float)).round(1).to_string(), "\n")
balanced_accuracy = recall.mean().mean()

# %% What wbc says: one row a metric, class and fold, and one without a fold for the mean over folds.
metrics = read(run / "metrics.parquet")
over_folds = metrics[metrics["fold"].isna()]
said = over_folds.query("metric == 'balanced_accuracy'")["value"].item()
print(f"balanced accuracy: {balanced_accuracy:.12f} by these predictions, {said:.12f} by metrics.parquet")
print(read(run / "intervals.parquet").query("metric == 'balanced_accuracy'")[["method", "low", "high"]], "\n")

# %% The surest mistakes, with their files: tables are joined by image_id.
manifest = read(args.workspace / dataset / "manifest.parquet")
mistakes = predictions[~predictions["right"]].merge(manifest, on="image_id", validate="one_to_one")
mistakes = mistakes.sort_values("confidence", ascending=False)
print(f"{len(mistakes)} mistakes, the surest:")
print(mistakes[["path", "truth", "predicted", "confidence"]].head(5).to_string(index=False), "\n")

# %% The last epoch of each fold's training; a classical classifier has none.
epochs = read(run / "epochs.parquet")
if len(epochs):
    last = epochs.sort_values("epoch").groupby("fold").last()
    print(last[["epoch", "train_loss", "train_accuracy"]])
