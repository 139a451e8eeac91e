//! An index of keypoints by their codes: which images have keypoints in common with an image. Building and searching it
//! takes a time that grows in proportion to the number of images.

use super::keypoints::{BITS, MIRROR};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::ops::Range;

/// Number of tables. Each has its own selection of bits as key; a keypoint is found if all bits of one key are equal.
const TABLES: usize = 5;
/// How many of the nearest earlier keypoints with an equal key are compared. An image that has been copied very often
/// is found through the copies just before it.
const NEAREST: usize = 8;
/// Largest number of differing bits of keypoints in common. Further ones are often alike by chance.
const FAR: u32 = 7;
/// Of images with a single keypoint in common, only so many are candidates.
const SINGLE: usize = 2;

/// The index.
pub struct Index {
    tables: Vec<Table>,
    codes: Vec<u64>,
    /// For each keypoint its image.
    images: Vec<u32>,
    /// For each image its first keypoint, and their number.
    first: Vec<u32>,
}

struct Table {
    /// For each byte of a code and each of its values the bits of the key.
    bits: Box<[[u32; 256]; 7]>,
    /// The key of the bits that differ in the mirror image.
    mirror: usize,
    /// For each key where its keypoints start.
    starts: Vec<u32>,
    /// Keypoints by key, then in order.
    keypoints: Vec<u32>,
}

impl Table {
    fn key(&self, code: u64) -> usize {
        self.bits.iter().enumerate().map(|(i, bits)| bits[(code >> (8 * i)) as usize & 0xff]).sum::<u32>() as usize
    }

    /// The keypoints with a key.
    fn run(&self, key: usize) -> &[u32] {
        &self.keypoints[self.starts[key] as usize..self.starts[key + 1] as usize]
    }

    fn new(codes: &[u64], number: u64, key_bits: usize) -> Self {
        // Low frequencies are the reliable ones: keys are drawn from them.
        let mut order: Vec<u32> = (0..(BITS as u32).min(40)).collect();
        order.sort_by_key(|bit| scramble(number << 32 | u64::from(*bit)));
        order.truncate(key_bits);
        let mut bits = Box::new([[0; 256]; 7]);
        for (to, from) in order.iter().enumerate() {
            for (value, key) in bits[*from as usize / 8].iter_mut().enumerate() {
                *key |= (value as u32 >> (from % 8) & 1) << to;
            }
        }
        let mut table = Self { bits, mirror: 0, starts: vec![0; (1 << key_bits) + 1], keypoints: vec![0; codes.len()] };
        table.mirror = table.key(*MIRROR);
        let keys: Vec<u32> = codes.iter().map(|code| table.key(*code) as u32).collect();
        keys.iter().for_each(|key| table.starts[*key as usize + 1] += 1);
        for key in 1..table.starts.len() {
            table.starts[key] += table.starts[key - 1];
        }
        let mut next = table.starts.clone();
        for (keypoint, key) in keys.iter().enumerate() {
            let at = &mut next[*key as usize];
            table.keypoints[*at as usize] = keypoint as u32;
            *at += 1;
        }
        table
    }
}

/// Codes of images, which become an index.
pub struct Codes {
    codes: Vec<u64>,
    images: Vec<u32>,
    first: Vec<u32>,
}

/// Of no images.
impl Default for Codes {
    fn default() -> Self {
        Self { codes: Vec::new(), images: Vec::new(), first: vec![0] }
    }
}

impl Codes {
    /// Adds the codes of the next image.
    pub fn push(&mut self, codes: impl Iterator<Item = u64>) {
        let image = self.first.len() as u32 - 1;
        self.codes.extend(codes);
        self.images.resize(self.codes.len(), image);
        self.first.push(self.codes.len() as u32);
    }
}

impl Index {
    /// Indexes the codes of images.
    pub fn new(codes: Codes) -> Self {
        let Codes { codes, images, first } = codes;
        // A few keypoints to a key, so that a search takes the same time in a large set.
        let key_bits = (codes.len().max(2).ilog2() as usize).saturating_sub(1).clamp(10, 26);
        let tables = (0..TABLES as u64).into_par_iter().map(|number| Table::new(&codes, number, key_bits)).collect();
        Self { tables, codes, images, first }
    }

    /// Of the images before the image `before`, those that have most keypoints in common with an image, at most `most`,
    /// with the number of these keypoints; most first. If `mirrored`, keypoints of the mirror image are looked for as
    /// well.
    pub fn candidates(&self, image: usize, before: usize, most: usize, mirrored: bool) -> Vec<(usize, u32)> {
        let keypoints = self.first[image] as usize..self.first[image + 1] as usize;
        let before = self.first[before];
        let mut images = Arch::new().dispatch(Search { index: self, keypoints, before, mirrored });
        // Counted for the image and for its mirror image, of which the larger number counts.
        images.sort_unstable();
        let mut candidates: Vec<(usize, u32)> = Vec::new();
        for same in images.chunk_by(|a, b| a == b) {
            let (image, n) = ((same[0] >> 1) as usize, same.len() as u32);
            match candidates.last_mut() {
                Some((last, most)) if *last == image => *most = n.max(*most),
                _ => candidates.push((image, n)),
            }
        }
        // Of equal ones, the nearest.
        candidates.sort_by_key(|(image, n)| (std::cmp::Reverse(*n), std::cmp::Reverse(*image)));
        let single = candidates.iter().position(|(_, n)| *n == 1).unwrap_or(candidates.len());
        candidates.truncate(most.min(single + SINGLE));
        candidates
    }
}

/// The images with keypoints in common with some keypoints, each as often as there are such keypoints: twice the number
/// of the image, and one more for its mirror image. Compiled for the processor's instruction to count bits.
struct Search<'a> {
    index: &'a Index,
    keypoints: Range<usize>,
    /// Only keypoints before this one are looked at.
    before: u32,
    mirrored: bool,
}

impl WithSimd for Search<'_> {
    type Output = Vec<u32>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<u32> {
        let Self { index, before, .. } = self;
        // In steps, so that no read has to wait for another: where to look, which keypoints are there, their codes.
        let mut runs: Vec<(u64, u64, &[u32])> = Vec::with_capacity(2 * TABLES * self.keypoints.len());
        let mut first = 0;
        for (number, code) in index.codes[self.keypoints].iter().enumerate() {
            for table in &index.tables {
                let key = table.key(*code);
                runs.push(((number as u64) << 33, *code, table.run(key)));
                if self.mirrored {
                    runs.push(((number as u64) << 33 | 1, code ^ *MIRROR, table.run(key ^ table.mirror)));
                }
            }
        }
        for (_, _, run) in &runs {
            first ^= run.first().copied().unwrap_or(0);
        }
        std::hint::black_box(first);
        let mut nearest: Vec<(u64, u64, u32)> = Vec::with_capacity(NEAREST * runs.len());
        for (tag, code, run) in runs {
            let earlier = run.partition_point(|other| *other < before);
            nearest.extend(run[earlier.saturating_sub(NEAREST)..earlier].iter().map(|other| (tag, code, *other)));
        }
        let mut found: Vec<u64> = Vec::new();
        for (tag, code, other) in nearest {
            if (index.codes[other as usize] ^ code).count_ones() <= FAR {
                found.push(tag | u64::from(index.images[other as usize]) << 1);
            }
        }
        found.sort_unstable();
        found.dedup();
        found.into_iter().map(|found| found as u32).collect()
    }
}

/// A number that looks random, from another (SplitMix64).
pub fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
