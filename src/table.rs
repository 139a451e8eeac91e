//! Parquet tables by schema. Every file's footer says which schema it has (`wbc.schema`) and what it was made from
//! and how (`wbc.provenance`); a file of another schema or version is refused with a clear error.

use crate::atomic;
use crate::error::{Error, Input, Result};
use crate::schema::Schema;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Compression;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

/// What a table was made from and how. Two tables of equal provenance hold equal rows, so that a stage whose output
/// already has the provenance it would write need not run.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The stage that wrote the table.
    pub stage: String,
    /// The stage's resolved settings.
    pub settings: serde_json::Value,
    /// The seed, where the stage draws random numbers.
    pub seed: Option<u64>,
    /// Hash of every input, by name.
    pub inputs: BTreeMap<String, String>,
}

impl Provenance {
    /// The hash of an input, where it is one.
    pub fn input(&self, input: Input) -> Option<&str> {
        self.inputs.get(input.name()).map(String::as_str)
    }

    /// Requires that the table at `path` with this provenance was written from the `input` with this hash.
    ///
    /// # Errors
    /// [`Error::Stale`]: `table`, which is what lies at `path`, has to be written again.
    pub fn require(&self, input: Input, hash: &str, table: Input, path: &Path) -> Result<()> {
        match self.input(input) == Some(hash) {
            true => Ok(()),
            false => Err(Error::stale(table, path, format!("the {input} has changed since"))),
        }
    }
}

const SCHEMA_KEY: &str = "wbc.schema";
const PROVENANCE_KEY: &str = "wbc.provenance";
/// Rows a row group and a read batch.
const BATCH_ROWS: usize = 65_536;
/// The same for tables of pictures.
const PICTURE_ROWS: usize = 256;

/// BLAKE3 of a file's bytes, 64 hex digits. Our tables hold no times, so equal content has equal hashes.
pub fn file_hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    hasher.update_reader(&mut file).map_err(Error::io(path, "read"))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Writes a table in one go from the batches that `fill` hands to the closure it is given; nothing is kept in memory
/// beyond a row group. Replaces `path` atomically.
pub fn write_stream(
    path: &Path,
    schema: &Schema,
    provenance: &Provenance,
    fill: impl FnOnce(&mut dyn FnMut(&RecordBatch) -> Result<()>) -> Result<()>,
) -> Result<()> {
    // Pixels do not compress and repeat nowhere; everything else does both.
    let pixels = schema.name == "tensors";
    let properties = WriterProperties::builder()
        .set_compression(if pixels { Compression::UNCOMPRESSED } else { Compression::SNAPPY })
        .set_dictionary_enabled(!pixels)
        // Nobody asks for the smallest picture.
        .set_statistics_enabled(if pixels { EnabledStatistics::None } else { EnabledStatistics::Page })
        // A row group is held in memory until it is whole.
        .set_max_row_group_row_count(Some(if pixels { PICTURE_ROWS } else { BATCH_ROWS }))
        .set_created_by(concat!("wbc ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![
            KeyValue::new(SCHEMA_KEY.into(), schema.tag()),
            KeyValue::new(
                PROVENANCE_KEY.into(),
                serde_json::to_string(provenance).expect("a provenance is plain JSON"),
            ),
        ]))
        .build();
    let failed = |e: parquet::errors::ParquetError| Error::Io {
        path: path.into(),
        action: "write",
        source: std::io::Error::other(e),
    };
    atomic::write(path, |out| {
        let mut writer = ArrowWriter::try_new(out, schema.arrow(), Some(properties)).map_err(failed)?;
        fill(&mut |batch| writer.write(batch).map_err(failed))?;
        writer.close().map_err(failed)?;
        Ok(())
    })
}

/// Writes rows (structs of [`crate::rows`]).
pub fn write_rows<T: Serialize>(path: &Path, schema: &Schema, provenance: &Provenance, rows: &[T]) -> Result<()> {
    let arrow_schema = schema.arrow();
    write_stream(path, schema, provenance, |put| {
        for chunk in rows.chunks(BATCH_ROWS) {
            let batch = serde_arrow::to_record_batch(arrow_schema.fields(), &chunk).map_err(|e| Error::Format {
                path: path.into(),
                item: "rows".into(),
                expected: format!("rows of schema {}", schema.tag()),
                got: e.to_string(),
            })?;
            put(&batch)?;
        }
        Ok(())
    })
}

/// Reads all rows as structs of [`crate::rows`], and the provenance.
///
/// # Errors
/// [`Error::Missing`] where there is no file, [`Error::Format`] where it is no Parquet, of another schema or version,
/// or a value is outside what the schema allows.
pub fn read_rows<T: DeserializeOwned>(path: &Path, schema: &Schema) -> Result<(Vec<T>, Provenance)> {
    let mut rows = Vec::new();
    let provenance = read_batches(path, schema, |batch| {
        let part: Vec<T> = serde_arrow::from_record_batch(&batch).map_err(|e| Error::Format {
            path: path.into(),
            item: format!("rows from {}", rows.len()),
            expected: format!("rows of schema {}", schema.tag()),
            got: e.to_string(),
        })?;
        rows.extend(part);
        Ok(())
    })?;
    Ok((rows, provenance))
}

/// Reads a table batch by batch, and returns its provenance.
pub fn read_batches(
    path: &Path,
    schema: &Schema,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<Provenance> {
    let (file, metadata, provenance) = open(path, schema)?;
    let unreadable = |e: String| Error::Format {
        path: path.into(),
        item: "data".into(),
        expected: "a whole Parquet file".into(),
        got: e,
    };
    let reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_batch_size(if schema.name == "tensors" { PICTURE_ROWS } else { BATCH_ROWS })
        .build()
        .map_err(|e| unreadable(e.to_string()))?;
    for batch in reader {
        each(batch.map_err(|e| unreadable(e.to_string()))?)?;
    }
    Ok(provenance)
}

/// Rows of a table, from its footer.
pub fn count(path: &Path, schema: &Schema) -> Result<usize> {
    open(path, schema).map(|(_, metadata, _)| metadata.metadata().file_metadata().num_rows() as usize)
}

/// The provenance in a table's footer; no row is read.
pub fn provenance(path: &Path, schema: &Schema) -> Result<Provenance> {
    open(path, schema).map(|(_, _, provenance)| provenance)
}

/// Whether `path` is there, whole, and was made exactly as `expected` says.
pub fn is_current(path: &Path, schema: &Schema, expected: &Provenance) -> bool {
    provenance(path, schema).is_ok_and(|found| found == *expected)
}

fn open(path: &Path, schema: &Schema) -> Result<(File, ArrowReaderMetadata, Provenance)> {
    let wrong = |item: &str, expected: String, got: String| Error::Format {
        path: path.into(),
        item: item.into(),
        expected,
        got,
    };
    let file = File::open(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => Error::missing(Input::from_name(&schema.name).unwrap_or(Input::Run), path),
        _ => Error::Io { path: path.into(), action: "open", source },
    })?;
    let metadata = ArrowReaderMetadata::load(&file, ArrowReaderOptions::new())
        .map_err(|e| wrong("file", "a Parquet table".into(), e.to_string()))?;
    let footer = metadata.metadata().file_metadata().key_value_metadata();
    let value = |key: &str| footer.and_then(|kv| kv.iter().find(|kv| kv.key == key)).and_then(|kv| kv.value.clone());
    let remake = format!("; make it again with: wbc {}", maker(&schema.name));
    match value(SCHEMA_KEY) {
        Some(tag) if tag == schema.tag() => {}
        other => {
            let got = other.unwrap_or_else(|| "no such key".into());
            return Err(wrong(SCHEMA_KEY, schema.tag(), got + &remake));
        }
    }
    for (found, column) in metadata.schema().fields().iter().zip(schema.arrow().fields()) {
        if found.name() != column.name() || found.data_type() != column.data_type() {
            let expected = format!("{} ({})", column.name(), column.data_type());
            return Err(wrong("column", expected, format!("{} ({}){remake}", found.name(), found.data_type())));
        }
    }
    if metadata.schema().fields().len() != schema.columns.len() {
        let (expected, got) = (schema.columns.len(), metadata.schema().fields().len());
        return Err(wrong("columns", expected.to_string(), format!("{got}{remake}")));
    }
    let text = value(PROVENANCE_KEY).unwrap_or_default();
    let provenance = serde_json::from_str(&text)
        .map_err(|e| wrong(PROVENANCE_KEY, "JSON".into(), format!("{text:?} ({e}){remake}")))?;
    Ok((file, metadata, provenance))
}

/// The subcommand that makes a table.
fn maker(schema: &str) -> &'static str {
    match schema {
        "manifest" => "ingest",
        "issues" => "check",
        "splits" => "split --stratified",
        "tensors" => "preprocess",
        "features" => "features",
        _ => "train",
    }
}
