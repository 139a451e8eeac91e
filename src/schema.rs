//! `schemas/*.toml`, compiled in: the single source of truth for every Parquet table's columns.

use arrow::datatypes::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

/// A table's schema, as its file in `schemas/` states it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// The table's name.
    pub name: String,
    /// Raised when a column changes; a table of another version is refused.
    pub version: u32,
    /// What a row is.
    pub doc: String,
    /// The columns, in order.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

/// One column.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: Kind,
    #[serde(default)]
    pub nullable: bool,
    #[serde(default)]
    pub unit: String,
    pub doc: String,
}

/// The types that our tables use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    String,
    U32,
    U64,
    F32,
    F64,
    Binary,
}

impl Kind {
    fn arrow(self) -> DataType {
        match self {
            Kind::String => DataType::Utf8,
            Kind::U32 => DataType::UInt32,
            Kind::U64 => DataType::UInt64,
            Kind::F32 => DataType::Float32,
            Kind::F64 => DataType::Float64,
            Kind::Binary => DataType::Binary,
        }
    }
}

impl Schema {
    /// The Arrow schema with the same columns.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(
            self.columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), c.nullable)).collect::<Vec<_>>(),
        ))
    }

    /// What stands in a file's footer: name and version.
    pub fn tag(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

macro_rules! schemas {
    ($($constant:ident = $file:literal),* $(,)?) => {
        $(
            #[doc = concat!("The schema of `schemas/", $file, ".toml`.")]
            pub static $constant: LazyLock<Schema> = LazyLock::new(|| {
                toml::from_str(include_str!(concat!("../schemas/", $file, ".toml")))
                    .unwrap_or_else(|e| panic!("schemas/{}.toml: {e}", $file))
            });
        )*
        /// All schemas, for listings and tests.
        pub fn all() -> Vec<&'static Schema> {
            vec![$(&$constant),*]
        }
    };
}

schemas! {
    MANIFEST = "manifest",
    CHECKS = "checks",
    ISSUES = "issues",
    SPLITS = "splits",
    TENSORS = "tensors",
    FEATURES = "features",
    EPOCHS = "epochs",
    PREDICTIONS = "predictions",
    CELLS = "cells",
    METRICS = "metrics",
    INTERVALS = "intervals",
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_schema_file_is_compiled_in_and_documented() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/schemas");
        let files = std::fs::read_dir(dir).unwrap().count();
        assert_eq!(super::all().len(), files, "a file in schemas/ is not in the `schemas!` list");
        for schema in super::all() {
            assert!(!schema.doc.is_empty() && !schema.columns.is_empty());
            assert!(schema.columns.iter().all(|c| !c.doc.is_empty()), "{}: a column has no doc", schema.name);
            assert_eq!(schema.arrow().fields().len(), schema.columns.len());
        }
    }
}
