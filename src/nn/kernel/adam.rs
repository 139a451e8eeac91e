//! One update by Adam, of a number and of a vector of numbers.

use pulp::Simd;

/// The coefficients of one step of Adam (Kingma and Ba 2015).
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AdamStep {
    /// Learning rate / (1 - beta1^t): the bias correction of the first moment is part of it.
    pub rate: f32,
    /// Decay of the first moment.
    pub beta1: f32,
    /// Decay of the second moment.
    pub beta2: f32,
    /// 1 / (1 - beta2^t): the bias correction of the second moment.
    pub second: f32,
    /// Added to the root of the second moment.
    pub epsilon: f32,
}

impl AdamStep {
    /// Updates one parameter and its moments.
    #[inline(always)]
    pub fn apply(&self, value: &mut f32, m: &mut f32, v: &mut f32, gradient: f32) {
        *m = self.beta1 * *m + (1.0 - self.beta1) * gradient;
        *v = self.beta2 * *v + (1.0 - self.beta2) * gradient * gradient;
        *value -= self.rate * *m / ((*v * self.second).sqrt() + self.epsilon);
    }

    /// [`AdamStep::apply`] for a vector of parameters.
    #[inline(always)]
    pub fn apply_simd<S: Simd>(
        &self,
        simd: S,
        value: &mut S::f32s,
        m: &mut S::f32s,
        v: &mut S::f32s,
        gradient: S::f32s,
    ) {
        let splat = |x| simd.splat_f32s(x);
        *m = simd.mul_add_e_f32s(splat(1.0 - self.beta1), gradient, simd.mul_f32s(splat(self.beta1), *m));
        let square = simd.mul_f32s(gradient, gradient);
        *v = simd.mul_add_e_f32s(splat(1.0 - self.beta2), square, simd.mul_f32s(splat(self.beta2), *v));
        let root = simd.add_f32s(simd.sqrt_f32s(simd.mul_f32s(*v, splat(self.second))), splat(self.epsilon));
        *value = simd.sub_f32s(*value, simd.div_f32s(simd.mul_f32s(splat(self.rate), *m), root));
    }
}
