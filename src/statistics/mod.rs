//! Confidence intervals and significance tests for results over images and over folds.
//!
//! They answer two questions. *Would other test images give the same result?* Wilson's interval, the bootstrap and
//! McNemar's test treat the trained models as fixed and the images as an independent sample; the bootstrap over
//! clusters treats patients as one. *Would other training images give the same result?* The corrected t-test and
//! Wilcoxon's test use the variation between folds. Neither accounts for other laboratories, stains or seeds.

mod bootstrap;
mod clusters;
mod folds;
mod interval;
mod mcnemar;
mod melded;
mod prevalence;
mod variance;

pub use bootstrap::{RESAMPLES, bootstrap};
pub use clusters::{MIN_CLUSTERS, cluster_bootstrap};
pub use folds::{CorrectedT, Wilcoxon, corrected_interval, corrected_t, wilcoxon};
pub use interval::{Interval, LEVEL, mean, wilson};
pub use mcnemar::{McNemar, mcnemar};
pub use melded::mean_of_shares;
pub use prevalence::{MIN_KNOWN, Prevalence, prevalence};
pub use variance::epsilon_squared;
