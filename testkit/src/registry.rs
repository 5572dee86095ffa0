//! A small registry that misbehaves as it is told (OCI distribution specification).
//!
//! It serves images below any repository name and takes what is pushed; a script sees each request first and may answer in its place, with lies of
//! every kind: another length than is sent, a hang-up in the middle, a body without end. It records what it was asked.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};

use serde_json::Value;

use crate::image::{Published, hex};

/// A request that the registry got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Its method.
    pub method: String,
    /// Its path with the query.
    pub path: String,
    /// Its headers, names in lower case.
    pub headers: BTreeMap<String, String>,
    /// Its body.
    pub body: String,
    /// The same as it came.
    pub bytes: Vec<u8>,
    /// How many requests for the same path came before.
    pub before: usize,
}

/// What it answers.
#[derive(Debug, Clone, Default)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// Headers, `Content-Length` excepted.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
    /// What `Content-Length` says, if not the truth.
    pub length: Option<usize>,
    /// Bytes of the body after which the connection is closed.
    pub hang_up_after: Option<usize>,
    /// Whether the body is repeated until the client has had enough, without a length.
    pub endless: bool,
}

impl Answer {
    /// An answer with a body.
    #[must_use]
    pub fn new(status: u16, body: impl Into<Vec<u8>>) -> Self {
        Self { status, body: body.into(), ..Self::default() }
    }

    /// With a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

type Script = dyn Fn(&Seen) -> Option<Answer> + Send + Sync;

/// A registry on the loopback, until the test ends.
#[derive(Debug)]
pub struct Registry {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
}

struct Server {
    kept: Mutex<Kept>,
    script: Box<Script>,
    seen: Arc<Mutex<Vec<Seen>>>,
}

/// What a registry has.
#[derive(Default)]
struct Kept {
    /// By tag and by digest: type and content.
    manifests: BTreeMap<String, (String, Vec<u8>)>,
    blobs: BTreeMap<String, Vec<u8>>,
    /// Uploads that have begun.
    uploads: Vec<Vec<u8>>,
}

impl Registry {
    /// Serves images by their tags; `script` may answer first.
    ///
    /// # Panics
    /// Where the loopback takes no listener.
    #[must_use]
    pub fn serve(
        images: &[(&str, &Published)],
        script: impl Fn(&Seen) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let mut kept = Kept::default();
        for (tag, image) in images {
            let text = |field: &str| image.manifest[field].as_str().map(ToOwned::to_owned).unwrap_or_default();
            let manifest = (text("mediaType"), image.manifest_bytes());
            kept.manifests.insert((*tag).to_owned(), manifest.clone());
            kept.manifests.insert(text("digest"), manifest);
            kept.blobs.extend(image.blobs.clone());
        }
        let server = Server { kept: Mutex::new(kept), script: Box::new(script), seen: Arc::default() };
        let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback takes a listener");
        let address = listener.local_addr().expect("a bound socket has an address");
        let seen = Arc::clone(&server.seen);
        let server = Arc::new(server);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let server = Arc::clone(&server);
                // A client that hangs up is the test's business.
                std::thread::spawn(move || drop(server.connection(&stream)));
            }
        });
        Self { address, seen }
    }

    /// `127.0.0.1:PORT`.
    #[must_use]
    pub fn name(&self) -> String {
        self.address.to_string()
    }

    /// Every request so far.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Server {
    fn connection(&self, stream: &TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        while let Some(seen) = self.request(&mut reader)? {
            let answer = (self.script)(&seen).unwrap_or_else(|| self.answer(&seen));
            if !send(stream, &seen, &answer)? {
                return stream.shutdown(std::net::Shutdown::Both);
            }
        }
        Ok(())
    }

    fn request(&self, reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Seen>> {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let mut words = line.split_whitespace();
        let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let body = body(reader, &headers)?;
        let mut all = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let before = all.iter().filter(|other| other.path == path).count();
        let text = String::from_utf8_lossy(&body).into_owned();
        let seen = Seen { method, path, headers, body: text, bytes: body, before };
        all.push(seen.clone());
        Ok(Some(seen))
    }

    /// What an honest registry says.
    fn answer(&self, seen: &Seen) -> Answer {
        let last = seen.path.rsplit('/').next().unwrap_or_default();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if seen.path == "/v2/" {
            return Answer::new(200, "{}");
        }
        if seen.path.contains("/blobs/uploads/") {
            return kept.upload(seen);
        }
        if seen.path.contains("/manifests/") && seen.method == "PUT" {
            let digest = format!("sha256:{}", hex(&seen.bytes));
            let manifest = (seen.headers.get("content-type").cloned().unwrap_or_default(), seen.bytes.clone());
            kept.manifests.insert(last.to_owned(), manifest.clone());
            kept.manifests.insert(digest.clone(), manifest);
            return Answer::new(201, "").header("Location", seen.path.clone()).header("Docker-Content-Digest", digest);
        }
        if seen.path.contains("/manifests/") {
            return match kept.manifests.get(last) {
                Some((media_type, bytes)) => Answer::new(200, bytes.clone())
                    .header("Content-Type", media_type)
                    .header("Docker-Content-Digest", format!("sha256:{}", hex(bytes))),
                None => refused(404, "MANIFEST_UNKNOWN"),
            };
        }
        let Some(blob) = kept.blobs.get(last) else { return refused(404, "BLOB_UNKNOWN") };
        let range =
            seen.headers.get("range").and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok());
        match range {
            Some(from) if from < blob.len() => {
                let said = format!("bytes {from}-{}/{}", blob.len() - 1, blob.len());
                Answer::new(206, &blob[from..]).header("Content-Range", said)
            }
            Some(_) => Answer::new(416, ""),
            None => Answer::new(200, blob.clone()),
        }
    }
}

impl Kept {
    /// An upload: begun, gone on with, asked about, finished.
    fn upload(&mut self, seen: &Seen) -> Answer {
        let (path, query) = seen.path.split_once('?').unwrap_or((&seen.path, ""));
        let folder = path.split_at(path.find("uploads/").unwrap_or(0) + "uploads/".len()).0;
        let Ok(number) = path[folder.len()..].parse::<usize>() else {
            self.uploads.push(Vec::new());
            return Answer::new(202, "").header("Location", format!("{folder}{}", self.uploads.len() - 1));
        };
        let Some(upload) = self.uploads.get_mut(number) else { return refused(404, "BLOB_UPLOAD_UNKNOWN") };
        if seen.method != "GET" {
            let from = seen.headers.get("content-range").and_then(|range| range.split('-').next()?.parse().ok());
            if from.is_some_and(|from: usize| from != upload.len()) {
                return refused(416, "RANGE_INVALID");
            }
            upload.extend_from_slice(&seen.bytes);
        }
        let range = format!("0-{}", upload.len().saturating_sub(1));
        if seen.method != "PUT" {
            let status = if seen.method == "GET" { 204 } else { 202 };
            return Answer::new(status, "").header("Location", path).header("Range", range);
        }
        let digest = format!("sha256:{}", hex(upload));
        if query != format!("digest={}", digest.replace(':', "%3A")) {
            return refused(400, "DIGEST_INVALID");
        }
        self.blobs.insert(digest.clone(), std::mem::take(upload));
        Answer::new(201, "").header("Location", path).header("Docker-Content-Digest", digest)
    }
}

/// A request's body: of a length that is said, or in chunks (RFC 9112, section 7.1).
fn body(reader: &mut BufReader<TcpStream>, headers: &BTreeMap<String, String>) -> std::io::Result<Vec<u8>> {
    if headers.get("transfer-encoding").is_none_or(|coding| coding != "chunked") {
        let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        let mut body = vec![0; length];
        std::io::Read::read_exact(reader, &mut body)?;
        return Ok(body);
    }
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let length = usize::from_str_radix(line.trim(), 16).map_err(std::io::Error::other)?;
        let mut chunk = vec![0; length + 2];
        std::io::Read::read_exact(reader, &mut chunk)?;
        body.extend_from_slice(&chunk[..length]);
        if length == 0 {
            return Ok(body);
        }
    }
}

fn refused(status: u16, code: &str) -> Answer {
    let body: Value = serde_json::json!({"errors": [{"code": code, "message": "as the test wants it"}]});
    Answer::new(status, body.to_string())
}

/// Sends an answer; false when the connection is to be closed.
fn send(mut stream: &TcpStream, seen: &Seen, answer: &Answer) -> std::io::Result<bool> {
    let mut head = format!("HTTP/1.1 {} As told\r\n", answer.status);
    for (name, value) in &answer.headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if answer.endless {
        head.push_str("Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        loop {
            stream.write_all(&answer.body)?;
        }
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", answer.length.unwrap_or(answer.body.len())));
    stream.write_all(head.as_bytes())?;
    let sent = answer.hang_up_after.unwrap_or(usize::MAX).min(answer.body.len());
    if seen.method != "HEAD" {
        stream.write_all(&answer.body[..sent])?;
    }
    stream.flush()?;
    Ok(answer.hang_up_after.is_none() && answer.length.is_none_or(|length| length == answer.body.len()))
}
