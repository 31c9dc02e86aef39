//! The bounded-preemption search: every schedule of a small scenario in which an actor that could go on has to wait for
//! another at most so many times.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use crate::{
    known::Known,
    scenario::Outcome,
    small::{Scene, Small},
    template::Template,
};

/// A place in a schedule where another actor could have gone on.
#[derive(Clone, Debug)]
pub struct Choice {
    /// Who went.
    pub chosen: usize,
    /// Who else could have.
    pub others: Vec<usize>,
    /// Whether the one that went before could have gone on.
    pub could_stay: bool,
    /// Preemptions before this place.
    pub preemptions: usize,
}

/// One schedule of a search.
#[derive(Clone, Debug)]
pub struct Search {
    /// The choices to begin with; from there on whoever goes goes on.
    pub prefix: Vec<usize>,
    /// What is known of the scenario; none to make every operation a place to switch, as a replay does.
    pub shared: Option<Arc<Mutex<Shared>>>,
    /// An actor may be told of damage: for rules that are broken on purpose, where what is lost says more.
    pub lenient: bool,
}

/// What the schedules of one scenario have shown.
#[derive(Debug, Default)]
pub struct Shared {
    pub known: Known,
    /// For each state that was reached: who went last and after how many preemptions.
    visited: HashMap<[u8; 16], Vec<(Option<usize>, usize)>>,
}

impl Shared {
    /// Whether whatever can come from this state has been tried, or is about to be, from an equal one that was reached as cheaply. If not,
    /// it is now.
    pub fn visit(&mut self, state: [u8; 16], last: Option<usize>, preemptions: usize) -> bool {
        let before = self.visited.entry(state).or_default();
        // To go on with another actor than the one that went last costs one.
        let covers = |(who, count): &(Option<usize>, usize)| count + usize::from(*who != last) <= preemptions;
        if before.iter().any(covers) {
            return true;
        }
        before.push((last, preemptions));
        false
    }
}

/// A schedule that is still to be tried: that one up to a place, and there another actor.
struct Branch {
    of: Arc<[usize]>,
    at: usize,
    other: Option<usize>,
}

impl Branch {
    fn prefix(&self) -> Vec<usize> {
        self.of[..self.at].iter().copied().chain(self.other).collect()
    }
}

/// What came of a search.
pub struct Explored {
    pub name: &'static str,
    pub schedules: u64,
    pub states: usize,
    /// All schedules with so many preemptions were tried.
    pub bound: Option<usize>,
    pub failure: Option<String>,
}

impl Small {
    /// Tries every schedule with at most so many preemptions, fewest first, until the time is over.
    pub fn explore(&self, template: &Arc<Template>, bound: usize, end: Instant, lenient: bool) -> Explored {
        let scene = Scene::make(self, template);
        let mut explored = Explored { name: self.name, schedules: 0, states: 0, bound: None, failure: None };
        let shared = Arc::new(Mutex::new(Shared::default()));
        // When it turns out that an operation matters that seemed not to, all schedules have other places to switch.
        while !self.explore_once(
            &scene,
            &Search { prefix: Vec::new(), shared: Some(Arc::clone(&shared)), lenient },
            bound,
            end,
            &mut explored,
        ) {
            lock(&shared).visited.clear();
            explored.bound = None;
        }
        explored.states = lock(&shared).visited.len();
        explored
    }

    /// `false`: something was learned, begin again.
    fn explore_once(
        &self,
        scene: &Scene,
        search: &Search,
        bound: usize,
        end: Instant,
        explored: &mut Explored,
    ) -> bool {
        let shared = search.shared.as_ref().expect("a search learns");
        let mut open = vec![Branch { of: Arc::default(), at: 0, other: None }];
        for bound in 0..=bound {
            let mut later = Vec::new();
            while let Some(branch) = open.pop() {
                if Instant::now() > end {
                    return true;
                }
                let prefix = branch.prefix();
                let from = prefix.len();
                let outcome = self.run(scene, Search { prefix, ..search.clone() });
                explored.schedules += 1;
                if lock(shared).known.has_grown() && outcome.failure.is_none() {
                    return false;
                }
                if let Some(failure) = &outcome.failure {
                    explored.failure = Some(self.tale(&outcome, failure));
                    return true;
                }
                let chosen: Arc<[usize]> = outcome.choices.iter().map(|choice| choice.chosen).collect();
                for (at, choice) in outcome.choices.iter().enumerate().skip(from) {
                    let costs = choice.preemptions + usize::from(choice.could_stay);
                    let into = if costs > bound { &mut later } else { &mut open };
                    let branch = |other: &usize| Branch { of: Arc::clone(&chosen), at, other: Some(*other) };
                    into.extend(choice.others.iter().map(branch));
                }
            }
            explored.bound = Some(bound);
            open = later;
        }
        true
    }

    fn tale(&self, outcome: &Outcome, failure: &str) -> String {
        let order: Vec<_> = outcome.order.iter().map(usize::to_string).collect();
        format!(
            "{}\n\nscenario {}: {failure}\nreplay: cargo test --release --test simulation -- --scenario {} --schedule {}\n",
            outcome.trace.join("\n"),
            self.name,
            self.name,
            order.join(",")
        )
    }
}

pub fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}
