//! Our arrays in PyTorch's order, and back: filters `[kernel, kernel, c_in, c_out]` are `[c_out, c_in, kernel, kernel]`
//! there, linear weights `[inputs, outputs]` are `[outputs, inputs]`, and what a linear layer reads from a picture counts
//! channels first.

use super::{Entry, Model};
use std::collections::BTreeMap;

/// An array's shape and numbers.
pub type Array = (Vec<usize>, Vec<f32>);

/// PyTorch's shape of one of our arrays.
pub fn shape(ours: &[usize]) -> Vec<usize> {
    match *ours {
        [kh, kw, c_in, c_out] => vec![c_out, c_in, kh, kw],
        [inputs, outputs] => vec![outputs, inputs],
        _ => ours.to_vec(),
    }
}

/// Where each of our numbers stands in PyTorch's array; `shape` is ours.
fn places(entry: &Entry, name: &str, shape: &[usize]) -> Box<dyn Fn(usize) -> usize> {
    match *shape {
        [kh, kw, c_in, c_out] => {
            let taps = kh * kw;
            Box::new(move |at| (at % c_out * c_in + at / c_out % c_in) * taps + at / c_out / c_in)
        }
        [inputs, outputs] => {
            let channels = entry.flattened.filter(|(of, _)| *of == name).map_or(inputs, |(_, channels)| channels);
            let pixels = inputs / channels;
            Box::new(move |at| {
                let (input, output) = (at / outputs, at % outputs);
                output * inputs + input % channels * pixels + input / channels
            })
        }
        _ => Box::new(|at| at),
    }
}

/// An array of PyTorch's in our order; `shape` is ours.
pub fn to_ours(entry: &Entry, name: &str, shape: &[usize], values: &[f32]) -> Vec<f32> {
    let place = places(entry, name, shape);
    (0..values.len()).map(|at| values[place(at)]).collect()
}

/// A model's weights as PyTorch has them, by name. A convolution in front of a batch normalisation has no bias there:
/// ours goes into the running mean, which changes no result.
pub fn state(entry: &Entry, model: &dyn Model) -> BTreeMap<String, Array> {
    let mut arrays = BTreeMap::new();
    for array in model.state(false) {
        let ours: Vec<f32> = bytemuck::pod_collect_to_vec(&(array.bytes)());
        let place = places(entry, &array.name, &array.shape);
        let mut values = vec![0.0; ours.len()];
        ours.into_iter().enumerate().for_each(|(at, value)| values[place(at)] = value);
        arrays.insert(array.name, (shape(&array.shape), values));
    }
    let means: Vec<String> = arrays.keys().filter(|name| name.ends_with(".running_mean")).cloned().collect();
    for name in means {
        let Some((_, bias)) = arrays.remove(&bias_before(&name)) else { continue };
        let (_, mean) = arrays.get_mut(&name).expect("it was listed");
        mean.iter_mut().zip(bias).for_each(|(mean, bias)| *mean -= bias);
    }
    arrays
}

/// Name of the bias of the convolution in front of a normalisation, by the name of its running mean.
fn bias_before(running_mean: &str) -> String {
    let norm = running_mean.trim_end_matches(".running_mean");
    let conv = match norm.strip_suffix("downsample.1") {
        Some(block) => format!("{block}downsample.0"),
        None => {
            let at = norm.rfind("bn").expect("torchvision's names");
            format!("{}conv{}", &norm[..at], &norm[at + 2..])
        }
    };
    conv + ".bias"
}
