//! Progress on stderr: bars on a terminal, only log lines elsewhere.

use crate::progress::Progress;
use crate::text;
use indicatif::{ProgressBar, ProgressState, ProgressStyle};
use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::Mutex;
use std::time::Duration;

/// Writes a line to stderr. A log that nobody reads any more, as after `wbc train 2>&1 | head -1`, does not end the
/// command.
pub(super) fn say(line: impl Display) {
    let line = text::printable(&line.to_string()) + "\n";
    let _ = std::io::stderr().lock().write_all(line.as_bytes());
}

/// Shows bars where stderr is a terminal, and only log lines where it is a file or a pipe.
pub struct Terminal {
    bar: Mutex<Option<ProgressBar>>,
    is_terminal: bool,
}

impl Terminal {
    pub fn new() -> Self {
        Self { bar: Mutex::new(None), is_terminal: std::io::stderr().is_terminal() }
    }

    fn with(&self, act: impl FnOnce(&ProgressBar)) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(|e| e.into_inner()).as_ref() {
            act(bar);
        }
    }
}

impl Default for Terminal {
    fn default() -> Self {
        Self::new()
    }
}

impl Progress for Terminal {
    fn begin(&self, what: &str, total: Option<u64>, unit: &'static str) {
        if !self.is_terminal {
            return;
        }
        let (done, of, rate) = match unit {
            "bytes" => ("{bytes}", "{total_bytes}".to_string(), "{bytes_per_sec:>12}"),
            _ => ("{pos}", format!("{{len}} {unit}"), "{rate:>8}"),
        };
        let (bar, template) = match total {
            Some(n) => {
                (ProgressBar::new(n), format!("{{prefix:24}} {{bar:30}} {done}/{of} {rate} {{eta}} left {{wide_msg}}"))
            }
            None if unit == "bytes" => {
                (ProgressBar::new_spinner(), format!("{{prefix:24}} {{spinner}} {done} {rate} {{wide_msg}}"))
            }
            None => (ProgressBar::new_spinner(), format!("{{prefix:24}} {{spinner}} {done} {unit} {{wide_msg}}")),
        };
        let style = ProgressStyle::with_template(&template).expect("a valid template");
        let bar = bar.with_style(style.with_key("rate", |state: &ProgressState, out: &mut dyn std::fmt::Write| {
            let _ = write!(out, "{}", rounded(state.per_sec()));
        }));
        bar.set_prefix(what.to_string());
        bar.enable_steady_tick(Duration::from_millis(200));
        *self.bar.lock().unwrap_or_else(|e| e.into_inner()) = Some(bar);
    }

    fn advance(&self, n: u64) {
        self.with(|bar| bar.inc(n));
    }

    fn note(&self, text: &str) {
        self.with(|bar| bar.set_message(text.to_string()));
    }

    fn end(&self) {
        if let Some(bar) = self.bar.lock().unwrap_or_else(|e| e.into_inner()).take() {
            bar.finish_and_clear();
        }
    }

    fn log(&self, line: &str) {
        let mut shown = false;
        self.with(|bar| {
            bar.suspend(|| say(line));
            shown = true;
        });
        if !shown {
            say(line);
        }
    }
}

/// Items a second, with as many digits as can be read: "148/s", "2.3/s".
fn rounded(per_second: f64) -> String {
    if per_second < 10.0 { format!("{per_second:.1}/s") } else { format!("{per_second:.0}/s") }
}

#[cfg(test)]
mod tests {
    #[test]
    fn rates_are_rounded() {
        assert_eq!([0.04, 2.34, 9.99, 148.0213].map(super::rounded), ["0.0/s", "2.3/s", "10.0/s", "148/s"]);
    }
}
