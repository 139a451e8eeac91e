//! Where the features of images are while copies of them are looked for: in memory or, of very many images, in a file.

use super::features::Features;
use super::keypoints::Keypoint;
use super::view::{Frame, View};
use crate::error::{Error, Result};
use crate::spool::Spool;
use std::borrow::Cow;
use std::path::{Path, PathBuf};

/// Features of images by number.
pub trait Source: Sync {
    /// Number of images.
    fn count(&self) -> usize;

    /// The features of an image; none if it could not be decoded.
    ///
    /// # Errors
    /// [`Error::Io`].
    fn get(&self, image: usize) -> Result<Option<Cow<'_, Features>>>;

    /// Where there is room for temporary files; none if everything is in memory.
    fn folder(&self) -> Option<&Path> {
        None
    }
}

impl Source for &[Option<&Features>] {
    fn count(&self) -> usize {
        self.len()
    }

    fn get(&self, image: usize) -> Result<Option<Cow<'_, Features>>> {
        Ok(self[image].map(Cow::Borrowed))
    }
}

/// Features in memory, and from a number of images on in a temporary file, so that memory hardly grows with the images.
pub struct Store {
    folder: PathBuf,
    memory: Vec<Option<Features>>,
    /// The file, and where in it the features of each image are: place and length.
    file: Option<Spool>,
    places: Vec<Option<(u64, u32)>>,
}

impl Store {
    /// A store for the features of `count` images. They are in memory if there are at most `in_memory` images, else in
    /// a file without a name in `folder`.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn new(count: usize, in_memory: usize, folder: &Path) -> Result<Self> {
        let is_small = count <= in_memory;
        let file = if is_small { None } else { Some(Spool::new(folder)?) };
        let memory = if is_small { (0..count).map(|_| None).collect() } else { Vec::new() };
        let places = if is_small { Vec::new() } else { vec![None; count] };
        Ok(Self { folder: folder.into(), memory, file, places })
    }

    /// Keeps the features of an image.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn put(&mut self, image: usize, features: Features) -> Result<()> {
        let Some(file) = &mut self.file else {
            self.memory[image] = Some(features);
            return Ok(());
        };
        let bytes = to_bytes(&features);
        self.places[image] = Some((file.put(&bytes)?, bytes.len() as u32));
        Ok(())
    }
}

impl Source for Store {
    fn count(&self) -> usize {
        self.memory.len().max(self.places.len())
    }

    fn get(&self, image: usize) -> Result<Option<Cow<'_, Features>>> {
        let Some(file) = &self.file else { return Ok(self.memory[image].as_ref().map(Cow::Borrowed)) };
        let Some((place, length)) = self.places[image] else { return Ok(None) };
        let mut bytes = vec![0; length as usize];
        file.get(place, &mut bytes)?;
        let damaged = || Error::compute("the temporary file of features", "it was changed by another program");
        from_bytes(&bytes).map(|features| Some(Cow::Owned(features))).ok_or_else(damaged)
    }

    fn folder(&self) -> Option<&Path> {
        self.file.as_ref().map(|_| self.folder.as_path())
    }
}

/// Features as bytes, least significant first.
pub(super) fn to_bytes(features: &Features) -> Vec<u8> {
    let Features { keypoints, whole, view, hash, size } = features;
    let View { width, height, pixels, valid, frame } = view;
    let mut bytes = Vec::with_capacity(64 + KEYPOINT * keypoints.len() + pixels.len() + valid.len());
    for word in [*hash, *whole] {
        bytes.extend(word.to_le_bytes());
    }
    for word in [size.0, size.1, *width as u32, *height as u32, keypoints.len() as u32, valid.len() as u32] {
        bytes.extend(word.to_le_bytes());
    }
    for number in [frame.left, frame.top, frame.across, frame.down] {
        bytes.extend(number.to_le_bytes());
    }
    keypoints.iter().for_each(|keypoint| bytes.extend(keypoint_to_bytes(keypoint)));
    bytes.extend(pixels);
    bytes.extend(valid.iter().map(|valid| u8::from(*valid)));
    bytes
}

/// The features of [`to_bytes`]; none for other bytes.
pub(super) fn from_bytes(bytes: &[u8]) -> Option<Features> {
    let (head, rest) = bytes.split_first_chunk::<56>()?;
    let word = |at: usize| u32::from_le_bytes(*head[at..].first_chunk().expect("inside"));
    let long = |at: usize| u64::from_le_bytes(*head[at..].first_chunk().expect("inside"));
    let number = |at: usize| f32::from_le_bytes(*head[at..].first_chunk().expect("inside"));
    let (width, height) = (word(24) as usize, word(28) as usize);
    let (keypoints, rest) = rest.split_at_checked(KEYPOINT.checked_mul(word(32) as usize)?)?;
    let (pixels, valid) = rest.split_at_checked(width.checked_mul(height)?)?;
    (valid.len() == word(36) as usize).then(|| Features {
        keypoints: keypoints.as_chunks().0.iter().map(keypoint_from_bytes).collect(),
        whole: long(8),
        view: View {
            width,
            height,
            pixels: pixels.to_vec(),
            valid: valid.iter().map(|valid| *valid == 1).collect(),
            frame: Frame { left: number(40), top: number(44), across: number(48), down: number(52) },
        },
        hash: long(0),
        size: (word(16), word(20)),
    })
}

/// Bytes of a keypoint.
pub(super) const KEYPOINT: usize = 24;

pub(super) fn keypoint_to_bytes(k: &Keypoint) -> [u8; KEYPOINT] {
    let mut bytes = [0; KEYPOINT];
    for (part, v) in bytes.chunks_exact_mut(4).zip([k.x, k.y, k.sigma, k.angle]) {
        part.copy_from_slice(&v.to_le_bytes());
    }
    bytes[16..].copy_from_slice(&k.code.to_le_bytes());
    bytes
}

pub(super) fn keypoint_from_bytes(bytes: &[u8; KEYPOINT]) -> Keypoint {
    let (words, _) = bytes.as_chunks::<4>();
    let [x, y, sigma, angle] = [0, 1, 2, 3].map(|i| f32::from_le_bytes(words[i]));
    Keypoint { x, y, sigma, angle, code: u64::from_le_bytes(bytes[16..].try_into().expect("8 bytes")) }
}
