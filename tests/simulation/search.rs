//! The bounded-preemption search: every schedule of a small scenario in which an actor that could go on has to wait for
//! another at most so many times.

use backstay_core::ObjectKey;
use backstay_storage::Operation;

use crate::call::Call;

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

/// Whether the order of this operation and those of others can matter: objects that several actors read or decide by.
pub fn interesting(call: &Call) -> bool {
    let key = call.key.as_ref().map_or("", ObjectKey::as_str);
    matches!(call.operation, Operation::Delete | Operation::List)
        || ["chain", "points", "forgotten"].iter().any(|folder| call.below(folder))
        || (key.starts_with("sessions/") && call.writes())
}

/// The prefixes of the schedules next to this one that have not been tried, with at most so many preemptions.
pub fn neighbours(prefix: usize, choices: &[Choice], bound: usize) -> Vec<Vec<usize>> {
    let mut found = Vec::new();
    for (at, choice) in choices.iter().enumerate().skip(prefix) {
        if choice.preemptions + usize::from(choice.could_stay) > bound {
            continue;
        }
        for other in &choice.others {
            let mut next: Vec<_> = choices[..at].iter().map(|choice| choice.chosen).collect();
            next.push(*other);
            found.push(next);
        }
    }
    found
}
