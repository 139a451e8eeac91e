# %% [markdown]
# # Tensors as a Hugging Face dataset, for PyTorch
#
# The preprocessed images with their classes, split by fold, in batches for a PyTorch loop.
#
#     pip install datasets pandas        # and torch, for the last cell
#     python docs/hf_datasets.py --workspace data --dataset pbc --fold 0

# %%
import argparse
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from datasets import ClassLabel, Dataset

parser = argparse.ArgumentParser(description="Tensors as a Hugging Face dataset, for PyTorch")
parser.add_argument("--workspace", type=Path, default="data", help="[default: data]")
parser.add_argument("--dataset", help="name of a data set [default: the first with tensors]")
parser.add_argument("--tensors", default="tensors-*", help="folder of the tensors [default: the first tensors-...]")
parser.add_argument("--fold", type=int, default=0, help="the fold to test on [default: 0]")
args, _ = parser.parse_known_args()  # a notebook has arguments of its own
folders = sorted(args.workspace.glob(f"{args.dataset or '*'}/{args.tensors}"))
if not folders:
    parser.error(f"no tensors of data set {args.dataset or '*'} in {args.workspace}; wbc preprocess writes them")
tensors, folder = folders[0], folders[0].parent

# %% The files: image_id, width_px, height_px, pixels.
files = sorted(str(path) for path in tensors.glob("*.parquet"))
dataset = Dataset.from_parquet(files)
print(f"{folder.name}/{tensors.name}: {len(dataset)} tensors in {len(files)} files")

# %% Labels, in wbc's order of the classes, by image_id.
made = json.loads(pq.read_metadata(folder / "manifest.parquet").metadata[b"wbc.provenance"])
classes = [info["name"] for info in made["settings"]["classes"]]
manifest = pd.read_parquet(folder / "manifest.parquet").set_index("image_id")
label = ClassLabel(names=classes)
labels = label.str2int(manifest["class"].loc[dataset["image_id"]].tolist())
dataset = dataset.add_column("label", labels, feature=label)

# %% The training and test images of a fold. No group (copies, cells of one frame) is in both.
splits = pd.read_parquet(folder / "splits.parquet").query("fold == @args.fold").set_index("image_id")
role = splits["role"].reindex(dataset["image_id"]).to_numpy()
train, test = (dataset.select(np.flatnonzero(role == part)) for part in ("train", "test"))
group = pd.read_parquet(folder / "checks.parquet").set_index("image_id")["group_id"]
shared = set(group.loc[train["image_id"]]) & set(group.loc[test["image_id"]])
print(f"fold {args.fold}: {len(train)} training images, {len(test)} test images, groups in both: {len(shared)}")


# %% Pixels are height x width x 3 bytes, decoded on access.
def decode(rows):
    shapes = zip(rows.pop("pixels"), rows.pop("height_px"), rows.pop("width_px"))
    rows["image"] = [np.frombuffer(pixels, np.uint8).reshape(h, w, 3).copy() for pixels, h, w in shapes]
    return rows


train, test = train.with_transform(decode), test.with_transform(decode)
first = test[0]
print(f"{first['image_id']}: {first['image'].shape}, {first['image'].dtype}, {label.int2str(first['label'])}")

# %% Normalise by the mean and deviation of the training images only.
sums, count = np.zeros((2, 3)), 0
for batch in train.iter(batch_size=256):
    x = np.stack(batch["image"]).reshape(-1, 3).astype(np.float64)
    sums, count = sums + [x.sum(0), (x**2).sum(0)], count + len(x)
mean = sums[0] / count
deviation = np.sqrt(sums[1] / count - mean**2)
print("training pixels: mean", mean.round(1), "deviation", deviation.round(1))

# %% Batches: [n, height, width, 3] bytes in, [n, 3, height, width] floats for PyTorch.
try:
    import torch
    from torch.utils.data import DataLoader

    for batch in DataLoader(train, batch_size=32, shuffle=True):
        x = (batch["image"].float() - torch.tensor(mean)) / torch.tensor(deviation)
        x, y = x.permute(0, 3, 1, 2).float(), batch["label"]
        print("a batch:", tuple(x.shape), x.dtype, tuple(y.shape), y.dtype)
        break
except ImportError:
    for batch in train.iter(batch_size=32):
        x = ((np.stack(batch["image"]) - mean) / deviation).transpose(0, 3, 1, 2).astype(np.float32)
        print("a batch, without PyTorch:", x.shape, x.dtype)
        break
