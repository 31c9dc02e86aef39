//! Where on which server: what an `sftp://` URL says.

use std::{fmt, str::FromStr};

use backstay_core::{Error, Result};

const PORT: u16 = 22;
/// Longer ones are no addresses; the longest path that Linux knows is this long.
const LONGEST: usize = 4096;

/// A folder on a server: `[USER@]HOST[:PORT]/PATH`, with or without `sftp://` before it.
///
/// The path is absolute. `/~/PATH` counts from the folder in which the login begins, in most cases the user's home. `%20` stands for a
/// space and so on. A password has no place here: [`FromStr`] refuses one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SftpPlace {
    /// Who logs in; [`super::SftpOptions::user`] when `None`.
    pub user: Option<String>,
    /// Name or address, without brackets.
    pub host: String,
    /// TCP port, 22 in most cases.
    pub port: u16,
    /// Absolute, or relative to where the login begins; without a slash at its end. Empty for just there.
    pub path: String,
}

impl SftpPlace {
    /// This folder, absolute or relative to where the login begins, on port 22.
    pub fn new(host: impl Into<String>, path: impl Into<String>) -> Self {
        Self { user: None, host: host.into(), port: PORT, path: path.into() }
    }

    /// As it is written before a key in `known_hosts`.
    pub(super) fn known_as(&self) -> String {
        let host = self.host.to_ascii_lowercase();
        if self.port == PORT { host } else { format!("[{host}]:{}", self.port) }
    }

    /// The path of something below the folder.
    pub(super) fn below(&self, name: &str) -> String {
        match self.path.as_str() {
            "" => name.to_owned(),
            "/" => format!("/{name}"),
            path => format!("{path}/{name}"),
        }
    }
}

impl FromStr for SftpPlace {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.strip_prefix("sftp://").unwrap_or(text);
        if text.len() > LONGEST {
            return Err(Error::invalid_input("The address of the SFTP repository is too long"));
        }
        let Some((authority, path)) = text.split_once('/') else { return Err(shape()) };
        let (user, address) = match authority.rsplit_once('@') {
            None => (None, authority),
            // Not repeated in the error: it may be a real one.
            Some((user, _)) if user.contains(':') => {
                return Err(Error::invalid_input(
                    "An sftp:// address holds no password: everybody on this machine could read it. Log in with a key",
                ));
            }
            Some((user, address)) => (Some(unescape(user)?), address),
        };
        let (host, port) = split_port(address)?;
        // Addresses of version 6 can name an interface.
        let more: &[u8] = if host.contains(':') { b".:%" } else { b".-_" };
        let named = |byte: u8| byte.is_ascii_alphanumeric() || more.contains(&byte);
        if host.is_empty() || host.starts_with('-') || !host.bytes().all(named) {
            return Err(shape());
        }
        let user = user.filter(|user| !user.is_empty());
        Ok(Self { user, host: host.to_owned(), port, path: folder(&unescape(path)?)? })
    }
}

impl fmt::Display for SftpPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sftp://")?;
        if let Some(user) = &self.user {
            write!(f, "{}@", escape(user))?;
        }
        if self.host.contains(':') { write!(f, "[{}]", self.host) } else { f.write_str(&self.host) }?;
        if self.port != PORT {
            write!(f, ":{}", self.port)?;
        }
        match self.path.strip_prefix('/') {
            Some("") => f.write_str("//"),
            Some(absolute) => write!(f, "/{}", escape(absolute)),
            None if self.path.is_empty() => f.write_str("/~"),
            None => write!(f, "/~/{}", escape(&self.path)),
        }
    }
}

fn shape() -> Error {
    Error::invalid_input(
        "An SFTP repository is sftp://USER@HOST:PORT/PATH, or sftp://USER@HOST/~/PATH below the home folder",
    )
}

fn split_port(address: &str) -> Result<(&str, u16)> {
    let port = |digits: &str| match digits.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(shape()),
    };
    if let Some(rest) = address.strip_prefix('[') {
        let (host, rest) = rest.split_once(']').ok_or_else(shape)?;
        return match rest.strip_prefix(':') {
            Some(digits) => Ok((host, port(digits)?)),
            None if rest.is_empty() => Ok((host, PORT)),
            None => Err(shape()),
        };
    }
    match address.split_once(':') {
        Some((host, digits)) => Ok((host, port(digits)?)),
        None => Ok((address, PORT)),
    }
}

/// The folder that the part behind the first slash names.
fn folder(path: &str) -> Result<String> {
    if path.chars().any(char::is_control) {
        return Err(Error::invalid_input("A path with control characters is no place for a repository"));
    }
    if path.is_empty() {
        return Err(shape());
    }
    let trimmed = path.trim_end_matches('/');
    Ok(match trimmed.strip_prefix('~') {
        Some("") => String::new(),
        Some(below) if below.starts_with('/') => below.trim_start_matches('/').to_owned(),
        _ if trimmed.is_empty() => "/".to_owned(),
        _ => format!("/{trimmed}"),
    })
}

fn unescape(text: &str) -> Result<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let pair = rest.get(..2).and_then(|pair| hex::decode(pair).ok());
        bytes
            .extend(pair.ok_or_else(|| Error::invalid_input("After a % in an address two hexadecimal digits follow"))?);
        rest = &rest[2..];
    }
    String::from_utf8(bytes).map_err(|_| Error::invalid_input("The address of the SFTP repository is not UTF-8"))
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii() && !letter.is_ascii_alphanumeric() && !"._-~/+,=".contains(letter) {
            escaped.push_str(&format!("%{:02X}", letter as u32));
        } else {
            escaped.push(letter);
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use backstay_core::ErrorKind;

    use super::*;

    #[test]
    fn addresses_of_every_shape_are_read_and_written_back() {
        for (text, user, host, port, path) in [
            ("sftp://b@host/srv/x", Some("b"), "host", 22, "/srv/x"),
            ("sftp://host:2222/srv/", None, "host", 2222, "/srv"),
            ("sftp://b@[::1]:2222/~/x/y", Some("b"), "::1", 2222, "x/y"),
            ("sftp://b@10.0.0.1/~", Some("b"), "10.0.0.1", 22, ""),
            ("sftp://b@host/~other", Some("b"), "host", 22, "/~other"),
            ("sftp://host//", None, "host", 22, "/"),
            ("sftp://a%40b@host/with%20space", Some("a@b"), "host", 22, "/with space"),
        ] {
            let place: SftpPlace = text.parse().unwrap();
            assert_eq!((place.user.as_deref(), place.host.as_str(), place.port), (user, host, port), "{text}");
            assert_eq!(place.path, path, "{text}");
            assert_eq!(place.to_string().parse::<SftpPlace>().unwrap(), place, "{text}");
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "host",
            "host:22",
            "/path",
            "@/path",
            "host/",
            "host:0/x",
            "host:99999/x",
            "[::1/x",
            "h%zz/x",
            "h/%",
            "-o/x",
        ] {
            assert_eq!(text.parse::<SftpPlace>().unwrap_err().kind(), ErrorKind::InvalidInput, "{text}");
        }
        assert!("h/a\u{7}".parse::<SftpPlace>().is_err());
    }

    #[test]
    fn a_password_in_an_address_is_refused_and_not_repeated() {
        let error = "sftp://b:s3cret@host/x".parse::<SftpPlace>().unwrap_err();
        assert!(error.to_string().contains("key") && !format!("{error:?}").contains("s3cret"), "{error:?}");
    }
}
