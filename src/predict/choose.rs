//! Chooses the cells of a laboratory that are most worth labelling: those about which the model is in doubt, and which
//! differ from each other. This is BADGE (Ash et al., ICLR 2020): a cell stands for the gradient that its label would
//! give the last layer if the model were right, and the seeds of k-means++ are drawn among these gradients. A gradient
//! is long where the model is in doubt, and two gradients are far apart where the cells look different.

use super::BATCH;
use super::ensemble::Models;
use super::images::{CellImage, Cutter, ImageKind, Images, Prepare, Reader};
use crate::batch::Tensors;
use crate::class::Class;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::nn::device::Device;
use crate::rect::Rect;
use crate::rows::ManifestRow;
use crate::run::{ModelRef, Record};
use crate::seed;
use crate::workspace::Workspace;
use rand::RngExt;
use rayon::prelude::*;
use std::path::PathBuf;

/// A cell that may be labelled.
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The box around the cell; none if the whole image is one cell.
    pub rect: Option<Rect>,
    /// What the model says.
    pub class: Class,
    /// Its probability, 0 to 1; not calibrated.
    pub confidence: f32,
    /// The cell as the model sees it: `[size, size, 3]`.
    pub pixels: Vec<u8>,
    gradient: Gradient,
}

/// The gradient of the cross-entropy in the last layer's weights: the outer product of two vectors, which is never
/// computed.
struct Gradient {
    /// Probabilities minus the answer.
    errors: Vec<f32>,
    /// What the last layer reads, and a 1 for its offsets.
    features: Vec<f32>,
    /// The squared length.
    square: f32,
}

impl Gradient {
    fn new(probabilities: &[f32], features: &[f32]) -> Self {
        let answer = position(probabilities);
        let errors: Vec<f32> = probabilities.iter().enumerate().map(|(i, p)| p - f32::from(i == answer)).collect();
        let features: Vec<f32> = features.iter().copied().chain([1.0]).collect();
        let square = dot(&errors, &errors) * dot(&features, &features);
        Self { errors, features, square }
    }

    /// The squared distance of two gradients.
    fn distance(&self, other: &Self) -> f32 {
        let product = dot(&self.errors, &other.errors) * dot(&self.features, &other.features);
        (self.square + other.square - 2.0 * product).max(0.0)
    }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn position(probabilities: &[f32]) -> usize {
    (0..probabilities.len()).max_by(|a, b| probabilities[*a].total_cmp(&probabilities[*b])).unwrap_or(0)
}

/// The positions of `n` candidates (all, if there are fewer), the most useful first: the first ones are a choice of
/// that many.
pub fn choose(candidates: &[Candidate], n: usize, seed: u64) -> Vec<usize> {
    let gradients: Vec<&Gradient> = candidates.iter().map(|candidate| &candidate.gradient).collect();
    positions(&gradients, n, seed)
}

fn positions(gradients: &[&Gradient], n: usize, seed: u64) -> Vec<usize> {
    let mut rng = seed::rng(seed, "choose", 0, 0, 0);
    let n = n.min(gradients.len());
    // The first is the one that the model is most in doubt about.
    let Some(first) = (0..gradients.len()).max_by(|a, b| gradients[*a].square.total_cmp(&gradients[*b].square)) else {
        return Vec::new();
    };
    let mut chosen = vec![first];
    let mut away: Vec<f32> = gradients.par_iter().map(|gradient| gradient.distance(gradients[first])).collect();
    away[first] = -1.0;
    while chosen.len() < n {
        // Drawn with a probability proportional to the squared distance from the chosen ones.
        let sum: f64 = away.iter().map(|v| f64::from(v.max(0.0))).sum();
        let mut left = rng.random::<f64>() * sum;
        let mut next = None;
        for (i, v) in away.iter().enumerate().filter(|(_, v)| **v >= 0.0) {
            next = Some(i);
            left -= f64::from(*v);
            if left < 0.0 {
                break;
            }
        }
        let Some(next) = next else { break };
        chosen.push(next);
        away.par_iter_mut().zip(gradients).for_each(|(away, gradient)| {
            *away = away.min(gradient.distance(gradients[next]));
        });
        away[next] = -1.0;
    }
    chosen
}

/// The cells of image files, as `wbc predict` finds them; and why files could not be read.
///
/// # Errors
/// [`Error::Setting`] for a run of a classical classifier, [`Error::Missing`] where it has no finished model,
/// [`Error::Data`] where no image could be read.
pub fn in_files(
    ws: &Workspace,
    source: &ModelRef,
    images: &Images,
    device: Device,
    ctx: &Context,
) -> Result<(Vec<Candidate>, Vec<String>)> {
    let record = Record::read(ws, &source.run)?;
    let prepare = Prepare::of(&record, &source.run)?;
    let cutter = Cutter::new(ImageKind::Auto, &prepare, &record);
    let models = Models::open(ws, source, device)?;
    let (mut candidates, mut reader) = (Vec::new(), Reader::default());
    let task = ctx.progress.task("looking", Some(images.files.len() as u64), "images");
    for files in images.files.chunks(BATCH) {
        ctx.check_stop()?;
        for cells in reader.read(files, &cutter, ctx)?.chunks(BATCH) {
            candidates.extend(of_cells(&models, source, cells)?);
        }
        task.advance(files.len() as u64);
    }
    reader.require_any()?;
    Ok((candidates, images.problems.iter().cloned().chain(reader.unreadable).collect()))
}

/// The cells of these rows of a data set's manifest.
///
/// # Errors
/// As [`in_files`], and [`Error::Image`] or [`Error::Stale`] for an image that cannot be read or has changed since it
/// was ingested.
pub fn of_rows(
    ws: &Workspace,
    source: &ModelRef,
    dataset: &str,
    rows: &[ManifestRow],
    device: Device,
    ctx: &Context,
) -> Result<Vec<Candidate>> {
    let record = Record::read(ws, &source.run)?;
    let prepare = Prepare::of(&record, &source.run)?;
    let models = Models::open(ws, source, device)?;
    let raw = ws.raw_dataset(dataset);
    let mut candidates = Vec::with_capacity(rows.len());
    let task = ctx.progress.task("looking", Some(rows.len() as u64), "images");
    for rows in rows.chunks(BATCH) {
        let read = |row: &ManifestRow| {
            ctx.check_stop()?;
            prepare.cell_image(&raw, row)
        };
        let cells: Vec<CellImage> = rows.par_iter().map(read).collect::<Result<_>>()?;
        candidates.extend(of_cells(&models, source, &cells)?);
        task.advance(rows.len() as u64);
    }
    Ok(candidates)
}

fn of_cells(models: &Models, source: &ModelRef, cells: &[CellImage]) -> Result<Vec<Candidate>> {
    let Models::Networks(networks) = models else {
        return Err(Error::setting("run", "a run of a network", format!("{source}, a classical classifier")));
    };
    let model = &networks[0];
    let size_px = model.meta.size_px;
    let tensors = Tensors::from_pixels(size_px, cells.iter().flat_map(|c| c.input.pixels().to_vec()).collect());
    let rows: Vec<usize> = (0..cells.len()).collect();
    let inferred = model.infer_once(&tensors, &rows)?;
    let candidate = |(i, cell): (usize, &CellImage)| {
        let p = &inferred.probabilities[i];
        Candidate {
            path: cell.path.clone(),
            rect: cell.rect,
            class: model.classes().at(position(p)),
            confidence: p[position(p)],
            pixels: cell.input.pixels().to_vec(),
            gradient: Gradient::new(p, &inferred.features[i * inferred.width..][..inferred.width]),
        }
    };
    Ok(cells.iter().enumerate().map(candidate).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubtful_and_different_cells_are_chosen_before_others() {
        // Three kinds of cells: 50 that the model is sure of, and 2 times 5 that it doubts, which look alike.
        let sure = Gradient::new(&[0.98, 0.01, 0.01], &[1.0, 0.0, 0.0]);
        let one = Gradient::new(&[0.5, 0.4, 0.1], &[0.0, 2.0, 0.0]);
        let other = Gradient::new(&[0.1, 0.5, 0.4], &[0.0, 0.0, 2.0]);
        let cells: Vec<&Gradient> = [vec![&sure; 50], vec![&one; 5], vec![&other; 5]].concat();
        for seed in 0..5 {
            let chosen = positions(&cells, 3, seed);
            for kind in [0..50, 50..55, 55..60] {
                assert_eq!(chosen.iter().filter(|i| kind.contains(*i)).count(), 1, "{chosen:?}");
            }
            assert!(chosen[0] >= 50, "one in doubt comes first");
            // The first of more are a choice of fewer; none comes twice; all of few.
            let more = positions(&cells, 20, seed);
            assert_eq!(more[..3], chosen);
            assert_eq!(more.iter().collect::<std::collections::BTreeSet<_>>().len(), 20);
            assert_eq!(positions(&cells, 100, seed).len(), 60);
        }
        assert!(positions(&[], 3, 0).is_empty());
    }

    #[test]
    fn distances_are_those_of_the_gradients() {
        let (p, q) = ([0.7f32, 0.2, 0.1], [0.3f32, 0.3, 0.4]);
        let (f, g) = ([1.0f32, -2.0], [0.5f32, 1.5]);
        let outer = |p: &[f32; 3], answer: usize, f: &[f32; 2]| -> Vec<f32> {
            let errors = [0, 1, 2].map(|i| p[i] - f32::from(i == answer));
            errors.iter().flat_map(|e| [f[0] * e, f[1] * e, *e]).collect()
        };
        let (a, b) = (outer(&p, 0, &f), outer(&q, 2, &g));
        let expected: f32 = a.iter().zip(&b).map(|(a, b)| (a - b).powi(2)).sum();
        let found = Gradient::new(&p, &f).distance(&Gradient::new(&q, &g));
        assert!((found - expected).abs() < 1e-5, "{found} {expected}");
    }
}
