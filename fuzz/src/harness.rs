//! What all targets have in common.

use crate::guard;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The folder that a target writes its seeds to, instead of fuzzing.
const SEEDS: &str = "WBC_FUZZ_SEEDS";

/// Called once, before the first input.
///
/// A panic in wbc's own code becomes a finding, also where `guard::catch` turns it into an error. A panic in a library
/// is one only outside of `guard::catch`.
pub fn start(seeds: impl FnOnce() -> Vec<Vec<u8>>) {
    if let Some(folder) = std::env::var_os(SEEDS) {
        let folder = PathBuf::from(folder);
        std::fs::create_dir_all(&folder).expect("a folder for seeds");
        for (n, seed) in seeds().into_iter().enumerate() {
            std::fs::write(folder.join(format!("seed-{n:02}")), seed).expect("a seed");
        }
        std::process::exit(0);
    }
    // What stages do at the same time happens in one thread here: inputs can then be repeated, and nothing waits.
    let one_thread = rayon::ThreadPoolBuilder::new().num_threads(1).use_current_thread().build_global();
    one_thread.expect("the first pool of threads");
    // Installs its hook, so that ours comes before it.
    guard::catch(|| ());
    let guarded = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let file = panic.location().map_or("", |location| location.file());
        // Paths of libraries and of the standard library are absolute.
        if Path::new(file).is_relative() {
            eprintln!("{panic}\n{}", std::backtrace::Backtrace::force_capture());
            std::process::abort();
        }
        guarded(panic);
    }));
}

/// The name of a file in messages.
pub fn file() -> &'static Path {
    Path::new("file")
}

/// A folder for the files of this process, in the folder for temporary files.
pub fn folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = std::env::temp_dir().join(format!("wbc-fuzz-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        folder
    })
}

/// Writes a file of this process, and returns its path.
pub fn write(name: &str, bytes: &[u8]) -> PathBuf {
    let path = folder().join(name);
    std::fs::write(&path, bytes).expect("a file");
    path
}

/// A number that depends on all bytes: it chooses what else to test with an input.
pub fn number(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811C_9DC5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The bytes of a file with the right checksum, where it has one, so that changes reach what the checksum protects.
/// `part` is where the file holds it.
pub fn resealed(
    bytes: &[u8],
    part: impl Fn(&mut std::io::Cursor<Vec<u8>>) -> std::io::Result<std::ops::Range<u64>>,
) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let prefix = b"blake3:";
    for at in memchr::memmem::find_iter(&bytes.clone(), prefix) {
        bytes[at + prefix.len()..].iter_mut().take(64).for_each(|digit| *digit = b'0');
    }
    let mut file = std::io::Cursor::new(bytes);
    if let Ok(part) = part(&mut file) {
        let _ = crate::integrity::seal(&mut file, part);
    }
    file.into_inner()
}
