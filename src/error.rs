//! The one error type of the library: what went wrong, where, what was expected and what was found.

use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Every way in which a stage can fail. A bad *image* is not one of them: that is an issue row.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file or folder failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io { path: PathBuf, action: &'static str, source: std::io::Error },
    /// Something that a stage needs is not there; `hint` is what to do about it.
    #[error("{}: {what} not found. {hint}", path.display())]
    Missing { path: PathBuf, what: &'static str, hint: String },
    /// An image cannot be read as one.
    #[error("{}: not a readable image: {message}", path.display())]
    Image { path: PathBuf, message: String },
    /// A file is not what its schema says.
    #[error("{}: {item}: expected {expected}, found {got}", path.display())]
    Format { path: PathBuf, item: String, expected: String, got: String },
    /// A table was made from other inputs than the ones that are there now.
    #[error("{}: out of date: {reason}. Run: {command}", path.display())]
    Stale { path: PathBuf, reason: String, command: String },
    /// A setting (flag, variable or pipeline key) has a value it cannot have.
    #[error("setting `{key}`: expected {expected}, found {got}")]
    Setting { key: String, expected: String, got: String },
    /// The data cannot be used for what was asked.
    #[error("data set `{dataset}`: expected {expected}, found {got}. {hint}")]
    Data { dataset: String, expected: String, got: String, hint: String },
    /// An address does not give what was asked of it.
    #[error("{address}: {message}")]
    Fetch { address: String, message: String },
    /// The user stopped the work; `resume` is the command that goes on with it.
    #[error("stopped; nothing finished is lost. Go on with: {resume}")]
    Interrupted { resume: String },
    /// The numbers ran away or a library refused a computation.
    #[error("{what}: {message}")]
    Compute { what: String, message: String },
}

impl Error {
    /// For `map_err`: an I/O failure at `path` while doing `action` ("read", "write", "create").
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }
}
