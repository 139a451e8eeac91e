//! The synthetic data of the benches.

use std::sync::OnceLock;
use wbc::bench::{Format, SyntheticData};
use wbc::context::Context;

/// 400 JPEG images of 360 x 361 px and 40 BMP images of 720 x 576 px, ingested and preprocessed; generated once per
/// process.
pub fn synthetic_data() -> &'static SyntheticData {
    static DATA: OnceLock<(tempfile::TempDir, SyntheticData)> = OnceLock::new();
    let (_, data) = DATA.get_or_init(|| {
        let (dir, ctx) = (tempfile::tempdir().unwrap(), Context::silent(0));
        let data = SyntheticData::new(dir.path(), 400, 40, &ctx).unwrap();
        for size_px in [128, 224] {
            data.preprocess(Format::Jpeg, size_px, &ctx).unwrap();
        }
        (dir, data)
    });
    data
}
