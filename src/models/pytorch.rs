//! Conversion between our arrays and PyTorch's. PyTorch has filters `[c_out, c_in, kernel, kernel]` where ours are
//! `[kernel, kernel, c_in, c_out]`, linear weights `[outputs, inputs]` where ours are `[inputs, outputs]`, and flattens
//! images with the channels first.

use super::entry::Entry;
use super::model::{Array, Model};
use std::collections::BTreeMap;

/// PyTorch's shape of an array; `shape` is ours.
pub fn shape(shape: &[usize]) -> Vec<usize> {
    match *shape {
        [kh, kw, c_in, c_out] => vec![c_out, c_in, kh, kw],
        [inputs, outputs] => vec![outputs, inputs],
        _ => shape.to_vec(),
    }
}

/// The position in PyTorch's array of each of our values; `shape` is ours.
fn positions(entry: &Entry, name: &str, shape: &[usize]) -> Box<dyn Fn(usize) -> usize> {
    match *shape {
        [kh, kw, c_in, c_out] => {
            let taps = kh * kw;
            Box::new(move |at| (at % c_out * c_in + at / c_out % c_in) * taps + at / c_out / c_in)
        }
        [inputs, outputs] => {
            let channels = match entry.flattened {
                Some((weight, channels)) if weight == name => channels,
                _ => inputs,
            };
            let pixels = inputs / channels;
            Box::new(move |at| {
                let (input, output) = (at / outputs, at % outputs);
                output * inputs + input % channels * pixels + input / channels
            })
        }
        _ => Box::new(|at| at),
    }
}

/// The values of one of PyTorch's arrays in our order; `shape` is ours.
pub fn from_pytorch(entry: &Entry, name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
    let position = positions(entry, name, shape);
    (0..values.len()).map(|at| values[position(at)]).collect()
}

/// The weights of a model as PyTorch's arrays, by name. In PyTorch, a convolution before a batch normalisation has no
/// bias: ours is subtracted from the running mean, which gives the same results.
pub fn state(entry: &Entry, model: &dyn Model) -> BTreeMap<String, Array> {
    let mut arrays = BTreeMap::new();
    for array in model.state(false) {
        let ours = array.values();
        let position = positions(entry, &array.name, &array.shape);
        let mut values = vec![0.0; ours.len()];
        ours.into_iter().enumerate().for_each(|(at, value)| values[position(at)] = value);
        arrays.insert(array.name, (shape(&array.shape), values));
    }
    let means: Vec<String> = arrays.keys().filter(|name| name.ends_with(".running_mean")).cloned().collect();
    for name in means {
        let Some((_, bias)) = arrays.remove(&bias_before(&name)) else { continue };
        let (_, mean) = arrays.get_mut(&name).expect("the name comes from the arrays");
        mean.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
    }
    arrays
}

/// Name of the bias of the convolution before a batch normalisation, from the name of the running mean.
fn bias_before(running_mean: &str) -> String {
    let norm = running_mean.trim_end_matches(".running_mean");
    let conv = match norm.strip_suffix("downsample.1") {
        Some(block) => format!("{block}downsample.0"),
        None => {
            let at = norm.rfind("bn").expect("names are torchvision's");
            format!("{}conv{}", &norm[..at], &norm[at + 2..])
        }
    };
    conv + ".bias"
}
