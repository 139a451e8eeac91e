//! fused = composed, forward and backward, on every code path that this machine has.

use super::fused::{Drop, SharedWeight};
use super::kernel::{Dropout, Tiled, Vector};
use super::{Shape4, composed, drawn, fused};
use crate::seed;
use dfdx::prelude::*;

type Flat = (usize, usize);

fn assert_close(what: &str, a: &[f32], b: &[f32]) {
    assert_eq!(a.len(), b.len(), "{what}");
    let scale = a.iter().fold(0f32, |m, v| m.max(v.abs())).max(1e-3);
    for (i, (a, b)) in a.iter().zip(b).enumerate() {
        assert!((a - b).abs() <= 3e-5 * scale, "{what}[{i}]: {a} and {b} (scale {scale})");
    }
    assert!(a.iter().any(|v| *v != 0.0), "{what}: all zero proves nothing");
}

/// Output, and the gradients of x, weight and bias under a loss that weighs every output differently.
type Found = [Vec<f32>; 4];

#[test]
fn the_convolution_block_equals_its_composition() {
    // n, h, w, c_in, c_out, dropped; odd sizes, odd batches, W-Net's channel counts, pictures of 32 to 224 px.
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
    for (n, h, w, c_in, c_out, p) in cases {
        let dev = Cpu::seed_from_u64(1);
        let (xs, ws, bs) = (drawn(n * h * w * c_in, 1), drawn(9 * c_in * c_out, 2), drawn(c_out, 3));
        let keys: Vec<u64> = (0..n as u64).map(|i| seed::key(1, "keys", 0, 0, i)).collect();
        let drop = (p > 0.0).then(|| Drop { dropout: Dropout { p }, keys: &keys });
        let shape = (n, h / 2, w / 2, c_out);
        let weigh = drawn(n * (h / 2) * (w / 2) * c_out, 4);
        let leaves = || {
            let x: Tensor<Shape4, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, h, w, c_in));
            let weight = dev.tensor_from_vec(ws.clone(), (ws.len(),));
            let bias = dev.tensor_from_vec(bs.clone(), (c_out,));
            (x, weight, bias)
        };
        let finish = |y: Tensor<Shape4, f32, Cpu, OwnedTape<f32, Cpu>>| {
            let values = y.as_vec();
            let loss = (y * dev.tensor_from_vec(weigh.clone(), shape)).sum();
            (values, loss.backward())
        };
        let (x, weight, bias) = leaves();
        let traced = |t: &Tensor<(usize,), f32, Cpu>| t.leaky_trace();
        let y = composed::conv_block(x.leaky_trace(), traced(&weight), traced(&bias), drop).unwrap();
        let (values, grads) = finish(y);
        let expected: Found = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
        for vector in Vector::every() {
            let (x, weight, bias) = leaves();
            let y = fused::conv_block(vector, x.leaky_trace(), &weight, &bias, drop, true).unwrap();
            let (values, grads) = finish(y);
            let found: Found = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
            for (name, (e, f)) in ["y", "dx", "dw", "db"].iter().zip(expected.iter().zip(&found)) {
                assert_close(&format!("{name} of {n}x{h}x{w}x{c_in} to {c_out} on {vector:?}"), e, f);
            }
        }
    }
}

#[test]
fn the_linear_block_equals_its_composition() {
    for (n, inputs, outputs, p) in [(1, 64, 16, 0.0), (5, 128, 64, 0.4), (33, 192, 48, 0.6)] {
        let dev = Cpu::seed_from_u64(1);
        let (xs, ws, bs) = (drawn(n * inputs, 1), drawn(inputs * outputs, 2), drawn(outputs, 3));
        let keys: Vec<u64> = (0..n as u64).map(|i| seed::key(2, "keys", 0, 0, i)).collect();
        let drop = (p > 0.0).then(|| Drop { dropout: Dropout { p }, keys: &keys });
        let weigh = drawn(n * outputs, 4);
        let finish = |y: Tensor<Flat, f32, Cpu, OwnedTape<f32, Cpu>>| {
            let values = y.as_vec();
            (values, (y * dev.tensor_from_vec(weigh.clone(), (n, outputs))).sum().backward())
        };
        let x: Tensor<Flat, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
        let weight: Tensor<Flat, f32, Cpu> = dev.tensor_from_vec(ws.clone(), (inputs, outputs));
        let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
        let y = composed::linear_block(x.leaky_trace(), weight.leaky_trace(), bias.leaky_trace(), drop).unwrap();
        let (values, grads) = finish(y);
        let expected: Found = [values, grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()];
        for vector in Vector::every() {
            let x: Tensor<Flat, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
            let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
            let mut tiled = Tiled::zeros(inputs, outputs);
            Tiled::set_rows(tiled.outputs, &mut tiled.value, &ws);
            let weight = SharedWeight::new(tiled);
            let y = fused::linear_block(vector, x.leaky_trace(), &weight, &bias, drop).unwrap();
            let (values, grads) = finish(y);
            let dw = bytemuck::pod_collect_to_vec(&weight.lock().row_bytes(&weight.gradient.lock().unwrap()));
            let found: Found = [values, grads.get(&x).as_vec(), dw, grads.get(&bias).as_vec()];
            for (name, (e, f)) in ["y", "dx", "dw", "db"].iter().zip(expected.iter().zip(&found)) {
                assert_close(&format!("{name} of {n}x{inputs} to {outputs} on {vector:?}"), e, f);
            }
        }
    }
}

/// Adam inside the backward pass makes the update that Adam makes of the written gradient.
#[test]
fn adam_in_the_backward_pass_is_adam() {
    let (n, inputs, outputs) = (5, 64, 32);
    let dev = Cpu::seed_from_u64(1);
    let step = super::optim::Adam::default().step(3, 1e-3);
    for vector in Vector::every() {
        let mut tiled = Tiled::zeros(inputs, outputs);
        tiled.value = drawn(inputs * outputs, 1);
        tiled.m = drawn(inputs * outputs, 2);
        tiled.v = drawn(inputs * outputs, 3).iter().map(|v| v.abs()).collect();
        let mut expected = tiled.clone();
        let bias = dev.tensor_from_vec(drawn(outputs, 4), (outputs,));
        let run = |weight: &SharedWeight| {
            let x: Tensor<Flat, f32, Cpu> = dev.tensor_from_vec(drawn(n * inputs, 5), (n, inputs));
            fused::linear_block(vector, x.leaky_trace(), weight, &bias, None).unwrap().square().sum().backward();
        };
        let plain = SharedWeight::new(tiled.clone());
        run(&plain);
        for (i, g) in plain.gradient.lock().unwrap().iter().enumerate() {
            step.apply(&mut expected.value[i], &mut expected.m[i], &mut expected.v[i], *g);
        }
        let mut armed = SharedWeight::new(tiled);
        armed.step = Some(step);
        run(&armed);
        let found = armed.tiled.lock().unwrap();
        assert_close("value", &expected.value, &found.value);
        assert_close("m", &expected.m, &found.m);
        assert_close("v", &expected.v, &found.v);
    }
}

/// Central differences of a block's loss against its analytic gradients, leaf by leaf.
fn assert_differences(leaves: &[Vec<f32>; 3], pass: impl Fn(&[Vec<f32>; 3]) -> (f64, [Vec<f32>; 3])) {
    let (_, analytic) = pass(leaves);
    for (k, name) in ["x", "weight", "bias"].iter().enumerate() {
        let (mut near, mut tried) = (0, 0);
        for i in (0..leaves[k].len()).step_by(5) {
            let moved = |by: f32| {
                let mut leaves = leaves.clone();
                leaves[k][i] += by;
                pass(&leaves).0
            };
            let numeric = (moved(1e-3) - moved(-1e-3)) / 2e-3;
            tried += 1;
            near += usize::from((numeric - f64::from(analytic[k][i])).abs() < 2e-2);
        }
        // A step across a kink of ReLU or max is no fault; most steps cross none.
        assert!(near * 10 >= tried * 8, "{name}: {near} of {tried}");
    }
}

fn weighed(y: &[f32], weigh: &[f32]) -> f64 {
    y.iter().zip(weigh).map(|(y, w)| f64::from(*y) * f64::from(*w)).sum()
}

/// Through ReLU, pooling and dropout: weights, bias and input.
#[test]
fn the_convolution_blocks_gradients_are_those_of_finite_differences() {
    let (n, h, w, c_in, c_out) = (2, 6, 8, 3, 16);
    let dev = Cpu::seed_from_u64(1);
    let drop = Some(Drop { dropout: Dropout { p: 0.4 }, keys: &[11, 12] });
    let weigh = drawn(n * 3 * 4 * c_out, 4);
    let leaves = [drawn(n * h * w * c_in, 1), drawn(9 * c_in * c_out, 2), drawn(c_out, 3)];
    assert_differences(&leaves, |[xs, ws, bs]| {
        let x: Tensor<Shape4, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, h, w, c_in));
        let weight = dev.tensor_from_vec(ws.clone(), (ws.len(),));
        let bias = dev.tensor_from_vec(bs.clone(), (c_out,));
        let y = fused::conv_block(Vector::detect(), x.leaky_trace(), &weight, &bias, drop, true).unwrap();
        let loss = weighed(&y.as_vec(), &weigh);
        let grads = (y * dev.tensor_from_vec(weigh.clone(), (n, 3, 4, c_out))).sum().backward();
        (loss, [grads.get(&x).as_vec(), grads.get(&weight).as_vec(), grads.get(&bias).as_vec()])
    });
}

/// Through ReLU and dropout: weights, bias and input.
#[test]
fn the_linear_blocks_gradients_are_those_of_finite_differences() {
    let (n, inputs, outputs) = (3, 64, 16);
    let dev = Cpu::seed_from_u64(1);
    let drop = Some(Drop { dropout: Dropout { p: 0.4 }, keys: &[11, 12, 13] });
    let weigh = drawn(n * outputs, 4);
    let leaves = [drawn(n * inputs, 1), drawn(inputs * outputs, 2), drawn(outputs, 3)];
    assert_differences(&leaves, |[xs, ws, bs]| {
        let x: Tensor<Flat, f32, Cpu> = dev.tensor_from_vec(xs.clone(), (n, inputs));
        let bias = dev.tensor_from_vec(bs.clone(), (outputs,));
        let mut tiled = Tiled::zeros(inputs, outputs);
        Tiled::set_rows(outputs, &mut tiled.value, ws);
        let weight = SharedWeight::new(tiled);
        let y = fused::linear_block(Vector::detect(), x.leaky_trace(), &weight, &bias, drop).unwrap();
        let loss = weighed(&y.as_vec(), &weigh);
        let grads = (y * dev.tensor_from_vec(weigh.clone(), (n, outputs))).sum().backward();
        let dw = bytemuck::pod_collect_to_vec(&weight.lock().row_bytes(&weight.gradient.lock().unwrap()));
        (loss, [grads.get(&x).as_vec(), dw, grads.get(&bias).as_vec()])
    });
}
