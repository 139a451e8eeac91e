//! Settings of a synthetic data set: its layout, and how many images of each class.

use crate::class::Class;
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
    fn paper_counts(self) -> [u32; Class::COUNT] {
        [[2006, 1310, 377, 1676, 1193], [56, 39, 55, 56, 48]][self as usize]
    }

    /// Name of a class's folder.
    fn folder(self, class: Class) -> &'static str {
        match self {
            Layout::Cuk => class.name(),
            Layout::Lisc => ["neut", "eosi", "Baso", "lymp", "mono"][class.index()],
        }
    }
}

/// Number of images to generate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Images {
    /// In total, in the class proportions of the paper, and at least one per class.
    Total(u32),
    /// Per class, in the order of [`Class::ALL`].
    PerClass([u32; Class::COUNT]),
}

impl std::str::FromStr for Images {
    type Err = String;

    /// Parses `600` or `200,130,38,168,119`.
    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let expected =
            "expected one number, or five separated by commas (neutrophil,eosinophil,basophil,lymphocyte,monocyte)";
        let numbers: Vec<u32> = text
            .split(',')
            .map(|n| n.trim().parse().map_err(|e| format!("{expected}: {e}")))
            .collect::<std::result::Result<_, _>>()?;
        match (numbers.as_slice(), <[u32; Class::COUNT]>::try_from(numbers.as_slice())) {
            ([n], _) => Ok(Images::Total(*n)),
            (_, Ok(counts)) => Ok(Images::PerClass(counts)),
            (other, _) => Err(format!("{expected}, found {} numbers", other.len())),
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
    /// [`Error::Setting`] if the total is 0, less than one per class, or above 10 million.
    pub fn validate(&self) -> Result<()> {
        const MAX: u64 = 10_000_000;
        let (min, total) = match self.images {
            Images::Total(n) => (Class::COUNT as u64, u64::from(n)),
            Images::PerClass(counts) => (1, counts.into_iter().map(u64::from).sum()),
        };
        match (min..=MAX).contains(&total) {
            true => Ok(()),
            false => Err(Error::setting("images", format!("{min} to {MAX} in total"), total)),
        }
    }

    /// Images per class, in the order of [`Class::ALL`]. A total is divided by the largest remainder method; a class
    /// without an image takes one from the largest class.
    pub fn counts(&self) -> [u32; Class::COUNT] {
        let total = match self.images {
            Images::PerClass(counts) => return counts,
            Images::Total(n) => u64::from(n),
        };
        let shares = self.layout.paper_counts().map(u64::from);
        let sum: u64 = shares.iter().sum();
        let mut counts = shares.map(|s| total * s / sum);
        let mut by_remainder: Vec<usize> = (0..Class::COUNT).collect();
        by_remainder.sort_by_key(|&c| std::cmp::Reverse(total * shares[c] % sum));
        let missing = total - counts.iter().sum::<u64>();
        for &c in by_remainder.iter().take(missing as usize) {
            counts[c] += 1;
        }
        for c in 0..Class::COUNT {
            if let Some(largest) = (0..Class::COUNT).max_by_key(|&c| counts[c])
                && counts[c] == 0
                && counts[largest] > 1
            {
                counts[c] += 1;
                counts[largest] -= 1;
            }
        }
        counts.map(|n| n as u32)
    }

    /// The class and files of each image (the image, then its masks), relative to the data set's folder.
    pub(super) fn plan(&self) -> Vec<(Class, Vec<PathBuf>)> {
        let files = |class: Class, n: u32| -> Vec<PathBuf> {
            let folder = self.layout.folder(class);
            match self.layout {
                Layout::Cuk => {
                    let code = ["NE", "EO", "BA", "LY", "MO"][class.index()];
                    vec![format!("{folder}/{code}_{n:06}.jpg").into()]
                }
                Layout::Lisc => {
                    let mask = |expert: u32| {
                        format!("Ground Truth Segmentation/{folder}/areaforexpert{expert}/{n}_expert.bmp").into()
                    };
                    vec![format!("Main Dataset/{folder}/{n}.bmp").into(), mask(1), mask(2)]
                }
            }
        };
        let counts = self.counts();
        Class::ALL
            .into_iter()
            .flat_map(|class| (1..=counts[class.index()]).map(move |n| (class, n)))
            .map(|(class, n)| (class, files(class, n)))
            .collect()
    }
}
