//! Tables: Parquet files of every schema.

use crate::class::Classes;
use crate::harness;
use crate::rows::*;
use crate::schema::{self, Schema};
use crate::{integrity, table};
use arrow_array::{ArrayRef, RecordBatch, StringArray};
use std::sync::Arc;

/// Reads a table with the schema that it names, as rows where they have a struct.
pub fn check(bytes: &[u8]) {
    let bytes = harness::resealed(bytes, integrity::parquet_footer);
    let path = harness::write("table.parquet", &bytes);
    let all = schema::all();
    let names = |schema: &&&Schema| memchr::memmem::find(&bytes, schema.tag().as_bytes()).is_some();
    let schema = all.iter().find(names).unwrap_or(&all[0]);
    let classes = Classes::wbc5();
    let _ = match schema.name.as_str() {
        "manifest" => table::read_rows::<ManifestRow>(&path, schema).map(|_| ()),
        "checks" => table::read_rows::<CheckRow>(&path, schema).map(|_| ()),
        "copies" => table::read_rows::<CopyRow>(&path, schema).map(|_| ()),
        "issues" => table::read_rows::<IssueRow>(&path, schema).map(|_| ()),
        "epochs" => table::read_rows::<EpochRow>(&path, schema).map(|_| ()),
        "metrics" => table::read_rows::<MetricRow>(&path, schema).map(|_| ()),
        "intervals" => table::read_rows::<IntervalRow>(&path, schema).map(|_| ()),
        "predictions" => table::read_class_rows::<PredictionRow>(&path, schema, &classes).map(|_| ()),
        "cells" => table::read_class_rows::<CellRow>(&path, schema, &classes).map(|_| ()),
        _ => table::read_batches(&path, schema, |_| Ok(())).map(|_| ()),
    };
}

/// A table of each schema: without rows, and those that most is read from with some.
pub fn seeds() -> Vec<Vec<u8>> {
    let path = harness::folder().join("seed.parquet");
    let made = table::Provenance { stage: "fuzz".into(), ..Default::default() };
    let mut seeds = Vec::new();
    let mut keep = || seeds.push(std::fs::read(&path).expect("a table"));
    for schema in schema::all() {
        let schema = schema.with_classes(&Classes::wbc5());
        table::write_stream(&path, &schema, &made, |put| put(&RecordBatch::new_empty(schema.arrow())))
            .expect("a table");
        keep();
    }
    let manifest = [ManifestRow { path: "a.png".into(), ..Default::default() }, Default::default()];
    table::write_rows(&path, &schema::MANIFEST, &made, &manifest).expect("a table");
    keep();
    table::write_rows(&path, &schema::CHECKS, &made, &[CheckRow::default()]).expect("a table");
    keep();
    let row = PredictionRow::new("a.png".into(), 1, Classes::wbc5().iter().next().expect("a class"), vec![0.2; 5]);
    table::write_class_rows(&path, &schema::PREDICTIONS, &Classes::wbc5(), &made, &[row]).expect("a table");
    keep();
    seeds
}

/// A small table of other programs.
pub fn small() -> Vec<u8> {
    let column = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let columns = [("path", column(["images/b.png", "x"])), ("class", column(["monocyte", "basophil"]))];
    let batch = RecordBatch::try_from_iter(columns).expect("two columns");
    let mut bytes = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("rows");
    writer.close().expect("a table");
    bytes
}
