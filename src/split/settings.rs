//! The settings of the stage.

use super::hold_out::TestSet;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Most folds. Each is a model to train, and a row per image in `splits.parquet`.
pub const MAX_FOLDS: u32 = 1000;

/// Settings of the stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// How many folds; each is the test set of one model. The paper: 10. A data set's own split has one.
    pub folds: u32,
    /// Classes even over the folds. The only kind there is.
    pub stratified: bool,
    /// Uses the data set's own split into training and test images instead of folds.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub given: bool,
    /// A test set that no fold trains on or tests: see [`super::TestSet`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub test: Option<String>,
    /// Whether copies may be in different folds, as in published splits at random: to measure what that does to the
    /// figures. Every table and page of a run on such folds says so.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ignore_copies: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Self { folds: 10, stratified: true, given: false, test: None, ignore_copies: false }
    }
}

impl Settings {
    /// # Errors
    /// [`Error::Setting`] for a number of folds that is not 2 to [`MAX_FOLDS`], folds that are not stratified, a test
    /// set that cannot be understood, or one beside the data set's own split.
    pub fn validate(&self) -> Result<()> {
        if !(2..=MAX_FOLDS).contains(&self.folds) && !self.given {
            let expected = format!("2 to {MAX_FOLDS} (one to test, the others to train)");
            return Err(Error::setting("split.folds", expected, self.folds));
        }
        if !self.stratified {
            return Err(Error::setting("split.stratified", "true: every split is stratified", false));
        }
        if let (true, Some(test)) = (self.given, &self.test) {
            return Err(Error::setting("split.test", "none beside split.given, which has its own test set", test));
        }
        if self.given && self.ignore_copies {
            return Err(Error::setting("split.ignore_copies", "false beside split.given, which moves nothing", true));
        }
        self.test_set().map(|_| ())
    }

    /// The test set that is held out.
    ///
    /// # Errors
    /// [`Error::Setting`] where it cannot be understood.
    pub(super) fn test_set(&self) -> Result<Option<TestSet>> {
        self.test.as_deref().map(str::parse).transpose()
    }
}

/// In a message: "10 folds", "5 folds and the test set subject=P7", "the data set's own split".
impl std::fmt::Display for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.given {
            return f.write_str("the data set's own split");
        }
        write!(f, "{} folds", self.folds)?;
        if self.ignore_copies {
            f.write_str(" that ignore copies")?;
        }
        self.test.as_ref().map_or(Ok(()), |test| write!(f, " and the test set {test}"))
    }
}
