//! SHA-256 and MD5 checksums, as publishers state them and of files.

use crate::context::Context;
use crate::error::{Error, Result};
use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use md5::Md5;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::str::FromStr;

/// The algorithm of a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SHA-256, 64 hex digits.
    Sha256,
    /// MD5, 32 hex digits.
    Md5,
}

impl Kind {
    fn name(self) -> &'static str {
        ["sha256", "md5"][self as usize]
    }

    fn digits(self) -> usize {
        [64, 32][self as usize]
    }
}

/// A checksum as its publisher states it: `sha256:HEX` or `md5:HEX`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Checksum {
    /// The algorithm.
    pub kind: Kind,
    /// The digits, in lower case.
    pub hex: String,
}

impl Checksum {
    /// A checksum from hex digits in any case.
    ///
    /// # Errors
    /// [`Error::Setting`] where `hex` is not a checksum of this kind.
    pub fn new(kind: Kind, hex: &str) -> Result<Self> {
        let hex = hex.trim();
        match HEXLOWER_PERMISSIVE.decode(hex.as_bytes()) {
            Ok(_) if hex.len() == kind.digits() => Ok(Self { kind, hex: hex.to_lowercase() }),
            _ => Err(Error::setting(kind.name(), format!("{} hex digits", kind.digits()), format!("{hex:?}"))),
        }
    }
}

impl FromStr for Checksum {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        match text.split_once(':') {
            Some(("sha256", hex)) => Self::new(Kind::Sha256, hex).map_err(|e| e.to_string()),
            Some(("md5", hex)) => Self::new(Kind::Md5, hex).map_err(|e| e.to_string()),
            _ => Err(format!("expected sha256:HEX or md5:HEX, found {text:?}")),
        }
    }
}

impl TryFrom<String> for Checksum {
    type Error = String;

    fn try_from(text: String) -> std::result::Result<Self, String> {
        text.parse()
    }
}

impl From<Checksum> for String {
    fn from(sum: Checksum) -> String {
        sum.to_string()
    }
}

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind.name(), self.hex)
    }
}

/// The SHA-256 of a file, and its checksum of the kind of `expected`.
///
/// # Errors
/// [`Error::Io`], [`Error::Interrupted`].
pub fn of_file(path: &Path, expected: Option<&Checksum>, ctx: &Context) -> Result<(Checksum, Option<Checksum>)> {
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let mut sha256 = Sha256::new();
    let mut md5 = expected.filter(|e| e.kind == Kind::Md5).map(|_| Md5::new());
    let task = ctx.progress.task("checksum", Some(bytes), "bytes");
    let mut buffer = vec![0; 1 << 20];
    loop {
        ctx.check_stop()?;
        let n = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if n == 0 {
            break;
        }
        sha256.update(&buffer[..n]);
        if let Some(md5) = &mut md5 {
            md5.update(&buffer[..n]);
        }
        task.advance(n as u64);
    }
    let sha256 = Checksum { kind: Kind::Sha256, hex: HEXLOWER.encode(&sha256.finalize()) };
    let same_kind = match md5 {
        Some(md5) => Some(Checksum { kind: Kind::Md5, hex: HEXLOWER.encode(&md5.finalize()) }),
        None => expected.map(|_| sha256.clone()),
    };
    Ok((sha256, same_kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The checksums of "abc" in FIPS 180-2 and RFC 1321.
    #[test]
    fn known_checksums() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "abc").unwrap();
        let ctx = Context::silent(0);
        let md5: Checksum = "md5:900150983CD24FB0D6963F7D28E17F72".parse().unwrap();
        let (sha256, found) = of_file(file.path(), Some(&md5), &ctx).unwrap();
        assert_eq!(found, Some(md5));
        assert_eq!(sha256.hex, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        for bad in ["md5:12", "sha256:900150983cd24fb0d6963f7d28e17f72", "abc", "md5:zz0150983CD24FB0D6963F7D28E17F72"]
        {
            assert!(bad.parse::<Checksum>().is_err(), "{bad}");
        }
    }
}
