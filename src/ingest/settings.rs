//! Settings of the ingest stage.

use super::labels::ClassSettings;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

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

impl Settings {
    /// These settings, with those of `earlier` where these are the defaults. A template, a layout and the path of masks
    /// belong together, and so do a set of classes and its map.
    pub fn or(mut self, earlier: &Settings) -> Settings {
        let default = Settings::default();
        if (&self.layout, &self.path, &self.mask) == (&default.layout, &default.path, &default.mask) {
            (self.layout, self.path, self.mask) = (earlier.layout.clone(), earlier.path.clone(), earlier.mask.clone());
        }
        if self.expert == default.expert {
            self.expert = earlier.expert;
        }
        if self.columns.is_empty() {
            self.columns = earlier.columns.clone();
        }
        if self.cut.is_auto() {
            self.cut = earlier.cut;
        }
        if self.classes.set.is_none() {
            self.classes.set = earlier.classes.set.clone();
            if self.classes.map.is_empty() {
                self.classes.map = earlier.classes.map.clone();
            }
        }
        self
    }

    /// The settings that are not the defaults, by key of a pipeline file: `classes.set` is `"pbc8"`.
    pub fn chosen(&self) -> BTreeMap<String, String> {
        let default = Settings::default();
        let values = |settings: &Settings| {
            let table = |value: toml::Value| value.as_table().cloned().unwrap_or_default();
            let of = |key: &str, value: Result<toml::Value, toml::ser::Error>| {
                let values = value.map(table).unwrap_or_default();
                values.into_iter().map(|(name, value)| (format!("{key}.{name}"), value.to_string())).collect::<Vec<_>>()
            };
            let classes = of("classes", toml::Value::try_from(&settings.classes));
            of("ingest", toml::Value::try_from(settings)).into_iter().chain(classes).collect::<BTreeMap<_, _>>()
        };
        let usual = values(&default);
        values(self).into_iter().filter(|(key, value)| usual.get(key) != Some(value)).collect()
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

    /// As in settings and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Cut::Auto => "auto",
            Cut::Centre => "centre",
            Cut::Whole => "whole",
            Cut::Cell => "cell",
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_are_the_defaults_are_those_of_before() {
        let mut earlier = Settings { cut: Cut::Whole, layout: Some("list".into()), ..Settings::default() };
        earlier.classes.set = "pbc8".parse().ok();
        let chosen = |settings: &Settings| settings.chosen().into_iter().map(|(k, v)| format!("{k} = {v}"));
        let text = |settings: &Settings| chosen(settings).collect::<Vec<_>>().join(", ");
        assert_eq!(text(&earlier), "classes.set = \"pbc8\", ingest.cut = \"whole\", ingest.layout = \"list\"");
        assert_eq!(Settings::default().or(&earlier), earlier);
        let now = Settings { cut: Cut::Cell, path: Some("{class}/{file}".into()), ..Settings::default() };
        let both = now.or(&earlier);
        assert_eq!((both.cut, both.layout), (Cut::Cell, None));
        assert_eq!(both.classes.set, earlier.classes.set);
        assert_eq!(text(&Settings::default()), "");
    }
}
