//! The devices that a network can run on.

use std::fmt;
use std::str::FromStr;

/// The device that a network is trained and used on. As text: `cpu`, `cuda:N`, or `cuda` for `cuda:0`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Device {
    /// The CPU, with our own kernels.
    #[default]
    Cpu,
    /// The CUDA device of this number, from 0, with kernels of our own; needs the `cuda` feature.
    Cuda(usize),
}

impl Device {
    /// The number of a CUDA device.
    pub fn ordinal(self) -> Option<usize> {
        match self {
            Self::Cpu => None,
            Self::Cuda(ordinal) => Some(ordinal),
        }
    }
}

impl FromStr for Device {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = match text {
            "cpu" => return Ok(Self::Cpu),
            "cuda" => Some(0),
            _ => text.strip_prefix("cuda:").and_then(|n| n.parse().ok()),
        };
        number.map(Self::Cuda).ok_or_else(|| format!("expected cpu, cuda or cuda:N, got {text:?}"))
    }
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(n) => write!(f, "cuda:{n}"),
        }
    }
}
