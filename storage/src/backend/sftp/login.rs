//! Proving who we are: keys of an agent and of files, one after the other.

use std::{fmt::Display, sync::Arc, time::Duration};

use backstay_core::{Error, Result};
use russh::{
    client::{AuthResult, Handle},
    keys::{
        HashAlg, PrivateKeyWithHashAlg, PublicKey,
        agent::{
            AgentIdentity,
            client::{AgentClient, AgentStream},
        },
    },
};
use tokio::time::timeout;

use super::{connection::Checker, error, identity::Identity, options::SshPrompt};
use crate::backend::jobs::Jobs;

/// OpenSSH's server hangs up at the sixth failure.
const MOST_TRIES: usize = 5;
const AGENT_TIMEOUT: Duration = Duration::from_secs(60);

type Agent = AgentClient<Box<dyn AgentStream + Send + Unpin + 'static>>;

/// What there is to log in with.
pub(super) struct Login<'a> {
    pub(super) user: &'a str,
    pub(super) agent: Option<&'a std::path::Path>,
    pub(super) identities: &'a mut [Identity],
    pub(super) identities_only: bool,
    pub(super) prompt: Option<&'a Arc<dyn SshPrompt>>,
    pub(super) jobs: &'a Jobs,
    /// For every step that waits for the server alone.
    pub(super) patience: Duration,
}

/// What came of it so far.
#[derive(Default)]
struct Tried {
    keys: usize,
    notes: Vec<String>,
    offered: String,
}

impl Tried {
    fn note(&mut self, what: impl Display) {
        self.notes.push(what.to_string().chars().take(200).collect());
    }

    /// Whether that was it.
    fn outcome(&mut self, outcome: &AuthResult, what: impl Display) -> bool {
        match outcome {
            AuthResult::Success => true,
            AuthResult::Failure { remaining_methods, partial_success } => {
                self.offered = remaining_methods.iter().map(Into::into).collect::<Vec<&str>>().join(", ");
                self.note(format_args!(
                    "{what} {}",
                    if *partial_success { "was not enough alone" } else { "was refused" }
                ));
                false
            }
        }
    }
}

impl Login<'_> {
    /// First what needs nobody's help: the agent's keys, then open files; then files with passphrases.
    pub(super) async fn log_in(mut self, handle: &mut Handle<Checker>) -> Result<()> {
        let mut tried = Tried::default();
        let mut agent = self.connect_agent(handle, &mut tried).await;
        let held = self.held_by(agent.as_mut(), &mut tried).await;
        if let Some(agent) = agent.as_mut() {
            // Files that are open need a turn, too.
            let files = self.identities.iter().filter(|identity| identity.key().is_some()).count();
            let most = MOST_TRIES.saturating_sub(files).max(2);
            for identity in self.of_agent(&held) {
                if tried.keys < most && self.try_agent(handle, agent, identity, &mut tried).await? {
                    return Ok(());
                }
            }
        }
        for number in 0..self.identities.len() {
            let identity = &self.identities[number];
            if tried.keys < MOST_TRIES && !identity.is_locked() && self.try_file(handle, number, &mut tried).await? {
                return Ok(());
            }
        }
        for number in 0..self.identities.len() {
            let identity = &self.identities[number];
            let in_agent =
                identity.public.as_ref().is_some_and(|key| held.iter().any(|held| same(&held.public_key(), key)));
            if tried.keys < MOST_TRIES && identity.is_locked() && !in_agent {
                self.unlock(number).await?;
                if self.try_file(handle, number, &mut tried).await? {
                    return Ok(());
                }
            }
        }
        if handle.is_closed() {
            return Err(error::hung_up(&tried.notes.join("; ")));
        }
        Err(self.refused(&tried))
    }

    async fn connect_agent(&self, handle: &Handle<Checker>, tried: &mut Tried) -> Option<Agent> {
        let socket = self.agent?;
        match timeout(AGENT_TIMEOUT, AgentClient::connect_uds(socket)).await {
            Ok(Ok(agent)) => {
                let mut agent = agent.dynamic();
                if let Some(binding) = handle.agent_session_binding() {
                    // Not every agent knows it, and those that do not answer so.
                    let _unknown = timeout(AGENT_TIMEOUT, agent.bind_session(binding, false)).await;
                }
                Some(agent)
            }
            Ok(Err(error)) => {
                tried.note(format_args!("the agent at {} could not be reached: {error}", socket.display()));
                None
            }
            Err(_) => {
                tried.note(format_args!("the agent at {} does not answer", socket.display()));
                None
            }
        }
    }

    async fn held_by(&self, agent: Option<&mut Agent>, tried: &mut Tried) -> Vec<AgentIdentity> {
        let Some(agent) = agent else { return Vec::new() };
        match timeout(AGENT_TIMEOUT, agent.request_identities()).await {
            Ok(Ok(held)) => held,
            Ok(Err(error)) => {
                tried.note(format_args!("the agent does not tell its keys: {error}"));
                Vec::new()
            }
            Err(_) => {
                tried.note("the agent does not answer");
                Vec::new()
            }
        }
    }

    /// The agent's keys in the order in which they are offered: those that were asked for by name first.
    fn of_agent<'h>(&self, held: &'h [AgentIdentity]) -> Vec<&'h AgentIdentity> {
        let named = |identity: &AgentIdentity| {
            let key = identity.public_key();
            self.identities.iter().any(|file| file.public.as_ref().is_some_and(|public| same(public, &key)))
        };
        let (mut first, others): (Vec<_>, Vec<_>) = held.iter().partition(|identity| named(identity));
        if !self.identities_only {
            first.extend(others);
        }
        first
    }

    async fn try_agent(
        &self,
        handle: &mut Handle<Checker>,
        agent: &mut Agent,
        identity: &AgentIdentity,
        tried: &mut Tried,
    ) -> Result<bool> {
        tried.keys += 1;
        let hash = rsa_hash(handle, &identity.public_key()).await;
        let user = self.user.to_owned();
        let attempt = async {
            match identity {
                AgentIdentity::PublicKey { key, .. } => {
                    handle.authenticate_publickey_with(user, key.clone(), hash, agent).await
                }
                AgentIdentity::Certificate { certificate, .. } => {
                    handle.authenticate_certificate_with(user, certificate.clone(), hash, agent).await
                }
            }
        };
        let what = format!("the agent's key {:.60}", identity.comment());
        // An agent may ask its owner for leave.
        match timeout(self.patience + AGENT_TIMEOUT, attempt).await {
            Ok(Ok(outcome)) => Ok(tried.outcome(&outcome, what)),
            Ok(Err(error)) if handle.is_closed() => Err(error::hung_up(&error.to_string())),
            Ok(Err(error)) => {
                tried.note(format_args!("{what} was not used: {error}"));
                Ok(false)
            }
            Err(_) => Err(error::silent("log in")),
        }
    }

    /// The certificate first: who made one wants it used.
    async fn try_file(&self, handle: &mut Handle<Checker>, number: usize, tried: &mut Tried) -> Result<bool> {
        let identity = &self.identities[number];
        let path = identity.path.display().to_string();
        if identity.needs_agent() {
            tried.note(format_args!("{path} is an RSA key, which this build uses through an ssh-agent alone"));
            return Ok(false);
        }
        let Some(key) = identity.key() else { return Ok(false) };
        if let Some(certificate) = identity.certificate.clone() {
            tried.keys += 1;
            let attempt = handle.authenticate_openssh_cert(self.user, Arc::clone(&key), certificate);
            let outcome = error::in_time(self.patience, "log in", attempt).await?;
            if tried.outcome(&outcome, format_args!("the certificate of {path}")) {
                return Ok(true);
            }
        }
        tried.keys += 1;
        let attempt = handle.authenticate_publickey(self.user, PrivateKeyWithHashAlg::new(key, None));
        let outcome = error::in_time(self.patience, "log in", attempt).await?;
        Ok(tried.outcome(&outcome, format_args!("the key {path}")))
    }

    async fn unlock(&mut self, number: usize) -> Result<()> {
        let mut identity = self.identities[number].clone();
        let Some(prompt) = self.prompt.cloned() else {
            let what = "The identity file has a passphrase and nobody is there to ask for it; add it to an ssh-agent (ssh-add)";
            return Err(Error::permission_denied(what).with_context("identity", identity.path.display()));
        };
        self.identities[number] = self
            .jobs
            .run(move || {
                let passphrase = prompt.passphrase(&identity.path)?;
                identity.unlock(&passphrase)?;
                Ok(identity)
            })
            .await?;
        Ok(())
    }

    fn refused(&self, tried: &Tried) -> Error {
        let what = match (tried.keys, tried.offered.as_str()) {
            (0, _) => "There is no key to log in with; name a file with --identity, or start an ssh-agent",
            (_, offered) if !offered.is_empty() && !offered.contains("publickey") => {
                "The server takes no keys for this user, and there is no other way in; have its keeper allow keys"
            }
            _ => {
                "The server takes none of the keys; have its keeper list one in authorized_keys, or name another with --identity"
            }
        };
        let error = Error::permission_denied(what).with_context("user", self.user);
        if tried.notes.is_empty() { error } else { error.with_context("tried", tried.notes.join("; ")) }
    }
}

fn same(one: &PublicKey, other: &PublicKey) -> bool {
    one.key_data() == other.key_data()
}

/// SHA-2, unless the server says that it knows SHA-1 alone: then the key is of no use.
async fn rsa_hash(handle: &Handle<Checker>, key: &PublicKey) -> Option<HashAlg> {
    if !key.algorithm().is_rsa() {
        return None;
    }
    let best = handle.best_supported_rsa_hash().await.ok().flatten().flatten();
    Some(best.unwrap_or(HashAlg::Sha512))
}
