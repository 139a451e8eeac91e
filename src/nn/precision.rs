//! The precision of the networks' matrix products.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the operands of convolutions and of large linear layers are rounded to. Weights, sums and everything else are
/// `f32` in either.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Precision {
    /// Not at all: 23 bits after the first.
    #[default]
    F32,
    /// Of matrix products on a CUDA device, to 10 bits after the first (TF32). On the CPU the same as `F32`.
    Tf32,
    /// To the nearest bfloat16, 7 bits after the first, with the range of `f32`. On a CUDA device, activations and
    /// their gradients are stored so.
    Bf16,
}

impl Precision {
    /// Whether it is `F32`, which a run's record does not name.
    pub(crate) fn is_usual(&self) -> bool {
        *self == Precision::F32
    }

    /// The processor's instructions for `Bf16`, `the matrix unit` or `AVX-512`; without such instructions, it computes
    /// the same numbers more slowly than those of `F32`.
    pub fn bf16_instructions() -> Option<&'static str> {
        super::kernel::Blocks::instructions()
    }

    /// Name in settings and reports.
    pub fn name(self) -> &'static str {
        match self {
            Precision::F32 => "f32",
            Precision::Tf32 => "tf32",
            Precision::Bf16 => "bf16",
        }
    }
}

impl FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Precision::F32, Precision::Tf32, Precision::Bf16]
            .into_iter()
            .find(|precision| precision.name() == text)
            .ok_or_else(|| format!("expected f32, bf16 or tf32, got {text:?}"))
    }
}
