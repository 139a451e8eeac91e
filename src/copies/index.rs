//! Keypoints in common: which earlier images have keypoints that look like those of an image. It takes a time that
//! grows in proportion to the number of images.
//!
//! Keypoints are found by tables, of which only one is in memory at a time: what each of them finds is kept, of many
//! images in a file, until all have been searched.

use super::keypoints::{BITS, MIRROR};
use crate::context::Context;
use crate::error::{Error, Result};
use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;
use std::io::{BufReader, Read, Seek, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use tempfile::SpooledTempFile;

/// Number of tables. Each has its own selection of bits as key; a keypoint is found if all bits of one key are equal.
pub const TABLES: usize = 5;
/// How many of the nearest earlier keypoints with an equal key are compared. An image that has been copied very often
/// is found through the copies just before it.
const NEAREST: usize = 8;
/// Largest number of differing bits of keypoints in common. Further ones are often alike by chance.
const FAR: u32 = 7;
/// Of images with a single keypoint in common, only so many are candidates.
const SINGLE: usize = 2;

/// Keypoints by some of the bits of their codes.
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
        // Counted, added up, and filled from the last to the first, so that nothing else need be in memory.
        for code in codes {
            let key = table.key(*code);
            table.starts[key] += 1;
        }
        let mut end = 0;
        for start in &mut table.starts {
            end += *start;
            *start = end;
        }
        for (keypoint, code) in codes.iter().enumerate().rev() {
            let key = table.key(*code);
            table.starts[key] -= 1;
            table.keypoints[table.starts[key] as usize] = keypoint as u32;
        }
        table
    }
}

/// Codes of the keypoints of images.
pub struct Codes {
    codes: Vec<u64>,
    /// For each image its first keypoint, and their number.
    first: Vec<u32>,
    /// The image of every [`STEP`]th keypoint.
    images: Vec<u32>,
}

/// See [`Codes::images`].
const STEP: usize = 16;

impl Codes {
    /// Of no images, with room for so many, each with so many codes at most: a list that grows is in memory twice while
    /// it is moved, and room that is not used is not memory that is.
    pub fn with_room(images: usize, codes: usize) -> Self {
        let mut room = Self { codes: Vec::new(), first: vec![0], images: Vec::new() };
        // Where there is none, the lists grow.
        let _ = room.codes.try_reserve_exact(images.saturating_mul(codes));
        let _ = room.first.try_reserve_exact(images);
        let _ = room.images.try_reserve_exact(images.saturating_mul(codes).div_ceil(STEP));
        room
    }

    /// Adds the codes of the next image.
    pub fn push(&mut self, codes: impl Iterator<Item = u64>) {
        let image = self.first.len() as u32 - 1;
        self.codes.extend(codes);
        self.images.resize(self.codes.len().div_ceil(STEP), image);
        self.first.push(self.codes.len() as u32);
    }

    /// The image of a keypoint.
    #[inline(always)]
    fn image(&self, keypoint: u32) -> u32 {
        let mut image = self.images[keypoint as usize / STEP];
        while self.first[image as usize + 1] <= keypoint {
            image += 1;
        }
        image
    }

    /// Number of images.
    fn len(&self) -> usize {
        self.first.len() - 1
    }
}

/// Images whose keypoints are looked for among earlier ones.
pub struct Query<'a> {
    /// Codes of all images.
    pub codes: &'a Codes,
    /// The first image that is looked for; all after it are.
    pub from: usize,
    /// Whether they are looked for only among the images before `from`: else each among all before it.
    pub among_known: bool,
    /// Whether keypoints of the mirror image are looked for as well.
    pub mirrored: bool,
}

/// Images whose results are in memory at the same time.
pub const AT_ONCE: usize = 1024;
/// Bytes of what a table finds that are kept in memory; more are in a file.
const IN_MEMORY: usize = 2 << 20;
/// Bytes of a keypoint that was found: see [`Found`].
const BYTES: usize = 5;

/// The keypoints in common of an image: the number of its own keypoint, times 2 to the power of 33, plus twice the
/// other image, and one more for its mirror image.
type Found = u64;

impl Query<'_> {
    /// Looks for the keypoints of all images. `advance` is called once for each image and table. What does not fit into
    /// memory is in files without a name in `folder`, if there is one.
    ///
    /// # Errors
    /// [`Error::Io`] and [`Error::Interrupted`].
    pub fn search(&self, folder: Option<&Path>, advance: &(dyn Fn() + Sync), ctx: &Context) -> Result<InCommon> {
        let Self { codes, from, .. } = self;
        // A few keypoints to a key, so that a search takes the same time in a large set.
        let key_bits = (codes.codes.len().max(2).ilog2() as usize).saturating_sub(1).clamp(10, 26);
        let images: Vec<usize> = (*from..codes.len()).collect();
        let mut tables = Vec::with_capacity(TABLES);
        for number in 0..TABLES as u64 {
            ctx.check_stop()?;
            let table = Table::new(&codes.codes, number, key_bits);
            let mut file = match folder {
                Some(folder) => tempfile::spooled_tempfile_in(IN_MEMORY, folder),
                None => tempfile::spooled_tempfile(usize::MAX),
            };
            let failed = || Error::io(folder.unwrap_or(Path::new("")), "write a temporary file in");
            for images in images.chunks(AT_ONCE) {
                let found: Result<Vec<Vec<u8>>> = images
                    .par_iter()
                    .map(|image| {
                        ctx.check_stop()?;
                        advance();
                        let found = self.in_table(&table, *image);
                        let count = (found.len() as u32).to_le_bytes();
                        let found = found.iter().flat_map(|found| found.to_le_bytes().into_iter().take(BYTES));
                        Ok(count.into_iter().chain(found).collect())
                    })
                    .collect();
                file.write_all(&found?.concat()).map_err(failed())?;
            }
            file.rewind().map_err(failed())?;
            tables.push(BufReader::with_capacity(1 << 20, file));
        }
        Ok(InCommon { folder: folder.unwrap_or(Path::new("")).into(), tables })
    }

    /// The keypoints that an image has in common with others as far as a table finds them, in order, each once.
    fn in_table(&self, table: &Table, image: usize) -> Vec<Found> {
        let Self { codes, from, among_known, mirrored } = *self;
        let keypoints = codes.first[image] as usize..codes.first[image + 1] as usize;
        let before = codes.first[if among_known { from } else { image }];
        Arch::new().dispatch(Search { codes, table, keypoints, before, mirrored })
    }
}

/// What a [`Query`] found.
pub struct InCommon {
    /// Where the files are.
    folder: PathBuf,
    /// For each table and each image the number of keypoints that were found, and these.
    tables: Vec<BufReader<SpooledTempFile>>,
}

impl InCommon {
    /// The keypoints in common of the next `count` images.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn next(&mut self, count: usize) -> Result<Vec<Vec<Found>>> {
        let mut images = vec![Vec::new(); count];
        for table in &mut self.tables {
            for image in &mut images {
                read(table, image).map_err(Error::io(&self.folder, "read a temporary file in"))?;
            }
        }
        Ok(images)
    }
}

/// Adds what a table found for the next image.
fn read(table: &mut impl Read, found: &mut Vec<Found>) -> std::io::Result<()> {
    let mut count = [0; 4];
    table.read_exact(&mut count)?;
    for _ in 0..u32::from_le_bytes(count) {
        let mut bytes = [0; 8];
        table.read_exact(&mut bytes[..BYTES])?;
        found.push(Found::from_le_bytes(bytes));
    }
    Ok(())
}

/// The images that have most keypoints in common with an image, at most `most`, with the number of these keypoints;
/// most first.
pub fn candidates(mut found: Vec<Found>, most: usize) -> Vec<(usize, u32)> {
    // A keypoint is often found by several tables.
    found.sort_unstable();
    found.dedup();
    let mut images: Vec<u32> = found.into_iter().map(|found| found as u32).collect();
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

/// [`Query::in_table`], compiled for the processor's instruction to count bits.
struct Search<'a> {
    codes: &'a Codes,
    table: &'a Table,
    keypoints: Range<usize>,
    /// Only keypoints before this one are looked at.
    before: u32,
    mirrored: bool,
}

impl WithSimd for Search<'_> {
    type Output = Vec<Found>;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> Vec<Found> {
        let Self { codes, table, before, .. } = self;
        // In steps, so that no read has to wait for another: where to look, which keypoints are there, their codes.
        let mut runs: Vec<(u64, u64, &[u32])> = Vec::with_capacity(2 * self.keypoints.len());
        let mut first = 0;
        for (number, code) in codes.codes[self.keypoints].iter().enumerate() {
            let key = table.key(*code);
            runs.push(((number as u64) << 33, *code, table.run(key)));
            if self.mirrored {
                runs.push(((number as u64) << 33 | 1, code ^ *MIRROR, table.run(key ^ table.mirror)));
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
        let mut found: Vec<Found> = Vec::new();
        for (tag, code, other) in nearest {
            if (codes.codes[other as usize] ^ code).count_ones() <= FAR {
                found.push(tag | u64::from(codes.image(other)) << 1);
            }
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

/// A number that looks random, from another (SplitMix64).
pub fn scramble(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ z >> 31
}
