//! The catalogue of public data sets, from `datasets.toml`.

use super::checksum::Checksum;
use serde::{Deserialize, Serialize};
use std::sync::LazyLock;

/// A public data set, as `datasets.toml` states it.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Dataset {
    /// Name of its folder in `raw/`.
    pub name: String,
    /// Full name.
    pub title: String,
    /// The publisher's page.
    pub page: String,
    /// Licence, as the publisher states it.
    pub terms: String,
    /// How to cite it.
    pub citation: String,
    /// The layout with which ingest reads it; `None` where it cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Number of images of all classes.
    pub images: u64,
    /// Number of images of each of the paper's five classes, in the order of [`crate::class::Classes::wbc5`].
    pub counts: [u64; 5],
    /// Number of images of other classes.
    pub others: u64,
    /// What else to know.
    pub note: String,
    /// The publisher's checksum of the file that is downloaded.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checksum: Option<Checksum>,
    /// Why there is no checksum.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub checksum_note: String,
    /// How to download it; `None` where that has to be done manually.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download: Option<Download>,
    /// How to download it manually; `None` where [`Dataset::download`] works.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by_hand: Option<ByHand>,
}

/// How to download a data set.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Download {
    /// Address of the archive.
    pub url: String,
    /// What to do if the server requires a login.
    pub else_by_hand: String,
    /// Which files of the archive to keep, and where: pairs of paths, in which `*` stands for any characters. Empty
    /// keeps everything in place.
    #[serde(default)]
    pub keep: Vec<(String, String)>,
}

/// How to download a data set manually.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByHand {
    /// Why it cannot be downloaded automatically.
    pub why: String,
    /// What to do.
    pub how: String,
}

/// All known data sets.
pub static DATASETS: LazyLock<Vec<Dataset>> = LazyLock::new(|| {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        dataset: Vec<Dataset>,
    }
    let file: File = toml::from_str(include_str!("datasets.toml")).unwrap_or_else(|e| panic!("datasets.toml: {e}"));
    file.dataset
});

/// The data set of that name.
pub fn find(name: &str) -> Option<&'static Dataset> {
    DATASETS.iter().find(|d| d.name == name)
}

impl Dataset {
    /// The checksum, or why there is none.
    pub fn checksum_text(&self) -> String {
        self.checksum.as_ref().map_or(self.checksum_note.clone(), Checksum::to_string)
    }
}

/// Where the pairs of [`Download::keep`] place `path`; `None` where it is not kept.
pub fn destination(keep: &[(String, String)], path: &str) -> Option<String> {
    if keep.is_empty() {
        return Some(path.into());
    }
    keep.iter().find_map(|(from, to)| match from.split_once('*') {
        None => (path == from).then(|| to.clone()),
        Some((before, after)) => {
            let middle = path.strip_prefix(before)?.strip_suffix(after)?;
            (!middle.is_empty()).then(|| to.replacen('*', middle, 1))
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_records_are_whole() {
        let names: BTreeSet<&str> = DATASETS.iter().map(|d| d.name.as_str()).collect();
        assert_eq!(names.len(), DATASETS.len(), "a name is used twice");
        for d in DATASETS.iter() {
            let name = &d.name;
            assert_eq!(super::super::dataset_name(name).unwrap(), *name);
            assert_eq!(
                d.counts.iter().sum::<u64>() + d.others,
                d.images,
                "{name}: the counts do not sum to the images"
            );
            assert!(d.counts.iter().all(|n| *n > 0), "{name}");
            assert!(d.page.starts_with("https://"), "{name}: {}", d.page);
            assert!([&d.title, &d.terms, &d.citation, &d.note].iter().all(|t| !t.is_empty()), "{name}");
            assert!(d.checksum.is_some() == d.checksum_note.is_empty(), "{name}: a checksum, or why there is none");
            if let Some(layout) = &d.layout {
                assert!(crate::ingest::LAYOUTS.iter().any(|l| l.name() == layout), "{name}: no layout {layout}");
            }
            assert!(d.download.is_some() != d.by_hand.is_some(), "{name}: one way to get it");
            if let Some(download) = &d.download {
                assert!(d.layout.is_some(), "{name}: what is fetched can be ingested");
                assert!(download.url.starts_with("https://"), "{name}: {}", download.url);
                assert!(!download.else_by_hand.is_empty(), "{name}");
                for (from, to) in &download.keep {
                    assert_eq!(from.matches('*').count(), to.matches('*').count(), "{name}: {from}");
                }
            }
            if let Some(by_hand) = &d.by_hand {
                assert!(!by_hand.why.is_empty() && !by_hand.how.is_empty(), "{name}");
            }
        }
    }

    #[test]
    fn what_is_kept_goes_where_the_record_says() {
        let keep = [("Set 1/*.bmp", "images/*.bmp"), ("Labels 1.csv", "labels.csv"), ("crops/*", "*")];
        let keep = keep.map(|(from, to)| (from.to_string(), to.to_string()));
        let to = |path: &str| destination(&keep, path);
        assert_eq!(to("Set 1/007.bmp").as_deref(), Some("images/007.bmp"));
        assert_eq!(to("Labels 1.csv").as_deref(), Some("labels.csv"));
        assert_eq!(to("crops/Basophil/1.jpg").as_deref(), Some("Basophil/1.jpg"));
        for left in ["Set 2/007.bmp", "Set 1/.bmp", "README.md", "crops/"] {
            assert_eq!(to(left), None, "{left}");
        }
        assert_eq!(destination(&[], "README.md").as_deref(), Some("README.md"));
    }
}
