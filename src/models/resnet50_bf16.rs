//! ResNet50's prediction with operands that are rounded to bf16: normalisations are folded into the filters, filters
//! are packed once, and a few images at a time pass through the whole network, so that their activations stay in the
//! cache.

use crate::nn::Vector;
use crate::nn::kernel::batch_norm::BatchNorm;
use crate::nn::kernel::conv2d_bf16::{Folded, Output};
use crate::nn::kernel::windows::Source;
use crate::nn::kernel::{Blocks, Conv2d, Input, pool};
use rayon::prelude::*;

/// Images that pass through the network at a time: the last layers' 49 pixels fill blocks of products badly.
const IMAGES: usize = 4;

/// A convolution and its normalisation by the running mean and variance.
pub struct FoldedLayer {
    conv: Conv2d,
    folded: Folded,
}

impl FoldedLayer {
    pub fn new(vector: Vector, conv: Conv2d, weight: &[f32], norm: &BatchNorm) -> Self {
        Self { conv, folded: Folded::new(vector, conv, weight, &norm.scale, &norm.shift) }
    }
}

/// A block's three layers, and that of its shortcut.
pub type FoldedBlock = ([FoldedLayer; 3], Option<FoldedLayer>);

/// The network up to the mean over the pixels.
pub struct FoldedNetwork {
    pub stem: FoldedLayer,
    pub blocks: Vec<FoldedBlock>,
}

impl FoldedNetwork {
    /// The features of `n` images, `[n, features]`; `x` is `[n, size, size, 3]`.
    pub fn features(&self, vector: Vector, x: &[f32], n: usize, features: usize) -> Vec<f32> {
        let mut means = vec![0.0; n * features];
        let images = x.par_chunks(IMAGES * self.stem.conv.x_len());
        means.par_chunks_mut(IMAGES * features).zip(images).for_each(|(means, x)| {
            means.copy_from_slice(&self.group(vector, x, means.len() / features, features));
        });
        means
    }

    fn group(&self, vector: Vector, x: &[f32], n: usize, features: usize) -> Vec<f32> {
        let unit = Blocks::new(vector);
        let side = self.stem.conv.out_h();
        let mut out = Vec::new();
        self.stem.folded.apply(vector, &unit, Input::Plain(x).into(), n, Output::Values(&mut out, None));
        // The pooling takes ReLU's place too; there is nothing left to normalise.
        let c = self.stem.conv.c_out;
        let identity = BatchNorm { scale: vec![1.0; c], shift: vec![0.0; c], ..BatchNorm::default() };
        let (mut x, _) = pool::max_pool(vector, &out, &identity, side, side);
        let (mut a, mut b, mut projected) = (Vec::new(), Vec::new(), Vec::new());
        for ([first, second, third], downsample) in &self.blocks {
            let input = Source::Values(Input::Plain(&x));
            first.folded.apply(vector, &unit, input, n, Output::Rounded(&mut a));
            second.folded.apply(vector, &unit, Source::Rounded(&a), n, Output::Rounded(&mut b));
            let shortcut = match downsample {
                Some(layer) => {
                    layer.folded.apply(vector, &unit, input, n, Output::Values(&mut projected, None));
                    &projected
                }
                None => &x,
            };
            third.folded.apply(vector, &unit, Source::Rounded(&b), n, Output::Values(&mut out, Some(shortcut)));
            std::mem::swap(&mut x, &mut out);
        }
        pool::mean_pool(&x, x.len() / n / features, features)
    }
}
