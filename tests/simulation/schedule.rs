//! Who goes next. The scheduler runs when every actor waits, and lets one operation through.

use std::{sync::Arc, time::Duration};

use backstay_testkit::SeededRandom;
use tokio::time::Instant;

use crate::{
    actor::derive,
    call::{Call, Reply},
    fault::Fault,
    invariants,
    world::{Replay, Stage, State, Told, Waiting, World},
};

/// Time is paused, so a sleep ends when nobody else can go on.
const SETTLE: Duration = Duration::from_millis(1);
/// When nothing has happened for so long nothing ever will.
const FOREVER: Duration = Duration::from_secs(400 * 24 * 3600);

pub enum Next {
    /// Lets the operation at this place through.
    Act(usize),
    /// Gives a clone what its original was given.
    Replay(usize),
    /// Throws a request away that nobody waits for.
    Lose(usize),
    /// Waits for an operation, or until then.
    Wait(Option<Instant>),
    Done,
}

impl World {
    /// Runs all actors to their end, or to the first broken promise.
    pub async fn run(self: &Arc<Self>) {
        loop {
            tokio::time::sleep(SETTLE).await;
            self.reap().await;
            if self.failed() {
                break;
            }
            let next = self.next();
            match next {
                Next::Done => break,
                Next::Wait(until) => {
                    let end = until.unwrap_or_else(|| Instant::now() + FOREVER);
                    let waited = tokio::time::timeout_at(end, self.arrived.notified()).await;
                    if waited.is_err() && until.is_none() {
                        self.fail("Nothing happens any more: an actor waits for ever");
                    }
                }
                Next::Replay(at) => self.replay(at),
                Next::Lose(at) => self.lose(at),
                Next::Act(at) => self.act(at).await,
            }
        }
        let tasks: Vec<_> = self.state().actors.iter_mut().filter_map(|actor| actor.task.take()).collect();
        for task in tasks {
            task.abort();
            // Whatever it was in the middle of is of no interest any more.
            drop(task.await);
        }
        self.state().waiting.clear();
    }

    /// Takes note of actors that have ended.
    async fn reap(&self) {
        loop {
            let ended = {
                let mut state = self.state();
                let ended =
                    |actor: &&mut crate::world::Actor| actor.task.as_ref().is_some_and(|task| task.is_finished());
                let found = state.actors.iter_mut().find(ended);
                found.and_then(|actor| Some((actor.spec.name.clone(), actor.replay.is_some(), actor.task.take()?)))
            };
            let Some((name, replaying, task)) = ended else { return };
            match task.await {
                Err(error) if error.is_panic() => self.fail(format!("{name} panicked: {error}")),
                Ok(()) if replaying => self.fail(format!("{name} ended before it was where its original was")),
                _ => {}
            }
        }
    }

    fn next(&self) -> Next {
        let mut state = self.state();
        let state = &mut *state;
        if state.steps >= self.settings.max_steps {
            state.failure.get_or_insert_with(|| format!("The run did not end within {} operations", state.steps));
            return Next::Done;
        }
        if let Some(next) = replaying(state) {
            return next;
        }
        if self.settings.search.is_some() {
            return self.next_in_search(state);
        }
        let now = Instant::now();
        state.waiting.retain(|waiting| !waiting.tell.is_closed() || waiting.call.writes());
        let left: Vec<_> = places(state, |waiting| waiting.tell.is_closed());
        if state.actors.iter().all(|actor| actor.task.is_none()) {
            let Some(at) = left.first() else { return Next::Done };
            return if state.random.below(2) == 0 { Next::Lose(*at) } else { Next::Act(*at) };
        }
        // A request whose process is gone arrives some time, or never.
        if !left.is_empty() && state.random.below(16) == 0 {
            let at = left[state.random.below(left.len() as u64) as usize];
            return if state.random.below(4) == 0 { Next::Lose(at) } else { Next::Act(at) };
        }
        let may_go = |waiting: &Waiting, state: &State| {
            let frozen = state.actors[waiting.actor].frozen_until;
            frozen.into_iter().chain(waiting.from).max().filter(|from| *from > now)
        };
        let held: Vec<_> = state.waiting.iter().map(|waiting| (waiting, may_go(waiting, state))).collect();
        let open = held.iter().enumerate().filter(|(_, (waiting, held))| !waiting.tell.is_closed() && held.is_none());
        let open: Vec<_> = open.map(|(at, (waiting, _))| (at, waiting.actor)).collect();
        let until = held.iter().filter(|(waiting, _)| !waiting.tell.is_closed()).filter_map(|(_, held)| *held).min();
        if open.is_empty() {
            return Next::Wait(until);
        }
        Next::Act(pick(&open, state.last, &state.random))
    }

    /// A clone gets what its original got, in the same order.
    fn replay(&self, at: usize) {
        let mut state = self.state();
        let waiting = state.waiting.remove(at);
        let actor = &mut state.actors[waiting.actor];
        let Some(told) = actor.replay.as_mut().and_then(|replay| replay.told.pop_front()) else { return };
        actor.told.push(told.clone());
        drop(waiting.tell.send(told.reply));
    }

    fn lose(&self, at: usize) {
        let mut state = self.state();
        let waiting = state.waiting.remove(at);
        let line = self.line(&state, waiting.actor, &waiting.label, "lost on the way");
        state.trace.push(line);
    }

    /// Lets an operation through.
    async fn act(self: &Arc<Self>, at: usize) {
        let changed = {
            let mut state = self.state();
            let waiting = state.waiting.remove(at);
            state.steps += 1;
            if !waiting.tell.is_closed() {
                state.last = Some(waiting.actor);
            }
            self.step(&mut state, waiting)
        };
        if let Some(call) = changed {
            invariants::after(self, &call).await;
        }
    }

    /// Gives what has changed in the store.
    fn step(self: &Arc<Self>, state: &mut State, mut waiting: Waiting) -> Option<Call> {
        if let Stage::Answered(reply) = waiting.stage {
            waiting.stage = Stage::Asked;
            self.tell(state, waiting, reply, "");
            return None;
        }
        if waiting.tell.is_closed() {
            let reply = self.take_effect(state, &waiting.call);
            let line = self.line(state, waiting.actor, &waiting.label, format!("{reply} [its process has gone on]"));
            state.trace.push(line);
            *state.reached.entry("request after its process").or_default() += 1;
            return changes(&waiting.call, &reply);
        }
        let (actor, spec) = (waiting.actor, &state.actors[waiting.actor].spec);
        let clonable = spec.clonable && state.actors.len() < 16;
        let clones = state.actors.iter().filter(|actor| actor.incarnation > 0).count() as u64;
        let clonable = clonable && clones < self.settings.rates.clones && state.actors[actor].incarnation == 0;
        let fault = match self.settings.search {
            // One that was slow has had its fault.
            None if waiting.from.is_none() => self.settings.rates.draw(&state.random, &waiting.call, clonable),
            _ => None,
        };
        if let Some(fault) = fault {
            *state.reached.entry(fault.name()).or_default() += 1;
            return self.strike(state, waiting, fault);
        }
        let reply = self.take_effect(state, &waiting.call);
        self.done(state, actor, &waiting.call, &reply);
        let changed = changes(&waiting.call, &reply);
        self.answer(state, waiting, reply, "");
        changed
    }

    /// Gives the answer, at once or later.
    fn answer(&self, state: &mut State, mut waiting: Waiting, reply: Reply, fault: &str) {
        if self.settings.search.is_none() && fault.is_empty() && state.random.below(8) == 0 {
            let line = self.line(state, waiting.actor, &waiting.label, format!("{reply} (answer on the way)"));
            state.trace.push(line);
            waiting.stage = Stage::Answered(reply);
            state.waiting.push(waiting);
            return;
        }
        self.tell(state, waiting, reply, fault);
    }

    fn tell(&self, state: &mut State, waiting: Waiting, reply: Reply, fault: &str) {
        let fault = if fault.is_empty() { String::new() } else { format!(" [{fault}]") };
        let line = self.line(state, waiting.actor, &waiting.label, format!("{reply}{fault}"));
        state.trace.push(line);
        let told = Told { label: waiting.label.clone(), reply: reply.clone() };
        state.actors[waiting.actor].told.push(told);
        // It may have been dropped in this very moment.
        drop(waiting.tell.send(reply));
    }

    fn strike(self: &Arc<Self>, state: &mut State, mut waiting: Waiting, fault: Fault) -> Option<Call> {
        let (actor, call) = (waiting.actor, waiting.call.clone());
        let mut effect = || {
            let reply = self.take_effect(state, &call);
            (changes(&call, &reply), reply)
        };
        match fault {
            Fault::CrashBefore | Fault::CrashAfter => {
                let changed = if fault == Fault::CrashAfter { effect().0 } else { None };
                let line = self.line(state, actor, &waiting.label, format!("[{}]", fault.name()));
                state.trace.push(line);
                if fault == Fault::CrashBefore {
                    // It was on its way and may still arrive.
                    state.waiting.push(waiting);
                }
                if let Some(task) = &state.actors[actor].task {
                    task.abort();
                }
                changed
            }
            Fault::Pause | Fault::Slow => {
                let millis = 1 << (4 + state.random.below(24));
                let until = Instant::now() + Duration::from_millis(millis);
                let line = self.line(state, actor, &waiting.label, format!("[{} for {millis} ms]", fault.name()));
                state.trace.push(line);
                if fault == Fault::Pause {
                    state.actors[actor].frozen_until = Some(until);
                }
                waiting.from = Some(until);
                state.waiting.push(waiting);
                None
            }
            Fault::Clone => {
                waiting.from = Some(Instant::now());
                state.waiting.push(waiting);
                self.fork(state, actor);
                None
            }
            Fault::Twice => {
                let (changed, _) = effect();
                let second = self.take_effect(state, &call);
                self.tell(state, waiting, second, fault.name());
                changed
            }
            Fault::Again => {
                let (changed, reply) = effect();
                leave_behind(state, &waiting);
                self.tell(state, waiting, reply, fault.name());
                changed
            }
            Fault::LateEffect => {
                leave_behind(state, &waiting);
                let failure = fault.error().map_or(Reply::Done, Reply::Failed);
                self.tell(state, waiting, failure, fault.name());
                None
            }
            Fault::LostReply => {
                let (changed, _) = effect();
                let failure = fault.error().map_or(Reply::Done, Reply::Failed);
                self.tell(state, waiting, failure, fault.name());
                changed
            }
            Fault::Contended | Fault::Busy | Fault::Away => {
                let failure = fault.error().map_or(Reply::Done, Reply::Failed);
                self.tell(state, waiting, failure, fault.name());
                None
            }
        }
    }

    /// From here on there are two of this actor.
    fn fork(self: &Arc<Self>, state: &mut State, actor: usize) {
        let original = &state.actors[actor];
        let incarnation = state.actors.iter().filter(|other| other.spec.seed == original.spec.seed).count() as u64;
        let mut spec = original.spec.clone();
        spec.name = format!("{}~{incarnation}", spec.name);
        let told: std::collections::VecDeque<_> = original.told.iter().cloned().collect();
        let clock = original.clock.iter().copied().collect();
        let fresh = (state.random.below(2) == 0).then(|| derive(spec.seed, "random of a clone", incarnation));
        let kind = if fresh.is_some() { "clone, fresh randomness" } else { "clone, the same randomness" };
        *state.reached.entry(kind).or_default() += 1;
        state.trace.push(format!("{:>11} {} is {kind}, after {} answers", "", spec.name, told.len()));
        let world = Arc::clone(self);
        // The lock is held here: it starts with the next turn of the runtime.
        tokio::spawn(async move { world.spawn(spec, incarnation, Some(Replay { told, clock, fresh })) });
    }

    fn line(&self, state: &State, actor: usize, label: &str, result: impl std::fmt::Display) -> String {
        let name = &state.actors[actor].spec.name;
        format!("{:>4} {:>6} {name:<8} {label} -> {result}", state.steps, self.elapsed_millis())
    }
}

/// What a clone needs next, if one is on its way to where its original was.
fn replaying(state: &mut State) -> Option<Next> {
    let id = state.actors.iter().position(|actor| actor.replay.is_some())?;
    let actor = &mut state.actors[id];
    let next = actor.replay.as_ref().and_then(|replay| replay.told.front());
    let Some(label) = next.map(|told| told.label.clone()) else {
        let replay = actor.replay.take()?;
        if let Some(seed) = replay.fresh {
            actor.streams.random.switch(seed);
        }
        actor.streams.decide.switch(derive(actor.spec.seed, "decisions of a clone", actor.incarnation));
        return replaying(state);
    };
    // What it has given up by now its original has asked for, and the store has heard of it then.
    state.waiting.retain(|waiting| waiting.actor != id || !waiting.tell.is_closed());
    let here = state.waiting.iter().position(|waiting| waiting.actor == id && waiting.label == label);
    Some(here.map_or(Next::Wait(None), Next::Replay))
}

/// A request that arrives again when nobody waits for it any more.
fn leave_behind(state: &mut State, waiting: &Waiting) {
    let (tell, nobody) = tokio::sync::oneshot::channel();
    drop(nobody);
    let (actor, label, call) = (waiting.actor, waiting.label.clone(), waiting.call.clone());
    state.waiting.push(Waiting { actor, label, call, stage: Stage::Asked, from: None, tell });
}

fn changes(call: &Call, reply: &Reply) -> Option<Call> {
    (call.writes() && matches!(reply, Reply::Done)).then(|| call.clone())
}

fn places(state: &State, wanted: impl Fn(&Waiting) -> bool) -> Vec<usize> {
    state.waiting.iter().enumerate().filter(|(_, waiting)| wanted(waiting)).map(|(at, _)| at).collect()
}

/// Mostly the same actor again: long runs of one with few switches reach other states than a fair draw.
fn pick(open: &[(usize, usize)], last: Option<usize>, random: &SeededRandom) -> usize {
    let of = |actor: usize| open.iter().filter(move |(_, of)| *of == actor).map(|(at, _)| *at);
    let again = last.filter(|last| of(*last).next().is_some() && random.below(10) < 6);
    let actor = again.unwrap_or_else(|| {
        let mut actors: Vec<_> = open.iter().map(|(_, actor)| *actor).collect();
        actors.sort_unstable();
        actors.dedup();
        actors[random.below(actors.len() as u64) as usize]
    });
    let its: Vec<_> = of(actor).collect();
    // Its operations mostly in their order, sometimes not.
    if random.below(4) == 0 { its[random.below(its.len() as u64) as usize] } else { its[0] }
}
