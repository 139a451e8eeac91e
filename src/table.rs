//! Reading and writing Parquet tables. The footer of every file has the schema (`wbc.schema`) and the provenance
//! (`wbc.provenance`: stage, settings, seed and hashes of the inputs).

use crate::atomic;
use crate::class::Classes;
use crate::error::{Error, Input, Result, if_readable};
use crate::guard;
use crate::integrity::{self, State};
use crate::rows::ClassRow;
use crate::schema::{PER_CLASS, Schema, Storage};
use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, ArrayRef, Float32Array, RecordBatch, StringArray};
use arrow_schema::{Field, Fields};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::Arc;

/// How a table was made. Tables of equal provenance have equal rows, so a stage need not run if its output already has
/// the provenance that it would write.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Provenance {
    /// The stage that wrote the table.
    pub stage: String,
    /// The stage's resolved settings.
    pub settings: serde_json::Value,
    /// The seed, if the stage draws random numbers.
    pub seed: Option<u64>,
    /// Hash of every input, by [`Input::name`].
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
const CHECKSUM_KEY: &str = "wbc.checksum";

/// BLAKE3 hash of a file's bytes, 64 hex digits. Tables contain no times, so that equal rows have equal hashes.
///
/// # Errors
/// [`Error::Io`].
pub fn file_hash(path: &Path) -> Result<String> {
    let mut hasher = blake3::Hasher::new();
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    hasher.update_reader(&mut file).map_err(Error::io(path, "read"))?;
    Ok(hasher.finalize().to_hex().to_string())
}

/// Whether there is a table, or another file, at `path`.
///
/// # Errors
/// [`Error::Io`] where that is not known, because a folder above it may not be searched.
pub fn exists(path: &Path) -> Result<bool> {
    guard::is_file(path).map_err(Error::io(path, "look for"))
}

/// Writes a table of the batches that `fill` passes to its argument, with at most one row group in memory, and replaces
/// `path` atomically.
///
/// # Errors
/// [`Error::Io`], and any error of `fill`; the previous table is then kept.
pub fn write_stream(
    path: &Path,
    schema: &Schema,
    provenance: &Provenance,
    fill: impl FnOnce(&mut dyn FnMut(&RecordBatch) -> Result<()>) -> Result<()>,
) -> Result<()> {
    let Storage { encoded, row_group_rows } = schema.storage;
    let properties = WriterProperties::builder()
        .set_compression(if encoded { Compression::SNAPPY } else { Compression::UNCOMPRESSED })
        .set_dictionary_enabled(encoded)
        .set_statistics_enabled(if encoded { EnabledStatistics::Page } else { EnabledStatistics::None })
        .set_max_row_group_row_count(Some(row_group_rows))
        .set_created_by(concat!("wbc ", env!("CARGO_PKG_VERSION")).into())
        .set_key_value_metadata(Some(vec![
            KeyValue::new(SCHEMA_KEY.into(), schema.tag()),
            KeyValue::new(
                PROVENANCE_KEY.into(),
                serde_json::to_string(provenance).expect("a provenance is plain JSON"),
            ),
            KeyValue::new(CHECKSUM_KEY.into(), integrity::BLANK.to_string()),
        ]))
        .build();
    let failed = |e: ParquetError| Error::Io { path: path.into(), action: "write", source: std::io::Error::other(e) };
    atomic::write(path, |out| {
        let mut writer = ArrowWriter::try_new(&mut *out, schema.arrow(), Some(properties)).map_err(failed)?;
        fill(&mut |batch| writer.write(batch).map_err(failed))?;
        writer.close().map_err(failed)?;
        out.flush().map_err(Error::io(path, "write"))?;
        let file = out.get_mut();
        let sealed = integrity::parquet_footer(file).and_then(|footer| integrity::seal(file, footer));
        sealed.map_err(Error::io(path, "write the checksum of"))
    })
}

/// Writes a table of rows, which are structs of [`crate::rows`], and replaces `path` atomically.
///
/// # Errors
/// [`Error::Io`], and [`Error::Format`] for a struct that does not match the schema.
pub fn write_rows<T: Serialize>(path: &Path, schema: &Schema, provenance: &Provenance, rows: &[T]) -> Result<()> {
    let arrow_schema = schema.arrow();
    write_stream(path, schema, provenance, |put| {
        for chunk in rows.chunks(schema.storage.row_group_rows) {
            let batch = serde_arrow::to_record_batch(arrow_schema.fields(), &chunk)
                .map_err(|e| Error::format(path, "rows", format!("rows of schema {}", schema.tag()), e))?;
            put(&batch)?;
        }
        Ok(())
    })
}

/// Reads all rows of a table as structs of [`crate::rows`], and its provenance.
///
/// # Errors
/// [`Error::Missing`] if there is no file, [`Error::Stale`] for another version of the schema and a file that was
/// damaged, [`Error::Format`] if the file is no such table or a value is not allowed.
pub fn read_rows<T: DeserializeOwned>(path: &Path, schema: &Schema) -> Result<(Vec<T>, Provenance)> {
    /// Most rows that there is room for before they are read: a damaged footer may say any number.
    const AT_FIRST: usize = 1 << 20;
    // As many as there are: a list that grows takes up to three times the memory of its rows meanwhile.
    let mut rows = Vec::with_capacity(count(path, schema)?.min(AT_FIRST));
    let provenance = read_batches(path, schema, |batch| {
        let part: Vec<T> = serde_arrow::from_record_batch(&batch).map_err(|e| {
            Error::format(path, format!("rows from {}", rows.len()), format!("rows of schema {}", schema.tag()), e)
        })?;
        rows.extend(part);
        Ok(())
    })?;
    Ok((rows, provenance))
}

/// [`write_rows`] for rows with one probability per class of `classes`.
///
/// # Errors
/// As [`write_rows`], and [`Error::Format`] for a row that has not one probability per class.
pub fn write_class_rows<T: ClassRow>(
    path: &Path,
    schema: &Schema,
    classes: &Classes,
    provenance: &Provenance,
    rows: &[T],
) -> Result<()> {
    let schema = schema.with_classes(classes);
    let arrow = schema.arrow();
    let (own, of_class): (Vec<_>, Vec<_>) = arrow.fields().iter().cloned().partition(|field| !is_of_class(field));
    if let Some(row) = rows.iter().find(|row| row.probabilities().len() != classes.len()) {
        let got = row.probabilities().len();
        return Err(Error::format(path, "rows", format!("one probability for each of {classes}"), got));
    }
    write_stream(path, &schema, provenance, |put| {
        for chunk in rows.chunks(schema.storage.row_group_rows) {
            let batch = serde_arrow::to_record_batch(&own, &chunk)
                .map_err(|e| Error::format(path, "rows", format!("rows of schema {}", schema.tag()), e))?;
            let mut columns = batch.columns().to_vec();
            columns.extend((0..of_class.len()).map(|class| {
                let values = chunk.iter().map(|row| row.probabilities()[class]);
                Arc::new(Float32Array::from_iter_values(values)) as ArrayRef
            }));
            put(&RecordBatch::try_new(arrow.clone(), columns).expect("columns of one length, in the schema's order"))?;
        }
        Ok(())
    })
}

/// [`read_rows`] for rows with one probability per class of `classes`.
///
/// # Errors
/// As [`read_rows`], and [`Error::Format`] where the table has the probabilities of other classes.
pub fn read_class_rows<T: ClassRow>(path: &Path, schema: &Schema, classes: &Classes) -> Result<(Vec<T>, Provenance)> {
    let schema = schema.with_classes(classes);
    let mut rows: Vec<T> = Vec::new();
    let provenance = read_batches(path, &schema, |batch| {
        let own = batch.schema().fields().iter().filter(|field| !is_of_class(field)).count();
        let fixed = batch.project(&(0..own).collect::<Vec<_>>()).expect("the first columns");
        let mut part: Vec<T> = serde_arrow::from_record_batch(&fixed).map_err(|e| {
            Error::format(path, format!("rows from {}", rows.len()), format!("rows of schema {}", schema.tag()), e)
        })?;
        for column in &batch.columns()[own..] {
            let values = column.as_primitive::<Float32Type>().values();
            part.iter_mut().zip(values).for_each(|(row, value)| row.probabilities_mut().push(*value));
        }
        rows.extend(part);
        Ok(())
    })?;
    Ok((rows, provenance))
}

/// Whether a column has the probabilities of a class. These columns are the last ones of a table.
fn is_of_class(field: &Field) -> bool {
    field.name().starts_with("p_")
}

/// Reads a table batch by batch, after its checksum, and returns its provenance.
///
/// # Errors
/// As [`read_rows`], and any error of `each`.
pub fn read_batches(path: &Path, schema: &Schema, each: impl FnMut(RecordBatch) -> Result<()>) -> Result<Provenance> {
    read_projected(path, schema, None, each)
}

/// How many rows of a table have `value` in a column of truth values. Of the values, only the column's are decoded.
///
/// # Errors
/// As [`read_rows`].
pub fn count_of(path: &Path, schema: &Schema, column: &str, value: bool) -> Result<u64> {
    let mut count = 0;
    read_projected(path, schema, Some(column), |batch| {
        count += batch.column(0).as_boolean().iter().filter(|found| *found == Some(value)).count() as u64;
        Ok(())
    })?;
    Ok(count)
}

/// Largest number of rows of a batch that is read: what a batch takes besides its rows should not count.
const BATCH_ROWS: usize = 8192;

fn read_projected(
    path: &Path,
    schema: &Schema,
    column: Option<&str>,
    mut each: impl FnMut(RecordBatch) -> Result<()>,
) -> Result<Provenance> {
    let (mut file, metadata, provenance) = open(path, schema)?;
    require_intact(&mut file, path, schema)?;
    // The reader keeps only the text of an error of the file system.
    let unreadable = |e: &dyn std::fmt::Display| match e.to_string() {
        text if text.contains("(os error ") => Error::io(path, "read")(std::io::Error::other(text)),
        text => Error::format(path, "data", "a complete Parquet file", text),
    };
    let damaged = || unreadable(&"a damaged one");
    let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(file, metadata)
        .with_batch_size(schema.storage.row_group_rows.min(BATCH_ROWS));
    if let Some(column) = column {
        let mask = ProjectionMask::columns(reader.parquet_schema(), [column]);
        reader = reader.with_projection(mask);
    }
    let mut reader = guard::catch(|| reader.build()).ok_or_else(damaged)?.map_err(|e| unreadable(&e))?;
    while let Some(batch) = guard::catch(|| reader.next()).ok_or_else(damaged)? {
        each(batch.map_err(|e| unreadable(&e))?)?;
    }
    Ok(provenance)
}

/// A text column of a batch of [`read_batches`], whose schema has been checked.
pub(crate) fn text<'a>(batch: &'a RecordBatch, name: &str) -> &'a StringArray {
    let column = batch.column_by_name(name).expect("the schema has the column");
    column.as_any().downcast_ref().expect("the schema says text")
}

/// Number of rows of a table, from its footer.
///
/// # Errors
/// As [`read_rows`]; no row is read.
pub fn count(path: &Path, schema: &Schema) -> Result<usize> {
    open(path, schema).map(|(_, metadata, _)| metadata.metadata().file_metadata().num_rows() as usize)
}

/// The provenance of a table, from its footer.
///
/// # Errors
/// As [`read_rows`]; no row is read.
pub fn provenance(path: &Path, schema: &Schema) -> Result<Provenance> {
    open(path, schema).map(|(_, _, provenance)| provenance)
}

/// The provenance of a table of any schema.
///
/// # Errors
/// [`Error::Io`] and [`Error::Format`].
pub fn any_provenance(path: &Path) -> Result<Provenance> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    provenance_in(&metadata(path, &file)?, path)
}

/// Whether there is a table at `path` with this schema and provenance, as it was written.
pub fn is_current(path: &Path, schema: &Schema, expected: &Provenance) -> bool {
    is_current_if_readable(path, schema, expected).unwrap_or(false)
}

/// [`is_current`], where a table that cannot be read must not pass for one that is not there.
///
/// # Errors
/// [`Error::Io`].
pub fn is_current_if_readable(path: &Path, schema: &Schema, expected: &Provenance) -> Result<bool> {
    let open = if_readable(open(path, schema))?.filter(|(.., provenance)| provenance == expected);
    match open {
        Some((mut file, ..)) => Ok(if_readable(require_intact(&mut file, path, schema))?.is_some()),
        None => Ok(false),
    }
}

/// Compares a table with its checksum.
fn require_intact(file: &mut File, path: &Path, schema: &Schema) -> Result<()> {
    let state = integrity::parquet_footer(file).and_then(|footer| integrity::state(file, footer));
    match (state.map_err(Error::io(path, "read"))?, schema.input()) {
        (State::Intact | State::Unknown, _) => Ok(()),
        (State::Damaged, Some(input)) => Err(Error::stale(input, path, integrity::DAMAGED)),
        (State::Damaged, None) => Err(Error::format(path, "checksum", "the one of its content", integrity::DAMAGED)),
    }
}

fn open(path: &Path, schema: &Schema) -> Result<(File, ArrowReaderMetadata, Provenance)> {
    let file = File::open(path).map_err(|source| match (source.kind(), schema.input()) {
        (std::io::ErrorKind::NotFound, Some(input)) => Error::missing(input, path),
        _ => Error::Io { path: path.into(), action: "open", source },
    })?;
    let metadata = metadata(path, &file)?;
    let tag = value(&metadata, SCHEMA_KEY).unwrap_or_else(|| "none".into());
    if tag != schema.tag() {
        let older = tag.strip_prefix(&schema.name).is_some_and(|version| version.starts_with('/'));
        return Err(match schema.input().filter(|_| older) {
            Some(input) => Error::stale(input, path, format!("its schema is {tag}, this version has {}", schema.tag())),
            None => Error::format(path, SCHEMA_KEY, schema.tag(), tag),
        });
    }
    let columns = |fields: &Fields| -> Vec<String> {
        fields.iter().map(|field| format!("{} ({})", field.name(), field.data_type())).collect()
    };
    let (expected, mut got) = (columns(schema.arrow().fields()), columns(metadata.schema().fields()));
    if schema.columns.iter().any(|column| column.name == PER_CLASS) {
        // Any classes will do.
        let of_class = |column: &String| column.starts_with("p_") && column.ends_with("(Float32)");
        let any = format!("{PER_CLASS} (Float32)");
        got = got.into_iter().map(|column| if of_class(&column) { any.clone() } else { column }).collect();
        got.dedup();
    }
    if expected != got {
        return Err(Error::format(path, "columns", expected.join(", "), got.join(", ")));
    }
    let provenance = provenance_in(&metadata, path)?;
    Ok((file, metadata, provenance))
}

/// The footer of a table.
fn metadata(path: &Path, file: &File) -> Result<ArrowReaderMetadata> {
    let not_a_table = |e: &dyn std::fmt::Display| Error::format(path, "file", "a Parquet table", e);
    guard::catch(|| ArrowReaderMetadata::load(file, ArrowReaderOptions::new()))
        .ok_or_else(|| not_a_table(&"a damaged file"))?
        .map_err(|e| reading(path, e).unwrap_or_else(|e| not_a_table(&e)))
}

/// The error of a file that cannot be read, as against one that is damaged.
///
/// # Errors
/// Any other error, as it is.
pub fn reading(path: &Path, error: ParquetError) -> Result<Error, ParquetError> {
    match error {
        ParquetError::External(cause) => match cause.downcast::<std::io::Error>() {
            Ok(source) if source.raw_os_error().is_some() => Ok(Error::io(path, "read")(*source)),
            Ok(other) => Err(ParquetError::External(other)),
            Err(other) => Err(ParquetError::External(other)),
        },
        other => Err(other),
    }
}

/// A value of the footer.
fn value(metadata: &ArrowReaderMetadata, key: &str) -> Option<String> {
    let footer = metadata.metadata().file_metadata().key_value_metadata()?;
    footer.iter().find(|kv| kv.key == key)?.value.clone()
}

fn provenance_in(metadata: &ArrowReaderMetadata, path: &Path) -> Result<Provenance> {
    let text = value(metadata, PROVENANCE_KEY).unwrap_or_default();
    serde_json::from_str(&text).map_err(|e| Error::format(path, PROVENANCE_KEY, "JSON", format!("{text:?} ({e})")))
}
