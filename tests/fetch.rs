//! `wbc fetch` and `wbc datasets`, against a server in this process: no test asks anything else.

use crate::common::{Run, Workdir, image_bytes, shared};
use std::collections::{BTreeMap, VecDeque};
use std::io::{Cursor, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use wbc::fetch::catalogue::DATASETS;

/// How the server answers one request.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Reply {
    Whole,
    /// Closes the connection after so many bytes of the body.
    BreakOff(usize),
    /// Knows no ranges.
    NoRanges,
    Status(u16),
    /// Says that the file is longer by so many bytes than it is.
    Longer(usize),
    /// A kilobyte every few milliseconds.
    Drip,
}

/// What the server has, and what it was asked.
#[derive(Default)]
struct State {
    body: Vec<u8>,
    etag: String,
    replies: VecDeque<Reply>,
    /// Of each request: the first byte of its range, the status, bytes of the body sent.
    seen: Vec<(Option<usize>, u16, usize)>,
}

/// HTTP/1.1 as far as these tests go, on the loopback.
struct Server {
    address: String,
    state: Arc<Mutex<State>>,
}

impl Server {
    fn new(body: &[u8], replies: &[Reply]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let replies = replies.iter().copied().collect();
        let state = State { body: body.into(), etag: "\"one\"".into(), replies, seen: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let shared = state.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let state = shared.clone();
                // A client that goes away is part of the tests.
                std::thread::spawn(move || answer(stream, &state).unwrap_or_default());
            }
        });
        Self { address, state }
    }

    fn url(&self, file: &str) -> String {
        format!("{}/{file}", self.address)
    }

    fn seen(&self) -> Vec<(Option<usize>, u16, usize)> {
        self.state.lock().unwrap().seen.clone()
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state.lock().unwrap());
    }
}

fn answer(mut stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let mut request = Vec::new();
    let mut byte = [0];
    while !request.ends_with(b"\r\n\r\n") {
        if stream.read(&mut byte)? == 0 {
            return Ok(());
        }
        request.push(byte[0]);
    }
    let request = String::from_utf8_lossy(&request).to_lowercase();
    let header = |name: &str| {
        let line = request.lines().find_map(|l| l.strip_prefix(name).and_then(|l| l.strip_prefix(": ")));
        line.map(str::to_string)
    };
    let (body, etag, reply, number) = {
        let mut state = state.lock().unwrap();
        let reply = state.replies.pop_front().unwrap_or(Reply::Whole);
        state.seen.push((None, 0, 0));
        (state.body.clone(), state.etag.clone(), reply, state.seen.len() - 1)
    };
    let range = header("range").and_then(|r| r.strip_prefix("bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
    let current = header("if-range").is_none_or(|tag| tag == etag);
    let start = range.filter(|_| current && reply != Reply::NoRanges);
    let (status, from) = match (reply, start) {
        (Reply::Status(status), _) => (status, body.len()),
        (Reply::Longer(_), Some(start)) => (206, start.min(body.len())),
        (_, Some(start)) if start >= body.len() => (416, body.len()),
        (_, Some(start)) => (206, start),
        _ => (200, 0),
    };
    let extra = if let Reply::Longer(extra) = reply { extra } else { 0 };
    let total = body.len() + extra;
    let mut head = format!("HTTP/1.1 {status} Said\r\nConnection: close\r\nETag: {etag}\r\n");
    head += &format!("Content-Length: {}\r\n", if status < 400 { total - from } else { 0 });
    match status {
        206 => head += &format!("Content-Range: bytes {from}-{}/{total}\r\n", total - 1),
        416 => head += &format!("Content-Range: bytes */{total}\r\n"),
        503 => head += "Retry-After: 0\r\n",
        _ => {}
    }
    stream.write_all(format!("{head}\r\n").as_bytes())?;
    let most = if let Reply::BreakOff(most) = reply { most } else { usize::MAX };
    let rest = &body[from..body.len().min(from.saturating_add(most))];
    let mut sent = 0;
    let note = |sent| state.lock().unwrap().seen[number] = (range, status, sent);
    note(0);
    for piece in rest.chunks(if reply == Reply::Drip { 1024 } else { 1 << 16 }) {
        stream.write_all(piece)?;
        sent += piece.len();
        note(sent);
        if reply == Reply::Drip {
            std::thread::sleep(Duration::from_millis(15));
        }
    }
    Ok(())
}

impl Workdir {
    fn fetch(&self, args: &[&str]) -> Run {
        self.wbc(&[&["fetch"], args].concat())
    }
}

/// The files below a folder, with their bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let walk = walkdir::WalkDir::new(dir).into_iter().map(Result::unwrap).filter(|e| e.file_type().is_file());
    let name = |path: &Path| path.strip_prefix(dir).unwrap().to_str().unwrap().to_string();
    walk.map(|e| (name(e.path()), std::fs::read(e.path()).unwrap())).collect()
}

fn zip_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    for (name, bytes) in files {
        writer.start_file(*name, zip::write::SimpleFileOptions::default()).unwrap();
        writer.write_all(bytes).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

/// An entry of a tar archive, its name written as it is.
fn tar_entry(archive: &mut tar::Builder<Vec<u8>>, name: &str, kind: tar::EntryType, link: &str, bytes: &[u8]) {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(bytes.len() as u64);
    header.set_mode(0o644);
    let old = header.as_old_mut();
    old.name[..name.len()].copy_from_slice(name.as_bytes());
    old.linkname[..link.len()].copy_from_slice(link.as_bytes());
    header.set_cksum();
    archive.append(&header, bytes).unwrap();
}

fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    files.iter().for_each(|(name, bytes)| tar_entry(&mut archive, name, tar::EntryType::Regular, "", bytes));
    archive.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut writer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    writer.write_all(bytes).unwrap();
    writer.finish().unwrap()
}

/// 30 synthetic cells in class folders: the files, and a zip archive of them in a folder.
fn cells(w: &Workdir) -> (BTreeMap<String, Vec<u8>>, Vec<u8>) {
    w.wbc(&["synth", "--images", "30", "--name", "cells", "--workspace", "made"]).ok();
    let files = files(&w.path("made/raw/cells"));
    let names: Vec<(String, &Vec<u8>)> =
        files.iter().map(|(name, bytes)| (format!("Cells v1/{name}"), bytes)).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let zip = zip_of(&entries);
    assert!(zip.len() > 300_000, "{}", zip.len());
    (files, zip)
}

fn part(w: &Workdir) -> PathBuf {
    w.path("data/downloads/cells.part")
}

/// What must hold after every failure: no data set, no half of one.
fn nothing_unpacked(w: &Workdir) {
    let raw = w.path("data/raw");
    let left: Vec<_> = std::fs::read_dir(&raw).into_iter().flatten().map(|e| e.unwrap().path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn what_is_fetched_can_be_ingested() {
    let w = Workdir::new("fetch-ingest");
    let (expected, zip) = cells(&w);
    let entries: Vec<(&str, &[u8])> = expected.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let sum = w.write("cells.zip", &zip);
    let sum = wbc_sha256(&sum);
    let server = Server::new(&zip, &[]);
    let said = w.fetch(&[&server.url("cells.zip?download=1"), "--sha256", &sum.to_uppercase()]).ok().stdout;
    assert!(said.contains("30 of them images") && said.contains(&sum) && said.contains("as expected"), "{said}");
    for (name, archive) in [("tarred", tar_of(&entries)), ("gzipped", gzip(&tar_of(&entries)))] {
        let server = Server::new(&archive, &[]);
        let json = w.fetch(&[&server.url("x"), "--name", name, "--json", "--keep"]).ok().stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((&json["images"], &json["downloaded_bytes"]), (&30.into(), &archive.len().into()));
        let kept = w.path(json["archive"].as_str().unwrap());
        assert!(std::fs::read(kept).unwrap() == archive);
        let origin = std::fs::read(w.path(format!("data/downloads/{name}.json"))).unwrap();
        assert_eq!(serde_json::from_slice::<serde_json::Value>(&origin).unwrap()["sha256"], json["sha256"]);
    }
    for name in ["cells", "tarred", "gzipped"] {
        assert!(files(&w.path("data/raw").join(name)) == expected, "{name}: the folder that all is in goes");
        w.wbc(&["ingest", "--dataset", name, "--no-check"]).ok();
        assert_eq!(w.manifest(name).len(), 30);
    }
    let left = files(&w.path("data/downloads"));
    let left: Vec<&String> = left.keys().collect();
    assert_eq!(left, ["cells.json", "gzipped.json", "gzipped.tar.gz", "tarred.json", "tarred.tar"]);

    // What is there stays, unless told.
    let server = Server::new(&zip_of(&[("neutrophil/1.png", &image_bytes("1.png", 1, 20, 20))]), &[]);
    let refused = w.fetch(&[&server.url("cells.zip")]).exits(2).stderr;
    assert!(refused.contains("--force") && server.seen().is_empty(), "{refused}");
    assert!(files(&w.path("data/raw/cells")) == expected);
    w.fetch(&[&server.url("cells.zip"), "--force"]).ok();
    assert_eq!(files(&w.path("data/raw/cells")).keys().collect::<Vec<_>>(), ["neutrophil/1.png"]);
}

/// SHA-256 of a file by other hands, where the machine has them.
fn wbc_sha256(path: &Path) -> String {
    let output = std::process::Command::new("sha256sum").arg(path).output();
    match output {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)[..64].to_string(),
        _ => {
            use sha2::Digest;
            data_encoding::HEXLOWER.encode(&sha2::Sha256::digest(std::fs::read(path).unwrap()))
        }
    }
}

#[test]
fn a_download_that_breaks_off_goes_on() {
    let w = Workdir::new("fetch-resume");
    let (expected, zip) = cells(&w);
    // In one run: the rest alone is asked for and sent.
    let server = Server::new(&zip, &[Reply::BreakOff(100_000), Reply::Status(503), Reply::BreakOff(50_000)]);
    let run = w.fetch(&[&server.url("cells.zip")]).ok();
    let rest = zip.len() - 150_000;
    let all = [(None, 200, 100_000), (Some(100_000), 503, 0), (Some(100_000), 206, 50_000), (Some(150_000), 206, rest)];
    assert_eq!(server.seen(), all, "{}", run.stderr);
    assert!(files(&w.path("data/raw/cells")) == expected);

    // Over two: what has come is kept. The last answer has the whole already.
    std::fs::remove_dir_all(w.path("data")).unwrap();
    let server = Server::new(&zip, &[Reply::BreakOff(100_000), Reply::BreakOff(0)]);
    let failed = w.fetch(&[&server.url("cells.zip"), "--retries", "0"]).exits(2).stderr;
    assert!(failed.contains("ended after") || failed.contains("broke off"), "{failed}");
    assert!(std::fs::read(part(&w)).unwrap() == zip[..100_000]);
    nothing_unpacked(&w);
    let said = w.fetch(&[&server.url("cells.zip")]).ok();
    assert_eq!(server.seen()[2], (Some(100_000), 206, zip.len() - 100_000), "{}", said.stderr);
    assert!(said.stdout.contains("of it downloaded now"), "{}", said.stdout);
    assert!(files(&w.path("data/raw/cells")) == expected);
    assert!(!part(&w).exists());
}

#[test]
fn a_download_that_cannot_go_on_starts_over() {
    let w = Workdir::new("fetch-over");
    let (expected, zip) = cells(&w);
    let broken_off = |replies: &[Reply]| {
        let _ = std::fs::remove_dir_all(w.path("data"));
        let server = Server::new(&zip, &[&[Reply::BreakOff(100_000)], replies].concat());
        w.fetch(&[&server.url("cells.zip"), "--retries", "0"]).exits(2);
        server
    };
    let at = |server: &Server, i: usize| server.seen().get(i).map(|s| (s.0, s.1));
    // A server that knows no ranges.
    let server = broken_off(&[Reply::NoRanges]);
    let run = w.fetch(&[&server.url("cells.zip")]).ok();
    assert_eq!(server.seen().last().unwrap(), &(Some(100_000), 200, zip.len()), "{}", run.stderr);
    assert!(run.stderr.contains("does not send parts"), "{}", run.stderr);
    assert!(files(&w.path("data/raw/cells")) == expected);

    // Another file by now: nothing of the old one is left in it.
    let new = zip_of(&[("neutrophil/1.png", &image_bytes("1.png", 1, 300, 300))]);
    let server = broken_off(&[]);
    server.change(|s| (s.body, s.etag) = (new.clone(), "\"two\"".into()));
    let run = w.fetch(&[&server.url("cells.zip")]).ok();
    assert!(run.stderr.contains("different file"), "{}", run.stderr);
    assert_eq!(files(&w.path("data/raw/cells")).len(), 1);

    // Another address under the same name.
    let server = broken_off(&[]);
    let other = Server::new(&new, &[]);
    w.fetch(&[&other.url("cells.zip")]).ok();
    assert_eq!(at(&other, 0), Some((None, 200)), "asked for all of it");
    drop(server);

    // The same ETag, and yet another length.
    let server = broken_off(&[]);
    server.change(|s| s.body = zip[..200_000].to_vec());
    let run = w.fetch(&[&server.url("cells.zip"), "--retries", "0"]).exits(2);
    assert!(run.stderr.contains("different file now") && run.stderr.contains("broken"), "{}", run.stderr);
    // What came is whole and no use: it is put aside, and asked for anew when the server has mended it.
    assert_eq!(std::fs::metadata(part(&w).with_extension("rejected")).unwrap().len(), 200_000);
    nothing_unpacked(&w);
    server.change(|s| s.body = zip.clone());
    w.fetch(&[&server.url("cells.zip")]).ok();
}

#[test]
fn faults_that_pass_are_tried_again_and_others_are_not() {
    let w = Workdir::new("fetch-faults");
    let (expected, zip) = cells(&w);
    let server = Server::new(&zip, &[Reply::Status(503), Reply::Status(429)]);
    w.fetch(&[&server.url("cells.zip")]).ok();
    assert_eq!(server.seen().len(), 3);
    assert!(files(&w.path("data/raw/cells")) == expected);
    std::fs::remove_dir_all(w.path("data")).unwrap();

    for (status, said) in [(404, "404"), (403, "login required"), (410, "410")] {
        let server = Server::new(&zip, &[Reply::Status(status)]);
        let failed = w.fetch(&[&server.url("cells.zip")]).exits(2).stderr;
        assert!(failed.contains(said) && failed.contains(&server.address), "{failed}");
        assert_eq!(server.seen().len(), 1, "asking again would not help");
    }
    let server = Server::new(&zip, &[Reply::Status(503); 9]);
    w.fetch(&[&server.url("cells.zip"), "--retries", "2"]).exits(2);
    assert_eq!(server.seen().len(), 3);

    // A server that says that there is more than there is.
    let server = Server::new(&zip, &[Reply::Longer(1000); 9]);
    let failed = w.fetch(&[&server.url("cells.zip"), "--retries", "1"]).exits(2).stderr;
    assert!(failed.contains("kept"), "{failed}");
    nothing_unpacked(&w);

    // Nobody there.
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let failed = w.fetch(&[&format!("http://{free}/cells.zip")]).exits(2).stderr;
    assert!(failed.to_lowercase().contains("refused"), "{failed}");

    // What is no archive: said after the first bytes, and nothing is kept of it.
    let page = b"<!DOCTYPE html><html>accept our terms</html>".to_vec();
    let rar = [&b"Rar!\x1a\x07\x01\0"[..], &vec![7; 5_000_000]].concat();
    for (body, said) in [
        (page, "a web page"),
        (rar, "a RAR archive"),
        (image_bytes("1.jpg", 1, 50, 50), "a single image"),
        (b"path,class\n1.png,neutrophil\n".to_vec(), "list.csv"),
        (gzip(&vec![65; 2000]), "another compressed file"),
    ] {
        let server = Server::new(&body, &[]);
        let failed = w.fetch(&[&server.url("cells.zip"), "--force"]).exits(2).stderr;
        assert!(failed.contains(said), "{failed}");
        nothing_unpacked(&w);
        assert!(!part(&w).exists(), "{said}");
    }
}

#[test]
fn a_wrong_checksum_unpacks_nothing_and_keeps_what_was_there() {
    let w = Workdir::new("fetch-checksum");
    let (expected, zip) = cells(&w);
    let old = image_bytes("1.png", 3, 40, 40);
    w.write("data/raw/cells/neutrophil/1.png", &old);
    let server = Server::new(&zip, &[]);
    let wrong = "0123456789abcdef".repeat(2);
    let failed = w.fetch(&[&server.url("cells.zip"), "--md5", &wrong, "--force"]).exits(2).stderr;
    assert!(failed.contains(&format!("expected md5:{wrong}")) && failed.contains("found md5:"), "{failed}");
    assert_eq!(files(&w.path("data/raw/cells")), BTreeMap::from([("neutrophil/1.png".into(), old)]));
    // It was put aside, and can be used where the sum was wrong and not the file.
    let found = failed.split("found md5:").nth(1).unwrap()[..32].to_string();
    let aside = w.path("data/downloads/cells.rejected");
    assert!(std::fs::read(&aside).unwrap() == zip && !part(&w).exists());
    let address = format!("file://{}", aside.display());
    w.fetch(&[&address, "--name", "cells", "--md5", &found, "--force"]).ok();
    assert!(files(&w.path("data/raw/cells")) == expected);
    assert!(aside.exists(), "a file of the user's is left alone");
    for (flag, hex) in [("--sha256", wrong.as_str()), ("--md5", "xyz")] {
        let refused = w.fetch(&[&address, "--name", "c", flag, hex]).exits(2).stderr;
        assert!(refused.contains("hex digits") && refused.contains(hex), "{refused}");
    }
}

#[test]
fn nothing_in_an_archive_leaves_its_folder() {
    use tar::EntryType;
    let w = Workdir::new("fetch-evil");
    let image = image_bytes("1.png", 1, 30, 30);
    let good = ("neutrophil/1.png", &image[..]);
    let tar_with = |name: &str, kind: EntryType, link: &str| {
        let mut archive = tar::Builder::new(Vec::new());
        tar_entry(&mut archive, good.0, EntryType::Regular, "", good.1);
        tar_entry(&mut archive, name, kind, link, if kind.is_file() { b"evil" } else { b"" });
        archive.into_inner().unwrap()
    };
    let linked = |target: &str| {
        let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
        writer.add_symlink("neutrophil/link", target, zip::write::SimpleFileOptions::default()).unwrap();
        writer.finish().unwrap().into_inner()
    };
    let outside = w.path("evil");
    let absolute = outside.to_str().unwrap();
    for (what, archive) in [
        ("zip, parent", zip_of(&[good, ("../evil", b"evil")])),
        ("zip, parent in the middle", zip_of(&[good, ("a/../../../evil", b"evil")])),
        ("zip, parent by backslash", zip_of(&[good, ("..\\..\\evil", b"evil")])),
        ("zip, absolute", zip_of(&[good, (absolute, b"evil")])),
        ("zip, drive", zip_of(&[good, ("C:\\evil", b"evil")])),
        ("zip, link", linked("../../evil")),
        ("tar, parent", tar_with("../evil", EntryType::Regular, "")),
        ("tar, absolute", tar_with("/tmp/wbc-evil", EntryType::Regular, "")),
        ("tar, link", tar_with("neutrophil/link", EntryType::Symlink, "../../../evil")),
        ("tar, absolute link", tar_with("link", EntryType::Symlink, "/etc")),
        ("tar, hard link", tar_with("neutrophil/link", EntryType::Link, "../evil")),
    ] {
        let path = w.write("evil.archive", &archive);
        let failed = w.fetch(&[path.to_str().unwrap(), "--name", "cells"]).exits(2).stderr;
        assert!(failed.contains("evil.archive") && failed.contains("expected"), "{what}: {failed}");
        nothing_unpacked(&w);
        assert!(!outside.exists() && !w.path("data/evil").exists(), "{what}");
    }

    // What does no harm is left out, and said.
    let mut archive = tar::Builder::new(Vec::new());
    tar_entry(&mut archive, good.0, EntryType::Regular, "", good.1);
    tar_entry(&mut archive, "neutrophil/2.png", EntryType::Symlink, "1.png", b"");
    tar_entry(&mut archive, "neutrophil/3.png", EntryType::Link, "neutrophil/1.png", b"");
    tar_entry(&mut archive, "dev", EntryType::Char, "", b"");
    tar_entry(&mut archive, "fifo", EntryType::Fifo, "", b"");
    tar_entry(&mut archive, "__MACOSX/neutrophil/._1.png", EntryType::Regular, "", b"x");
    tar_entry(&mut archive, ".DS_Store", EntryType::Regular, "", b"x");
    let path = w.write("odd.tar", archive.into_inner().unwrap());
    let said = w.fetch(&[path.to_str().unwrap()]).ok().stdout;
    for left_out in ["links (2)", "devices and pipes (2)", "files of operating systems (2)"] {
        assert!(said.contains(left_out), "{said}");
    }
    assert_eq!(
        files(&w.path("data/raw/odd")).keys().collect::<Vec<_>>(),
        ["neutrophil/1.png"],
        "a class is no wrapping"
    );
}

#[test]
fn archives_are_bounded() {
    let w = Workdir::new("fetch-bombs");
    let image = image_bytes("1.png", 1, 30, 30);
    let names: Vec<String> = (0..50).map(|i| format!("neutrophil/{i}.png")).collect();
    let entries: Vec<(&str, &[u8])> = names.iter().map(|name| (name.as_str(), &image[..])).collect();
    let many = w.write("many.zip", zip_of(&entries));
    // 40 MB of nothing in 40 kB.
    let bomb = vec![0; 40_000_000];
    let big = w.write("big.zip", zip_of(&[("neutrophil/1.png", &image), ("neutrophil/2.bmp", &bomb)]));
    let tarred = w.write("big.tar.gz", gzip(&tar_of(&[("neutrophil/2.bmp", &bomb)])));
    assert!(std::fs::metadata(&big).unwrap().len() < 400_000);
    for (archive, limit, flag) in [
        (&many, ["--max-files", "49"], "--max-files N"),
        (&big, ["--max-unpacked-gb", "0.03"], "--max-unpacked-gb N"),
        (&tarred, ["--max-unpacked-gb", "0.03"], "--max-unpacked-gb N"),
    ] {
        let failed = w.fetch(&[archive.to_str().unwrap(), "--name", "cells", limit[0], limit[1]]).exits(2).stderr;
        assert!(failed.contains(flag), "{failed}");
        nothing_unpacked(&w);
    }
    w.fetch(&[many.to_str().unwrap(), "--name", "cells", "--max-files", "50"]).ok();
}

#[test]
fn names_that_meet_are_told_apart() {
    let w = Workdir::new("fetch-names");
    let images: Vec<Vec<u8>> = (0..5).map(|i| image_bytes("1.png", i, 20, 20)).collect();
    let archive = zip_of(&[
        ("set/Neutrophil/1.png", &images[0]),
        ("set/neutrophil/1.PNG", &images[1]),
        ("set/neutrophil/a?b.png", &images[2]),
        ("set/neutrophil/a*b.png", &images[3]),
        ("set/neutrophil/NUL.png", &images[4]),
    ]);
    let path = w.write("names.zip", archive);
    let said = w.fetch(&[path.to_str().unwrap()]).ok().stdout;
    assert!(said.contains("4 files were renamed"), "{said}");
    let found = files(&w.path("data/raw/names"));
    let expected = ["_NUL.png", "1-2.PNG", "1.png", "a_b-2.png", "a_b.png"].map(|n| format!("Neutrophil/{n}"));
    let mut expected: Vec<&str> = expected.iter().map(String::as_str).collect();
    expected.sort();
    assert_eq!(found.keys().collect::<Vec<_>>(), expected);
    assert!(found["Neutrophil/1-2.PNG"] == images[1]);

    // An archive in an archive, as some publishers' "download all" gives it.
    let inner = zip_of(&[("PBC/basophil/BA_1.png", &images[0]), ("__MACOSX/PBC/._x", b"x")]);
    let path = w.write("all.zip", zip_of(&[("PBC and more/PBC.zip", &inner)]));
    w.fetch(&[path.to_str().unwrap(), "--name", "pbc"]).ok();
    assert_eq!(files(&w.path("data/raw/pbc")).keys().collect::<Vec<_>>(), ["basophil/BA_1.png"]);
    // An archive without images.
    let path = w.write("papers.zip", zip_of(&[("paper.pdf", b"%PDF"), ("part1.rar", b"Rar!")]));
    let failed = w.fetch(&[path.to_str().unwrap()]).exits(2).stderr;
    assert!(failed.contains("1 .pdf, 1 .rar") && failed.contains("by hand"), "{failed}");
    assert!(!w.path("data/raw/papers").exists());
    for name in ["runs", ".hidden", "a/b", ""] {
        w.fetch(&[path.to_str().unwrap(), "--name", name]).exits(2);
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_keeps_what_has_come() {
    let w = Workdir::new("fetch-stop");
    let (expected, zip) = cells(&w);
    let server = Server::new(&zip, &[Reply::Drip]);
    let mut child =
        w.command(&["fetch", &server.url("cells.zip")]).stderr(std::process::Stdio::piped()).spawn().unwrap();
    while server.seen().first().is_none_or(|s| s.2 < 20_000) {
        std::thread::sleep(Duration::from_millis(5));
        assert!(child.try_wait().unwrap().is_none(), "still dripping");
    }
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(2) && said.contains("Resume with: ") && said.contains(" fetch "), "{said}");
    let have = std::fs::metadata(part(&w)).unwrap().len() as usize;
    assert!((10_000..zip.len()).contains(&have), "{have}");
    nothing_unpacked(&w);
    w.fetch(&[&server.url("cells.zip")]).ok();
    assert_eq!(server.seen()[1], (Some(have), 206, zip.len() - have), "the rest, and no more");
    assert!(files(&w.path("data/raw/cells")) == expected);
}

/// Zheng's repository holds two data sets; each record keeps its own, in the layout that ingest reads.
#[test]
fn a_known_data_sets_archive_is_arranged_for_ingest() {
    let w = Workdir::new("fetch-jtsc");
    let mut entries: Vec<(String, Vec<u8>)> = Vec::new();
    let mut count = 6;
    if let Some(jtsc) = shared("jtsc") {
        count = 300;
        for (from, to) in [("images", "Dataset 1"), ("masks", "Dataset 1")] {
            for (name, bytes) in files(&jtsc.join(from)) {
                entries.push((format!("segmentation_WBC-master/{to}/{name}"), bytes));
            }
        }
        let labels = std::fs::read(jtsc.join("labels.csv")).unwrap();
        entries.push(("segmentation_WBC-master/Class Labels of Dataset 1.csv".into(), labels));
    } else {
        let mask = {
            let square =
                |x: u32, y: u32| image::Luma([if x.abs_diff(60) < 30 && y.abs_diff(60) < 30 { 255_u8 } else { 0 }]);
            let mut bytes = Cursor::new(Vec::new());
            image::GrayImage::from_fn(120, 120, square).write_to(&mut bytes, image::ImageFormat::Png).unwrap();
            bytes.into_inner()
        };
        let mut labels = "image ID,class label\n".to_string();
        for i in 1..=6_u32 {
            let name = format!("segmentation_WBC-master/Dataset 1/{i:03}");
            entries.push((format!("{name}.bmp"), image_bytes("1.bmp", i, 120, 120)));
            entries.push((format!("{name}.png"), mask.clone()));
            labels += &format!("{i},{}\n", i % 5 + 1);
        }
        entries.push(("segmentation_WBC-master/Class Labels of Dataset 1.csv".into(), labels.into()));
    }
    entries.push(("segmentation_WBC-master/Dataset 2/001.bmp".into(), image_bytes("1.bmp", 9, 300, 300)));
    entries.push(("segmentation_WBC-master/Dataset 1.png".into(), image_bytes("1.png", 10, 300, 300)));
    entries.push(("segmentation_WBC-master/README.md".into(), b"# Datasets".to_vec()));
    let entries: Vec<(&str, &[u8])> = entries.iter().map(|(name, bytes)| (name.as_str(), &bytes[..])).collect();
    let path = w.write("segmentation_WBC-master.zip", zip_of(&entries));
    let said = w.fetch(&[path.to_str().unwrap(), "--name", "jtsc"]).ok().stdout;
    assert!(said.contains("do not belong to the data set (3)") && said.contains("cite: Zheng"), "{said}");
    w.wbc(&["ingest", "--dataset", "jtsc", "--no-check"]).ok();
    let rows = w.manifest("jtsc");
    assert_eq!(rows.len(), count);
    assert!(rows.iter().all(|r| r.layout == "jtsc" && r.box_source.is_some() && r.class.is_some()));
}

#[test]
fn known_data_sets_are_listed_and_those_by_hand_are_said() {
    let w = Workdir::new("datasets");
    w.write("data/raw/lisc/x", "");
    let list = w.wbc(&["datasets"]).ok().stdout;
    let json: serde_json::Value = serde_json::from_str(&w.wbc(&["datasets", "--json"]).ok().stdout).unwrap();
    assert_eq!(json.as_array().unwrap().len(), DATASETS.len());
    for (d, row) in DATASETS.iter().zip(json.as_array().unwrap()) {
        assert!(list.contains(&format!("│ {} ", d.name)) && list.contains(&d.terms), "{list}");
        assert_eq!(row["here"], d.name == "lisc");
        assert_eq!(row["classes"]["basophil"], d.counts[2]);
        let one = w.wbc(&["datasets", &d.name]).ok().stdout;
        assert!([&d.page, &d.citation, &d.checksum_text()].iter().all(|said| one.contains(said.as_str())), "{one}");
        if let Some(by_hand) = &d.by_hand {
            let name = format!("not-{}", d.name);
            let failed = w.fetch(&[&d.name, "--name", &name]).exits(2).stderr;
            assert!(failed.contains(&by_hand.how) && failed.contains(&d.page), "{failed}");
        }
    }
    for unknown in [["datasets", "acme"], ["fetch", "acme"]] {
        let failed = w.wbc(&unknown).exits(2).stderr;
        assert!(failed.contains("acme") && failed.contains("pbc, lisc"), "{failed}");
    }
}

#[test]
fn what_ends_an_archive_is_read_and_required() {
    let w = Workdir::new("archive-end");
    let image = image_bytes("a.png", 1, 64, 64);
    let files: Vec<(&str, &[u8])> = vec![("neutrophil/1.png", &image), ("neutrophil/2.png", &image)];
    let tar = tar_of(&files);
    let whole = tar.len() - 1024;
    let fetch = |name: &str, bytes: &[u8]| {
        let path = w.write(name, bytes);
        w.fetch(&[path.to_str().unwrap(), "--name", "d", "--force"])
    };
    fetch("whole.tar", &tar).ok();
    // Cut after the second file, and after the first.
    for (name, end) in [("a.tar", whole), ("b.tar", whole / 2)] {
        for (name, bytes) in [(name.to_string(), tar[..end].to_vec()), (format!("{name}.gz"), gzip(&tar[..end]))] {
            let run = fetch(&name, &bytes).exits(2);
            assert!(run.stderr.contains("without the blocks that end an archive"), "{name}: {}", run.stderr);
        }
    }
    let packed = gzip(&tar);
    fetch("whole.tar.gz", &packed).ok();
    // The checksum and the length at the end of a gzip file.
    for at in 1..=8 {
        let mut flipped = packed.clone();
        let length = flipped.len();
        flipped[length - at] ^= 4;
        let run = fetch("flipped.tar.gz", &flipped).exits(2);
        assert!(run.stderr.contains("expected a whole archive"), "{at}: {}", run.stderr);
    }
    // What was there before is still there.
    assert_eq!(files.len(), self::files(&w.path("data/raw/d")).len());
}

#[test]
fn a_name_may_come_any_number_of_times() {
    let w = Workdir::new("same-name");
    let files: Vec<(&str, &[u8])> = (0..20_000).map(|_| ("neutrophil/1.png", b"x".as_slice())).collect();
    let archive = w.write("same.tar.gz", gzip(&tar_of(&files)));
    let start = std::time::Instant::now();
    let run = w.fetch(&[archive.to_str().unwrap(), "--name", "d"]).ok();
    assert!(run.stdout.contains("19999 files were renamed"), "{}", run.stdout);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert!(w.path("data/raw/d/neutrophil/1-20000.png").is_file());
}

#[test]
fn a_download_has_a_largest_size() {
    let w = Workdir::new("max-bytes");
    let (_, zip) = cells(&w);
    let server = Server::new(&zip, &[]);
    let run = w.fetch(&[&server.url("cells.zip"), "--max-bytes", "100000"]).exits(2);
    assert!(run.stderr.contains("expected at most 100.0 kB") && run.stderr.contains("--max-bytes"), "{}", run.stderr);
    nothing_unpacked(&w);
    assert!(!part(&w).exists());
    // The length that it states may be wrong.
    let claimed = (zip.len() as u64).to_string();
    w.fetch(&[&server.url("cells.zip"), "--max-bytes", &claimed]).ok();
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_while_a_server_is_silent() {
    // Accepts connections and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let w = Workdir::new("silent");
    let url = format!("http://{}/cells.zip", listener.local_addr().unwrap());
    let mut child = w.command(&["fetch", &url]).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(700));
    std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    let start = std::time::Instant::now();
    assert_eq!(child.wait().unwrap().code(), Some(2));
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}
