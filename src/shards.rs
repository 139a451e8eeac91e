//! Work on the images of a data set that several machines share.
//!
//! Each machine works on a shard: on those images whose name has a hash that is the shard's number when divided by the
//! number of shards, so that a shard depends neither on the order of the images nor on the other shards. Its results
//! lie in a table of their own, `<dataset>/shards/<stage>/<step>-<number>-of-<count>.parquet`, until a last process
//! merges those of all shards, and writes what a single process would have written, byte for byte.
//!
//! A stage with several steps, each of which needs the results of the one before for all images, is called once for
//! each step: [`each_into`] does what can be done.

use crate::context::Context;
use crate::error::{Error, Result};
use crate::part::{Part, Shard, Waiting};
use crate::schema::SHARD;
use crate::storage;
use crate::table::{self, Provenance};
use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch, StringArray};
use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A step of a stage that looks at every image, or at every cell.
pub struct Step<'a> {
    /// Folder of the data set's files, or a link: see [`storage`].
    pub raw: &'a Path,
    /// Folder of the tables of the stage: see [`crate::workspace::Workspace::shards`].
    pub folder: &'a Path,
    /// Name, such as `files`.
    pub name: &'static str,
    /// What is shown of its progress, such as "reading files", and what is counted, such as "files".
    pub progress: (&'static str, &'static str),
    /// What the results depend on, besides the items.
    pub inputs: &'a BTreeMap<String, String>,
    /// Whether no other step of the stage follows, so that a shard has nothing more to do.
    pub is_last: bool,
}

/// What a step works on, one at a time.
pub trait Item: Sync {
    /// Its name, which decides on its shard: no two have the same.
    fn key(&self) -> &str;

    /// What the result depends on, such as a hash or the time of the last change; may be empty.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn stamp(&self) -> Result<String>;
}

/// An item with its name, of which nothing can change that is not in [`Step::inputs`].
impl<T: Sync> Item for (&str, T) {
    fn key(&self) -> &str {
        self.0
    }

    fn stamp(&self) -> Result<String> {
        Ok(String::new())
    }
}

/// The number of the shard of an item, from 1.
fn shard_of(key: &str, count: u32) -> u32 {
    let hash = blake3::hash(key.as_bytes());
    let hash = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"));
    (hash % u64::from(count)) as u32 + 1
}

/// Items whose results are in memory at the same time.
const AT_ONCE: usize = 4096;

/// The results of `compute` for all items, in their order: see [`each_into`].
///
/// # Errors
/// As [`each_into`].
pub fn each<I: Item, T: Send + Serialize + DeserializeOwned>(
    step: &Step,
    items: &[I],
    compute: impl Fn(&I) -> Result<T> + Sync,
    ctx: &Context,
) -> Result<Vec<T>> {
    let mut results: Vec<Option<T>> = (0..items.len()).map(|_| None).collect();
    let mut keep = |i: usize, result| {
        results[i] = Some(result);
        Ok(())
    };
    each_into(step, items, compute, &mut keep, ctx)?;
    Ok(results.into_iter().map(|result| result.expect("each item has a result")).collect())
}

/// Passes the result of `compute` for every item to `keep`, once, with the number of the item; in any order.
///
/// With [`Part::Shard`], computes only those of the shard that are not in its table, and passes the results of all
/// shards if they are there and a step follows. With [`Part::Merged`], reads all and computes none.
///
/// # Errors
/// Those of `compute` and `keep`; [`Error::Waiting`] where another shard has not done this step, or this shard the last
/// one; [`Error::Interrupted`], and those of the tables.
pub fn each_into<I: Item, T: Send + Serialize + DeserializeOwned>(
    step: &Step,
    items: &[I],
    compute: impl Fn(&I) -> Result<T> + Sync,
    keep: &mut dyn FnMut(usize, T) -> Result<()>,
    ctx: &Context,
) -> Result<()> {
    let count = match ctx.part {
        Part::All => {
            let task = ctx.progress.task(step.progress.0, Some(items.len() as u64), step.progress.1);
            for (number, items) in items.chunks(AT_ONCE).enumerate() {
                let results = in_parallel(step, items.par_iter(), &compute, &task, ctx)?;
                (number * AT_ONCE..).zip(results).try_for_each(|(i, result)| keep(i, result))?;
            }
            return Ok(());
        }
        Part::Shard(Shard { count, .. }) | Part::Merged(count) => count,
    };
    let mut shards: Vec<Vec<&I>> = (0..count).map(|_| Vec::new()).collect();
    items.iter().for_each(|item| shards[shard_of(item.key(), count) as usize - 1].push(item));
    let table = |number: u32| Table::new(step, &shards[number as usize - 1], Shard { number, count }, ctx);
    if let Part::Shard(shard) = ctx.part {
        let table = table(shard.number)?;
        if !table.is_current() {
            table.write(step, &shards[shard.number as usize - 1], &compute, ctx)?;
        }
    }
    let tables = (1..=count).map(table).collect::<Result<Vec<_>>>()?;
    let missing: Vec<u32> = tables.iter().filter(|table| !table.is_current()).map(|table| table.shard.number).collect();
    if !missing.is_empty() || step.is_last && matches!(ctx.part, Part::Shard(_)) {
        return Err(Error::Waiting(Waiting { step: step.name, shards: count, missing }));
    }
    // The tables are of these items, or they would not be current.
    let mut numbers: HashMap<&str, usize> = items.iter().enumerate().map(|(i, item)| (item.key(), i)).collect();
    for table in &tables {
        table.read(&mut |key, result| {
            let other = || Error::format(&table.path, key, "a result for every item, once", "another item");
            keep(numbers.remove(key).ok_or_else(other)?, result)
        })?;
    }
    match numbers.keys().next() {
        None => Ok(()),
        Some(key) => Err(Error::format(step.folder, *key, "a result for every item, once", "none")),
    }
}

fn in_parallel<'a, I: Item + 'a, T: Send>(
    step: &Step,
    items: impl IndexedParallelIterator<Item = &'a I>,
    compute: &(impl Fn(&I) -> Result<T> + Sync),
    task: &crate::progress::Task,
    ctx: &Context,
) -> Result<Vec<T>> {
    let results = items.map(|item| {
        ctx.check_stop()?;
        let result = compute(item)?;
        task.advance(1);
        Ok(result)
    });
    storage::on_threads(step.raw, || results.collect())
}

/// The table with the results of a shard.
struct Table {
    path: PathBuf,
    shard: Shard,
    provenance: Provenance,
}

impl Table {
    fn new<I: Item>(step: &Step, items: &[&I], shard: Shard, ctx: &Context) -> Result<Self> {
        let stamps = items.par_iter().map(|item| {
            ctx.check_stop()?;
            Ok(format!("{}\t{}\n", item.key(), item.stamp()?))
        });
        let mut hasher = blake3::Hasher::new();
        stamps.collect::<Result<Vec<_>>>()?.iter().for_each(|line| {
            hasher.update(line.as_bytes());
        });
        let mut inputs = step.inputs.clone();
        inputs.insert("items".into(), hasher.finalize().to_hex().to_string());
        let Shard { number, count } = shard;
        let digits = count.to_string().len();
        Ok(Self {
            path: step.folder.join(format!("{}-{number:0digits$}-of-{count}.parquet", step.name)),
            shard,
            provenance: Provenance {
                stage: format!("shard of {}", step.name),
                // Another version may compute something else.
                settings: serde_json::json!({ "shard": shard.to_string(), "version": env!("CARGO_PKG_VERSION") }),
                seed: None,
                inputs,
            },
        })
    }

    fn is_current(&self) -> bool {
        table::is_current(&self.path, &SHARD, &self.provenance)
    }

    fn write<I: Item, T: Send + Serialize>(
        &self,
        step: &Step,
        items: &[&I],
        compute: &(impl Fn(&I) -> Result<T> + Sync),
        ctx: &Context,
    ) -> Result<()> {
        let (label, unit) = step.progress;
        let task = ctx.progress.task(label, Some(items.len() as u64), unit);
        table::write_stream(&self.path, &SHARD, &self.provenance, |put| {
            for items in items.chunks(SHARD.storage.row_group_rows) {
                let results = in_parallel(step, items.par_iter().copied(), compute, &task, ctx)?;
                let bytes = results.iter().map(|result| postcard::to_allocvec(result).expect("a result is plain data"));
                let columns: Vec<ArrayRef> = vec![
                    Arc::new(StringArray::from_iter_values(items.iter().map(|item| item.key()))),
                    Arc::new(BinaryArray::from_iter_values(bytes)),
                ];
                put(&RecordBatch::try_new(SHARD.arrow(), columns).expect("columns of one length"))?;
            }
            Ok(())
        })?;
        drop(task);
        ctx.progress.log(&format!("shard {}: {} of {} {unit}", self.shard, step.name, items.len()));
        Ok(())
    }

    fn read<T: DeserializeOwned>(&self, keep: &mut dyn FnMut(&str, T) -> Result<()>) -> Result<()> {
        table::read_batches(&self.path, &SHARD, |batch| {
            for (key, bytes) in table::text(&batch, "key").iter().zip(batch.column(1).as_binary::<i32>()) {
                let (key, bytes) = (key.unwrap_or_default(), bytes.unwrap_or_default());
                let result = postcard::from_bytes(bytes)
                    .map_err(|e| Error::format(&self.path, format!("result of {key}"), "one of this version", e))?;
                keep(key, result)?;
            }
            Ok(())
        })?;
        Ok(())
    }
}

/// Removes the tables of stages that were merged.
///
/// # Errors
/// [`Error::Io`].
pub fn remove(folder: &Path) -> Result<()> {
    match std::fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(folder, "remove")(error)),
        _ => Ok(()),
    }
}
