//! `known_hosts` files: which keys a host may show. The format is that of OpenSSH's sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT".

use aws_lc_rs::hmac;
use backstay_core::{Error, Result};
use russh::keys::ssh_encoding::base64::{Base64, Encoding};

/// A file that is larger was not written for this.
pub(super) const LARGEST_FILE: u64 = 8 << 20;
const LONGEST_LINE: usize = 32 << 10;
const MOST_ENTRIES: usize = 1000;

/// A key that a line lists, and where, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    /// `ssh-ed25519` and so on.
    pub(super) algorithm: String,
    /// As on the wire.
    pub(super) blob: Vec<u8>,
    /// `FILE:LINE`.
    pub(super) at: String,
}

/// What the files say of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownHost {
    /// Keys that the host may show.
    pub(super) keys: Vec<Listed>,
    /// Keys that may sign its certificates.
    pub(super) authorities: Vec<Listed>,
    /// Keys that nobody may show or sign with.
    pub(super) revoked: Vec<Listed>,
}

/// What the files read so far say of one host.
pub(super) struct KnownHostReader {
    host: String,
    /// `[host]:port`, for another port than 22.
    with_port: Option<String>,
    exact: KnownHost,
    /// Of lines that name the host without the port that is meant.
    bare: KnownHost,
}

impl KnownHostReader {
    pub(super) fn new(host: &str, port: u16) -> Self {
        let host = host.to_ascii_lowercase();
        let with_port = (port != 22).then(|| format!("[{host}]:{port}"));
        Self { host, with_port, exact: KnownHost::default(), bare: KnownHost::default() }
    }

    /// Takes the bytes of a file. Lines that cannot be read are passed over, as OpenSSH does, but not one that revokes a key: what cannot
    /// be read there may be the key that is shown.
    pub(super) fn parse_known_hosts(&mut self, bytes: &[u8], file: &str) -> Result<()> {
        for (number, line) in bytes.split(|byte| *byte == b'\n').enumerate() {
            let at = || format!("{file}:{}", number + 1);
            match parse_line(line) {
                Some(Some(entry)) => self.take(entry, at())?,
                Some(None) => {}
                None if line.trim_ascii_start().starts_with(b"@revoked") => {
                    let what = "A line of known_hosts revokes a key and cannot be read; correct it";
                    return Err(Error::invalid_input(what).with_context("line", at()));
                }
                None => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, entry: Entry<'_>, at: String) -> Result<()> {
        let of_port = self.with_port.as_deref().is_some_and(|name| matches(entry.patterns, name));
        let of_host = matches(entry.patterns, &self.host);
        let into = match (of_port, of_host) {
            (true, _) => &mut self.exact,
            (false, true) if self.with_port.is_none() => &mut self.exact,
            (false, true) => &mut self.bare,
            (false, false) => return Ok(()),
        };
        let list = match entry.marker {
            Marker::None => &mut into.keys,
            Marker::Authority => &mut into.authorities,
            Marker::Revoked => &mut into.revoked,
        };
        if list.len() >= MOST_ENTRIES {
            return Err(Error::invalid_input("known_hosts lists too many keys for one host").with_context("line", at));
        }
        list.push(Listed { algorithm: entry.algorithm.to_owned(), blob: entry.blob, at });
        Ok(())
    }

    /// Lines without the port count where no line has it; those that revoke always do.
    pub(super) fn finish(self) -> KnownHost {
        let (exact, bare) = (self.exact, self.bare);
        let revoked = exact.revoked.iter().chain(&bare.revoked).cloned().collect();
        let chosen = if exact.keys.is_empty() && exact.authorities.is_empty() { bare } else { exact };
        KnownHost { revoked, ..chosen }
    }
}

#[derive(Clone, Copy)]
enum Marker {
    None,
    Authority,
    Revoked,
}

struct Entry<'a> {
    marker: Marker,
    patterns: &'a str,
    algorithm: &'a str,
    blob: Vec<u8>,
}

/// `None` for what cannot be read, `Some(None)` for what says nothing.
fn parse_line(line: &[u8]) -> Option<Option<Entry<'_>>> {
    if line.len() > LONGEST_LINE {
        return None;
    }
    let line = str::from_utf8(line).ok()?.trim();
    if line.is_empty() || line.starts_with('#') {
        return Some(None);
    }
    let mut words = line.split_ascii_whitespace();
    let first = words.next()?;
    let (marker, patterns) = match first {
        "@cert-authority" => (Marker::Authority, words.next()?),
        "@revoked" => (Marker::Revoked, words.next()?),
        _ if first.starts_with('@') => return None,
        _ => (Marker::None, first),
    };
    let algorithm = words.next()?;
    let blob = Base64::decode_vec(words.next()?).ok()?;
    // The name inside the key is the one that counts, and both are the same in every file that ssh wrote.
    let (length, rest) = blob.split_first_chunk::<4>()?;
    let name = rest.get(..u32::from_be_bytes(*length) as usize)?;
    (name == algorithm.as_bytes()).then_some(Some(Entry { marker, patterns, algorithm, blob }))
}

/// Whether a list of patterns means this name, which is in lower case.
fn matches(patterns: &str, name: &str) -> bool {
    if patterns.starts_with("|1|") {
        return hashed(patterns, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if wildcard(pattern, name) => return false,
            Some(_) => {}
            None => found |= wildcard(pattern, name),
        }
    }
    found
}

/// `|1|SALT|HMAC-SHA1`.
fn hashed(pattern: &str, name: &str) -> Option<bool> {
    let (salt, hash) = pattern.strip_prefix("|1|")?.split_once('|')?;
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &Base64::decode_vec(salt).ok()?);
    Some(hmac::verify(&key, name.as_bytes(), &Base64::decode_vec(hash).ok()?).is_ok())
}

/// `*` stands for any letters, `?` for one. Goes back to the last star alone, so that it takes at most the product of both lengths.
fn wildcard(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut in_name) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while in_name < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at, in_name));
                at += 1;
                continue;
            }
            Some(letter) if *letter == b'?' || letter.eq_ignore_ascii_case(&name[in_name]) => {
                at += 1;
                in_name += 1;
                continue;
            }
            _ => {}
        }
        let Some((star_at, taken)) = star.as_mut() else { return false };
        *taken += 1;
        (at, in_name) = (*star_at + 1, *taken);
    }
    pattern[at..].iter().all(|letter| *letter == b'*')
}

/// Reads bytes as a file, for fuzzing: the first line is the host.
pub fn fuzz_known_hosts(bytes: &[u8]) {
    let (host, file) = match bytes.iter().position(|byte| *byte == b'\n') {
        Some(end) => (&bytes[..end.min(255)], &bytes[end..]),
        None => (&b"host"[..], bytes),
    };
    let host = String::from_utf8_lossy(host);
    for port in [22, 2222] {
        let mut reader = KnownHostReader::new(&host, port);
        // What it refuses is its own matter; what it takes has a key that says what it is.
        if reader.parse_known_hosts(file, "file").is_ok() {
            let known = reader.finish();
            let all = known.keys.iter().chain(&known.authorities).chain(&known.revoked);
            all.for_each(|listed| assert!(listed.blob.len() >= 4 + listed.algorithm.len()));
        }
    }
}

#[cfg(test)]
mod tests;
