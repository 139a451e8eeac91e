//! Copies: files with the same bytes, and near copies, which show the same piece of a slide but were turned, mirrored,
//! shifted, resized, recoloured or compressed again. [`crate::copies`] finds them.

use super::findings::{Check, Findings, Images};
use super::settings::Settings;
use crate::copies::{Groups, Pair};
use crate::rows::{CopyRow, ManifestRow, Severity};
use std::collections::{BTreeMap, HashMap};

pub struct ExactCopy;

impl Check for ExactCopy {
    fn name(&self) -> &'static str {
        "exact_copy"
    }
    fn doc(&self) -> &'static str {
        "same bytes as another file; kept in the same fold"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        let mut first: HashMap<&str, usize> = HashMap::new();
        for (i, row) in images.rows.iter().enumerate() {
            let original = &images.rows[*first.entry(&row.content_hash).or_insert(i)];
            if original.path != row.path {
                let message = format!("has the same bytes as {}", original.path);
                findings.image(row, Severity::Warning, None, message).related = Some(original.image_id.clone());
            }
        }
    }
}

pub struct NearCopy;

impl Check for NearCopy {
    fn name(&self) -> &'static str {
        "near_copy"
    }
    fn doc(&self) -> &'static str {
        "same piece of a slide as another image, perhaps turned or cropped; kept in the same fold"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        for (pair, copy) in images.copies.iter().zip(rows(&images.copies, &images.rows, &images.rows)) {
            let (original, row) = (&images.rows[pair.a], &images.rows[pair.b]);
            if original.content_hash == row.content_hash {
                continue;
            }
            let message = format!("shows the same as {}: {}", original.path, describe(&copy));
            let score = Some(f64::from(pair.correlation));
            findings.image(row, Severity::Warning, score, message).related = Some(original.image_id.clone());
        }
    }
}

/// How one image of a pair has to be changed to lie as the other does, and how well they agree then.
pub fn describe(copy: &CopyRow) -> String {
    let mut parts = Vec::new();
    if copy.keypoints == 0 {
        return "equal pixels".into();
    }
    if copy.mirrored == 1 {
        parts.push("mirrored".into());
    }
    if copy.angle_deg.abs() >= 1.0 {
        parts.push(format!("turned by {:.0} degrees", copy.angle_deg));
    }
    if !(0.97..1.03).contains(&copy.scale) {
        parts.push(format!("{:.2} times as large", copy.scale));
    }
    parts.push(format!("{:.0} % overlap", 100.0 * copy.overlap));
    parts.push(format!("correlation {:.3}", copy.correlation));
    parts.join(", ")
}

/// Groups of copies that are large for the data set: worth a look, because a single wrong pair joins two groups.
pub struct LargeGroup;

impl Check for LargeGroup {
    fn name(&self) -> &'static str {
        "large_copy_group"
    }
    fn doc(&self) -> &'static str {
        "many copies of one image; inspect the pair that agrees least"
    }
    fn find(&self, images: &Images, _: &Settings, findings: &mut Findings) {
        /// A group of fewer images is not reported.
        const FEW: usize = 10;
        /// Nor is one of at most this share of the images.
        const SHARE: f64 = 0.01;
        let mut groups = Groups::new(images.rows.len());
        images.copies.iter().for_each(|pair| groups.join(pair.a, pair.b));
        let mut members: BTreeMap<usize, usize> = BTreeMap::new();
        for pair in &images.copies {
            members.entry(groups.first(pair.a)).or_insert(0);
        }
        let files = images.first_rows.len();
        for row in &images.first_rows {
            members.entry(groups.first(*row)).and_modify(|n| *n += 1);
        }
        // The least correlation at which the pairs still connect all images of a group.
        let mut strongest: Vec<_> = images.copies.iter().collect();
        strongest.sort_by(|a, b| b.correlation.total_cmp(&a.correlation));
        let (mut joined, mut weakest) = (Groups::new(images.rows.len()), BTreeMap::new());
        for pair in strongest {
            if !joined.joined(pair.a, pair.b) {
                joined.join(pair.a, pair.b);
                weakest.insert(groups.first(pair.a), pair);
            }
        }
        for (group, n) in members {
            if n <= FEW || n as f64 <= SHARE * files as f64 {
                continue;
            }
            let Some(pair) = weakest.get(&group) else { continue };
            let (a, b) = (&images.rows[pair.a], &images.rows[pair.b]);
            let message = format!(
                "{n} of {files} images are copies of one another, directly or through others; the weakest link is \
                 with {}: correlation {:.3}",
                a.path, pair.correlation
            );
            findings.image(b, Severity::Warning, Some(n as f64), message).related = Some(a.image_id.clone());
        }
    }
}

/// The rows of `copies.parquet`. The pairs are of a row of `first` and one of `second`.
pub fn rows(pairs: &[Pair], first: &[ManifestRow], second: &[ManifestRow]) -> Vec<CopyRow> {
    let row = |pair: &Pair| {
        let (first, second) = (&first[pair.a], &second[pair.b]);
        let size = |row: &ManifestRow| (row.width_px, row.height_px);
        let placement = pair.placement(size(first), size(second));
        CopyRow {
            image_id: first.image_id.clone(),
            copy_id: second.image_id.clone(),
            angle_deg: placement.angle_deg,
            mirrored: placement.mirrored.into(),
            scale: placement.scale,
            shift_x_px: placement.shift_px.0,
            shift_y_px: placement.shift_px.1,
            overlap: pair.overlap,
            correlation: pair.correlation,
            keypoints: pair.matches,
        }
    };
    pairs.iter().map(row).collect()
}
