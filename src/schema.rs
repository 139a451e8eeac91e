//! The schemas in `schemas/*.toml`, compiled in: the single source of truth for the columns of every Parquet table.

use crate::class::{Class, Classes};
use crate::error::Input;
use arrow_schema::{DataType, Field, Schema as ArrowSchema, SchemaRef};
use serde::Deserialize;
use std::sync::{Arc, LazyLock};

/// Name of a column in a schema that stands for one column per class, `p_<class>`: see [`Schema::with_classes`].
pub const PER_CLASS: &str = "p_*";

/// The schema of a table, as in its file in `schemas/`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// Name of the table, which is also the [`Input::name`] of tables that stages read.
    pub name: String,
    /// Raised when a column changes; a table of another version is out of date.
    pub version: u32,
    /// What a row of the table is.
    pub doc: String,
    /// How the values are stored in a file.
    #[serde(default)]
    pub storage: Storage,
    /// The columns, in order.
    #[serde(rename = "column")]
    pub columns: Vec<Column>,
}

/// How the values of a table are stored in a Parquet file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Storage {
    /// Whether values are dictionary-encoded and compressed, and described by statistics.
    pub encoded: bool,
    /// Rows per row group, and per batch when reading. A row group is in memory as a whole while it is written.
    pub row_group_rows: usize,
}

impl Default for Storage {
    fn default() -> Self {
        Self { encoded: true, row_group_rows: 65_536 }
    }
}

/// One column of a table.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Name of the column; [`PER_CLASS`] stands for one column per class.
    pub name: String,
    /// Type of its values.
    #[serde(rename = "type")]
    pub kind: Kind,
    /// Whether a value may be missing.
    #[serde(default)]
    pub nullable: bool,
    /// Unit of the values, such as px; empty for plain numbers and text.
    #[serde(default)]
    pub unit: String,
    /// Meaning of the values, and what null stands for.
    pub doc: String,
}

/// Type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// UTF-8 text.
    String,
    /// Unsigned integer of 32 bits.
    U32,
    /// Unsigned integer of 64 bits.
    U64,
    /// Floating-point number of 32 bits.
    F32,
    /// Floating-point number of 64 bits.
    F64,
    /// Bytes.
    Binary,
    /// True or false.
    Bool,
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
            Kind::Bool => DataType::Boolean,
        }
    }
}

impl Schema {
    /// The schema with a column for each of these classes in place of [`PER_CLASS`].
    pub fn with_classes(&self, classes: &Classes) -> Schema {
        let columns = self.columns.iter().flat_map(|column| match column.name.as_str() {
            PER_CLASS => {
                let of_class = |class: Class| Column { name: format!("p_{class}"), ..column.clone() };
                classes.iter().map(of_class).collect()
            }
            _ => vec![column.clone()],
        });
        Schema { columns: columns.collect(), ..self.clone() }
    }

    /// The Arrow schema with the same columns.
    pub fn arrow(&self) -> SchemaRef {
        Arc::new(ArrowSchema::new(
            self.columns.iter().map(|c| Field::new(&c.name, c.kind.arrow(), c.nullable)).collect::<Vec<_>>(),
        ))
    }

    /// Name and version, as in the footer of a file.
    pub fn tag(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }

    /// The input that a table of this schema is for later stages; none for a table that no stage reads.
    pub(crate) fn input(&self) -> Option<Input> {
        Input::from_name(&self.name)
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
        /// All schemas.
        pub fn all() -> Vec<&'static Schema> {
            vec![$(&$constant),*]
        }
    };
}

schemas! {
    MANIFEST = "manifest",
    CHECKS = "checks",
    ISSUES = "issues",
    COPIES = "copies",
    COPY_FEATURES = "copy_features",
    SHARD = "shard",
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
    fn a_class_column_stands_for_one_column_per_class() {
        let classes = crate::class::Classes::named(["blast", "normal"].map(crate::class::Class::new));
        let schema = super::PREDICTIONS.with_classes(&classes);
        let names: Vec<&str> = schema.columns.iter().map(|column| column.name.as_str()).collect();
        assert_eq!(names, ["image_id", "fold", "truth", "p_blast", "p_normal"]);
        assert_eq!(schema.tag(), super::PREDICTIONS.tag());
    }

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
