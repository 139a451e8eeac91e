//! Settings of a synthetic data set: its layout, and how many images of each class.

use super::kind::Kind;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// The public data set whose folders, file names and image format are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `<class>/<CODE>_<n>.jpg`, 360x361, one cell each.
    #[default]
    Cuk,
    /// `Main Dataset/<class>/<n>.bmp`, 720x576, one or two cells each, with the masks of two experts.
    Lisc,
}

impl Layout {
    /// Name in settings and on the command line.
    pub fn name(self) -> &'static str {
        ["cuk", "lisc"][self as usize]
    }

    /// Name of the data set if the user does not give one.
    pub fn default_dataset(self) -> &'static str {
        ["synthetic", "synthetic-lisc"][self as usize]
    }

    /// Images per class in the paper: Table 2 for CUK, the text for LISC.
    fn paper_counts(self) -> [u32; Kind::PAPER] {
        [[2006, 1310, 377, 1676, 1193], [56, 39, 55, 56, 48]][self as usize]
    }

    /// Name of a class's folder.
    fn folder(self, kind: Kind) -> &'static str {
        match self {
            Layout::Cuk => kind.name(),
            Layout::Lisc => ["neut", "eosi", "Baso", "lymp", "mono", "ig", "erythroblast", "platelet"][kind as usize],
        }
    }
}

/// Number of images to generate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Images {
    /// In total, of the paper's five classes in the paper's proportions, and at least one per class.
    Total(u32),
    /// Per class: five to eight numbers, in the order neutrophil, eosinophil, basophil, lymphocyte, monocyte, ig,
    /// erythroblast, platelet.
    PerClass(Vec<u32>),
}

impl std::str::FromStr for Images {
    type Err = String;

    /// Parses `600`, `200,130,38,168,119` or `50,50,50,50,50,20,20,20`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let names = Kind::ALL.map(Kind::name).join(",");
        let expected = format!("expected one number, or five to eight separated by commas ({names})");
        let numbers: Vec<u32> = text
            .split(',')
            .map(|n| n.trim().parse().map_err(|e| format!("{expected}: {e}")))
            .collect::<std::result::Result<_, _>>()?;
        match numbers[..] {
            [n] => Ok(Images::Total(n)),
            _ if (Kind::PAPER..=Kind::ALL.len()).contains(&numbers.len()) => Ok(Images::PerClass(numbers)),
            _ => Err(format!("{expected}, found {} numbers", numbers.len())),
        }
    }
}

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Layout of the data set.
    pub layout: Layout,
    /// Number of images.
    pub images: Images,
}

impl Default for Settings {
    fn default() -> Self {
        Self { layout: Layout::Cuk, images: Images::Total(600) }
    }
}

impl Settings {
    /// Checks the number of images.
    ///
    /// # Errors
    /// [`Error::Setting`] if the total is 0, less than one per class, or above 10 million, or if there are too few or
    /// too many numbers.
    pub fn validate(&self) -> Result<()> {
        const MAX: u64 = 10_000_000;
        let kinds = Kind::PAPER..=Kind::ALL.len();
        let (min, total) = match &self.images {
            Images::Total(n) => (Kind::PAPER as u64, u64::from(*n)),
            Images::PerClass(counts) if kinds.contains(&counts.len()) => {
                (1, counts.iter().copied().map(u64::from).sum())
            }
            Images::PerClass(counts) => return Err(Error::setting("images", "five to eight numbers", counts.len())),
        };
        match (min..=MAX).contains(&total) {
            true => Ok(()),
            false => Err(Error::setting("images", format!("{min} to {MAX} in total"), total)),
        }
    }

    /// Name of each class and its number of images. A total is divided by the largest remainder method; a class without
    /// an image takes one from the largest class.
    pub fn counts(&self) -> Vec<(&'static str, u32)> {
        self.by_kind().into_iter().map(|(kind, n)| (kind.name(), n)).collect()
    }

    fn by_kind(&self) -> Vec<(Kind, u32)> {
        let total = match &self.images {
            Images::PerClass(counts) => return Kind::ALL.into_iter().zip(counts.iter().copied()).collect(),
            Images::Total(n) => u64::from(*n),
        };
        let shares = self.layout.paper_counts().map(u64::from);
        let sum: u64 = shares.iter().sum();
        let mut counts = shares.map(|s| total * s / sum);
        let mut by_remainder: Vec<usize> = (0..Kind::PAPER).collect();
        by_remainder.sort_by_key(|&c| std::cmp::Reverse(total * shares[c] % sum));
        let missing = total - counts.iter().sum::<u64>();
        for &c in by_remainder.iter().take(missing as usize) {
            counts[c] += 1;
        }
        for c in 0..Kind::PAPER {
            if let Some(largest) = (0..Kind::PAPER).max_by_key(|&c| counts[c])
                && counts[c] == 0
                && counts[largest] > 1
            {
                counts[c] += 1;
                counts[largest] -= 1;
            }
        }
        Kind::ALL.into_iter().zip(counts.map(|n| n as u32)).collect()
    }

    /// The kind and files of each image (the image, then its masks), relative to the data set's folder.
    pub(super) fn plan(&self) -> Vec<(Kind, Vec<PathBuf>)> {
        let files = |kind: Kind, n: u32| -> Vec<PathBuf> {
            let folder = self.layout.folder(kind);
            match self.layout {
                Layout::Cuk => vec![format!("{folder}/{}_{n:06}.jpg", kind.code()).into()],
                Layout::Lisc => {
                    let mask = |expert: u32| {
                        format!("Ground Truth Segmentation/{folder}/areaforexpert{expert}/{n}_expert.bmp").into()
                    };
                    vec![format!("Main Dataset/{folder}/{n}.bmp").into(), mask(1), mask(2)]
                }
            }
        };
        let images = self.by_kind().into_iter().flat_map(|(kind, count)| (1..=count).map(move |n| (kind, n)));
        images.map(|(kind, n)| (kind, files(kind, n))).collect()
    }
}
