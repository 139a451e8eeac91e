//! Drawn cells, made once a process.

use std::sync::OnceLock;
use wbc::bench::{Drawn, Format};
use wbc::context::Context;

/// A context that nobody stops.
pub fn context() -> Context<'static> {
    Context::silent(0)
}

/// 400 JPEGs of 360 x 361 px and 40 BMPs of 720 x 576 px, ingested and preprocessed.
pub fn drawn() -> &'static Drawn {
    static DRAWN: OnceLock<(tempfile::TempDir, Drawn)> = OnceLock::new();
    let (_, drawn) = DRAWN.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let drawn = Drawn::new(dir.path(), 400, 40, &context()).unwrap();
        for size_px in [128, 224] {
            drawn.preprocess(Format::Jpeg, size_px, &context()).unwrap();
        }
        (dir, drawn)
    });
    drawn
}
