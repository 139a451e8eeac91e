# %% [markdown]
# # A run's results in pandas
#
# The confusion matrix, recalls and balanced accuracy from the predictions, compared with wbc's own metrics, and the
# most confident mistakes.
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
tables = sorted(args.workspace.glob(f"runs/{args.run or '*'}/metrics.parquet"))
if not tables:
    parser.error(f"no metrics of run {args.run or '*'} in {args.workspace}; wbc train writes them")
run = tables[0].parent
dataset = json.loads((run / "run.json").read_text())["dataset"]


# %% With Arrow's types, integer columns with missing values (a box, the fold of a mean) stay integers.
def read(path):
    return pd.read_parquet(path, dtype_backend="pyarrow")


predictions = read(run / "predictions.parquet")
probabilities = predictions.filter(like="p_").to_numpy(np.float32)
classes = [column.removeprefix("p_") for column in predictions.filter(like="p_")]
predictions["predicted"] = np.take(classes, probabilities.argmax(axis=1))
predictions["confidence"] = probabilities.max(axis=1)
predictions["correct"] = predictions["predicted"] == predictions["truth"]
print(f"{run.name}: {len(predictions)} predictions in {predictions['fold'].nunique()} folds")

# %% One row per true class, one column per predicted class.
confusion = pd.crosstab(predictions["truth"], predictions["predicted"])
confusion = confusion.reindex(index=classes, columns=classes, fill_value=0)
print(confusion, "\n")

# %% Recall by fold; its mean over the classes is a fold's balanced accuracy, and the mean over folds is the run's.
recall = predictions.groupby(["truth", "fold"])["correct"].mean().unstack().reindex(classes)
print((100 * recall.astype(float)).round(1).to_string(), "\n")
balanced_accuracy = recall.mean().mean()

# %% wbc's own metrics: one row per metric, class and fold, and one without a fold for the mean over folds.
metrics = read(run / "metrics.parquet")
over_folds = metrics[metrics["fold"].isna()]
stored = over_folds.query("metric == 'balanced_accuracy'")["value"].item()
print(f"balanced accuracy: {balanced_accuracy:.12f} from the predictions, {stored:.12f} in metrics.parquet")
print(read(run / "intervals.parquet").query("metric == 'balanced_accuracy'")[["method", "low", "high"]], "\n")

# %% The most confident mistakes, with their files. Tables are joined by image_id.
manifest = read(args.workspace / dataset / "manifest.parquet")
mistakes = predictions[~predictions["correct"]].merge(manifest, on="image_id", validate="one_to_one")
mistakes = mistakes.sort_values("confidence", ascending=False)
print(f"{len(mistakes)} mistakes, the most confident first:")
print(mistakes[["path", "truth", "predicted", "confidence"]].head(5).to_string(index=False), "\n")

# %% The last epoch of each fold's training; a classical model has no epochs.
epochs = read(run / "epochs.parquet")
if len(epochs):
    last = epochs.sort_values("epoch").groupby("fold").last()
    print(last[["epoch", "train_loss", "train_accuracy"]])
