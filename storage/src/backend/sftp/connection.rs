//! One connection: an SSH session with an SFTP channel on it.

use std::{
    borrow::Cow,
    net::{Shutdown, TcpStream as StdStream},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use backstay_core::{Error, Result};
use russh::{
    ChannelMsg, Preferred,
    client::{self, Handle},
    keys::{Algorithm, EcdsaCurve, PublicKeyOrCertificate},
};
use russh_sftp::client::{RawSftpSession, error::Error as SftpError};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
};

use super::{
    error,
    host_key::{HostKeyError, HostTrust},
    login::Login,
};

/// The sorts of host keys that can be checked, best first.
pub(super) const HOST_KEYS: [Algorithm; 4] = [
    Algorithm::Ed25519,
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP384 },
    Algorithm::Ecdsa { curve: EcdsaCurve::NistP521 },
];
/// Bytes that the server may send before it is told to go on: what a fast line with a long way holds.
const WINDOW: u32 = 16 << 20;
/// Requests with data in flight, over all transfers.
const SLOTS: usize = 128;
/// Of one read or write. Every server takes 32 KiB; others say so.
const PIECE: u64 = 32 << 10;
const LARGEST_PIECE: u64 = 64 << 10;
/// SFTP has had no other that OpenSSH speaks.
const VERSION: u32 = 3;
const LARGEST_PACKET: u32 = 256 << 10;

/// What the server can do besides version 3 of the protocol.
#[derive(Clone, Copy, Debug)]
pub(super) struct Features {
    pub(super) fsync: bool,
    pub(super) hardlink: bool,
    pub(super) posix_rename: bool,
    /// Bytes of one read.
    pub(super) read: usize,
    /// Bytes of one write.
    pub(super) write: usize,
}

/// A connection that is logged in. Its socket is closed when it is dropped.
pub(super) struct Connection {
    pub(super) sftp: RawSftpSession,
    pub(super) features: Features,
    pub(super) slots: Semaphore,
    lost: AtomicBool,
    /// Its other end goes with the session.
    session: watch::Receiver<()>,
    handle: Handle<Checker>,
    _socket: Socket,
}

/// Ends the session's tasks when it goes: they wait for the other side otherwise.
struct Socket(StdStream);

impl Drop for Socket {
    fn drop(&mut self) {
        // It is closed already when this fails.
        let _closed = self.0.shutdown(Shutdown::Both);
    }
}

/// How long the steps may take.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    pub(super) request: Duration,
    pub(super) keepalive: Duration,
}

/// Why there is no connection: an unknown host is a question to somebody, all else an error.
pub(super) enum Refusal {
    HostKey(HostKeyError),
    Other(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

impl Connection {
    pub(super) async fn open(trust: HostTrust, login: Login<'_>, patience: Patience) -> Result<Self, Refusal> {
        let address = (trust.place.host.clone(), trust.place.port);
        let tcp = match tokio::time::timeout(patience.connect, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => tcp,
            Ok(Err(error)) => {
                let what = format!("Connect to the server: {error}; check host, port and network");
                return Err(Error::unavailable(what).with_source(error).retryable().into());
            }
            Err(_) => return Err(error::silent("connect").into()),
        };
        let (tcp, socket) = twice(tcp).map_err(|error| Error::io(error, "Set up a connection"))?;
        let verdict = Arc::new(OnceLock::new());
        let config = Arc::new(config(&trust, patience));
        let (alive, session) = watch::channel(());
        let checker = Checker { trust, verdict: Arc::clone(&verdict), _alive: alive };
        let handshake = client::connect_stream(config, tcp, checker);
        let mut handle = error::in_time(patience.connect, "agree on keys with it", handshake)
            .await
            .map_err(|error| verdict.get().cloned().map_or(Refusal::Other(error), Refusal::HostKey))?;
        login.log_in(&mut handle).await?;
        let (sftp, features) = start_sftp(&handle, patience).await?;
        let slots = Semaphore::new(SLOTS);
        Ok(Self { sftp, features, slots, lost: AtomicBool::new(false), session, handle, _socket: socket })
    }

    /// Whether it is of no more use.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed) || self.handle.is_closed()
    }

    /// Waits for the end of the session. A request that was queued when it ended would wait for its whole time otherwise.
    pub(super) async fn ended(&self) {
        let mut session = self.session.clone();
        // Nothing is ever sent: it only ends.
        while session.changed().await.is_ok() {}
        self.lost.store(true, Ordering::Relaxed);
    }

    /// The error, and a note where it ends the connection.
    pub(super) fn failed(&self, error: SftpError, tried: &str) -> Error {
        if error::is_loss(&error) {
            self.lost.store(true, Ordering::Relaxed);
        }
        error::translate(error, tried)
    }
}

/// The socket for the session, and the same one to close.
fn twice(tcp: TcpStream) -> std::io::Result<(TcpStream, Socket)> {
    // Requests are small and wait for answers.
    tcp.set_nodelay(true)?;
    let tcp = tcp.into_std()?;
    let other = Socket(tcp.try_clone()?);
    Ok((TcpStream::from_std(tcp)?, other))
}

fn config(trust: &HostTrust, patience: Patience) -> client::Config {
    let known = |algorithm: &Algorithm| trust.known.keys.iter().any(|listed| listed.algorithm == algorithm.as_str());
    // Listed ones first, or a server with several keys would show one that nobody has seen.
    let (mut keys, others): (Vec<_>, Vec<_>) = HOST_KEYS.into_iter().partition(known);
    keys.extend(others);
    let certified = !trust.known.authorities.is_empty();
    let preferred = Preferred {
        host_key_certificates: if certified { Cow::Owned(HOST_KEYS.to_vec()) } else { Cow::Borrowed(&[]) },
        key: Cow::Owned(keys),
        ..Preferred::DEFAULT
    };
    client::Config {
        window_size: WINDOW,
        keepalive_interval: Some(patience.keepalive),
        keepalive_max: 3,
        nodelay: true,
        preferred,
        ..client::Config::default()
    }
}

async fn start_sftp(handle: &Handle<Checker>, patience: Patience) -> Result<(RawSftpSession, Features)> {
    let start = async {
        let mut channel = handle.channel_open_session().await?;
        channel.request_subsystem(true, "sftp").await?;
        loop {
            match channel.wait().await {
                Some(ChannelMsg::Success) => return Ok(Some(channel)),
                Some(ChannelMsg::WindowAdjusted { .. }) => {}
                _ => return Ok(None),
            }
        }
    };
    let Some(channel) = error::in_time(patience.connect, "start SFTP", start).await? else {
        return Err(Error::unsupported(
            "The server lets us in but offers no SFTP; have its keeper enable the sftp subsystem",
        ));
    };
    let config = russh_sftp::client::Config {
        max_packet_len: LARGEST_PACKET,
        request_timeout_secs: patience.connect.as_secs().max(1),
        ..russh_sftp::client::Config::default()
    };
    let sftp = RawSftpSession::new_with_config(channel.into_stream(), config);
    let features = greet(&sftp).await.map_err(|error| error::translate(error, "Start SFTP"))?;
    sftp.set_timeout(patience.request.as_secs().max(1));
    Ok((sftp, features?))
}

async fn greet(sftp: &RawSftpSession) -> Result<Result<Features>, SftpError> {
    let version = sftp.init().await?;
    if version.version != VERSION {
        let what = "The server speaks a version of SFTP that is not spoken here; version 3 is needed";
        return Ok(Err(Error::unsupported(what).with_context("version", version.version)));
    }
    let has = |name: &str| version.extensions.contains_key(name);
    let mut features = Features {
        fsync: has("fsync@openssh.com"),
        hardlink: has("hardlink@openssh.com"),
        posix_rename: has("posix-rename@openssh.com"),
        read: PIECE as usize,
        write: PIECE as usize,
    };
    if has("limits@openssh.com") {
        let limits = sftp.limits().await?;
        let piece = |limit: u64| if limit == 0 { PIECE } else { limit.clamp(1024, LARGEST_PIECE) } as usize;
        (features.read, features.write) = (piece(limits.max_read_len), piece(limits.max_write_len));
    }
    Ok(Ok(features))
}

/// Judges the server's key.
pub(super) struct Checker {
    trust: HostTrust,
    verdict: Arc<OnceLock<HostKeyError>>,
    _alive: watch::Sender<()>,
}

impl client::Handler for Checker {
    type Error = russh::Error;

    async fn check_server_key(&mut self, shown: &PublicKeyOrCertificate) -> Result<bool, russh::Error> {
        // A clock before 1970 makes every certificate not yet valid.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        Ok(match self.trust.check(shown, now) {
            Ok(()) => true,
            Err(error) => {
                // The first verdict is the one that ends the connection.
                let _first = self.verdict.set(error);
                false
            }
        })
    }
}
