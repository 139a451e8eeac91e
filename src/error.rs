//! The error type of the library: what went wrong, where, what was expected and what was found instead. Which command
//! helps is added by the command line.

use crate::part::Waiting;
use std::fmt::{self, Display};
use std::path::{Path, PathBuf};

/// `Result` with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a stage reads: the result of an earlier stage, or files that the user provides.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Input {
    /// The images of a data set, below `raw/`.
    Images,
    /// A list of images.
    ImageList,
    /// A pipeline file.
    Pipeline,
    /// The manifest of a data set: one row per image.
    Manifest,
    /// What ingest found wrong in a data set.
    IngestIssues,
    /// What check measured: one row per image.
    Checks,
    /// Everything found wrong in a data set.
    Issues,
    /// What check keeps of the images of a data set to find copies of them.
    CopyFeatures,
    /// The folds of a data set.
    Splits,
    /// The preprocessed images of a data set.
    Tensors,
    /// The measured features of a data set.
    Features,
    /// A run: its settings and inputs.
    Run,
    /// The weights of one trained model of a run.
    Checkpoint,
    /// The training curve of a run.
    Epochs,
    /// The predictions of a run.
    Predictions,
    /// The metrics of a run.
    Metrics,
    /// The confidence intervals of a run.
    Intervals,
    /// The predictions of a run on another data set.
    Validation,
}

impl Input {
    const NAMES: [(Input, &'static str, &'static str); 18] = [
        (Input::Images, "images", "images"),
        (Input::ImageList, "image_list", "list of images"),
        (Input::Pipeline, "pipeline", "pipeline"),
        (Input::Manifest, "manifest", "manifest"),
        (Input::IngestIssues, "ingest_issues", "table of ingest issues"),
        (Input::Checks, "checks", "table of checks"),
        (Input::Issues, "issues", "table of issues"),
        (Input::CopyFeatures, "copy_features", "table of copy features"),
        (Input::Splits, "splits", "split"),
        (Input::Tensors, "tensors", "preprocessed images"),
        (Input::Features, "features", "table of features"),
        (Input::Run, "run", "run"),
        (Input::Checkpoint, "checkpoint", "trained model"),
        (Input::Epochs, "epochs", "training curve"),
        (Input::Predictions, "predictions", "table of predictions"),
        (Input::Metrics, "metrics", "table of metrics"),
        (Input::Intervals, "intervals", "table of intervals"),
        (Input::Validation, "validation", "validation on another data set"),
    ];

    fn entry(self) -> (Input, &'static str, &'static str) {
        Self::NAMES[self as usize]
    }

    /// The key in a provenance, which for a table is also the name of its schema: `manifest`, `splits`, ...
    pub fn name(self) -> &'static str {
        self.entry().1
    }

    /// The input with that [`name`](Input::name).
    pub fn from_name(name: &str) -> Option<Input> {
        Self::NAMES.iter().find(|entry| entry.1 == name).map(|entry| entry.0)
    }
}

/// As it is called in a message: "table of features".
impl Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(self.entry().2)
    }
}

/// Every way in which a stage can fail. A bad *image* is not an error: it is a row of the table of issues.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Reading or writing a file or folder failed.
    #[error("{}: cannot {action}: {source}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was attempted: "read", "write", "create".
        action: &'static str,
        /// What the operating system reported.
        source: std::io::Error,
    },
    /// A file or folder that a stage needs does not exist.
    #[error("{}: {input} not found{}", path.display(), after(hint))]
    Missing {
        /// Where it is expected.
        path: PathBuf,
        /// What is missing.
        input: Input,
        /// What exists instead, or what to provide. May be empty.
        hint: String,
    },
    /// A file is not a readable image.
    #[error("{}: not a readable image: {message}", path.display())]
    Image {
        /// The image file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// A file does not have the content that its format or schema requires.
    #[error("{}: {item}: expected {expected}, found {got}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// Which part of it: a row, a column, a key.
        item: String,
        /// What the format requires.
        expected: String,
        /// What the file has instead.
        got: String,
    },
    /// A file was written from inputs that have changed since.
    #[error("{}: out of date: {reason}", path.display())]
    Stale {
        /// The file that is out of date.
        path: PathBuf,
        /// What has to be written again.
        input: Input,
        /// What has changed.
        reason: String,
    },
    /// A setting (flag, environment variable or pipeline key) has a value that is not allowed.
    #[error("setting `{key}`: expected {expected}, found {got}")]
    Setting {
        /// The setting's name, such as `train.epochs`.
        key: String,
        /// What is allowed.
        expected: String,
        /// The value.
        got: String,
    },
    /// A data set cannot be used for what was requested.
    #[error("data set `{dataset}`: expected {expected}, found {got}{}", after(hint))]
    Data {
        /// The data set's name.
        dataset: String,
        /// What was needed.
        expected: String,
        /// What there is.
        got: String,
        /// What to do about it. May be empty.
        hint: String,
    },
    /// A download failed.
    #[error("{address}: {message}")]
    Fetch {
        /// The URL.
        address: String,
        /// What the server answered, or why it could not be reached.
        message: String,
    },
    /// The user stopped the work. Everything finished so far is kept.
    #[error("stopped; everything finished so far is kept")]
    Interrupted,
    /// Other shards of a data set have not done their part, or only a merge is left: see [`crate::shards`].
    #[error("{0}")]
    Waiting(Waiting),
    /// A computation failed or diverged.
    #[error("{what}: {message}")]
    Compute {
        /// What was computed.
        what: String,
        /// Why it failed.
        message: String,
    },
}

/// A result that need not exist: `None` for a file that is missing or does not hold what it should.
///
/// # Errors
/// [`Error::Io`] for one that exists and cannot be read: what it holds is not known.
pub fn if_readable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(Error::Io { path, action, source }) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(Error::Io { path, action, source })
        }
        Err(_) => Ok(None),
    }
}

/// A hint as a sentence after another.
fn after(hint: &str) -> String {
    if hint.is_empty() { String::new() } else { format!(". {hint}") }
}

impl Error {
    /// For `map_err`: an I/O failure at `path` while doing `action` ("read", "write", "create").
    pub fn io(path: &Path, action: &'static str) -> impl FnOnce(std::io::Error) -> Error {
        let path = path.to_path_buf();
        move |source| Error::Io { path, action, source }
    }

    /// An input that does not exist. See [`Error::with_hint`] to say what exists instead.
    pub fn missing(input: Input, path: impl Into<PathBuf>) -> Error {
        Error::Missing { path: path.into(), input, hint: String::new() }
    }

    /// An input that has to be written again, because of `reason` ("the manifest has changed since").
    pub fn stale(input: Input, path: impl Into<PathBuf>, reason: impl Into<String>) -> Error {
        Error::Stale { path: path.into(), input, reason: reason.into() }
    }

    /// A file that is not a readable image.
    pub fn image(path: impl Into<PathBuf>, message: impl Display) -> Error {
        Error::Image { path: path.into(), message: message.to_string() }
    }

    /// A file whose `item` (a row, a column, a key) is not what its format requires.
    pub fn format(
        path: impl Into<PathBuf>,
        item: impl Into<String>,
        expected: impl Into<String>,
        got: impl Display,
    ) -> Error {
        Error::Format { path: path.into(), item: item.into(), expected: expected.into(), got: got.to_string() }
    }

    /// A setting with a value that is not allowed.
    pub fn setting(key: impl Into<String>, expected: impl Into<String>, got: impl Display) -> Error {
        Error::Setting { key: key.into(), expected: expected.into(), got: got.to_string() }
    }

    /// A data set that cannot be used. See [`Error::with_hint`] to say what to do about it.
    pub fn data(dataset: impl Into<String>, expected: impl Into<String>, got: impl Display) -> Error {
        Error::Data { dataset: dataset.into(), expected: expected.into(), got: got.to_string(), hint: String::new() }
    }

    /// A download that failed.
    pub fn fetch(address: impl Into<String>, message: impl Display) -> Error {
        Error::Fetch { address: address.into(), message: message.to_string() }
    }

    /// A computation that failed.
    pub fn compute(what: impl Into<String>, message: impl Display) -> Error {
        Error::Compute { what: what.into(), message: message.to_string() }
    }

    /// Adds a sentence to [`Error::Missing`] or [`Error::Data`]: what exists instead, or what to do. Other errors have
    /// no place for one and stay as they are.
    pub fn with_hint(mut self, sentence: impl Into<String>) -> Error {
        if let Error::Missing { hint, .. } | Error::Data { hint, .. } = &mut self {
            *hint = sentence.into();
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_input_has_its_own_name() {
        for (index, (input, name, _)) in Input::NAMES.into_iter().enumerate() {
            assert_eq!((input as usize, input.name(), Input::from_name(name)), (index, name, Some(input)));
        }
    }

    #[test]
    fn a_hint_follows_the_message_as_a_sentence() {
        let error = Error::missing(Input::Run, "runs/a");
        assert_eq!(error.to_string(), "runs/a: run not found");
        assert_eq!(error.with_hint("Runs: b, c").to_string(), "runs/a: run not found. Runs: b, c");
    }
}
