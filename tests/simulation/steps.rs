//! A search goes step by step: whose turn it is, and whether where it leads is known.

use backstay_core::ObjectKey;
use backstay_storage::Operation;

use crate::{
    call::{Call, Reply},
    schedule::Next,
    search::{Choice, lock},
    world::{State, World},
};

impl World {
    /// Whether an operation commutes with everything that other actors do, so that it needs no turn of its own.
    pub fn is_free(&self, state: &State, actor: usize, call: &Call) -> bool {
        let Some(shared) = self.settings.search.as_ref().and_then(|search| search.shared.as_ref()) else {
            return false;
        };
        let there = !matches!(Call::new(Operation::Head, call.key.as_ref()).apply(&self.store), Reply::Failed(_));
        !lock(shared).known.meets(actor, call, there, &state.objects)
    }

    /// Takes note of what an operation of an actor did and what it was told.
    pub fn done(&self, state: &mut State, actor: usize, call: &Call, reply: &Reply) {
        if self.settings.search.is_none() {
            return;
        }
        state.order.push(actor);
        if let Some(key) = call.key.as_ref().filter(|_| call.writes()) {
            state.objects.makers.entry(key.clone()).or_insert(actor);
            if matches!(reply, Reply::Done) {
                let body = (call.operation == Operation::Put).then(|| hash(&[&call.body]));
                note_body(state, key, body);
            }
        }
        let what = match (reply, &call.key) {
            (Reply::Body(body), Some(key)) => match state.bodies.get(key) {
                Some(known) => *known,
                None => {
                    // Whole objects alone: of a range nobody knows the rest.
                    let made = hash(&[body]);
                    if call.operation == Operation::Get {
                        state.bodies.insert(key.clone(), made);
                    }
                    made
                }
            },
            (Reply::Listing(entries), _) => {
                let mut names = String::new();
                entries.iter().for_each(|entry| {
                    names.push_str(entry.key.as_str());
                    names.push('\n');
                });
                hash(&[names.as_bytes()])
            }
            (reply, _) => hash(&[reply.to_string().as_bytes()]),
        };
        let label = call.to_string();
        let history = &mut state.actors[actor].history;
        *history = hash(&[&history[..], label.as_bytes(), &what]);
    }

    /// Something beside the store decides what an actor does next.
    pub fn remember(&self, actor: usize, what: &[u8]) {
        if self.settings.search.is_some() {
            let history = &mut self.state().actors[actor].history;
            *history = hash(&[&history[..], what]);
        }
    }

    /// Whether other schedules look, or have looked, at whatever comes of this state.
    pub fn is_known(&self, state: &State) -> bool {
        let Some(shared) = self.settings.search.as_ref().and_then(|search| search.shared.as_ref()) else {
            return false;
        };
        let mut parts: Vec<u8> = state.stored.to_vec();
        for actor in &state.actors {
            parts.extend(actor.history);
            parts.push(u8::from(actor.task.is_some()));
        }
        lock(shared).visit(hash(&[&parts]), state.last, state.preemptions)
    }

    /// The first operation of the actor whose turn it is; operations of one actor go in their order.
    pub fn next_in_search(&self, state: &mut State) -> Next {
        state.waiting.retain(|waiting| !waiting.tell.is_closed());
        let mut alive: Vec<_> = state.waiting.iter().map(|waiting| waiting.actor).collect();
        alive.sort_unstable();
        alive.dedup();
        let Some(first) = alive.first() else {
            let done = state.actors.iter().all(|actor| actor.task.is_none());
            state.cut = done && self.is_known(state);
            return if done { Next::Done } else { Next::Wait(None) };
        };
        let could_stay = state.last.is_some_and(|last| alive.contains(&last));
        let prefix = self.settings.search.as_ref().map_or(&[][..], |search| &search.prefix);
        let chosen = match prefix.get(state.choices.len()) {
            Some(wanted) if alive.contains(wanted) => *wanted,
            Some(wanted) => {
                state.failure.get_or_insert_with(|| format!("The schedule wants {wanted} and only {alive:?} can go"));
                return Next::Done;
            }
            None if self.is_known(state) => {
                state.cut = true;
                return Next::Done;
            }
            None => state.last.filter(|_| could_stay).unwrap_or(*first),
        };
        let others = alive.iter().copied().filter(|actor| *actor != chosen).collect();
        state.choices.push(Choice { chosen, others, could_stay, preemptions: state.preemptions });
        state.preemptions += usize::from(could_stay && state.last != Some(chosen));
        Next::Act(state.waiting.iter().position(|waiting| waiting.actor == chosen).unwrap_or_default())
    }
}

/// Keeps the hash of the store: of what differs from the start, in whichever order it came.
fn note_body(state: &mut State, key: &ObjectKey, body: Option<[u8; 16]>) {
    let name = key.as_str().as_bytes();
    let part = match body {
        Some(body) => Some(hash(&[name, &body])),
        None if state.objects.at_the_start.contains(key) => Some(hash(&[name])),
        None => None,
    };
    let before = match part {
        Some(part) => state.differs.insert(key.clone(), part),
        None => state.differs.remove(key),
    };
    for part in before.into_iter().chain(part) {
        state.stored.iter_mut().zip(part).for_each(|(byte, part)| *byte ^= part);
    }
    match body {
        Some(body) => state.bodies.insert(key.clone(), body),
        None => state.bodies.remove(key),
    };
}

fn hash(parts: &[&[u8]]) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let mut short = [0; 16];
    short.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    short
}
