//! What is kept of an image to find its copies.

use super::keypoints::{self, Keypoint};
use super::view::View;
use crate::decode::Grey;
use serde::{Deserialize, Serialize};

/// What is kept of an image to find its copies, about 6 KiB.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Features {
    /// The keypoints, strongest first.
    pub keypoints: Vec<Keypoint>,
    /// Code of the whole image.
    pub(super) whole: u64,
    /// What the positions of the keypoints refer to.
    pub(super) view: View,
    /// Of the pixels that were searched for keypoints: equal images have equal ones.
    pub(super) hash: u64,
    pub(super) size: (u32, u32),
}

impl Features {
    /// Computes the features of an image.
    pub fn new(image: &Grey) -> Self {
        let (detection, view) = View::pair(image);
        let hash = blake3::hash(&detection.pixels);
        let hash = u64::from_le_bytes(hash.as_bytes()[..8].try_into().expect("8 bytes"));
        let mut keypoints = keypoints::keypoints(&detection);
        keypoints.iter_mut().for_each(|keypoint| *keypoint = keypoint.moved(detection.frame, view.frame));
        let whole = keypoints::whole(&detection);
        Self { keypoints, whole, view, hash, size: (image.width_px, image.height_px) }
    }

    /// Whether nothing can be seen in the image.
    pub(super) fn is_blank(&self) -> bool {
        let (mut least, mut most) = (u8::MAX, 0);
        for v in &self.view.pixels {
            (least, most) = (least.min(*v), most.max(*v));
        }
        most.saturating_sub(least) < 8
    }
}
