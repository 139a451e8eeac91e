# %% [markdown]
# # All runs at once, in SQL
#
# DuckDB reads every run's predictions by one pattern: how the runs compare, and which images are wrong in all of them.
#
#     pip install duckdb
#     python docs/duckdb_queries.py --workspace data

# %%
import argparse
from pathlib import Path

import duckdb

parser = argparse.ArgumentParser(description="All runs at once, in SQL")
parser.add_argument("--workspace", type=Path, default="data", help="[default: data]")
args, _ = parser.parse_known_args()  # a notebook has arguments of its own
db = duckdb.connect()

# %% One column p_<class> per class; null where a run does not know the class.
files = f"read_parquet('{args.workspace}/runs/*/predictions.parquet', filename = true, union_by_name = true)"
columns = [name for name, *_ in db.sql(f"DESCRIBE FROM {files}").fetchall() if name.startswith("p_")]
classes = ", ".join("'" + name.removeprefix("p_").replace("'", "''") + "'" for name in columns)
probabilities = ", ".join('"' + name.replace('"', '""') + '"' for name in columns)

# %% The run's name is the folder's. The predicted class is the one with the largest probability.
db.sql(f"""
    CREATE VIEW predictions AS
    SELECT regexp_extract(filename, '([^/\\\\]+)[/\\\\]predictions.parquet$', 1) AS run, image_id, fold, truth,
           list_position(p, list_max(p)) AS place,
           [{classes}][place] AS predicted,
           predicted = truth AS correct, list_max(p) AS confidence
    FROM (SELECT *, [{probabilities}] AS p FROM {files})
""")
db.sql(f"CREATE VIEW manifest AS FROM read_parquet('{args.workspace}/*/manifest.parquet')")

# %% Balanced accuracy: the mean recall of a fold's classes, then the mean over folds.
runs = db.sql("""
    WITH recalls AS (SELECT run, fold, truth, avg(correct::INT) AS recall, count(*) AS images
                     FROM predictions GROUP BY ALL),
         folds AS (SELECT run, fold, avg(recall) AS balanced_accuracy, sum(images) AS images FROM recalls GROUP BY ALL)
    SELECT run, count(*) AS folds, sum(images) AS images, avg(balanced_accuracy) AS balanced_accuracy
    FROM folds GROUP BY run ORDER BY run
""")
for run, folds, images, balanced_accuracy in runs.fetchall():
    print(f"{run}: {images} images in {folds} folds, balanced accuracy {balanced_accuracy:.12f}")

# %% Images that every run gets wrong. Some of them may have a wrong label.
db.sql("""
    CREATE VIEW always_wrong AS
    SELECT image_id, any_value(truth) AS truth, count(*) AS runs, mode(predicted) AS mostly_predicted,
           round(avg(confidence), 3) AS confidence
    FROM predictions GROUP BY image_id HAVING count(*) > 1 AND NOT bool_or(correct)
""")
print(f"wrong in every run: {db.sql('SELECT count(*) FROM always_wrong').fetchall()[0][0]} images")
print(db.sql("""
    SELECT path, subtype, always_wrong.* EXCLUDE (image_id) FROM always_wrong JOIN manifest USING (image_id)
    ORDER BY runs DESC, confidence DESC, path LIMIT 10
"""))

# %% The most frequent confusions, over all runs.
print(db.sql("""
    SELECT truth, predicted, count(*) AS times, count(DISTINCT image_id) AS images
    FROM predictions WHERE NOT correct GROUP BY ALL ORDER BY times DESC, truth, predicted LIMIT 10
"""))
