//! Stages report progress through this trait; what is drawn, and where, is the caller's business.

/// Receives the progress of one piece of work after the other. Calls may come from any thread.
pub trait Progress: Sync {
    /// A piece of work begins. `total` counts `unit`s ("images", "rows"); `None` where it is not known.
    fn begin(&self, what: &str, total: Option<u64>, unit: &'static str);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// A short text beside the bar (the loss, say).
    fn note(&self, text: &str);
    /// The piece of work has ended.
    fn end(&self);
    /// A line for the log, above the bar: a warning, an estimate.
    fn log(&self, line: &str);
}

/// Reports nothing.
pub struct Silent;

impl Progress for Silent {
    fn begin(&self, _: &str, _: Option<u64>, _: &'static str) {}
    fn advance(&self, _: u64) {}
    fn note(&self, _: &str) {}
    fn end(&self) {}
    fn log(&self, _: &str) {}
}

/// "40 s", "12 min", "3.5 h", "2.1 days".
pub fn human(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
