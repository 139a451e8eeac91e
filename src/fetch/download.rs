//! Resumable HTTP downloads. The bytes received so far are in a `.part` file, and a note beside it identifies the file
//! (address, ETag or date, length). A later request asks for the rest (RFC 9110, section 14: Range and If-Range), and
//! starts over if the server cannot send it or has a different file.

use crate::atomic;
use crate::context::Context;
use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{HeaderMap, StatusCode, header};
use ureq::typestate::WithoutBody;

/// Number of bytes that identify the type of a file.
pub const HEAD_BYTES: usize = 512;
/// Longest wait that a server may request before a retry, s.
const LONGEST_WAIT_S: u64 = 60;

/// How often to retry, and how long to wait.
#[derive(Clone, Copy, Debug)]
pub struct Patience {
    /// Retries after a failure; counted anew when more bytes have arrived.
    pub retries: u32,
    /// Wait before the first retry; doubles with each.
    pub wait: Duration,
    /// How long a server may be silent.
    pub silence: Duration,
    /// Most bytes that the file may have.
    pub max_bytes: u64,
}

/// The result of a download.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Downloaded {
    /// Bytes of the file.
    pub bytes: u64,
    /// Bytes that were received now.
    pub new_bytes: u64,
}

/// The file that a part belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Origin {
    url: String,
    etag: Option<String>,
    last_modified: Option<String>,
    /// Length of the whole file, where known.
    bytes: Option<u64>,
}

impl Origin {
    fn of(url: &str, headers: &HeaderMap, bytes: Option<u64>) -> Self {
        let text = |name| headers.get(name).and_then(|v| v.to_str().ok()).map(str::to_string);
        Self { url: url.into(), etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED), bytes }
    }

    /// The value of If-Range: a strong ETag, else the date.
    fn validator(&self) -> Option<&str> {
        self.etag.as_deref().filter(|tag| !tag.starts_with("W/")).or(self.last_modified.as_deref())
    }

    /// Whether a response to a request for the rest is about the same file.
    fn same_file(&self, other: &Origin) -> bool {
        let agree = |a: &Option<String>, b: &Option<String>| a.is_none() || b.is_none() || a == b;
        let lengths = self.bytes.is_none() || other.bytes.is_none() || self.bytes == other.bytes;
        agree(&self.etag, &other.etag) && agree(&self.last_modified, &other.last_modified) && lengths
    }
}

/// The result of one request, unless it failed for good.
enum Step {
    Complete,
    /// Try again because of this; after this time, where the server requests one.
    Again(String, Option<Duration>),
}

/// What arrives of a response. Another thread receives it, because connecting and reading cannot be interrupted.
enum Arrived {
    Head(StatusCode, HeaderMap),
    Bytes(Vec<u8>),
    End,
    /// No response.
    Failed(ureq::Error),
    /// The body ended early.
    BrokeOff(std::io::Error),
}

/// Sends a request and passes on what arrives, until nobody listens any more.
fn receive(request: ureq::RequestBuilder<WithoutBody>, to: &SyncSender<Arrived>) {
    let (head, body) = match request.call() {
        Ok(response) => response.into_parts(),
        Err(error) => return drop(to.send(Arrived::Failed(error))),
    };
    if to.send(Arrived::Head(head.status, head.headers)).is_err() {
        return;
    }
    let mut body = body.into_reader();
    let mut buffer = vec![0; 1 << 16];
    loop {
        let arrived = match body.read(&mut buffer) {
            Ok(0) => Arrived::End,
            Ok(n) => Arrived::Bytes(buffer[..n].to_vec()),
            Err(error) => Arrived::BrokeOff(error),
        };
        let is_last = !matches!(arrived, Arrived::Bytes(_));
        if to.send(arrived).is_err() || is_last {
            return;
        }
    }
}

/// A download in progress.
struct Part<'a> {
    url: &'a str,
    patience: &'a Patience,
    path: &'a Path,
    origin: Origin,
    /// Bytes received so far.
    have: u64,
    new_bytes: u64,
    /// Whether `accept` has seen the first bytes.
    accepted: bool,
    accept: &'a dyn Fn(&[u8]) -> Result<()>,
    ctx: &'a Context<'a>,
}

/// The file with the origin of a part.
pub fn note_of(part: &Path) -> PathBuf {
    let mut name = part.file_name().unwrap_or_default().to_os_string();
    name.push(".json");
    part.with_file_name(name)
}

/// Removes a part and its note.
pub fn discard(part: &Path) {
    let _ = std::fs::remove_file(part);
    let _ = std::fs::remove_file(note_of(part));
}

/// Downloads `url` into the file `part`, or resumes the download. `accept` receives the first bytes (at most
/// [`HEAD_BYTES`]) before the rest is downloaded; if it fails, nothing is kept.
///
/// # Errors
/// [`Error::Fetch`] where the server does not send the file, after all retries; the error of `accept`; [`Error::Io`];
/// [`Error::Interrupted`]. The bytes received so far stay in `part`.
pub fn download(
    url: &str,
    part: &Path,
    patience: &Patience,
    accept: &dyn Fn(&[u8]) -> Result<()>,
    ctx: &Context,
) -> Result<Downloaded> {
    let agent: Agent = Agent::config_builder()
        .http_status_as_error(false)
        .user_agent(concat!("wbc/", env!("CARGO_PKG_VERSION")))
        .timeout_connect(Some(patience.silence))
        .timeout_recv_response(Some(patience.silence))
        .timeout_per_read(Some(patience.silence))
        .build()
        .into();
    let note = std::fs::read(note_of(part)).ok();
    let origin: Origin = note.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
    let there = std::fs::metadata(part).map_or(0, |m| m.len());
    let have = if origin.url == url { there } else { 0 };
    let mut part = Part { url, patience, path: part, origin, have, new_bytes: 0, accepted: false, accept, ctx };
    if have > 0 {
        ctx.progress.log(&format!("resuming after {}", bytes_text(have)));
    }
    let (mut tries, mut most) = (0, have);
    loop {
        ctx.check_stop()?;
        let Step::Again(reason, wait) = part.request(&agent)? else { break };
        tries = if part.have > most { 1 } else { tries + 1 };
        most = most.max(part.have);
        if tries > patience.retries {
            let kept = if part.have > 0 { "; the part is kept, and the same command resumes" } else { "" };
            return Err(part.error(format!("{reason} ({} retries{kept})", patience.retries)));
        }
        let wait = wait.unwrap_or(patience.wait * 2_u32.pow((tries - 1).min(6)));
        ctx.progress.log(&format!("{reason}; trying again in {:.1} s", wait.as_secs_f64()));
        pause(wait, ctx)?;
    }
    Ok(Downloaded { bytes: part.have, new_bytes: part.new_bytes })
}

impl Part<'_> {
    /// Requests the missing bytes and reads them.
    fn request(&mut self, agent: &Agent) -> Result<Step> {
        if self.have > 0 && self.origin.bytes == Some(self.have) {
            return self.complete();
        }
        let mut request = agent.get(self.url).header(header::ACCEPT_ENCODING, "identity");
        if self.have > 0 {
            request = request.header(header::RANGE, format!("bytes={}-", self.have));
            if let Some(validator) = self.origin.validator() {
                request = request.header(header::IF_RANGE, validator);
            }
        }
        // What is sent and not yet written takes little memory.
        let (sender, response) = sync_channel(16);
        std::thread::spawn(move || receive(request, &sender));
        let (status, headers) = match self.next(&response)? {
            Some(Arrived::Head(status, headers)) => (status, headers),
            Some(Arrived::Failed(error)) => return self.fault(error),
            _ => return Ok(Step::Again(self.silent(), None)),
        };
        let headers = &headers;
        match status.as_u16() {
            200 => {
                let origin = Origin::of(self.url, headers, number(headers, header::CONTENT_LENGTH));
                if self.have > 0 {
                    let same = self.origin.same_file(&origin);
                    let reason = if same { "does not send parts" } else { "has a different file now" };
                    self.ctx.progress.log(&format!("the server {reason}: starting over"));
                }
                self.start_over(&origin)?;
                self.read(&response)
            }
            206 => {
                let range = content_range(headers);
                let origin = Origin::of(self.url, headers, range.and_then(|(_, bytes)| bytes));
                if range.is_some_and(|(start, _)| start == Some(self.have)) && self.origin.same_file(&origin) {
                    return self.read(&response);
                }
                self.again(agent)
            }
            // The part is the whole file.
            416 if content_range(headers).is_some_and(|(_, bytes)| bytes == Some(self.have)) => self.complete(),
            416 => self.again(agent),
            408 | 425 | 429 | 500 | 502 | 503 | 504 => {
                let wait = number(headers, header::RETRY_AFTER).map(|s| Duration::from_secs(s.min(LONGEST_WAIT_S)));
                Ok(Step::Again(format!("the server responded {status}"), wait))
            }
            401 | 403 => Err(self.error(format!("the server responded {status}: manual download or login required"))),
            _ => Err(self.error(format!("expected the file, but the server responded {status}"))),
        }
    }

    /// Requests the whole file, because the rest does not belong to the part.
    fn again(&mut self, agent: &Agent) -> Result<Step> {
        if self.have == 0 {
            return Err(self.error("expected the whole file, but the server sent a part".into()));
        }
        self.ctx.progress.log("the server has a different file now: starting over");
        self.start_over(&Origin::default())?;
        self.request(agent)
    }

    /// Empties the part, for the file of `origin`.
    fn start_over(&mut self, origin: &Origin) -> Result<()> {
        File::create(self.path).map_err(Error::io(self.path, "create"))?;
        (self.have, self.accepted, self.origin) = (0, false, origin.clone());
        let note = serde_json::to_vec(origin).expect("plain JSON");
        atomic::write_bytes(&note_of(self.path), &note)
    }

    /// Waits for what arrives next: `None` if nothing does for as long as the server may be silent.
    ///
    /// # Errors
    /// [`Error::Interrupted`] as soon as the user stops.
    fn next(&self, response: &Receiver<Arrived>) -> Result<Option<Arrived>> {
        let start = Instant::now();
        while start.elapsed() < self.patience.silence {
            self.ctx.check_stop()?;
            match response.recv_timeout(Duration::from_millis(100)) {
                Ok(arrived) => return Ok(Some(arrived)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(None),
            }
        }
        Ok(None)
    }

    fn silent(&self) -> String {
        format!("the server sent nothing for {} s", self.patience.silence.as_secs())
    }

    /// Fails for a file of more bytes than allowed.
    fn check_size(&self, bytes: u64) -> Result<()> {
        let most = self.patience.max_bytes;
        if bytes <= most {
            return Ok(());
        }
        discard(self.path);
        let most = bytes_text(most);
        Err(self
            .error(format!("expected at most {most}, found more (wbc fetch --max-bytes N for files that you trust)")))
    }

    /// Appends the body of a response.
    fn read(&mut self, response: &Receiver<Arrived>) -> Result<Step> {
        self.check_size(self.origin.bytes.unwrap_or(0))?;
        let mut file =
            OpenOptions::new().append(true).create(true).open(self.path).map_err(Error::io(self.path, "open"))?;
        let task = self.ctx.progress.task("downloading", self.origin.bytes, "bytes");
        task.advance(self.have);
        loop {
            let bytes = match self.next(response)? {
                Some(Arrived::Bytes(bytes)) => bytes,
                Some(Arrived::End) => break,
                Some(Arrived::BrokeOff(error)) => {
                    return Ok(Step::Again(format!("broke off after {}: {error}", bytes_text(self.have)), None));
                }
                _ => return Ok(Step::Again(format!("{} after {}", self.silent(), bytes_text(self.have)), None)),
            };
            let n = bytes.len() as u64;
            self.check_size(self.have + n)?;
            file.write_all(&bytes).map_err(Error::io(self.path, "write"))?;
            self.have += n;
            self.new_bytes += n;
            task.advance(n);
            if self.have >= HEAD_BYTES as u64 {
                self.check_head()?;
            }
        }
        match self.origin.bytes {
            Some(bytes) if self.have < bytes => {
                let reason = format!("ended after {} of {}", bytes_text(self.have), bytes_text(bytes));
                Ok(Step::Again(reason, None))
            }
            Some(bytes) if self.have > bytes => {
                self.start_over(&Origin::default())?;
                Ok(Step::Again("the server sent more bytes than announced: starting over".into(), None))
            }
            _ => self.complete(),
        }
    }

    fn complete(&mut self) -> Result<Step> {
        self.check_head()?;
        let file = File::open(self.path).map_err(Error::io(self.path, "open"))?;
        file.sync_all().map_err(Error::io(self.path, "sync"))?;
        Ok(Step::Complete)
    }

    /// Passes the first bytes to `accept`, once per file.
    fn check_head(&mut self) -> Result<()> {
        if self.accepted {
            return Ok(());
        }
        (self.accept)(&head(self.path)?).inspect_err(|_| discard(self.path))?;
        self.accepted = true;
        Ok(())
    }

    /// Whether to retry after an error without a response. Most errors are temporary.
    fn fault(&self, error: ureq::Error) -> Result<Step> {
        use ureq::Error as E;
        let refused = |e: &std::io::Error| e.kind() == std::io::ErrorKind::ConnectionRefused;
        match &error {
            // If bytes have arrived, the connection failed; otherwise the address is wrong.
            E::HostNotFound if self.have > 0 => {}
            E::Io(e) if self.have > 0 || !refused(e) => {}
            E::Timeout(_) | E::Protocol(_) | E::ConnectionFailed => {}
            _ => return Err(self.error(error.to_string())),
        }
        Ok(Step::Again(error.to_string(), None))
    }

    fn error(&self, message: String) -> Error {
        Error::fetch(self.url, message)
    }
}

/// The first bytes of a file, at most [`HEAD_BYTES`].
pub fn head(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).map_err(Error::io(path, "open"))?;
    let mut head = Vec::new();
    file.take(HEAD_BYTES as u64).read_to_end(&mut head).map_err(Error::io(path, "read"))?;
    Ok(head)
}

/// "512 bytes", "3.4 MB".
pub fn bytes_text(bytes: u64) -> String {
    match bytes as f64 {
        b if b < 1e3 => format!("{b} bytes"),
        b if b < 1e6 => format!("{:.1} kB", b / 1e3),
        b if b < 1e9 => format!("{:.1} MB", b / 1e6),
        b => format!("{:.1} GB", b / 1e9),
    }
}

fn number(headers: &HeaderMap, name: header::HeaderName) -> Option<u64> {
    headers.get(name)?.to_str().ok()?.trim().parse().ok()
}

/// First byte and total length of `Content-Range: bytes 5-9/10`, where given.
fn content_range(headers: &HeaderMap) -> Option<(Option<u64>, Option<u64>)> {
    let text = headers.get(header::CONTENT_RANGE)?.to_str().ok()?;
    let (range, bytes) = text.trim().strip_prefix("bytes ")?.split_once('/')?;
    Some((range.split_once('-').and_then(|(start, _)| start.trim().parse().ok()), bytes.trim().parse().ok()))
}

/// Waits, unless the user stops.
fn pause(wait: Duration, ctx: &Context) -> Result<()> {
    let start = Instant::now();
    while start.elapsed() < wait {
        ctx.check_stop()?;
        std::thread::sleep((wait - start.elapsed().min(wait)).min(Duration::from_millis(100)));
    }
    Ok(())
}
