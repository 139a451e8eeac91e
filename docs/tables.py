# %% [markdown]
# # What is in a workspace
#
# Every table of a workspace, its number of rows, and its settings and inputs, which the file's footer records.
#
#     pip install pyarrow
#     python docs/tables.py --workspace data

# %%
import argparse
import json
from pathlib import Path

import pyarrow.parquet as pq

parser = argparse.ArgumentParser(description="What is in a workspace")
parser.add_argument("--workspace", type=Path, default="data", help="[default: data]")
args, _ = parser.parse_known_args()  # a notebook has arguments of its own


# %% The two keys of the footer. No row is read.
def footer(path):
    """The schema's name and version (schemas/NAME.toml describes the columns), and the provenance."""
    metadata = pq.read_metadata(path).metadata
    return metadata[b"wbc.schema"].decode(), json.loads(metadata[b"wbc.provenance"])


# %%
patterns = ["[!.]*/*.parquet", "[!.]*/tensors-*/*.parquet", "runs/*/*.parquet"]
paths = [path for pattern in patterns for path in sorted(args.workspace.glob(pattern))]
for path in paths:
    schema, provenance = footer(path)
    rows = pq.read_metadata(path).num_rows
    origin = f"{provenance['stage']}, seed {provenance['seed']}, from {', '.join(provenance['inputs'])}"
    print(f"{path.relative_to(args.workspace).as_posix()}: {rows} rows, {schema}; {origin}")

# %% The settings of the last table.
if paths:
    print(json.dumps(footer(paths[-1])[1]["settings"], indent=2))
