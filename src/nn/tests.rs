//! `fused` and `composed` give the same outputs and gradients, with every instruction set that this machine has.

use super::fused::SharedWeight;
use super::kernel::batch_norm::BatchNorm;
use super::kernel::{BatchDropout, Dropout, TiledWeight, pool};
use super::precision::Precision;
use super::shape::Nhwc;
use super::testing::{half_flat, random};
use super::vector::Vector;
use super::{composed, fused, optim};
use crate::seed;
use dfdx::prelude::*;

type Matrix = (usize, usize);

fn assert_close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = a.iter().fold(0f32, |m, v| m.max(v.abs())).max(1e-3);
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 3e-5 * scale, "{what}[{i}]: {a} and {b} (scale {scale})");
    }
    assert!(a.iter().any(|v| *v != 0.0), "{what}: all values are 0");
}

/// The output, and the gradients of x, weight and bias, for a loss that weights every output differently.
type Pass = [Vec<f32>; 4];

fn assert_same(case: &str, expected: &Pass, actual: &Pass) {
    for (name, (e, a)) in ["y", "dx", "dw", "db"].iter().zip(expected.iter().zip(actual)) {
        assert_close(&format!("{name}, {case}"), e, a);
    }
}

/// Dropout keys of `n` images.
fn keys(n: usize, seed: u64) -> Vec<u64> {
    (0..n as u64).map(|i| seed::key(seed, "keys", 0, 0, i)).collect()
}

fn dropout(p: f32, keys: &[u64]) -> Option<BatchDropout<'_>> {
    (p > 0.0).then_some(BatchDropout { dropout: Dropout { p }, keys })
}

/// The values of `y`, and the gradients of the sum of `y` weighted by `loss_weights`.
fn backward<S: Shape>(
    dev: &Cpu,
    y: Tensor<S, f32, Cpu, OwnedTape<f32, Cpu>>,
    loss_weights: &[f32],
) -> (Vec<f32>, Gradients<f32, Cpu>) {
    let (values, shape) = (y.as_vec(), *y.shape());
    (values, (y * dev.tensor_from_vec(loss_weights.to_vec(), shape)).sum().backward())
}

#[test]
fn fused_conv3x3_block_equals_composed() {
    // n, h, w, c_in, c_out, share dropped: odd sizes, odd batches, W-Net's channels, images of 32 to 224 px.
    let cases = [
        (1, 8, 8, 3, 16, 0.0),
        (33, 32, 32, 3, 16, 0.4),
        (1, 224, 224, 3, 16, 0.4),
        (3, 112, 112, 16, 32, 0.4),
        (1, 56, 56, 32, 64, 0.4),
        (5, 12, 20, 16, 32, 0.4),
        (33, 6, 10, 32, 64, 0.6),
        (2, 9, 7, 16, 16, 0.3),
        (1, 28, 14, 5, 48, 0.0),
    ];
    for ((n, h, w, c_in, c_out, p), flat) in cases.into_iter().flat_map(|case| [(case, false), (case, true)]) {
        let dev = Cpu::seed_from_u64(1);
        let xs = if flat { half_flat(n, h, w, c_in) } else { random(n * h * w * c_in, 1) };
        let (ws, bs) = (random(9 * c_in * c_out, 2), random(c_out, 3));
        let keys = keys(n, 1);
        let drop = dropout(p, &keys);
        let loss_weights = random(n * (h / 2) * (w / 2) * c_out, 4);
        let inputs = || {
            let x: Tensor<Nhwc, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, h, w, c_in));
            let weight = dev.tensor_from_vec(ws.clone(), (ws.len(),));
            let bias = dev.tensor_from_vec(bs.clone(), (c_out,));
            (x, weight, bias)
        };
        let (x, weight, bias) = inputs();
        let traced = |t: &Tensor<(usize,), f32, Cpu>| t.leaky_trace();
        let y = composed::conv3x3_block(x.leaky_trace(), traced(&weight), traced(&bias), drop).unwrap();
        let (values, grads) = backward(&dev, y, &loss_weights);
        let expected = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
        for vector in Vector::available() {
            let (x, weight, bias) = inputs();
            let y =
                fused::conv3x3_block((vector, Precision::F32), x.leaky_trace(), &weight, &bias, drop, true).unwrap();
            let (values, grads) = backward(&dev, y, &loss_weights);
            let actual = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
            assert_same(&format!("{n}x{h}x{w}x{c_in} to {c_out}, flat: {flat}, {vector:?}"), &expected, &actual);
        }
    }
}

#[test]
fn of_equal_values_in_a_window_one_has_the_gradient() {
    let (n, h, w, c) = (2, 8, 10, 3);
    let (z, dy) = (half_flat(n, h, w, c), random(n * h * w * c / 4, 2));
    let norm = BatchNorm { scale: vec![1.0; c], shift: vec![0.0; c], ..Default::default() };
    let dev = Cpu::seed_from_u64(1);
    let x: Tensor<Nhwc, f32, Cpu> = dev.tensor_from_vec(z.clone(), (n, h, w, c));
    let y = composed::max_pool_3x3(x.leaky_trace().relu()).unwrap();
    let (values, grads) = backward(&dev, y, &dy);
    for vector in Vector::available() {
        let (y, codes) = pool::max_pool(vector, &z, &norm, h, w);
        assert_close("y", &values, &y);
        assert_close("dx", &grads.get(&x).as_vec(), &pool::max_pool_backward(&dy, &codes, c, h, w));
    }
}

#[test]
fn fused_linear_block_equals_composed() {
    for (n, inputs, outputs, p) in [(1, 64, 16, 0.0), (5, 128, 64, 0.4), (33, 192, 48, 0.6)] {
        let dev = Cpu::seed_from_u64(1);
        let (xs, ws, bs) = (random(n * inputs, 1), random(inputs * outputs, 2), random(outputs, 3));
        let keys = keys(n, 2);
        let drop = dropout(p, &keys);
        let loss_weights = random(n * outputs, 4);
        let x: Tensor<Matrix, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
        let weight: Tensor<Matrix, f32, Cpu> = dev.tensor_from_vec(ws.clone(), (inputs, outputs));
        let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
        let y = composed::linear_block(x.leaky_trace(), weight.leaky_trace(), bias.leaky_trace(), drop).unwrap();
        let (values, grads) = backward(&dev, y, &loss_weights);
        let expected = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
        for vector in Vector::available() {
            let x: Tensor<Matrix, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
            let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
            let weight = tiled(inputs, outputs, &ws);
            let y = fused::linear_block((vector, Precision::F32), x.leaky_trace(), &weight, &bias, drop).unwrap();
            let (values, grads) = backward(&dev, y, &loss_weights);
            let actual = [values, grads.get(&x).as_vec(), gradient(&weight), grads.get(&bias).as_vec()];
            assert_same(&format!("{n}x{inputs} to {outputs}, {vector:?}"), &expected, &actual);
        }
    }
}

/// A weight from its row-major values.
fn tiled(inputs: usize, outputs: usize, values: &[f32]) -> SharedWeight {
    let mut tiled = TiledWeight::zeros(inputs, outputs);
    TiledWeight::set_rows(outputs, &mut tiled.value, values);
    SharedWeight::new(tiled)
}

/// The stored gradient of a weight, row-major.
fn gradient(weight: &SharedWeight) -> Vec<f32> {
    bytemuck::pod_collect_to_vec(&weight.lock().row_bytes(&weight.gradient.lock().unwrap()))
}

#[test]
fn the_backward_pass_updates_the_weight_as_adam_does() {
    let (n, inputs, outputs) = (5, 64, 32);
    let dev = Cpu::seed_from_u64(1);
    let step = optim::Adam::default().step(3, 1e-3);
    for vector in Vector::available() {
        let mut tiled = TiledWeight::zeros(inputs, outputs);
        tiled.value = random(inputs * outputs, 1);
        tiled.m = random(inputs * outputs, 2);
        tiled.v = random(inputs * outputs, 3).iter().map(|v| v.abs()).collect();
        let mut expected = tiled.clone();
        let bias = dev.tensor_from_vec(random(outputs, 4), (outputs,));
        let run = |weight: &SharedWeight| {
            let x: Tensor<Matrix, f32, Cpu> = dev.tensor_from_vec(random(n * inputs, 5), (n, inputs));
            fused::linear_block((vector, Precision::F32), x.leaky_trace(), weight, &bias, None)
                .unwrap()
                .square()
                .sum()
                .backward();
        };
        let stored = SharedWeight::new(tiled.clone());
        run(&stored);
        for (i, g) in stored.gradient.lock().unwrap().iter().enumerate() {
            step.apply(&mut expected.value[i], &mut expected.m[i], &mut expected.v[i], *g);
        }
        let mut updated = SharedWeight::new(tiled);
        updated.step = Some(step);
        run(&updated);
        let actual = updated.lock();
        assert_close("value", &expected.value, &actual.value);
        assert_close("m", &expected.m, &actual.m);
        assert_close("v", &expected.v, &actual.v);
    }
}

/// Compares the gradients of x, weight and bias with central differences of the loss; `pass` returns both.
fn assert_finite_differences(inputs: &[Vec<f32>; 3], pass: impl Fn(&[Vec<f32>; 3]) -> (f64, [Vec<f32>; 3])) {
    let (_, analytic) = pass(inputs);
    for (k, name) in ["x", "weight", "bias"].iter().enumerate() {
        let (mut close, mut count) = (0, 0);
        for i in (0..inputs[k].len()).step_by(5) {
            let loss = |by: f32| {
                let mut inputs = inputs.clone();
                inputs[k][i] += by;
                pass(&inputs).0
            };
            let numeric = (loss(1e-3) - loss(-1e-3)) / 2e-3;
            count += 1;
            close += usize::from((numeric - f64::from(analytic[k][i])).abs() < 2e-2);
        }
        // ReLU and max are not differentiable everywhere, so that some of the differences are wrong.
        assert!(close * 10 >= count * 8, "{name}: {close} of {count}");
    }
}

fn weighted_sum(y: &[f32], weights: &[f32]) -> f64 {
    y.iter().zip(weights).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
}

#[test]
fn gradients_of_conv3x3_block_equal_finite_differences() {
    let (n, h, w, c_in, c_out) = (2, 6, 8, 3, 16);
    let dev = Cpu::seed_from_u64(1);
    let drop = dropout(0.4, &[11, 12]);
    let loss_weights = random(n * 3 * 4 * c_out, 4);
    let inputs = [random(n * h * w * c_in, 1), random(9 * c_in * c_out, 2), random(c_out, 3)];
    assert_finite_differences(&inputs, |[xs, ws, bs]| {
        let x: Tensor<Nhwc, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, h, w, c_in));
        let weight = dev.tensor_from_vec(ws.clone(), (ws.len(),));
        let bias = dev.tensor_from_vec(bs.clone(), (c_out,));
        let y = fused::conv3x3_block((Vector::detect(), Precision::F32), x.leaky_trace(), &weight, &bias, drop, true)
            .unwrap();
        let (values, grads) = backward(&dev, y, &loss_weights);
        let gradients = [grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
        (weighted_sum(&values, &loss_weights), gradients)
    });
}

#[test]
fn gradients_of_linear_block_equal_finite_differences() {
    let (n, inputs, outputs) = (3, 64, 16);
    let dev = Cpu::seed_from_u64(1);
    let drop = dropout(0.4, &[11, 12, 13]);
    let loss_weights = random(n * outputs, 4);
    let values = [random(n * inputs, 1), random(inputs * outputs, 2), random(outputs, 3)];
    assert_finite_differences(&values, |[xs, ws, bs]| {
        let x: Tensor<Matrix, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
        let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
        let weight = tiled(inputs, outputs, ws);
        let y = fused::linear_block((Vector::detect(), Precision::F32), x.leaky_trace(), &weight, &bias, drop).unwrap();
        let (values, grads) = backward(&dev, y, &loss_weights);
        let gradients = [grads.get(&x).as_vec(), gradient(&weight), grads.get(&bias).as_vec()];
        (weighted_sum(&values, &loss_weights), gradients)
    });
}
