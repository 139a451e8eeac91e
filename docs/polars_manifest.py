# %% [markdown]
# # A data set in Polars
#
# Class counts, what ingest and check found, the classes per fold, and features by class.
#
#     pip install polars
#     python docs/polars_manifest.py --workspace data --dataset pbc

# %%
import argparse
from pathlib import Path

import polars as pl

parser = argparse.ArgumentParser(description="A data set in Polars")
parser.add_argument("--workspace", type=Path, default="data", help="[default: data]")
parser.add_argument("--dataset", help="name of a data set [default: the first that is split]")
args, _ = parser.parse_known_args()  # a notebook has arguments of its own
tables = sorted(args.workspace.glob(f"{args.dataset or '*'}/splits.parquet"))
if not tables:
    parser.error(f"no split of data set {args.dataset or '*'} in {args.workspace}; wbc split writes it")
folder = tables[0].parent
pl.Config.set_tbl_cols(12)

# %% One row per cell. `class` is null where a cell's label is none of the classes.
manifest = pl.scan_parquet(folder / "manifest.parquet")
checks = pl.scan_parquet(folder / "checks.parquet")
manifest = manifest.join(checks, on="image_id")
classes = (
    manifest.group_by("class")
    .agg(pl.len().alias("cells"), pl.col("group_id").n_unique().alias("groups"), pl.col("width_px").mean())
    .sort("cells", descending=True)
    .collect()
)
print(f"{folder.name}: {classes['cells'].sum()} cells")
print(classes)

# %% Findings: errors (the image is not used), warnings (inspect it), notes.
issues = pl.scan_parquet(folder / "issues.parquet")
findings = issues.group_by("check", "severity").len("findings").sort("findings", descending=True).collect()
print(f"{findings['findings'].sum()} findings")
print(findings)

# %% Test images per class and fold: even, as far as the groups allow.
tested = pl.scan_parquet(folder / "splits.parquet").filter(pl.col("role") == "test")
assigned = manifest.join(tested, on="image_id")
by_fold = assigned.group_by("class", "fold").len().sort("fold").collect().pivot("fold", index="class", values="len")
print(by_fold.sort("class"))

# %% No group (copies, near copies, cells of one frame) is in two folds.
divided = assigned.group_by("group_id").agg(pl.col("fold").n_unique()).filter(pl.col("fold") > 1).collect()
print(f"groups in two folds: {len(divided)}")

# %% Cells in a fold with a warning, and the fold that tests them.
warned = issues.filter(pl.col("severity") == "warning").join(assigned, on="image_id")
warned = warned.select("path", "check", "score", "fold")
print(warned.sort("check", "path").collect())

# %% Features by class, where `wbc features` has measured them.
if (folder / "features.parquet").exists():
    measured = pl.scan_parquet(folder / "features.parquet").join(manifest, on="image_id")
    names = ["cell_area", "nucleus_share", "nucleus_lobes"]
    print(measured.group_by("class").agg(pl.len().alias("cells"), pl.col(names).median()).sort("class").collect())
