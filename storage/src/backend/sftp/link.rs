//! The connection that everybody shares, made when it is needed and again when it is lost.

use std::{
    fmt,
    fs::File,
    io::{self, Read},
    sync::Arc,
    time::Instant,
};

use backstay_core::{Error, ErrorKind, Result, ResultExt, TokioSpawner};
use tokio::sync::Mutex;

use super::{
    SftpOptions,
    connection::{Connection, Patience, Refusal},
    host_key::{HostKeyError, HostTrust, UnknownHostKey},
    identity::Identity,
    known_hosts::{KnownHost, KnownHostReader, LARGEST_FILE},
    login::Login,
};
use crate::backend::jobs::Jobs;

/// A connection or the way to one.
pub(super) struct Link {
    options: SftpOptions,
    user: String,
    jobs: Jobs,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    live: Option<Arc<Connection>>,
    /// When the last try failed and with what: who waited for it meanwhile does not try again.
    failed: Option<(Instant, ErrorKind, String)>,
    /// Read once, so that nobody is asked twice for a passphrase.
    identities: Option<Vec<Identity>>,
    /// What somebody said yes to.
    accepted: Option<String>,
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").field("options", &self.options).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(options: SftpOptions) -> Result<Self> {
        let user = options.place.user.clone().or_else(|| options.user.clone());
        let user = user.ok_or_else(|| Error::invalid_input("Who logs in? Write sftp://USER@HOST/PATH"))?;
        Ok(Self { options, user, jobs: Jobs(Arc::new(TokioSpawner)), state: Mutex::default() })
    }

    pub(super) const fn allows_unsynced(&self) -> bool {
        self.options.allow_unsynced
    }

    /// The connection; makes one if there is none. One try, and one more after somebody said yes to an unknown host.
    pub(super) async fn connection(&self) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let mut state = self.state.lock().await;
        if let Some(live) = state.live.as_ref().filter(|live| !live.is_lost()) {
            return Ok(Arc::clone(live));
        }
        state.live = None;
        if let Some((when, kind, message)) = &state.failed
            && *when > asked
        {
            let error = Error::new(*kind, message.clone());
            return Err(if *kind == ErrorKind::Unavailable { error.retryable() } else { error });
        }
        match self.connect(&mut state).await {
            Ok(connection) => {
                state.failed = None;
                state.live = Some(Arc::clone(&connection));
                Ok(connection)
            }
            Err(error) => {
                state.failed = Some((Instant::now(), error.kind(), error.to_string()));
                Err(error)
            }
        }
    }

    async fn connect(&self, state: &mut State) -> Result<Arc<Connection>> {
        let known = self.known_host().await?;
        if state.identities.is_none() {
            state.identities = Some(self.read_identities().await?);
        }
        match self.try_connect(state, known.clone()).await {
            Ok(connection) => Ok(Arc::new(connection)),
            Err(Refusal::HostKey(HostKeyError::Unknown(unknown))) => {
                if !self.somebody_accepts(&unknown).await? {
                    return Err(HostKeyError::Unknown(unknown).into_error());
                }
                state.accepted = Some(unknown.fingerprint);
                self.try_connect(state, known).await.map(Arc::new).map_err(error)
            }
            Err(refusal) => Err(error(refusal)),
        }
    }

    async fn try_connect(&self, state: &mut State, known: KnownHost) -> Result<Connection, Refusal> {
        let options = &self.options;
        let accepted = state.accepted.clone().or_else(|| options.accepted_host_key.clone());
        let trust = HostTrust { place: options.place.clone(), known, accepted };
        let login = Login {
            user: &self.user,
            agent: options.agent.as_deref(),
            identities: state.identities.as_deref_mut().unwrap_or_default(),
            identities_only: options.identities_only,
            prompt: options.prompt.as_ref(),
            jobs: &self.jobs,
            patience: options.connect_timeout,
        };
        let patience = Patience {
            connect: options.connect_timeout,
            request: options.request_timeout,
            keepalive: options.keepalive,
        };
        Connection::open(trust, login, patience).await
    }

    async fn somebody_accepts(&self, unknown: &UnknownHostKey) -> Result<bool> {
        let Some(prompt) = self.options.prompt.clone() else { return Ok(false) };
        let unknown = unknown.clone();
        self.jobs.run(move || prompt.accept(&unknown)).await
    }

    /// Read anew for each connection: somebody may have corrected a file meanwhile.
    async fn known_host(&self) -> Result<KnownHost> {
        let (files, place) = (self.options.known_hosts.clone(), self.options.place.clone());
        self.jobs
            .run(move || {
                let mut reader = KnownHostReader::new(&place.host, place.port);
                for file in files {
                    let bytes = read_known_hosts(&file).context("file", file.display())?;
                    reader.parse_known_hosts(&bytes, &file.display().to_string())?;
                }
                Ok(reader.finish())
            })
            .await
    }

    async fn read_identities(&self) -> Result<Vec<Identity>> {
        let files = self.options.identities.clone();
        self.jobs.run(move || files.iter().map(|file| Identity::read(file)).collect()).await
    }
}

fn error(refusal: Refusal) -> Error {
    match refusal {
        Refusal::HostKey(error) => error.into_error(),
        Refusal::Other(error) => error,
    }
}

fn read_known_hosts(file: &std::path::Path) -> Result<Vec<u8>> {
    let file = match File::open(file) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(error, "Open a known_hosts file")),
    };
    let mut bytes = Vec::new();
    file.take(LARGEST_FILE + 1).read_to_end(&mut bytes).map_err(|error| Error::io(error, "Read a known_hosts file"))?;
    if bytes.len() as u64 > LARGEST_FILE {
        return Err(Error::invalid_input("The known_hosts file is larger than 8 MiB; is it the right one?"));
    }
    Ok(bytes)
}
