//! Images in object storage. In place of the folder of a data set, `raw/<dataset>` may be a file that names a bucket
//! and a prefix, `s3://bucket/prefix`: a link. Paths below it are objects, which are read from the S3-compatible server
//! when they are needed, and never kept on the disk.
//!
//! Where the server is and who may read it is found as S3's other tools find it: in `AWS_ENDPOINT_URL_S3`,
//! `AWS_ENDPOINT_URL`, `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, the profile
//! `AWS_PROFILE` of `~/.aws/credentials` and `~/.aws/config`, or the role of a container or an EC2 instance. Without
//! any, requests are not signed, as public buckets allow.

use rusty_s3::actions::ListObjectsV2;
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use std::collections::HashMap;
use std::io::{Error, ErrorKind, Read, Result};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, OnceLock};
use std::time::{Duration, Instant};
use ureq::Agent;
use ureq::http::{StatusCode, header};

/// Start of the address of a bucket.
pub const SCHEME: &str = "s3://";
/// Objects that are requested at the same time: a request waits for the network, not for a core.
const REQUESTS: usize = 32;
/// Attempts of a request, and the wait after the first, which doubles.
const ATTEMPTS: u32 = 7;
const FIRST_WAIT: Duration = Duration::from_millis(200);
/// Longest silence of a server.
const SILENCE: Duration = Duration::from_secs(30);
/// How long a request's signature is valid, and credentials are kept.
const VALID: Duration = Duration::from_secs(900);
/// Largest file that is a link.
const LINK_BYTES: u64 = 4096;

/// An object below a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name below the prefix.
    pub name: String,
    /// Size.
    pub bytes: u64,
    /// The server's tag of its content (ETag), which changes with it.
    pub tag: String,
}

/// A bucket, and a prefix in it.
pub struct Link {
    url: String,
    bucket: Bucket,
    /// Ends with a slash, unless it is empty.
    prefix: String,
    agent: Agent,
    credentials: Mutex<Option<(Option<Arc<Credentials>>, Instant)>>,
    objects: OnceLock<HashMap<String, Object>>,
}

/// The link that a file is; none for a folder and any other file.
///
/// # Errors
/// Those of reading it; [`ErrorKind::InvalidData`] for a link that cannot be one.
pub fn link(path: &Path) -> Result<Option<Arc<Link>>> {
    static LINKS: LazyLock<Mutex<HashMap<PathBuf, Option<Arc<Link>>>>> = LazyLock::new(Mutex::default);
    let mut links = LINKS.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(known) = links.get(path) {
        return Ok(known.clone());
    }
    let link = match std::fs::metadata(path) {
        Err(error) => return Err(error),
        Ok(about) if !about.is_file() || about.len() > LINK_BYTES => None,
        Ok(_) => match String::from_utf8(std::fs::read(path)?) {
            Ok(text) if text.trim_start().starts_with(SCHEME) => Some(Arc::new(Link::new(text.trim())?)),
            _ => None,
        },
    };
    links.insert(path.into(), link.clone());
    Ok(link)
}

/// Whether a path is a file that names a bucket.
pub fn is_link(path: &Path) -> bool {
    path.is_file() && matches!(link(path), Ok(Some(_)) | Err(_))
}

/// The link above a path, and the name of the object; none for a path on the disk.
///
/// # Errors
/// As [`link`].
pub fn find(path: &Path) -> Result<Option<(Arc<Link>, String)>> {
    for above in path.ancestors().skip(1) {
        match std::fs::metadata(above) {
            Ok(about) if about.is_file() => {
                let Some(link) = link(above)? else { return Ok(None) };
                let below = path.strip_prefix(above).unwrap_or(path);
                let names: Vec<_> = below.components().map(|c| c.as_os_str().to_string_lossy()).collect();
                return Ok(Some((link, names.join("/"))));
            }
            Ok(_) => return Ok(None),
            Err(_) => {}
        }
    }
    Ok(None)
}

/// Reads the object at a path below a link; none for a path on the disk.
///
/// # Errors
/// As [`Link::read`].
pub fn read(path: &Path, most_bytes: u64) -> Result<Option<Vec<u8>>> {
    find(path)?.map(|(link, name)| link.read(&name, most_bytes)).transpose()
}

/// Does `work`, which reads files of the data set in `root`: below a link on so many threads that the network is busy.
pub fn on_threads<T: Send>(root: &Path, work: impl FnOnce() -> T + Send) -> T {
    static POOL: OnceLock<Option<rayon::ThreadPool>> = OnceLock::new();
    if !is_link(root) {
        return work();
    }
    let threads = REQUESTS.max(rayon::current_num_threads());
    match POOL.get_or_init(|| rayon::ThreadPoolBuilder::new().num_threads(threads).build().ok()) {
        Some(pool) => pool.install(work),
        None => work(),
    }
}

impl Link {
    /// A link to an address, such as `s3://bucket/prefix`.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidData`] for another address, or an endpoint that is none.
    pub fn new(url: &str) -> Result<Self> {
        let wrong = |expected: &str, found: &str| {
            Error::new(ErrorKind::InvalidData, format!("expected {expected}, found {found:?}"))
        };
        let name = url.strip_prefix(SCHEME);
        let name =
            name.filter(|name| !name.starts_with('/') && !name.is_empty() && !name.contains(char::is_whitespace));
        let name = name.ok_or_else(|| wrong("one address such as s3://bucket/prefix", url))?;
        let (bucket, prefix) = name.split_once('/').unwrap_or((name, ""));
        let prefix = prefix.trim_matches('/');
        let prefix = if prefix.is_empty() { String::new() } else { format!("{prefix}/") };
        let region = setting(&["AWS_REGION", "AWS_DEFAULT_REGION"]).or_else(|| profile("config", "region"));
        let region = region.unwrap_or_else(|| "us-east-1".into());
        let endpoint =
            setting(&["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"]).or_else(|| profile("config", "endpoint_url"));
        // Other servers rarely have a name for each bucket.
        let style = if endpoint.is_some() { UrlStyle::Path } else { UrlStyle::VirtualHost };
        let endpoint = endpoint.unwrap_or_else(|| format!("https://s3.{region}.amazonaws.com"));
        let parsed =
            endpoint.parse().map_err(|_| wrong("the endpoint as an address such as https://host", &endpoint))?;
        let bucket = Bucket::new(parsed, style, bucket.to_string(), region)
            .map_err(|e| wrong("the name of a bucket", &format!("{url} ({e})")))?;
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            .user_agent(concat!("wbc/", env!("CARGO_PKG_VERSION")))
            .max_idle_connections(REQUESTS)
            .max_idle_connections_per_host(REQUESTS)
            .timeout_connect(Some(SILENCE))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .build()
            .into();
        let credentials = Mutex::new(None);
        Ok(Self { url: url.into(), bucket, prefix, agent, credentials, objects: OnceLock::new() })
    }

    /// The address, as in the file.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// All objects below the prefix, sorted by name. They are listed once in a process.
    ///
    /// # Errors
    /// Where the server cannot be reached or refuses.
    pub fn list(&self) -> Result<Vec<Object>> {
        let objects = match self.objects.get() {
            Some(objects) => objects,
            None => {
                let listed = self.list_all(usize::MAX)?;
                self.objects.get_or_init(|| listed.into_iter().map(|object| (object.name.clone(), object)).collect())
            }
        };
        let mut objects: Vec<Object> = objects.values().cloned().collect();
        objects.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(objects)
    }

    /// Whether there is an object below the prefix.
    ///
    /// # Errors
    /// As [`Link::list`].
    pub fn has_objects(&self) -> Result<bool> {
        self.list_all(1).map(|objects| !objects.is_empty())
    }

    /// The objects below the prefix, and no further page once there are `enough`.
    fn list_all(&self, enough: usize) -> Result<Vec<Object>> {
        let (mut objects, mut next): (Vec<Object>, Option<String>) = (Vec::new(), None);
        loop {
            let (text, _) = self.request(&self.url, u64::MAX, |credentials| {
                let mut action = self.bucket.list_objects_v2(credentials);
                action.with_prefix(self.prefix.as_str());
                next.iter().for_each(|token| action.with_continuation_token(token.as_str()));
                (action.sign(VALID).to_string(), None)
            })?;
            let text = String::from_utf8_lossy(&text);
            let page = ListObjectsV2::parse_response(&text)
                .map_err(|e| Error::other(format!("{}: the server's list cannot be read: {e}", self.url)))?;
            for object in page.contents {
                let name = object.key.strip_prefix(&self.prefix).unwrap_or(&object.key);
                // Tools make empty objects that stand for folders.
                if !name.is_empty() && !name.ends_with('/') {
                    let (bytes, tag) = (object.size.unwrap_or(0), object.etag.unwrap_or_default());
                    objects.push(Object { name: name.into(), bytes, tag });
                }
            }
            next = page.next_continuation_token;
            if next.is_none() || objects.len() >= enough {
                return Ok(objects);
            }
        }
    }

    /// What is known of an object from the list: it is listed first.
    ///
    /// # Errors
    /// As [`Link::list`]; [`ErrorKind::NotFound`].
    pub fn about(&self, name: &str) -> Result<Object> {
        if self.objects.get().is_none() {
            self.list()?;
        }
        let object = self.objects.get().and_then(|objects| objects.get(name));
        object.cloned().ok_or_else(|| Error::new(ErrorKind::NotFound, format!("{}: no such object", self.place(name))))
    }

    fn place(&self, name: &str) -> String {
        format!("{SCHEME}{}/{}{name}", self.bucket.name(), self.prefix)
    }

    /// Reads an object of at most `most_bytes`. It must be the one that was listed, if objects were.
    ///
    /// # Errors
    /// [`ErrorKind::FileTooLarge`], [`ErrorKind::NotFound`], [`ErrorKind::PermissionDenied`], and others where the
    /// server cannot be reached or the object has changed.
    pub fn read(&self, name: &str, most_bytes: u64) -> Result<Vec<u8>> {
        let listed = self.objects.get().and_then(|objects| objects.get(name));
        let key = format!("{}{name}", self.prefix);
        let place = self.place(name);
        let (bytes, tag) = self.request(&place, most_bytes, |credentials| {
            let action = self.bucket.get_object(credentials, &key);
            (action.sign(VALID).to_string(), listed.map(|object| object.tag.clone()).filter(|tag| !tag.is_empty()))
        })?;
        match listed {
            // Servers may not know If-Match.
            Some(listed) if tag.as_ref().is_some_and(|tag| *tag != listed.tag && !listed.tag.is_empty()) => {
                Err(changed(&place))
            }
            _ => Ok(bytes),
        }
    }

    /// Sends a request until it succeeds, and returns what the server sent, with its tag. `of` makes the address from
    /// the credentials, and says which tag the object must have.
    fn request(
        &self,
        place: &str,
        most_bytes: u64,
        of: impl Fn(Option<&Credentials>) -> (String, Option<String>),
    ) -> Result<(Vec<u8>, Option<String>)> {
        let mut wait = FIRST_WAIT;
        let mut renewed = false;
        for attempt in 1.. {
            let credentials = self.credentials();
            let (address, tag) = of(credentials.as_deref());
            let failed = match self.get(&address, tag.as_deref(), place, most_bytes) {
                Ok(found) => return Ok(found),
                // Those of a role expire.
                Err(Failure::Lasting(error)) if error.kind() == ErrorKind::PermissionDenied && !renewed => {
                    renewed = true;
                    *self.credentials.lock().unwrap_or_else(|e| e.into_inner()) = None;
                    continue;
                }
                Err(Failure::Lasting(error)) => return Err(error),
                Err(Failure::Passing(message)) => message,
            };
            if attempt == ATTEMPTS {
                return Err(Error::other(format!("{place}: {failed}, {ATTEMPTS} times")));
            }
            // So that many threads do not ask again at the same moment.
            let share = jitter(&format!("{address}{attempt}"));
            std::thread::sleep(wait.mul_f64(0.5 + share));
            wait *= 2;
        }
        unreachable!("the last attempt returns")
    }

    fn get(
        &self,
        address: &str,
        tag: Option<&str>,
        place: &str,
        most_bytes: u64,
    ) -> std::result::Result<(Vec<u8>, Option<String>), Failure> {
        let passing = |error: &dyn std::fmt::Display| Failure::Passing(error.to_string());
        let mut request = self.agent.get(address).header(header::ACCEPT_ENCODING, "identity");
        if let Some(tag) = tag {
            request = request.header(header::IF_MATCH, tag);
        }
        let mut response = request.call().map_err(|e| passing(&e))?;
        let status = response.status();
        let value = |name| response.headers().get(name).and_then(|v| v.to_str().ok()).map(String::from);
        let (tag, region) = (value(header::ETAG), response.headers().get("x-amz-bucket-region"));
        let region = region.and_then(|region| region.to_str().ok()).map(String::from);
        let length: Option<u64> = value(header::CONTENT_LENGTH).and_then(|length| length.parse().ok());
        if status.is_success() {
            if length.is_some_and(|length| length > most_bytes) {
                let message = format!(
                    "expected at most {} MB, found an object of {} MB",
                    most_bytes / 1_000_000,
                    length.unwrap_or(0) / 1_000_000
                );
                return Err(Failure::Lasting(Error::new(ErrorKind::FileTooLarge, message)));
            }
            let mut bytes = Vec::with_capacity(length.unwrap_or(0).min(most_bytes) as usize);
            let reader = response.body_mut().as_reader();
            let limit = most_bytes.saturating_add(1);
            reader.take(limit).read_to_end(&mut bytes).map_err(|e| passing(&e))?;
            return match length {
                Some(length) if length != bytes.len() as u64 => {
                    Err(Failure::Passing(format!("the connection ended after {} of {length} bytes", bytes.len())))
                }
                _ if bytes.len() as u64 > most_bytes => {
                    let message = format!("expected at most {} MB, found more", most_bytes / 1_000_000);
                    Err(Failure::Lasting(Error::new(ErrorKind::FileTooLarge, message)))
                }
                _ => Ok((bytes, tag)),
            };
        }
        let text = response.body_mut().with_config().limit(65_536).read_to_string().unwrap_or_default();
        let code = between(&text, "<Code>", "</Code>").map_or(String::new(), |code| format!(" ({code})"));
        let kind = match status {
            StatusCode::NOT_FOUND => ErrorKind::NotFound,
            StatusCode::PRECONDITION_FAILED => return Err(Failure::Lasting(changed(place))),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => ErrorKind::PermissionDenied,
            StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => ErrorKind::TimedOut,
            _ if status.is_server_error() => ErrorKind::TimedOut,
            _ => ErrorKind::Other,
        };
        let advice = match (kind, region) {
            (_, Some(region)) if status.is_redirection() => format!(": the bucket is in AWS_REGION={region}"),
            (ErrorKind::PermissionDenied, _) => {
                ": see AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE".into()
            }
            _ => String::new(),
        };
        let message = format!("the server answered {status}{code}{advice}");
        Err(match kind {
            ErrorKind::TimedOut => Failure::Passing(message),
            kind => Failure::Lasting(Error::new(kind, format!("{place}: {message}"))),
        })
    }

    /// The credentials, if there are any; those of a role are asked for again after a while.
    fn credentials(&self) -> Option<Arc<Credentials>> {
        let mut kept = self.credentials.lock().unwrap_or_else(|e| e.into_inner());
        match &*kept {
            Some((credentials, since)) if since.elapsed() < VALID => credentials.clone(),
            _ => {
                let found = Credentials::from_env()
                    .or_else(of_profile)
                    .or_else(of_container)
                    .or_else(of_instance)
                    .map(Arc::new);
                *kept = Some((found.clone(), Instant::now()));
                found
            }
        }
    }
}

/// Why a request failed.
enum Failure {
    /// It may succeed later.
    Passing(String),
    /// It will not.
    Lasting(Error),
}

fn changed(place: &str) -> Error {
    Error::other(format!("{place}: the object has changed since it was listed"))
}

/// A number from 0 to 1 that looks random, from a text.
fn jitter(text: &str) -> f64 {
    f64::from(blake3::hash(text.as_bytes()).as_bytes()[0]) / 255.0
}

/// The text between two others.
fn between<'a>(text: &'a str, start: &str, end: &str) -> Option<&'a str> {
    text.split_once(start)?.1.split_once(end).map(|(between, _)| between)
}

/// The first of these variables that is set.
fn setting(names: &[&str]) -> Option<String> {
    names.iter().find_map(|name| std::env::var(name).ok()).filter(|value| !value.is_empty())
}

/// A value of the profile in `~/.aws/credentials` or `~/.aws/config`.
fn profile(file: &str, key: &str) -> Option<String> {
    let variable = if file == "config" { "AWS_CONFIG_FILE" } else { "AWS_SHARED_CREDENTIALS_FILE" };
    let path = setting(&[variable]).map(PathBuf::from);
    let path = path.or_else(|| Some(Path::new(&setting(&["HOME", "USERPROFILE"])?).join(".aws").join(file)))?;
    let name = setting(&["AWS_PROFILE"]).unwrap_or_else(|| "default".into());
    value_in(&std::fs::read_to_string(path).ok()?, &name, key)
}

/// A value in the section of a profile.
fn value_in(text: &str, profile: &str, key: &str) -> Option<String> {
    let mut is_inside = false;
    for line in text.lines().map(str::trim) {
        if let Some(section) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            let section = section.trim();
            is_inside = section.strip_prefix("profile ").unwrap_or(section).trim() == profile;
        } else if let (true, Some((name, value))) = (is_inside, line.split_once('='))
            && name.trim() == key
        {
            return Some(value.trim().to_string());
        }
    }
    None
}

fn of_profile() -> Option<Credentials> {
    let value = |key| profile("credentials", key).or_else(|| profile("config", key));
    let (key, secret) = (value("aws_access_key_id")?, value("aws_secret_access_key")?);
    Some(match value("aws_session_token") {
        Some(token) => Credentials::new_with_token(key, secret, token),
        None => Credentials::new(key, secret),
    })
}

/// Asks the servers that only answer in a container or on an instance.
fn near_agent() -> Agent {
    Agent::config_builder().timeout_global(Some(Duration::from_secs(1))).build().into()
}

/// The credentials of the role of a container: of ECS's tasks, and of EKS's pods.
fn of_container() -> Option<Credentials> {
    let address = match setting(&["AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"]) {
        Some(path) => format!("http://169.254.170.2{path}"),
        None => setting(&["AWS_CONTAINER_CREDENTIALS_FULL_URI"]).filter(|address| is_near(address))?,
    };
    let of_file = || std::fs::read_to_string(setting(&["AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE"])?).ok();
    let token = of_file().or_else(|| setting(&["AWS_CONTAINER_AUTHORIZATION_TOKEN"]));
    let request = near_agent().get(address);
    let request = match token {
        Some(token) => request.header("authorization", token.trim()),
        None => request,
    };
    of_role(&request.call().ok()?.body_mut().read_to_string().ok()?)
}

/// Whether an address is one to which a token may be sent: encrypted, of this machine, or of ECS's or EKS's server.
fn is_near(address: &str) -> bool {
    /// ECS's, and EKS's.
    const SERVERS: [&str; 4] = ["169.254.170.2", "169.254.170.23", "[fd00:ec2::23]", "localhost"];
    let Some(rest) = address.strip_prefix("http://") else { return address.starts_with("https://") };
    let host = rest.split(['/', '?']).next().unwrap_or_default();
    let host = host.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()).map_or(host, |(host, _)| host);
    let is_own = host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
    is_own || SERVERS.contains(&host)
}

/// The credentials of the role of an EC2 instance, whose server only answers there.
fn of_instance() -> Option<Credentials> {
    if setting(&["AWS_EC2_METADATA_DISABLED"]).is_some_and(|value| value.eq_ignore_ascii_case("true")) {
        return None;
    }
    let server = setting(&["AWS_EC2_METADATA_SERVICE_ENDPOINT"]).unwrap_or_else(|| "http://169.254.169.254".into());
    let server = server.trim_end_matches('/');
    let agent = near_agent();
    let token = agent.put(format!("{server}/latest/api/token")).header("x-aws-ec2-metadata-token-ttl-seconds", "300");
    let token = token.send_empty().ok()?.body_mut().read_to_string().ok()?;
    let get = |path: &str| {
        let address = format!("{server}/latest/meta-data/iam/security-credentials/{path}");
        agent.get(address).header("x-aws-ec2-metadata-token", &token).call().ok()?.body_mut().read_to_string().ok()
    };
    of_role(&get(get("")?.lines().next()?)?)
}

/// The credentials in the answer of a server of roles.
fn of_role(text: &str) -> Option<Credentials> {
    let about: serde_json::Value = serde_json::from_str(text).ok()?;
    let value = |key: &str| about[key].as_str().map(String::from);
    Some(Credentials::new_with_token(value("AccessKeyId")?, value("SecretAccessKey")?, value("Token")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_buckets_and_prefixes() {
        let of = |url: &str| Link::new(url).map(|link| (link.bucket.name().to_string(), link.prefix));
        assert_eq!(of("s3://cells/blood/pbc/").unwrap(), ("cells".into(), "blood/pbc/".into()));
        assert_eq!(of("s3://cells").unwrap(), ("cells".into(), String::new()));
        for wrong in ["s3://", "http://cells", "s3://a b", "s3://a\ns3://b"] {
            assert_eq!(of(wrong).unwrap_err().kind(), ErrorKind::InvalidData, "{wrong}");
        }
    }

    #[test]
    fn tokens_are_sent_only_to_servers_of_roles() {
        for near in [
            "https://a.b/c",
            "http://127.0.0.1:8080/x",
            "http://[::1]/x",
            "http://169.254.170.23/v1",
            "http://[fd00:ec2::23]/v1",
        ] {
            assert!(is_near(near), "{near}");
        }
        for far in
            ["http://a.b/c", "http://169.254.170.2.a.b/", "ftp://127.0.0.1/", "127.0.0.1", "http://127.0.0.1@a.b/"]
        {
            assert!(!is_near(far), "{far}");
        }
    }

    #[test]
    fn profiles_are_read_as_other_tools_write_them() {
        let text = "[default]\naws_access_key_id = A\n\n[profile lab]\nregion=eu-west-1\naws_access_key_id=B = C\n";
        assert_eq!(value_in(text, "default", "aws_access_key_id").as_deref(), Some("A"));
        assert_eq!(value_in(text, "lab", "region").as_deref(), Some("eu-west-1"));
        assert_eq!(value_in(text, "lab", "aws_access_key_id").as_deref(), Some("B = C"));
        assert_eq!(value_in(text, "default", "region"), None);
    }

    #[test]
    fn paths_below_a_link_are_objects() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw/mine");
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "s3://cells/blood\n").unwrap();
        std::fs::write(dir.path().join("raw/other"), "notes\n").unwrap();
        let (link, name) = find(&path.join("neutrophil/1.jpg")).unwrap().unwrap();
        assert_eq!((link.url(), link.place(&name).as_str()), ("s3://cells/blood", "s3://cells/blood/neutrophil/1.jpg"));
        assert!(find(&dir.path().join("raw/other/1.jpg")).unwrap().is_none());
        assert!(find(&dir.path().join("raw/1.jpg")).unwrap().is_none());
        assert!(is_link(&path) && !is_link(dir.path()));
    }
}
