//! Copies: images that show the same piece of the same slide, however one was made from the other: turned, mirrored,
//! shifted, cropped, enlarged, with other brightness or stain, blurred, or compressed again.
//!
//! 1. Every image is made small ([`view`]) and its keypoints are computed ([`keypoints`]).
//! 2. Images with keypoints in common are found ([`index`]).
//! 3. The keypoints of two such images give the transform between them ([`consensus`]).
//! 4. Their pixels decide: the images are aligned, and their textures correlated where they overlap ([`align`]). How
//!    much they must agree depends on how much there is to see.

pub mod align;
pub mod consensus;
mod features;
pub mod index;
pub mod keypoints;
pub mod source;
pub mod store;
pub mod transform;
pub mod view;

use crate::context::Context;
use crate::error::{Error, Result};
use align::Texture;
use consensus::Affine;
use index::{AT_ONCE, Codes, InCommon, Query, TABLES, candidates};
use rayon::prelude::*;
use source::Source;
use std::collections::HashMap;
use view::View;

pub use features::Features;

/// Two images of which one was made from the other, or both from a third.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Index of the first image.
    pub a: usize,
    /// Index of the second image, larger than the first.
    pub b: usize,
    /// From the pixels of the second image to those of the first.
    pub map: Affine,
    /// Share of the smaller image that overlaps with the other, 0 to 1.
    pub overlap: f32,
    /// Correlation of the textures where they overlap, -1 to 1.
    pub correlation: f32,
    /// Number of keypoints that agree on the transform; none for equal images.
    pub matches: u32,
}

/// How the second image of a pair lies in the first.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Placement {
    /// Angle by which it is turned clockwise, after it was mirrored if it is; above -180, at most 180, degrees.
    pub angle_deg: f32,
    /// Whether it is mirrored left to right.
    pub mirrored: bool,
    /// Factor by which it is enlarged.
    pub scale: f32,
    /// From the middle of the first image to that of the second, right and down, px of the first image.
    pub shift_px: (f32, f32),
}

impl Pair {
    /// How the second image lies in the first. `a` and `b` are their sizes, px.
    pub fn placement(&self, a: (u32, u32), b: (u32, u32)) -> Placement {
        let (x, y) = self.map.apply(b.0 as f32 / 2.0, b.1 as f32 / 2.0);
        let determinant = self.map.determinant();
        let mirrored = determinant < 0.0;
        let flip = if mirrored { -1.0 } else { 1.0 };
        // The mean of where the two axes point.
        let (sin, cos) = (flip * self.map.yx - self.map.xy, flip * self.map.xx + self.map.yy);
        Placement {
            angle_deg: sin.atan2(cos).to_degrees(),
            mirrored,
            scale: determinant.abs().sqrt(),
            shift_px: (x - a.0 as f32 / 2.0, y - a.1 as f32 / 2.0),
        }
    }

    /// Whether both images show the same cell in their middle: neighbouring cells of a frame overlap as well, but may
    /// have different labels. `sizes` are those of the first and the second image, px.
    pub fn same_part(&self, a: (u32, u32), b: (u32, u32)) -> bool {
        /// Largest distance between the middle of one image and that of the other, in shorter sides.
        const AWAY: f32 = 0.12;
        let middle = |(w, h): (u32, u32)| (w as f32 / 2.0, h as f32 / 2.0);
        let (from, to) = (middle(b), middle(a));
        let (x, y) = self.map.apply(from.0, from.1);
        let scale = self.map.determinant().abs().sqrt();
        let side = (a.0.min(a.1) as f32).min(b.0.min(b.1) as f32 * scale);
        self.overlap >= 0.7 && (x - to.0).hypot(y - to.1) <= AWAY * side
    }
}

/// Largest number of candidates of an image whose keypoints are compared.
const CANDIDATES: usize = 10;
/// Largest number of candidates that are similar as a whole.
const WHOLE: usize = 3;

/// Pairs of copies, in order: enough to connect all copies of an image with each other, not every two of them.
/// `correlation` is the least of a pair, by default [`CORRELATION`].
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn find(images: &[Option<&Features>], correlation: f32, ctx: &Context) -> Result<Vec<Pair>> {
    search(&images, None, correlation, ctx)
}

/// [`find`] among images whose features need not be in memory.
///
/// # Errors
/// Those of the source, and [`crate::error::Error::Interrupted`].
pub fn find_in(images: &dyn Source, correlation: f32, ctx: &Context) -> Result<Vec<Pair>> {
    search(images, None, correlation, ctx)
}

/// Pairs of copies of which the first image is one of `known` and the second one of `new`: at least one pair for each
/// new image that has a copy. The indices are those in the two lists.
///
/// # Errors
/// [`crate::error::Error::Interrupted`].
pub fn find_between(
    known: &[Option<&Features>],
    new: &[Option<&Features>],
    correlation: f32,
    ctx: &Context,
) -> Result<Vec<Pair>> {
    let pairs = search(&[known, new].concat().as_slice(), Some(known.len()), correlation, ctx)?;
    Ok(pairs.into_iter().map(|pair| Pair { b: pair.b - known.len(), ..pair }).collect())
}

/// Pairs of copies among all images; or, where the first `known` images are of another set, those of an image of that
/// set with another image.
fn search(images: &dyn Source, known: Option<usize>, correlation: f32, ctx: &Context) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    let mut groups = Groups::new(images.count());
    // Equal images first: one of them stands for all.
    let mut first: HashMap<(u64, (u32, u32)), usize> = HashMap::new();
    let mut distinct = Vec::new();
    let count = images.count();
    let (mut codes, mut wholes) = (Codes::with_room(count, keypoints::MOST), Codes::with_room(count, 1));
    for i in 0..images.count() {
        ctx.check_stop()?;
        let Some(features) = images.get(i)?.filter(|f| !f.is_blank()) else { continue };
        let (key, is_new) = ((features.hash, features.size), known.is_some_and(|known| i >= known));
        match first.get(&key) {
            None => {
                if !is_new {
                    first.insert(key, i);
                }
                distinct.push(i);
                codes.push(features.keypoints.iter().map(|k| k.code));
                wholes.push(std::iter::once(features.whole));
            }
            Some(&original) if known.is_none() || is_new => {
                let map = Affine { xx: 1.0, xy: 0.0, x0: 0.0, yx: 0.0, yy: 1.0, y0: 0.0 };
                pairs.push(Pair { a: original, b: i, map, overlap: 1.0, correlation: 1.0, matches: 0 });
                groups.join(original, i);
            }
            Some(_) => {}
        }
    }
    drop(first);
    let from = known.map_or(0, |known| distinct.partition_point(|i| *i < known));
    let among_known = known.is_some();
    let in_common = |codes: Codes, mirrored: bool, label: &str| -> Result<InCommon> {
        let task = ctx.progress.task(label, Some((TABLES * (distinct.len() - from)) as u64), "searches");
        Query { codes: &codes, from, among_known, mirrored }.search(images.folder(), &|| task.advance(1), ctx)
    };
    let mut by_keypoints = in_common(codes, true, "looking for keypoints in common")?;
    let mut as_whole = in_common(wholes, false, "looking for similar images")?;
    let features = |i: usize| {
        let features = images.get(distinct[i])?;
        features.ok_or_else(|| Error::compute("the features of images", "those of one are no longer there"))
    };
    let task = ctx.progress.task("looking for copies", Some((distinct.len() - from) as u64), "images");
    let mut of_images: Vec<Box<[Candidate]>> = Vec::with_capacity(distinct.len() - from);
    for start in (from..distinct.len()).step_by(AT_ONCE) {
        let count = AT_ONCE.min(distinct.len() - start);
        let (by_keypoints, as_whole) = (by_keypoints.next(count)?, as_whole.next(count)?);
        let of_these: Result<Vec<Box<[Candidate]>>> = by_keypoints
            .into_par_iter()
            .zip(as_whole)
            .enumerate()
            .map(|(i, (by_keypoints, as_whole))| {
                ctx.check_stop()?;
                task.advance(1);
                let second = features(start + i)?;
                let mut of_image = Vec::new();
                for (a, _) in candidates(by_keypoints, CANDIDATES) {
                    of_image.extend(Candidate::new((&*features(a)?, a), &second));
                }
                for (a, _) in candidates(as_whole, WHOLE) {
                    of_image.push(Candidate::whole((&*features(a)?, a), &second));
                }
                of_image.sort_by_key(|c| std::cmp::Reverse(c.matches));
                Ok(of_image.into())
            })
            .collect();
        of_images.extend(of_these?);
    }
    drop((task, by_keypoints, as_whole));
    // First the best candidate of each image, then the others, unless their images are in one group by then.
    for others in [false, true] {
        let compared: Result<Vec<Vec<Pair>>> = of_images
            .par_iter()
            .enumerate()
            .map(|(i, of_image)| {
                ctx.check_stop()?;
                let b = from + i;
                let (best, rest) = of_image.split_at(of_image.len().min(1));
                let of_round = if others { rest } else { best };
                let open = |c: &&Candidate| !groups.joined(distinct[c.a as usize], distinct[b]);
                let open: Vec<&Candidate> = of_round.iter().filter(open).collect();
                if open.is_empty() {
                    return Ok(Vec::new());
                }
                let second = features(b)?;
                let texture = Texture::new(&second.view);
                let mut pairs = Vec::new();
                for candidate in open {
                    let a = candidate.a as usize;
                    let (first, second) = ((distinct[a], &*features(a)?), (distinct[b], &*second));
                    pairs.extend(candidate.compare(first, second, &texture, correlation));
                }
                Ok(pairs)
            })
            .collect();
        for pair in compared?.into_iter().flatten() {
            groups.join(pair.a, pair.b);
            pairs.push(pair);
        }
    }
    pairs.sort_by_key(|pair| (pair.a, pair.b));
    Ok(pairs)
}

/// An image that has keypoints in common with another, the second one.
struct Candidate {
    /// The first image.
    a: u32,
    /// Number of keypoints that agree on the transform.
    matches: u32,
    /// From the view of the second image to that of the first.
    map: Affine,
}

impl Candidate {
    /// Two images that are similar as a whole.
    fn whole((to, a): (&Features, usize), from: &Features) -> Self {
        Self { a: a as u32, matches: 0, map: Self::alike(&to.view, &from.view) }
    }

    /// From the pixels of one view to those of another, which shows the same.
    fn alike(to: &View, from: &View) -> Affine {
        let (xx, yy) = (to.width as f32 / from.width as f32, to.height as f32 / from.height as f32);
        // Positions count from the middle of the first pixel.
        Affine { xx, xy: 0.0, x0: (xx - 1.0) / 2.0, yx: 0.0, yy, y0: (yy - 1.0) / 2.0 }
    }

    /// None if fewer keypoints agree on a transform than chance brings about.
    fn new((to, a): (&Features, usize), from: &Features) -> Option<Self> {
        const MATCHES: usize = 6;
        const STRENGTH: u32 = 22;
        /// Least share of the keypoints in the overlap that agree. Of 8,044 pairs of drawn copies 0.3 % have less, and
        /// of 1,332 other pairs three quarters.
        const SHARE: f32 = 0.125;
        /// Least number and strength where the images lie alike, which chance rarely brings about.
        const IN_PLACE: (usize, u32) = (4, 14);
        /// See [`Candidate::is_in_place`]: keypoints give the transform less exactly than pixels.
        const ROUGHLY: f32 = 0.1;
        let consensus = consensus::consensus(&from.keypoints, &to.keypoints)?;
        let (least, most) = consensus.map.stretch();
        let (width, height) = (to.view.width as f32, to.view.height as f32);
        let is_inside = |k: &&keypoints::Keypoint| {
            let (x, y) = consensus.map.apply(k.x, k.y);
            (0.0..width).contains(&x) && (0.0..height).contains(&y)
        };
        let inside = from.keypoints.iter().filter(is_inside).count();
        let many = consensus.matches >= MATCHES
            && consensus.strength >= STRENGTH
            && consensus.matches as f32 >= SHARE * inside as f32;
        let candidate = Self { a: a as u32, matches: consensus.matches as u32, map: consensus.map };
        let some = consensus.matches >= IN_PLACE.0 && consensus.strength >= IN_PLACE.1;
        let is_plausible = many || some && Self::is_in_place(&to.view, &from.view, &candidate.map, ROUGHLY);
        (is_plausible && least > 0.25 && most < 4.0 && most < 1.8 * least).then_some(candidate)
    }

    /// Aligns the images, of which the second has this texture, and returns a pair if their pixels agree.
    fn compare(
        &self,
        (a, first): (usize, &Features),
        (b, second): (usize, &Features),
        texture: &Texture,
        correlation: f32,
    ) -> Option<Pair> {
        /// Least correlation of the blurred textures before they are aligned: as the keypoints say, and of images that
        /// are similar as a whole, which lie alike.
        const BY_KEYPOINTS: f32 = 0.2;
        const AS_WHOLE: f32 = 0.6;
        let least = if self.matches == 0 { AS_WHOLE } else { BY_KEYPOINTS };
        let agreement = align::align(texture, &Texture::new(&first.view), self.map, least)?;
        let (least, most) = agreement.map.stretch();
        let in_place = Self::is_in_place(&first.view, &second.view, &agreement.map, 0.05);
        let needed = needed(correlation, self.matches as usize, agreement.structure, in_place);
        if agreement.correlation < needed || agreement.overlap < OVERLAP || most > 1.8 * least {
            return None;
        }
        let (from, to) = (second.view.frame, first.view.frame);
        let m = agreement.map;
        // Positions in a view count from the middle of the first pixel.
        let (xx, xy) = (m.xx * to.across / from.across, m.xy * to.across / from.down);
        let (yx, yy) = (m.yx * to.down / from.across, m.yy * to.down / from.down);
        let (left, top) = (from.left + 0.5 * from.across, from.top + 0.5 * from.down);
        let map = Affine {
            xx,
            xy,
            x0: to.left + (m.x0 + 0.5) * to.across - xx * left - xy * top,
            yx,
            yy,
            y0: to.top + (m.y0 + 0.5) * to.down - yx * left - yy * top,
        };
        let (overlap, correlation) = (agreement.overlap, agreement.correlation);
        Some(Pair { a, b, map, overlap, correlation, matches: self.matches })
    }

    /// Whether the second image lies in the first as both do in their frames: it was neither turned nor mirrored nor
    /// shifted, whatever else was done to it. Its corners are at most `away` from their places, in longer sides.
    fn is_in_place(to: &View, from: &View, map: &Affine, away: f32) -> bool {
        let whole = Self::alike(to, from);
        let (width, height) = (from.width as f32, from.height as f32);
        let side = to.width.max(to.height) as f32;
        [(0.0, 0.0), (width, 0.0), (0.0, height), (width, height)].into_iter().all(|(x, y)| {
            let ((x, y), (u, v)) = (map.apply(x, y), whole.apply(x, y));
            (x - u).hypot(y - v) < away * side
        })
    }
}

/// The correlation that is needed of two images that are copies.
///
/// `least` is enough where many keypoints match and there is something to see everywhere. Cells alone on a plain ground
/// may have the same shape, and few matches may be chance: then the images have to agree down to the grain. Less is
/// needed of images that lie alike, because chance rarely aligns others in place.
fn needed(least: f32, matches: usize, structure: f32, in_place: bool) -> f32 {
    /// Correlation needed with few matches, and of cells on a plain ground.
    const WITH_FEW: f32 = 0.93;
    const PLAIN: f32 = 0.99;
    /// Correlation needed with few matches of images that lie alike.
    const IN_PLACE: f32 = 0.95;
    /// Correlation of images without matches, which are similar as a whole.
    const SIMILAR: f32 = 0.95;
    let between = |from: f32, to: f32, v: f32| ((v - from) / (to - from)).clamp(0.0, 1.0);
    let towards = |from: f32, to: f32, share: f32| from + (to - from).max(0.0) * share;
    let needed = if in_place {
        let plain = towards(least, IN_PLACE, between(20.0, 12.0, matches as f32));
        towards(least, plain, between(0.58, 0.5, structure))
    } else {
        let by_matches = towards(least, WITH_FEW, between(26.0, 12.0, matches as f32));
        towards(by_matches, PLAIN, between(0.85, 0.65, structure))
    };
    if matches == 0 { needed.max(SIMILAR) } else { needed }
}

/// Least share of the smaller image that must overlap.
const OVERLAP: f32 = 0.2;

/// Least correlation of copies.
pub const CORRELATION: f32 = 0.75;

/// Disjoint sets of images.
pub struct Groups(Vec<usize>);

impl Groups {
    /// Every image alone.
    pub fn new(n: usize) -> Self {
        Self((0..n).collect())
    }

    /// The first image of the group that an image is in.
    pub fn first(&self, mut i: usize) -> usize {
        while self.0[i] != i {
            i = self.0[i];
        }
        i
    }

    /// Joins the groups of two images.
    pub fn join(&mut self, a: usize, b: usize) {
        let (first, second) = (self.first(a), self.first(b));
        let root = first.min(second);
        self.0[first.max(second)] = root;
        // Shorter ways for later searches.
        for mut i in [a, b] {
            while self.0[i] != root {
                i = std::mem::replace(&mut self.0[i], root);
            }
        }
    }

    /// Whether two images are in one group.
    pub fn joined(&self, a: usize, b: usize) -> bool {
        self.first(a) == self.first(b)
    }
}

#[cfg(test)]
mod tests {
    use super::source::{Store, from_bytes, to_bytes};
    use super::*;
    use crate::context::Context;
    use crate::decode::Grey;
    use crate::seed::rng;
    use rand::RngExt;

    /// An image of discs at random places, turned by so many quarters.
    fn image(number: u64, quarters: u32) -> Grey {
        let mut rng = rng(number, "discs", 0, 0, 0);
        let discs: Vec<[f32; 4]> = (0..60).map(|_| [0.0; 4].map(|_: f32| rng.random::<f32>())).collect();
        let pixels = (0..160 * 160).map(|i| {
            let (mut x, mut y) = ((i % 160) as f32, (i / 160) as f32);
            (0..quarters).for_each(|_| (x, y) = (y, 159.0 - x));
            let inside = |d: &&[f32; 4]| (x - 160.0 * d[0]).hypot(y - 160.0 * d[1]) < 4.0 + 14.0 * d[2];
            discs.iter().rev().find(inside).map_or(230, |d| (40.0 + 180.0 * d[3]) as u8)
        });
        Grey { width_px: 160, height_px: 160, pixels: pixels.collect() }
    }

    #[test]
    fn in_memory_or_in_a_file_the_copies_are_the_same() {
        let images: Vec<Option<Grey>> = (0..24)
            .map(|i| match i {
                5 => None,
                9 => Some(Grey { width_px: 50, height_px: 40, pixels: vec![7; 2000] }),
                _ => Some(image(i % 8, i as u32 / 8)),
            })
            .collect();
        let features: Vec<Option<Features>> = images.iter().map(|image| image.as_ref().map(Features::new)).collect();
        let ctx = Context::silent(0);
        let list: Vec<Option<&Features>> = features.iter().map(Option::as_ref).collect();
        let expected = find(&list, CORRELATION, &ctx).unwrap();
        assert!(expected.len() >= 14, "{expected:?}");
        let folder = tempfile::tempdir().unwrap();
        for in_memory in [0, 24] {
            let mut store = Store::new(features.len(), in_memory, folder.path()).unwrap();
            // In any order.
            for (i, features) in features.iter().enumerate().rev() {
                features.iter().for_each(|features| store.put(i, features.clone()).unwrap());
            }
            assert_eq!(find_in(&store, CORRELATION, &ctx).unwrap(), expected);
            assert!(store.get(5).unwrap().is_none());
        }
        assert!(std::fs::read_dir(folder.path()).unwrap().next().is_none(), "the file has no name");
    }

    #[test]
    fn features_are_the_same_from_their_bytes_and_no_others_are_read() {
        let features = Features::new(&image(3, 0));
        let bytes = to_bytes(&features);
        assert_eq!(to_bytes(&from_bytes(&bytes).unwrap()), bytes);
        for length in (0..56).chain([bytes.len() - 1]) {
            assert!(from_bytes(&bytes[..length]).is_none());
        }
        assert!(from_bytes(&[&bytes[..], &[0]].concat()).is_none());
    }
}
