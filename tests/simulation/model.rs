//! What was promised: the content of every point, by whoever wrote it, and what was forgotten.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use backstay_core::{ErrorKind, RestorePoint, RestorePointId};

/// The bytes of every disk of a point.
pub type Content = BTreeMap<String, Arc<Vec<u8>>>;

/// A commit that was tried.
#[derive(Clone, Debug)]
pub struct Attempt {
    pub actor: usize,
    pub content: Arc<Content>,
    /// How it ended; none when its process never heard.
    pub ended: Option<Result<(), ErrorKind>>,
}

impl Attempt {
    /// Whether it is certain that this attempt made no point. After `Unavailable` nobody knows.
    pub fn failed_for_certain(&self) -> bool {
        matches!(self.ended, Some(Err(kind)) if !matches!(kind, ErrorKind::Unavailable | ErrorKind::Cancelled))
    }
}

#[derive(Clone, Debug, Default)]
pub struct Model {
    /// By session; clones of one process try the same.
    pub attempts: BTreeMap<RestorePointId, Vec<Attempt>>,
    /// Points that somebody has tried to forget.
    pub forgotten: BTreeSet<RestorePointId>,
    /// Sessions that somebody has begun or taken up.
    pub begun: BTreeSet<RestorePointId>,
    /// Points that somebody has seen in a list.
    pub seen: BTreeSet<RestorePointId>,
}

impl Model {
    /// An actor is about to commit.
    pub fn tries(&mut self, session: RestorePointId, actor: usize, content: Content) {
        let attempt = Attempt { actor, content: Arc::new(content), ended: None };
        self.attempts.entry(session).or_default().push(attempt);
    }

    /// What it was told.
    pub fn ended(&mut self, session: RestorePointId, actor: usize, how: Result<(), ErrorKind>) {
        let attempts = self.attempts.entry(session).or_default();
        if let Some(attempt) = attempts.iter_mut().find(|attempt| attempt.actor == actor) {
            attempt.ended = Some(how);
        }
    }

    /// Points that a list that begins now must show.
    pub fn promised(&self) -> Vec<RestorePointId> {
        let told = |attempts: &Vec<Attempt>| attempts.iter().any(|attempt| attempt.ended == Some(Ok(())));
        let told = self.attempts.iter().filter(|(_, attempts)| told(attempts)).map(|(session, _)| session);
        told.chain(&self.seen).filter(|session| !self.forgotten.contains(session)).copied().collect()
    }

    /// What a list fails to show of what was promised when it began.
    pub fn missing(&self, promised: &[RestorePointId], listed: &[RestorePoint]) -> Option<String> {
        let there = |session: &RestorePointId| listed.iter().any(|point| point.id == *session);
        let missing = promised.iter().find(|session| !there(session) && !self.forgotten.contains(session))?;
        Some(format!("Point {} was committed and is not listed", missing.short()))
    }

    /// What is wrong with a point of this content, if anything.
    pub fn refutes(&self, session: RestorePointId, restored: &Content) -> Option<String> {
        let Some(attempts) = self.attempts.get(&session) else {
            return Some(format!("Point {} exists and nobody tried to commit it", session.short()));
        };
        if !attempts.iter().any(|attempt| *attempt.content == *restored) {
            return Some(format!("Point {} does not restore to what was backed up", session.short()));
        }
        let lied = attempts.iter().find(|attempt| attempt.ended == Some(Ok(())) && *attempt.content != *restored);
        lied.map(|lied| format!("Actor {} was told that point {} holds something else", lied.actor, session.short()))
    }
}
