//! Data sets in object storage: a server of the tests with the faults that servers have, and a real one.

use crate::common::{Workdir, python};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// A server of one bucket, `cells`, as much of S3 as is needed.
struct Server {
    address: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    requests: Arc<AtomicUsize>,
}

/// What is wrong with a server.
#[derive(Clone, Copy, Default)]
struct Faults {
    /// One request of so many is refused for now (503).
    throttled: usize,
    /// The connection ends in the middle of one answer of so many.
    cut: usize,
    /// All requests are refused.
    forbidden: bool,
    latency_ms: u64,
}

fn tag(bytes: &[u8]) -> String {
    format!("\"{}\"", &blake3::hash(bytes).to_hex()[..32])
}

impl Server {
    fn start(faults: Faults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (objects, requests): (Arc<Mutex<BTreeMap<_, _>>>, Arc<AtomicUsize>) = Default::default();
        let (of_thread, counted) = (objects.clone(), requests.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (objects, counted) = (of_thread.clone(), counted.clone());
                std::thread::spawn(move || {
                    let number = counted.fetch_add(1, Ordering::Relaxed) + 1;
                    let _ = answer(stream, &objects.lock().unwrap().clone(), number, faults);
                });
            }
        });
        Self { address, objects, requests }
    }

    /// Puts the files of a data set of the workspace into the bucket.
    fn put(&self, w: &Workdir, dataset: &str, prefix: &str) {
        let root = w.path(format!("data/raw/{dataset}"));
        for entry in walkdir::WalkDir::new(&root).into_iter().flatten().filter(|e| e.file_type().is_file()) {
            let name = entry.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned();
            self.objects.lock().unwrap().insert(format!("{prefix}{name}"), std::fs::read(entry.path()).unwrap());
        }
    }

    fn wbc(&self, w: &Workdir, args: &[&str]) -> (i32, String, String) {
        let mut command = w.command(args);
        command.env("AWS_ENDPOINT_URL", &self.address).env("AWS_ACCESS_KEY_ID", "key");
        let output = command.env("AWS_SECRET_ACCESS_KEY", "secret").output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap_or(-1), text(&output.stdout), text(&output.stderr))
    }
}

fn answer(
    mut stream: TcpStream,
    objects: &BTreeMap<String, Vec<u8>>,
    number: usize,
    faults: Faults,
) -> std::io::Result<()> {
    let (mut request, mut reader) = (String::new(), BufReader::new(stream.try_clone()?));
    reader.read_line(&mut request)?;
    let mut headers = String::new();
    while reader.read_line(&mut headers)? > 2 {}
    std::thread::sleep(Duration::from_millis(faults.latency_ms));
    let mut send = |status: &str, more: &str, body: &[u8], sent: usize| {
        let length = body.len();
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n{more}\r\n")?;
        stream.write_all(&body[..sent])
    };
    let address = request.split(' ').nth(1).unwrap_or_default();
    let (path, query) = address.split_once('?').unwrap_or((address, ""));
    let decoded = |text: &str| {
        let mut bytes = Vec::new();
        let mut rest = text.bytes();
        while let Some(byte) = rest.next() {
            let mut hex = || rest.next().map(char::from).unwrap_or('0');
            bytes.push(if byte == b'%' {
                u8::from_str_radix(&format!("{}{}", hex(), hex()), 16).unwrap()
            } else {
                byte
            });
        }
        String::from_utf8(bytes).unwrap()
    };
    let refused = |code: &str| format!("<Error><Code>{code}</Code></Error>").into_bytes();
    // The servers of roles: a container's, and an instance's.
    let of_role = br#"{"AccessKeyId": "role", "SecretAccessKey": "secret", "Token": "of a role"}"#;
    let has = |header: &str| headers.to_lowercase().contains(header);
    let role = match path {
        "/container" if has("authorization: word\r\n") => Some(&of_role[..]),
        "/latest/api/token" if request.starts_with("PUT ") => Some(&b"token"[..]),
        "/latest/meta-data/iam/security-credentials/" if has("-token: token\r\n") => Some(&b"lab"[..]),
        "/latest/meta-data/iam/security-credentials/lab" if has("-token: token\r\n") => Some(&of_role[..]),
        _ => None,
    };
    if let Some(body) = role {
        return send("200 OK", "", body, body.len());
    }
    let is_one_of = |every: usize| every > 0 && number.is_multiple_of(every);
    let is_signed = query.contains("X-Amz-Signature=")
        && (query.contains("X-Amz-Credential=key%2F")
            || query.contains("X-Amz-Credential=role%2F") && query.contains("X-Amz-Security-Token=of%20a%20role"));
    if faults.forbidden || !is_signed {
        let body = refused("AccessDenied");
        return send("403 Forbidden", "", &body, body.len());
    }
    if is_one_of(faults.throttled) {
        let body = refused("SlowDown");
        return send("503 Slow Down", "", &body, body.len());
    }
    let Some(key) = decoded(path).strip_prefix("/cells/").map(String::from).filter(|key| !key.is_empty()) else {
        let value = |key: &str| query.split('&').find_map(|pair| Some(decoded(pair.strip_prefix(key)?)));
        let (prefix, from) = (value("prefix=").unwrap_or_default(), value("continuation-token=").unwrap_or_default());
        let found: Vec<_> = objects.iter().filter(|(key, _)| key.starts_with(&prefix) && **key > from).collect();
        // Few to a page, so that there are several.
        let page = &found[..found.len().min(7)];
        let next = match (page.last(), page.len() < found.len()) {
            (Some((key, _)), true) => format!("<NextContinuationToken>{key}</NextContinuationToken>"),
            _ => String::new(),
        };
        let contents = page.iter().map(|(key, bytes)| {
            let tag = tag(bytes).replace('"', "&quot;");
            format!("<Contents><Key>{key}</Key><ETag>{tag}</ETag><Size>{}</Size></Contents>", bytes.len())
        });
        let body = format!(
            "<?xml version=\"1.0\"?><ListBucketResult xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">{next}{}\
             </ListBucketResult>",
            contents.collect::<String>()
        );
        return send("200 OK", "", body.as_bytes(), body.len());
    };
    let Some(bytes) = objects.get(&key) else {
        let body = refused("NoSuchKey");
        return send("404 Not Found", "", &body, body.len());
    };
    let sent = if is_one_of(faults.cut) { bytes.len() / 2 } else { bytes.len() };
    send("200 OK", &format!("ETag: {}\r\n", tag(bytes)), bytes, sent)
}

/// Bytes of the tables of a data set, with those of its tensors.
fn tables(w: &Workdir) -> Vec<Vec<u8>> {
    let names = ["manifest", "ingest_issues", "checks", "issues", "copies", "splits", "tensors-32/part-00000"];
    names.map(|name| std::fs::read(w.path(format!("data/d/{name}.parquet"))).unwrap()).into()
}

const COMMANDS: [&[&str]; 3] =
    [&["ingest"], &["split", "--stratified", "--pipeline", "tiny.toml"], &["preprocess", "--pipeline", "tiny.toml"]];

/// A workspace with a data set on the disk, ingested, split and preprocessed.
fn on_disk() -> Workdir {
    let w = Workdir::new("disk");
    w.tiny(2, 1, "", "");
    w.wbc(&["synth", "--images", "6,5,5,5,5", "--name", "d"]).ok();
    w.write("data/raw/d/.hidden/x.jpg", "x");
    w.write("data/raw/d/Thumbs.db", "x");
    w.write("data/raw/d/a b/ü+%.txt", "no image");
    COMMANDS.iter().for_each(|command| assert!(w.wbc(command).status < 2));
    w
}

#[test]
fn images_in_a_bucket_give_what_a_folder_gives_whatever_the_network_does() {
    let disk = on_disk();
    let faults = Faults { throttled: 5, cut: 7, latency_ms: 5, ..Faults::default() };
    let server = Server::start(faults);
    server.put(&disk, "d", "blood/");
    server.objects.lock().unwrap().extend([("blood/".into(), Vec::new()), ("other/1.jpg".into(), vec![1])]);
    let w = Workdir::new("bucket");
    w.tiny(2, 1, "", "");
    let (status, text, errors) = server.wbc(&w, &["link", "d", "s3://cells/blood"]);
    assert!(status == 0 && text.contains("wbc ingest --dataset d"), "{text}{errors}");
    for command in COMMANDS {
        let (status, text, errors) = server.wbc(&w, command);
        assert!(status < 2, "{command:?}: {text}{errors}");
    }
    assert!(tables(&w) == tables(&disk), "the tables differ from those of a folder");
    assert!(server.requests.load(Ordering::Relaxed) > 90);
    let (status, text, errors) = server.wbc(&w, &["train", "--pipeline", "tiny.toml", "--run", "r"]);
    assert!(status == 0, "{text}{errors}");
    assert!(server.wbc(&w, &["report", "--table", "3", "--run", "r"]).1.contains("Synthetic cells"));
    assert_eq!(server.wbc(&w, &["verify", "--full"]).0, 0);
    // In shards, too.
    let tables_before = tables(&w);
    std::fs::remove_file(w.path("data/d/manifest.parquet")).unwrap();
    for round in 0..3 {
        for number in 1..=2 {
            let (status, text, errors) = server.wbc(&w, &["ingest", "--shard", &format!("{number}/2")]);
            assert!(status == 0, "{text}{errors}");
        }
        if round > 0 {
            let (status, text, errors) = server.wbc(&w, &["ingest", "--merge", "2"]);
            assert!(status < 2, "{text}{errors}");
        }
    }
    assert!(tables(&w) == tables_before);
}

#[test]
fn roles_of_containers_and_instances_give_keys() {
    let server = Server::start(Faults::default());
    server.objects.lock().unwrap().insert("1.jpg".into(), vec![1]);
    let w = Workdir::new("roles");
    let link = |variables: &[(&str, &str)]| {
        let mut command = w.command(&["link", "d", "s3://cells"]);
        command.env("AWS_ENDPOINT_URL", &server.address).envs(variables.iter().copied());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let container = format!("{}/container", server.address);
    let container = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", container.as_str());
    let (none, instance) = (("AWS_EC2_METADATA_DISABLED", "true"), server.address.as_str());
    let word = ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "word");
    assert_eq!(link(&[none, container, word]).0, Some(0));
    assert_eq!(link(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", instance)]).0, Some(0));
    for refused in [&[none, container, ("AWS_CONTAINER_AUTHORIZATION_TOKEN", "other")][..], &[none]] {
        let (status, errors) = link(refused);
        assert!(status == Some(2) && errors.contains("403"), "{errors}");
    }
}

#[test]
fn a_folder_elsewhere_is_a_data_set_too() {
    let (w, elsewhere) = (Workdir::new("links"), Workdir::new("elsewhere"));
    elsewhere.wbc(&["synth", "--images", "15", "--name", "d"]).ok();
    let folder = elsewhere.path("data/raw/d").to_string_lossy().into_owned();
    for address in [folder.clone(), format!("file://{folder}"), format!("file://localhost{folder}")] {
        w.wbc(&["link", "d", &address]).ok();
    }
    assert!(w.wbc(&["ingest"]).status < 2);
    assert_eq!(w.manifest("d").len(), 15);
    for (address, expected) in [
        ("file:///nowhere", "/nowhere"),
        (&*format!("file://{}", elsewhere.path("data/raw/d/README.md").display()), "No such file"),
        (&*elsewhere.path("data").to_string_lossy(), "the name of a new data set"),
        ("https://example.org/cells", "wbc fetch"),
    ] {
        let run = w.wbc(&["link", "d", address]).exits(2);
        assert!(run.stderr.contains(expected), "{address}: {}", run.stderr);
    }
}

#[test]
fn results_are_not_written_to_a_bucket() {
    let w = Workdir::new("bucket");
    let refused = |args: &[&str]| {
        let run = w.wbc(args).exits(2);
        assert!(run.stderr.contains("results are not written to a bucket"), "{args:?}: {}", run.stderr);
    };
    refused(&["synth", "--images", "10", "--workspace", "s3://cells/ws"]);
    refused(&["report", "--table", "3", "--reports", "s3://cells/reports"]);
    refused(&["predict", "r", "x.jpg", "--output", "https://example.org/x.csv"]);
    let output = w.command(&["status"]).env("WBC_WORKSPACE", "s3://cells/ws").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(std::fs::read_dir(w.path("")).unwrap().count(), 0);
}

#[test]
fn a_changed_object_and_a_server_that_refuses_are_named() {
    let disk = on_disk();
    let server = Server::start(Faults::default());
    server.put(&disk, "d", "");
    let w = Workdir::new("changed");
    w.tiny(2, 1, "", "");
    assert_eq!(server.wbc(&w, &["link", "d", "s3://cells"]).0, 0);
    assert_eq!(server.wbc(&w, &["link", "d", "s3://cells"]).0, 0, "the same again");
    for (args, expected) in [
        (["link", "d", "s3://cells/other"], "the name of a new data set"),
        (["link", "e", "s3://cells/nothing/"], "no object below"),
        (["link", "e", "gs://cells"], "s3://bucket/prefix"),
        (["link", "../e", "s3://cells"], "folder name"),
    ] {
        let (status, _, errors) = server.wbc(&w, &args);
        assert!(status == 2 && errors.contains(expected), "{args:?}: {errors}");
        assert!(!w.path("data/raw/e").exists());
    }
    COMMANDS[..2].iter().for_each(|command| assert!(server.wbc(&w, command).0 < 2));
    // Another cell under the name of one that was ingested.
    let name = {
        let mut objects = server.objects.lock().unwrap();
        let names: Vec<String> = objects.keys().filter(|name| name.starts_with("neutrophil/")).cloned().collect();
        let other = objects[&names[1]].clone();
        objects.insert(names[0].clone(), other);
        names[0].clone()
    };
    let (status, _, errors) = server.wbc(&w, COMMANDS[2]);
    assert!(status == 2 && errors.contains(&name) && errors.contains("has changed"), "{errors}");
    assert!(!w.path("data/d/tensors-32").exists(), "nothing is mixed");
    let (status, text, _) = server.wbc(&w, &["verify", "--full"]);
    assert!(status == 1 && text.contains(&name), "{text}");
    server.objects.lock().unwrap().remove(&name);
    let (status, _, errors) = server.wbc(&w, COMMANDS[2]);
    assert!(status == 2 && errors.contains(&name), "{errors}");
    // A server that refuses, and none.
    let refusing = Server::start(Faults { forbidden: true, ..Faults::default() });
    let (status, _, errors) = refusing.wbc(&w, &["ingest"]);
    assert!(status == 2 && errors.contains("403") && errors.contains("AWS_ACCESS_KEY_ID"), "{errors}");
    assert!(tables_are_kept(&w));
    let output = w.command(&["ingest"]).env("AWS_ENDPOINT_URL", "http://127.0.0.1:9").output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.code() == Some(2) && errors.contains("7 times"), "{errors}");
    assert!(tables_are_kept(&w));
}

fn tables_are_kept(w: &Workdir) -> bool {
    ["manifest", "checks", "splits"].iter().all(|name| w.path(format!("data/d/{name}.parquet")).exists())
}

/// moto answers as Amazon's S3 does, and boto3 puts the images there.
#[test]
fn a_real_server_of_s3() {
    let Some(python) = python("moto", &["boto3", "moto.server"], &["moto[server,s3]", "boto3"]) else { return };
    let disk = on_disk();
    let w = Workdir::new("moto");
    w.tiny(2, 1, "", "");
    let script = "
import sys, os, time, boto3
from moto.server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)
server.start()
address = 'http://%s:%d' % server.get_host_and_port()
s3 = boto3.client('s3', endpoint_url=address, region_name='us-east-1')
s3.create_bucket(Bucket='cells')
for folder, _, names in os.walk(sys.argv[1]):
    for name in names:
        path = os.path.join(folder, name)
        s3.upload_file(path, 'cells', 'blood/' + os.path.relpath(path, sys.argv[1]))
print(address, flush=True)
time.sleep(600)
";
    let mut child = Command::new(python)
        .args(["-c", script])
        .arg(disk.path("data/raw/d"))
        .env("AWS_ACCESS_KEY_ID", "key")
        .env("AWS_SECRET_ACCESS_KEY", "secret")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let mut address = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut address).unwrap();
    let (objects, requests) = Default::default();
    let server = Server { address: address.trim().into(), objects, requests };
    let linked = server.wbc(&w, &["link", "d", "s3://cells/blood/"]);
    let runs: Vec<_> = COMMANDS.iter().map(|command| server.wbc(&w, command)).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(linked.0 == 0 && runs.iter().all(|run| run.0 < 2), "{address}{linked:?}{runs:?}");
    assert!(tables(&w) == tables(&disk), "the tables differ from those of a folder");
}
