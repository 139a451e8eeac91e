//! Stages report progress through a trait; how it is displayed is up to the caller.

/// Receives the progress of one task after the other. Calls may come from any thread.
pub trait Progress: Sync {
    /// A task begins. `total` is its length in `unit`s ("images", "rows"); `None` where it is not known. Stages call
    /// [`task`](trait.Progress.html#method.task) instead, which also calls [`Progress::end`].
    fn begin(&self, what: &str, total: Option<u64>, unit: &'static str);
    /// `n` more units are done.
    fn advance(&self, n: u64);
    /// A short text beside the bar, such as the loss.
    fn note(&self, text: &str);
    /// The task has ended, or was given up.
    fn end(&self);
    /// A line for the log: a warning, an estimate.
    fn log(&self, line: &str);
}

impl<'a> dyn Progress + 'a {
    /// Begins a task, which ends when the returned value is dropped.
    #[must_use]
    pub fn task<'b>(&'b self, what: &str, total: Option<u64>, unit: &'static str) -> Task<'b>
    where
        'a: 'b,
    {
        self.begin(what, total, unit);
        Task { progress: self }
    }
}

/// A task in progress. It ends when dropped, also where `?` returns early.
pub struct Task<'a> {
    progress: &'a (dyn Progress + 'a),
}

impl Task<'_> {
    /// `n` more units are done.
    pub fn advance(&self, n: u64) {
        self.progress.advance(n);
    }

    /// A short text beside the bar, such as the loss.
    pub fn note(&self, text: &str) {
        self.progress.note(text);
    }
}

impl Drop for Task<'_> {
    fn drop(&mut self) {
        self.progress.end();
    }
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

/// A duration for people: "40 s", "12 min", "3.5 h", "2.1 days".
pub fn human(seconds: f64) -> String {
    match seconds {
        s if s < 120.0 => format!("{s:.0} s"),
        s if s < 7200.0 => format!("{:.0} min", s / 60.0),
        s if s < 172_800.0 => format!("{:.1} h", s / 3600.0),
        s => format!("{:.1} days", s / 86_400.0),
    }
}
