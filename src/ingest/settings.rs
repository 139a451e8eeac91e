//! Settings of the ingest stage.

use super::labels::ClassSettings;
use serde::{Deserialize, Serialize};

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Name of the layout; none to recognise it from the files.
    pub layout: Option<String>,
    /// Whose masks to use where two experts drew them (LISC): 1 or 2.
    pub expert: u32,
    /// Template of the images' paths, such as `{subject}/{class}/{file}`; none where the layout tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Template of the path of an image's mask, such as `masks/{stem}.png`, from the image's folder or that of the data
    /// set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mask: Option<String>,
    /// Names of the columns of a list.
    #[serde(skip_serializing_if = "Columns::is_empty")]
    pub columns: Columns,
    /// Which part of the images of cells without boxes is cut out.
    #[serde(skip_serializing_if = "Cut::is_auto")]
    pub cut: Cut,
    /// The classes: the section `[classes]` of a pipeline, which a pipeline file does not repeat here.
    #[serde(skip)]
    pub classes: ClassSettings,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            layout: None,
            expert: 1,
            path: None,
            mask: None,
            columns: Columns::default(),
            cut: Cut::Auto,
            classes: ClassSettings::default(),
        }
    }
}

/// Which part of the images of cells without boxes is cut out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// As the images are: see [`crate::rows::CutRule`].
    #[default]
    Auto,
    /// The central square.
    Centre,
    /// The whole image.
    Whole,
    /// A box around the cell, which is found by the stain of its nucleus.
    Cell,
}

impl Cut {
    fn is_auto(&self) -> bool {
        *self == Self::Auto
    }
}

/// Names of the columns of a list; none for the usual names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Columns {
    /// The image's path, name or number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// The label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// A finer label.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtype: Option<String>,
    /// The person or animal that the cell is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The slide that the cell is from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub slide: Option<String>,
    /// The role that the data set gives the image: train, test or validation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
}

impl Columns {
    /// Whether no column is named.
    pub fn is_empty(&self) -> bool {
        *self == Columns::default()
    }
}
