//! The networks on our CPU kernels and in dfdx's operations are the same functions, and Grad-CAM's maps are right.

use super::composed::{Composed, Forward, Pass};
use super::grad_cam::{ClassMap, ClassMaps, GradCam};
use super::output::softmax;
use super::resnet50::ResNet50;
use super::wnet::WNet;
use super::{Batch, Model, Objective, Spec, find, resnet50, wnet};
use crate::nn::device::Device;
use crate::nn::testing::{half_flat, random};
use crate::nn::{Precision, Vector};
use dfdx::prelude::*;
use std::collections::BTreeMap;

/// The usual settings of a model, with another size.
fn spec(name: &str, size_px: usize) -> Spec {
    Spec { size_px, seed: 1, ..find(name).unwrap().default_spec() }
}

/// Prediction uses other kernels than training; without dropout, both are the same function.
#[test]
fn wnet_predicts_what_its_training_pass_computes() {
    let precisions = [Precision::F32, Precision::Bf16];
    for (vector, precision) in Vector::available().into_iter().flat_map(|v| precisions.map(|p| (v, p))) {
        for (size, n) in [(32, 33), (40, 3), (224, 1)] {
            let model = WNet::new(&Spec { dropout: 0.0, vector, precision, ..spec("wnet", size) }).unwrap();
            let x: Vec<f32> = random(n * size * size * 3, 1).iter().map(|v| 2.0 * v).collect();
            let predicted = model.predict(&x, n).unwrap();
            let (labels, keys) = (vec![0; n], vec![0; n]);
            let loss = model
                .backward(Batch { x: x.into(), labels: &labels, keys: &keys, objective: Objective::default() })
                .unwrap();
            for (predicted, logits) in predicted.iter().zip(loss.logits.chunks_exact(spec("wnet", size).classes)) {
                for (p, e) in predicted.iter().zip(softmax(logits)) {
                    assert!(
                        (p - e).abs() < 1e-5,
                        "{size} px, {vector:?}, {precision:?}: {predicted:?} and {:?}",
                        softmax(logits)
                    );
                }
            }
        }
    }
}

/// The cosine of the angle between two arrays of the same name, for those that differ most.
fn smallest_cosine(a: &[(String, Vec<f32>)], b: &[(String, Vec<f32>)]) -> (f64, String) {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
    let cosine = |((name, a), (_, b)): (&(String, Vec<f32>), &(String, Vec<f32>))| {
        (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt(), name.clone())
    };
    a.iter().zip(b).map(cosine).min_by(|a, b| a.0.total_cmp(&b.0)).expect("there are arrays")
}

/// The gradients of one step in bf16 are those in f32 but for the rounding of operands and what follows from it: of two
/// nearly equal pixels, pooling may choose the other, and fifty layers amplify what rounding changes. So they point the
/// same way. (Gradients of other pixels or layers are at right angles: their cosine is near 0.)
fn assert_gradients_in_bf16_are_near_those_in_f32(device: Device) {
    let (n, size) = (6, 64);
    let x: Vec<f32> = random(n * size * size * 3, 5);
    let (labels, keys): (Vec<usize>, Vec<u64>) = ((0..n).map(|i| i % 5).collect(), (0..n as u64).collect());
    for (name, prefix) in [("wnet", "adam.m."), ("resnet50", "momentum.")] {
        let step = |precision: Precision| {
            let spec = Spec { precision, ..spec(name, size) };
            let mut model = find(name).unwrap().build(&spec, device).unwrap();
            let mut saved: BTreeMap<String, Vec<f32>> = arrays(model.as_ref()).into_iter().collect();
            // See `resnet50_is_the_same_in_dfdx`.
            let last = |name: &str| name.ends_with("bn3.weight") && !name.starts_with("momentum.");
            saved.iter_mut().filter(|(name, _)| last(name)).for_each(|(_, scale)| scale.fill(0.02));
            model.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
            let batch = Batch { x: x.clone().into(), labels: &labels, keys: &keys, objective: Objective::default() };
            let loss = model.train(batch, 1, 1e-3).unwrap().loss;
            let mut gradients = arrays(model.as_ref());
            gradients.retain(|(name, values)| name.starts_with(prefix) && values.iter().any(|v| *v != 0.0));
            (loss, gradients)
        };
        let ((exact_loss, exact), (loss, rounded)) = (step(Precision::F32), step(Precision::Bf16));
        assert!((exact_loss - loss).abs() < 0.01 * exact_loss, "{name}: {exact_loss} and {loss}");
        assert_eq!(exact.len(), rounded.len(), "{name}");
        let (cosine, array) = smallest_cosine(&exact, &rounded);
        assert!(cosine > 0.9 && cosine < 1.0 - 1e-9, "{name}: the cosine of {array} is {cosine}");
    }
}

#[test]
fn gradients_in_bf16_are_near_those_in_f32() {
    assert_gradients_in_bf16_are_near_those_in_f32(Device::Cpu);
}

/// Prediction in bf16, on the CPU with packed weights (and ResNet50's normalisations folded into them), is near that in
/// f32, and follows the weights when they change.
fn assert_predictions_in_bf16_are_near_those_in_f32(device: Device) {
    let (n, size) = (6, 64);
    let x: Vec<f32> = random(n * size * size * 3, 5);
    let (labels, keys): (Vec<usize>, Vec<u64>) = ((0..n).map(|i| i % 5).collect(), (0..n as u64).collect());
    for name in ["wnet", "resnet50"] {
        let model = |precision| find(name).unwrap().build(&Spec { precision, ..spec(name, size) }, device).unwrap();
        let (mut exact, mut rounded) = (model(Precision::F32), model(Precision::Bf16));
        let mut differences = Vec::new();
        for t in 1..=3 {
            // Both have the weights of the exact one.
            let saved: BTreeMap<String, Vec<f32>> = arrays(exact.as_ref()).into_iter().collect();
            rounded.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
            let (a, b) = (exact.predict(&x, n).unwrap(), rounded.predict(&x, n).unwrap());
            let pairs = a.iter().flatten().zip(b.iter().flatten());
            differences.push(pairs.map(|(a, b)| (a - b).abs()).fold(0f32, f32::max));
            let batch = Batch { x: x.clone().into(), labels: &labels, keys: &keys, objective: Objective::default() };
            exact.train(batch, t, 1e-3).unwrap();
        }
        assert!(differences.iter().all(|d| *d > 0.0 && *d < 0.03), "{name}: {differences:?}");
    }
}

#[test]
fn predictions_in_bf16_are_near_those_in_f32() {
    assert_predictions_in_bf16_are_near_those_in_f32(Device::Cpu);
}

fn arrays(model: &dyn Model) -> Vec<(String, Vec<f32>)> {
    model.state(true).into_iter().map(|a| (a.name.clone(), a.values())).collect()
}

/// Trains `cpu` and `dfdx`, which start with the same weights, and compares their losses, their steps and their
/// predictions; then checks that `dfdx` loads what `cpu` saves.
fn assert_same(spec: &Spec, x: &[f32], cpu: &mut dyn Model, dfdx: &mut dyn Model, tolerance: f32) {
    let n = x.len() / (spec.size_px * spec.size_px * 3);
    let labels: Vec<usize> = (0..n).map(|i| i % spec.classes).collect();
    let keys: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
    assert_eq!(cpu.parameters(), dfdx.parameters());
    let batch = || Batch { x: x.to_vec().into(), labels: &labels, keys: &keys, objective: Objective::default() };
    let (a, b) = (cpu.train(batch(), 1, 1e-3).unwrap(), dfdx.train(batch(), 1, 1e-3).unwrap());
    assert!((a.loss - b.loss).abs() < tolerance * a.loss, "{} and {}", a.loss, b.loss);
    for ((name, a), (other, b)) in arrays(cpu).into_iter().zip(arrays(dfdx)) {
        assert_eq!((&name, a.len()), (&other, b.len()));
        let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let difference = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
        let size = norm(&mut a.iter().copied()).max(1e-6);
        assert!(difference < 3.0 * f64::from(tolerance) * size, "{name}: the norm is {size}, off by {difference}");
    }
    let saved: BTreeMap<String, Vec<f32>> = arrays(cpu).into_iter().collect();
    dfdx.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
    assert_eq!(arrays(dfdx), arrays(cpu));
    let (a, b) = (cpu.infer(x, n).unwrap(), dfdx.infer(x, n).unwrap());
    assert_eq!((a.width, a.features.len()), (b.width, b.features.len()));
    let pairs = a.probabilities.iter().flatten().zip(b.probabilities.iter().flatten());
    for (a, b) in pairs.chain(a.features.iter().zip(&b.features)) {
        assert!((a - b).abs() < 10.0 * tolerance, "{a} and {b}");
    }
}

#[test]
fn wnet_is_the_same_in_dfdx() {
    // Pooling meets equal values on plain ground and on images of one colour.
    let images = [random(3 * 32 * 32 * 3, 5), half_flat(3, 32, 32, 3), vec![0.7; 3 * 32 * 32 * 3]];
    for (classes, x) in [2, 5, 8].into_iter().zip(&images) {
        let spec = Spec { classes, ..spec("wnet", 32) };
        let mut cpu = WNet::new(&spec).unwrap();
        let mut dfdx = Composed::new(Cpu::seed_from_u64(0), &spec, &cpu, wnet::Layers::new(&spec)).unwrap();
        assert_same(&spec, x, &mut cpu, &mut dfdx, 1e-4);
    }
}

/// Only the last layer depends on the number of classes, and the initial weights of the others do not.
#[test]
fn the_last_layer_has_one_output_per_class() {
    for (entry, size_px, five) in
        [(find("wnet").unwrap(), 128, 16_806_949), (find("resnet50").unwrap(), 32, 23_544_837)]
    {
        let build = |classes| entry.build(&Spec { classes, ..spec(entry.name, size_px) }, Device::Cpu).unwrap();
        let of_five = build(5);
        assert_eq!(of_five.parameters(), five);
        for classes in [2, 8, 100] {
            let model = build(classes);
            let last = |name: &str| name.starts_with(&format!("{}.", entry.last));
            for (a, b) in of_five.state(false).iter().zip(model.state(false)) {
                assert_eq!(a.name, b.name);
                match last(&a.name) {
                    true => assert_eq!((*a.shape.last().unwrap(), *b.shape.last().unwrap()), (5, classes)),
                    false => assert!((a.bytes)() == (b.bytes)(), "{}: other initial weights", a.name),
                }
            }
            let p = model.predict(&vec![0.5; 2 * size_px * size_px * 3], 2).unwrap();
            assert!(p.iter().all(|p| p.len() == classes && (p.iter().sum::<f32>() - 1.0).abs() < 1e-5), "{p:?}");
        }
    }
}

#[test]
fn resnet50_is_the_same_in_dfdx() {
    for vector in Vector::available() {
        let spec = Spec { vector, classes: 3, ..spec("resnet50", 64) };
        let mut cpu = ResNet50::new(&spec).unwrap();
        // With new weights, gradients behind fifty layers are mostly amplified rounding errors; scales near 0 make the
        // blocks nearly identities. ReLU may still cut off a value near 0 on one side only; with these images, it does
        // not.
        let mut saved: BTreeMap<String, Vec<f32>> = arrays(&cpu).into_iter().collect();
        let last = |name: &str| name.ends_with("bn3.weight") && !name.starts_with("momentum.");
        saved.iter_mut().filter(|(name, _)| last(name)).for_each(|(_, scale)| scale.fill(0.02));
        cpu.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
        let mut dfdx = Composed::new(Cpu::seed_from_u64(0), &spec, &cpu, resnet50::Layers).unwrap();
        assert_same(&spec, &random(4 * 64 * 64 * 3, 5), &mut cpu, &mut dfdx, 1e-3);
    }
}

/// On a GPU, or on the simulated device of `tests/cuda`.
#[cfg(feature = "cuda")]
mod on_cuda {
    use super::*;
    use crate::nn::cuda::driver;

    /// Whether there is a device; `computes` is whether it must compute, or only count (see `tests/cuda/driver.cpp`).
    fn device(computes: bool) -> bool {
        let counts = std::env::var("SIMULATOR_COMPUTES").is_ok_and(|value| value == "no");
        let found = match (driver::check(0), counts == computes) {
            (Err(why), _) => Err(why),
            (_, true) => Err("SIMULATOR_COMPUTES is for other tests".into()),
            _ => Ok(()),
        };
        found.inspect_err(|why| eprintln!("skipped: {why}")).is_ok()
    }

    /// A device that is simulated takes minutes for what a GPU does in a second: it makes some of the steps.
    fn is_simulated() -> bool {
        driver::simulated_counts().is_some()
    }

    /// The network on the CPU and on the CUDA device, with the same weights; none where there is no device.
    fn pair(spec: &Spec, name: &str) -> Option<[Box<dyn Model>; 2]> {
        let build = |device| find(name).unwrap().build(spec, device).unwrap();
        device(true).then(|| [build(Device::Cpu), build(Device::Cuda(0))])
    }

    /// Pooling meets equal values on plain ground, on few grey levels, and on images of one colour.
    fn images(n: usize, size: usize) -> [Vec<f32>; 4] {
        let noise = random(n * size * size * 3, 5);
        let levels = noise.iter().map(|v| (v * 2.0).round() / 2.0).collect();
        [noise, half_flat(n, size, size, 3), levels, vec![0.7; n * size * size * 3]]
    }

    /// The largest difference of an array, as a share of its norm.
    fn difference(cpu: &dyn Model, cuda: &dyn Model) -> (f64, String) {
        let norm = |v: &mut dyn Iterator<Item = f32>| v.map(|v| f64::from(v).powi(2)).sum::<f64>().sqrt();
        let share = |((name, a), (_, b)): ((String, Vec<f32>), (String, Vec<f32>))| {
            let differences = norm(&mut a.iter().zip(&b).map(|(a, b)| a - b));
            (differences / norm(&mut a.iter().copied()).max(1e-6), name)
        };
        let shares = arrays(cpu).into_iter().zip(arrays(cuda)).map(share);
        shares.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap()
    }

    /// Trains on the CPU and on the device, with a weighted focal loss, and compares all arrays and predictions. Behind
    /// many normalisations of few values, rounding errors grow: how much is measured by a third training, on the CPU
    /// from weights of which half are changed by one rounding.
    fn assert_same_training(
        spec: &Spec,
        name: &str,
        change: impl Fn(&str, &mut [f32]),
        x: &[f32],
        steps: u64,
        rate: f64,
    ) {
        let Some([cpu, cuda]) = pair(spec, name) else { return };
        let nudged = find(name).unwrap().build(spec, Device::Cpu).unwrap();
        let mut models = [cpu, cuda, nudged];
        let saved: BTreeMap<String, Vec<f32>> = arrays(models[0].as_ref()).into_iter().collect();
        for (i, model) in models.iter_mut().enumerate() {
            let mut array = |name: &str, _: &[usize]| {
                let mut values = saved[name].clone();
                change(name, &mut values);
                let nudged = values.iter_mut().step_by(2).filter(|_| i == 2);
                nudged.for_each(|v| *v *= 1.0 + f32::EPSILON);
                Ok(values)
            };
            model.load(true, &mut array).unwrap();
            for t in 1..=steps {
                train(model.as_mut(), x, t, rate);
            }
        }
        let [cpu, cuda, nudged] = &models;
        let (share, array) = difference(cpu.as_ref(), cuda.as_ref());
        let (rounding, _) = difference(cpu.as_ref(), nudged.as_ref());
        println!("{name}: {array} differs by {share:.1e} of its norm, rounding alone makes {rounding:.1e}");
        assert!(share < 1e-5 + 4.0 * rounding, "{name}, {array}: {share}, by rounding {rounding}");
        let n = x.len() / (spec.size_px * spec.size_px * 3);
        let [a, b] = [cpu, cuda].map(|model| model.infer(x, n).unwrap());
        assert_eq!((a.width, a.features.len()), (b.width, b.features.len()));
        let pairs = a.probabilities.iter().flatten().zip(b.probabilities.iter().flatten());
        for (a, b) in pairs {
            assert!((a - b).abs() < 1e-4 + 4.0 * rounding as f32, "{name}: {a} and {b}");
        }
    }

    #[test]
    fn wnet_trains_as_on_the_cpu() {
        for (classes, x) in [2, 5, 8, 3].into_iter().zip(images(5, 32)) {
            assert_same_training(&Spec { classes, ..spec("wnet", 32) }, "wnet", |_, _| {}, &x, 20, 1e-4);
        }
        assert_same_training(&spec("wnet", 64), "wnet", |_, _| {}, &images(4, 64)[1], 5, 1e-4);
    }

    #[test]
    fn resnet50_trains_as_on_the_cpu() {
        // In images of one colour nearly every value is its channel's mean, and rounding decides what ReLU cuts off.
        let sets = [2, 5, 8].into_iter().zip(images(4, 64));
        for (classes, x) in sets.skip(if is_simulated() { 2 } else { 0 }) {
            let spec = Spec { classes, ..spec("resnet50", 64) };
            // Scales near 0 make the blocks nearly identities.
            let small = |name: &str, values: &mut [f32]| {
                if name.ends_with("bn3.weight") && !name.starts_with("momentum.") {
                    values.fill(0.02);
                }
            };
            assert_same_training(&spec, "resnet50", small, &x, 1, 1e-3);
        }
    }

    /// Twenty steps of W-Net on cells (five where the device is simulated). ResNet50 makes three (one): after twenty,
    /// weights that were changed by one rounding have led the CPU itself to arrays that differ by 20 %.
    #[test]
    fn cells_train_as_on_the_cpu() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/data/pbc");
        let Ok(classes) = std::fs::read_dir(&folder) else {
            eprintln!("skipped: {} is not here", folder.display());
            return;
        };
        let mut files: Vec<_> = classes
            .flat_map(|class| {
                std::fs::read_dir(class.unwrap().path()).unwrap().map(|file| file.unwrap().path()).take(2)
            })
            .collect();
        files.sort();
        let steps = if is_simulated() { [5, 1] } else { [20, 3] };
        for (name, size, steps) in [("wnet", 128, steps[0]), ("resnet50", 64, steps[1])] {
            let cell = |path: &std::path::PathBuf| -> Vec<f32> {
                let image = image::open(path).unwrap().crop_imm(80, 80, 200, 200);
                let image = image.resize_exact(size, size, image::imageops::FilterType::Triangle).into_rgb8();
                image.into_raw().iter().map(|v| (f32::from(*v) - 180.0) / 50.0).collect()
            };
            let x: Vec<f32> = files.iter().flat_map(cell).collect();
            let spec = Spec { zero_init_residual: name == "resnet50", ..spec(name, size as usize) };
            assert_same_training(&spec, name, |_, _| {}, &x, steps, 1e-3);
        }
    }

    fn train(model: &mut dyn Model, x: &[f32], t: u64, rate: f64) -> std::time::Duration {
        let n = x.len() / (model.size_px() * model.size_px() * 3);
        let labels: Vec<usize> = (0..n).map(|i| i % 2).collect();
        let keys: Vec<u64> = (0..n as u64).map(|i| i.wrapping_mul(0x9E37_79B9_7F4A_7C15)).collect();
        let weights: Vec<f32> = (0..n).map(|i| 0.5 + i as f32 / n as f32).collect();
        let objective = Objective { weights: &weights, focal_gamma: Some(1.0) };
        let mut pixels = model.pixels(x.len()).unwrap();
        pixels.copy_from_slice(x);
        let start = std::time::Instant::now();
        model.train(Batch { x: pixels, labels: &labels, keys: &keys, objective }, t, rate).unwrap();
        start.elapsed()
    }

    /// From the CPU to the device and back, by what checkpoints hold.
    #[test]
    fn training_resumes_on_another_device() {
        for name in ["wnet", "resnet50"] {
            let spec = Spec { zero_init_residual: name == "resnet50", ..spec(name, 32) };
            let Some([mut cpu, mut cuda]) = pair(&spec, name) else { return };
            let mut alone = find(name).unwrap().build(&spec, Device::Cpu).unwrap();
            let x = random(4 * 32 * 32 * 3, 5);
            let mut other: &mut Box<dyn Model> = &mut cuda;
            let mut current: &mut Box<dyn Model> = &mut cpu;
            for t in 1..=4 {
                for model in [current.as_mut(), alone.as_mut()] {
                    train(model, &x, t, 1e-3);
                }
                let saved: BTreeMap<String, Vec<f32>> = arrays(current.as_ref()).into_iter().collect();
                other.load(true, &mut |name, _| Ok(saved[name].clone())).unwrap();
                (current, other) = (other, current);
            }
            let (difference, array) = difference(alone.as_ref(), current.as_ref());
            assert!(difference < 1e-3, "{name}, {array}: {difference}");
        }
    }

    #[test]
    fn bf16_is_near_f32() {
        if device(true) {
            assert_gradients_in_bf16_are_near_those_in_f32(Device::Cuda(0));
            assert_predictions_in_bf16_are_near_those_in_f32(Device::Cuda(0));
        }
    }

    /// The same device gives the same bytes again.
    #[test]
    fn a_training_can_be_repeated() {
        let precisions = [Precision::F32, Precision::Bf16];
        for (name, precision) in ["wnet", "resnet50"].into_iter().flat_map(|name| precisions.map(|p| (name, p))) {
            let spec = Spec { precision, ..spec(name, 32) };
            let Some([_, mut first]) = pair(&spec, name) else { return };
            let Some([_, mut second]) = pair(&spec, name) else { return };
            let x = random(4 * 32 * 32 * 3, 5);
            for t in 1..=2 {
                for model in [&mut first, &mut second] {
                    train(model.as_mut(), &x, t, 1e-3);
                }
            }
            assert!(arrays(first.as_ref()) == arrays(second.as_ref()), "{name}, {precision:?}");
        }
    }

    /// On a simulated device of 2 GB. The network stays as it was, and trains with fewer images.
    #[test]
    fn too_little_memory_is_reported() {
        if std::env::var("SIMULATOR_MEMORY").is_err() {
            eprintln!("skipped: SIMULATOR_MEMORY is not set");
            return;
        }
        let spec = spec("wnet", 64);
        let Some([_, mut cuda]) = pair(&spec, "wnet") else { return };
        let before = arrays(cuda.as_ref());
        let n = 1024;
        let (x, labels, keys) = (vec![0.5; n * 64 * 64 * 3], vec![0; n], vec![0; n]);
        let objective = Objective::default();
        let error =
            cuda.train(Batch { x: x.clone().into(), labels: &labels, keys: &keys, objective }, 1, 1e-3).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("memory") && text.contains("1024 images a step") && text.contains("--batch"), "{text}");
        assert!(arrays(cuda.as_ref()) == before);
        train(cuda.as_mut(), &x[..4 * 64 * 64 * 3], 1, 1e-3);
    }

    /// One step of 32 images, as the paper's sizes have it: the matrix products are cuBLAS's launches.
    #[test]
    fn a_step_needs_few_launches_and_copies() {
        for (name, precision, most) in [
            ("wnet", Precision::F32, [120, 120, 8_000_000, 1, 9_000_000_000]),
            ("wnet", Precision::Bf16, [120, 120, 8_000_000, 1, 9_000_000_000]),
            ("resnet50", Precision::Bf16, [2000, 2000, 24_000_000, 2, 9_000_000_000]),
            ("resnet50", Precision::F32, [2000, 2000, 24_000_000, 2, 9_000_000_000]),
        ] {
            if !device(false) {
                return;
            }
            let spec = Spec { precision, ..find(name).unwrap().default_spec() };
            let mut cuda = find(name).unwrap().build(&spec, Device::Cuda(0)).unwrap();
            let x = random(32 * spec.size_px * spec.size_px * 3, 5);
            train(cuda.as_mut(), &x, 1, 1e-3);
            let before = driver::simulated_counts().unwrap();
            let elapsed = train(cuda.as_mut(), &x, 2, 1e-3);
            let after = driver::simulated_counts().unwrap();
            let mut counts: [usize; 5] = std::array::from_fn(|i| after[i] - before[i]);
            counts[4] = after[4];
            println!(
                "{name}, {precision:?}: {} launches, {} products, {:.1} MB in, waits {}, {:.1} GB, host {elapsed:.1?}",
                counts[0],
                counts[1],
                counts[2] as f64 / 1e6,
                counts[3],
                counts[4] as f64 / 1e9
            );
            assert!(counts[0] + counts[1] <= most[0], "{counts:?}");
            assert!(
                counts.iter().zip(most).all(|(count, most)| *count <= most),
                "{name}: {counts:?}, at most {most:?}"
            );
        }
    }
}

#[cfg(not(feature = "cuda"))]
#[test]
fn without_the_cuda_feature_cuda_devices_are_refused() {
    for model in &super::MODELS {
        let error = model.build(&spec(model.name, 32), Device::Cuda(0)).err().unwrap();
        let text = error.to_string();
        assert!(text.contains("device") && text.contains("--features cuda") && text.contains("cuda:0"), "{text}");
    }
}

/// Compares maps with the expected ones; the tolerance is a share of the largest value, which must not be 0.
fn assert_maps_close(actual: &[ClassMap], expected: &[Vec<f32>], tolerance: f32) {
    let actual: Vec<f32> = actual.iter().flat_map(|m| m.values.clone()).collect();
    let expected = expected.concat();
    let largest = expected.iter().copied().fold(0f32, f32::max);
    assert!(largest > 0.0 && actual.len() == expected.len());
    for (a, e) in actual.iter().zip(&expected) {
        assert!((a - e).abs() < tolerance * largest, "{a} and {e}; the largest value is {largest}");
    }
}

/// Images, the maps of the last layer, and Grad-CAM's maps for each class.
fn maps<F: Forward>(cam: &GradCam<F>, size: usize) -> (Tensor<crate::nn::Nhwc, f32, Cpu>, Vec<ClassMap>)
where
    GradCam<F>: ClassMaps,
{
    let n = 5;
    let x = random(n * size * size * 3, 4);
    let class_maps = cam.class_maps(&x, &[0, 1, 2, 3, 4]).unwrap();
    let images = cam.weights.tensor(x, (n, size, size, 3)).unwrap();
    (cam.forward.maps(&cam.weights, images, &mut Pass::predict()).unwrap(), class_maps)
}

/// Raising a channel everywhere raises the logit by the sum of the channel's gradients.
#[test]
fn grad_cam_weights_of_wnet_equal_finite_differences() {
    let spec = Spec { dropout: 0.0, ..spec("wnet", 32) };
    let cam = GradCam::new(&WNet::new(&spec).unwrap(), wnet::Layers::new(&spec)).unwrap();
    let (maps, class_maps) = maps(&cam, spec.size_px);
    let pooled = cam.forward.pool(maps.clone()).unwrap();
    let ((n, h, w, c), pooled) = (*pooled.shape(), pooled.as_vec());
    assert_eq!((maps.shape().1, h, class_maps[0].side), (8, 4, 8));
    let mut expected = Vec::new();
    for i in 0..n {
        let logit = |channel: usize, by: f32| -> f64 {
            let mut pooled = pooled.clone();
            pooled.iter_mut().skip(channel).step_by(c).for_each(|v| *v += by);
            let pooled = cam.weights.tensor(pooled, (n, h, w, c)).unwrap();
            let logits = cam.forward.head(&cam.weights, pooled, &mut Pass::predict()).unwrap().as_vec();
            f64::from(logits[i * spec.classes + i])
        };
        let by = 1e-3;
        let weight = |channel| ((logit(channel, by) - logit(channel, -by)) / f64::from(2.0 * by)) as f32 / 64.0;
        let weights: Vec<f32> = (0..c).map(weight).collect();
        let maps = maps.as_vec();
        let pixels = maps[i * 64 * c..][..64 * c].chunks_exact(c);
        let dot = |m: &[f32]| m.iter().zip(&weights).map(|(m, w)| m * w).sum::<f32>().max(0.0);
        expected.push(pixels.map(dot).collect());
    }
    assert_maps_close(&class_maps, &expected, 0.02);
}

/// Where only mean-pooling and a linear layer follow, Grad-CAM is CAM (Zhou et al. 2016) divided by the number of
/// pixels.
#[test]
fn grad_cam_of_resnet50_equals_cam() {
    let spec = spec("resnet50", 64);
    let cam = GradCam::new(&ResNet50::new(&spec).unwrap(), resnet50::Layers).unwrap();
    let (maps, class_maps) = maps(&cam, spec.size_px);
    let (n, h, w, c) = *maps.shape();
    assert_eq!((h, w, c), (2, 2, 2048));
    let (maps, linear) = (maps.as_vec(), cam.weights.values("fc.weight"));
    let class_activation = |i: usize| -> Vec<f32> {
        let weight = |k: usize| linear[k * spec.classes + i] / 4.0;
        let pixel = |m: &[f32]| m.iter().enumerate().map(|(k, m)| m * weight(k)).sum::<f32>().max(0.0);
        maps[i * 4 * c..][..4 * c].chunks_exact(c).map(pixel).collect()
    };
    assert_maps_close(&class_maps, &(0..n).map(class_activation).collect::<Vec<_>>(), 1e-4);
}
