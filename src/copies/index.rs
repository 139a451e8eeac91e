//! An index of keypoints by their codes: which images have keypoints in common with an image. Building and searching it
//! takes a time that grows in proportion to the number of images.

use super::keypoints::{BITS, MIRROR};
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Number of tables. Each has its own selection of bits as key; a keypoint is found if all bits of one key are equal.
const TABLES: usize = 6;
/// How many of the nearest earlier keypoints with an equal key are compared. An image that has been copied very often
/// is found through the copies just before it.
const NEAREST: usize = 16;
/// Largest number of differing bits of keypoints in common. Further ones are often alike by chance.
const FAR: u32 = 7;
/// Of images with a single keypoint in common, only so many are candidates.
const SINGLE: usize = 4;

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
    bits: Vec<u32>,
    /// For each key where its keypoints start.
    starts: Vec<u32>,
    /// Keypoints by key, then in order.
    keypoints: Vec<u32>,
}

impl Table {
    fn key(&self, code: u64) -> usize {
        self.bits.iter().fold(0, |key, bit| key << 1 | (code >> bit & 1) as usize)
    }

    fn new(codes: &[u64], number: u64, key_bits: usize) -> Self {
        // Low frequencies are the reliable ones: keys are drawn from them.
        let mut order: Vec<u32> = (0..(BITS as u32).min(40)).collect();
        order.sort_by_key(|bit| scramble(number << 32 | u64::from(*bit)));
        order.truncate(key_bits);
        let mut table = Self { bits: order, starts: vec![0; (1 << key_bits) + 1], keypoints: vec![0; codes.len()] };
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

impl Index {
    /// Indexes the codes of images.
    pub fn new(images: impl Iterator<Item = Vec<u64>>) -> Self {
        let (mut codes, mut of, mut first) = (Vec::new(), Vec::new(), vec![0]);
        for (image, of_image) in images.enumerate() {
            codes.extend(of_image);
            of.resize(codes.len(), image as u32);
            first.push(codes.len() as u32);
        }
        // A few keypoints to a key, so that a search takes the same time in a large set.
        let key_bits = (codes.len().max(2).ilog2() as usize).saturating_sub(1).clamp(10, 26);
        let tables = (0..TABLES as u64).into_par_iter().map(|number| Table::new(&codes, number, key_bits)).collect();
        Self { tables, codes, images: of, first }
    }

    /// Of the images before the image `before`, those that have most keypoints in common with an image, at most `most`,
    /// with the number of these keypoints; most first. If `mirrored`, keypoints of the mirror image count as well.
    pub fn candidates(&self, image: usize, before: usize, most: usize, mirrored: bool) -> Vec<(usize, u32)> {
        let mut votes: BTreeMap<u32, u32> = BTreeMap::new();
        let mut found: Vec<u32> = Vec::new();
        let (first, end) = (self.first[image], self.first[image + 1]);
        let before = self.first[before];
        for keypoint in first..end {
            found.clear();
            let code = self.codes[keypoint as usize];
            for code in [code, code ^ *MIRROR].into_iter().take(if mirrored { 2 } else { 1 }) {
                for table in &self.tables {
                    let key = table.key(code);
                    let run = &table.keypoints[table.starts[key] as usize..table.starts[key + 1] as usize];
                    let earlier = run.partition_point(|other| *other < before);
                    for other in run[earlier.saturating_sub(NEAREST)..earlier].iter().rev() {
                        if (self.codes[*other as usize] ^ code).count_ones() <= FAR {
                            found.push(self.images[*other as usize]);
                        }
                    }
                }
            }
            found.sort_unstable();
            found.dedup();
            found.iter().for_each(|other| *votes.entry(*other).or_default() += 1);
        }
        let mut candidates: Vec<(usize, u32)> = votes.into_iter().map(|(image, n)| (image as usize, n)).collect();
        // Of equal ones, the nearest.
        candidates.sort_by_key(|(image, n)| (std::cmp::Reverse(*n), std::cmp::Reverse(*image)));
        let single = candidates.iter().position(|(_, n)| *n == 1).unwrap_or(candidates.len());
        candidates.truncate(most.min(single + SINGLE));
        candidates
    }
}

/// A number that looks random, from another (SplitMix64).
pub fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
