//! The networks on our CPU kernels and in dfdx's operations are the same functions, and Grad-CAM's maps are right.

use super::composed::{Composed, Forward, Pass};
use super::grad_cam::{ClassMap, ClassMaps, GradCam};
use super::output::softmax;
use super::resnet50::ResNet50;
use super::wnet::WNet;
use super::{Batch, Model, Objective, Spec, find, resnet50, wnet};
use crate::nn::Vector;
use crate::nn::device::Device;
use crate::nn::testing::{half_flat, random};
use dfdx::prelude::*;
use std::collections::BTreeMap;

/// The usual settings of a model, with another size.
fn spec(name: &str, size_px: usize) -> Spec {
    Spec { size_px, seed: 1, ..find(name).unwrap().default_spec() }
}

/// Prediction uses other kernels than training; without dropout, both are the same function.
#[test]
fn wnet_predicts_what_its_training_pass_computes() {
    for vector in Vector::available() {
        for (size, n) in [(32, 33), (40, 3), (224, 1)] {
            let model = WNet::new(&Spec { dropout: 0.0, vector, ..spec("wnet", size) }).unwrap();
            let x: Vec<f32> = random(n * size * size * 3, 1).iter().map(|v| 2.0 * v).collect();
            let predicted = model.predict(&x, n).unwrap();
            let (labels, keys) = (vec![0; n], vec![0; n]);
            let loss =
                model.backward(Batch { x, labels: &labels, keys: &keys, objective: Objective::default() }).unwrap();
            for (predicted, logits) in predicted.iter().zip(loss.logits.chunks_exact(spec("wnet", size).classes)) {
                for (p, e) in predicted.iter().zip(softmax(logits)) {
                    assert!((p - e).abs() < 1e-5, "{size} px, {vector:?}: {predicted:?} and {:?}", softmax(logits));
                }
            }
        }
    }
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
    let batch = || Batch { x: x.to_vec(), labels: &labels, keys: &keys, objective: Objective::default() };
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
