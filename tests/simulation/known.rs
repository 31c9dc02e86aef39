//! Which operations of a small scenario can matter to each other: learned from its own runs.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use backstay_core::ObjectKey;
use backstay_storage::Operation;

use crate::call::Call;

/// Hex digits in a row that are an id.
const ID_DIGITS: usize = 16;

/// Who does what to which objects in any run so far. Objects that are there at the start count one by one; others by the form of their
/// name and by who has made them, so that little is left to learn after a few runs.
#[derive(Debug, Default)]
pub struct Known {
    reads: BTreeMap<String, BTreeSet<usize>>,
    writes: BTreeMap<String, BTreeSet<usize>>,
    /// By the first part of the name.
    lists: BTreeMap<String, BTreeSet<usize>>,
    written_below: BTreeMap<String, BTreeSet<usize>>,
    grown: bool,
}

/// What one run has and had.
#[derive(Debug, Default)]
pub struct Objects {
    pub at_the_start: HashSet<ObjectKey>,
    pub makers: HashMap<ObjectKey, usize>,
}

impl Known {
    /// Takes note of an operation; gives whether an operation of another actor, known so far, conflicts with it: one of the two writes
    /// what the other reads, lists or writes. Operations without a conflict commute with everything that others do.
    pub fn meets(&mut self, actor: usize, call: &Call, there: bool, objects: &Objects) -> bool {
        let key = call.key.as_ref().map_or("", ObjectKey::as_str);
        let top = key.split('/').next().unwrap_or_default().to_owned();
        let form = form_of(key);
        let class = match &call.key {
            Some(key) if objects.at_the_start.contains(key) => key.to_string(),
            Some(key) => match objects.makers.get(key) {
                Some(maker) => format!("{form}@{maker}"),
                None if call.writes() => format!("{form}@{actor}"),
                // Whoever makes it one day.
                None => format!("{form}@"),
            },
            None => String::new(),
        };
        let others = |of: &BTreeMap<String, BTreeSet<usize>>, name: &str| {
            of.get(name).is_some_and(|actors| actors.iter().any(|other| *other != actor))
        };
        match call.operation {
            Operation::List => {
                self.grown |= insert(&mut self.lists, &top, actor);
                others(&self.written_below, &top)
            }
            Operation::Put | Operation::Delete => {
                self.grown |= insert(&mut self.writes, &class, actor);
                self.grown |= insert(&mut self.written_below, &top, actor);
                others(&self.writes, &class)
                    || others(&self.reads, &class)
                    || others(&self.reads, &format!("{form}@"))
                    || others(&self.lists, &top)
                    || others(&self.lists, "")
            }
            _ => {
                self.grown |= insert(&mut self.reads, &class, actor);
                let made_by_others = || {
                    let mut made =
                        self.writes.range(format!("{form}@")..).take_while(|(class, _)| class.starts_with(&form));
                    made.any(|(_, actors)| actors.iter().any(|other| *other != actor))
                };
                others(&self.writes, &class) || !there && made_by_others()
            }
        }
    }

    /// Whether something was learned since this was asked last.
    pub fn has_grown(&mut self) -> bool {
        std::mem::take(&mut self.grown)
    }
}

fn insert(into: &mut BTreeMap<String, BTreeSet<usize>>, name: &str, actor: usize) -> bool {
    into.entry(name.to_owned()).or_default().insert(actor)
}

/// A name with its ids left out.
fn form_of(key: &str) -> String {
    let mut parts = key.split('/');
    let top = parts.next().unwrap_or_default();
    if ["packs", "meta", "index"].contains(&top) {
        return format!("{top}/*");
    }
    let mut form = String::new();
    let mut digits = String::new();
    for letter in key.chars().chain(['/']) {
        if letter.is_ascii_hexdigit() {
            digits.push(letter);
            continue;
        }
        form.push_str(if digits.len() >= ID_DIGITS { "*" } else { &digits });
        digits.clear();
        form.push(letter);
    }
    form.pop();
    form
}
