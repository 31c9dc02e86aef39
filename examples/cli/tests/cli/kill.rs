//! kill -9 at random moments of a backup's life, and in the gap between the point and its outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    process::Child,
    time::{Duration, Instant},
};

use crate::kit::{Home, MIB, Numbers, content};

const SIZE: usize = 32 * MIB;
/// What changes between two backups.
const CHANGED: usize = 4 * MIB;
/// Kills that hit a running backup; others are made up for.
const KILLS: u32 = 104;
/// More than this many repositories are not needed.
const REPOSITORIES: u64 = 25;
const KILLS_EACH: u32 = 10;

/// Where a kill hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hit {
    /// Before there was a session.
    BeforeSession,
    /// Between `open` and the point.
    BeforePoint,
    /// The point was written, its outcome not: it does not exist.
    BeforeOutcome,
    /// The point exists, the process had not ended.
    AfterCommit,
    /// It had ended by itself.
    TooLate,
}

/// A repository, the disk that goes into it, and what each label stands for.
struct Trial {
    home: Home,
    disk: Vec<u8>,
    round: u32,
    states: BTreeMap<String, Vec<u8>>,
    numbers: Numbers,
}

impl Trial {
    fn new(seed: u64) -> Self {
        let (home, numbers) = (Home::new(), Numbers(seed * 7919 + 1));
        let mut trial = Self { home, disk: content(seed, SIZE), round: 0, states: BTreeMap::new(), numbers };
        trial.finish();
        trial
    }

    /// Another state of the disk; gives its label.
    fn change(&mut self) -> String {
        self.round += 1;
        for _ in 0..4 {
            let at = self.numbers.next() as usize % (SIZE - CHANGED);
            self.numbers.fill(&mut self.disk[at..at + CHANGED / 4]);
        }
        self.home.disk("a.raw", &self.disk);
        self.states.insert(self.round.to_string(), self.disk.clone());
        format!("round={}", self.round)
    }

    fn start(&mut self) -> Child {
        let label = self.change();
        self.home.command(["backup", "a.raw", "--workload", "w", "--quiet", "--label", &label]).spawn().unwrap()
    }

    /// A backup to its end; gives how long it took.
    fn finish(&mut self) -> Duration {
        let mut child = self.start();
        let started = Instant::now();
        assert!(child.wait().unwrap().success(), "the next backup succeeds");
        started.elapsed()
    }

    fn names(&self, folder: &str) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        walk(&self.home.path("repo").join(folder), &mut names);
        names
    }

    /// Kills the child and finds out where that hit it.
    fn kill(&mut self, mut child: Child, before: &Seen) -> Hit {
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let now = self.seen();
        match () {
            () if status.success() => Hit::TooLate,
            () if now.outcomes > before.outcomes => Hit::AfterCommit,
            () if now.points > before.points => Hit::BeforeOutcome,
            () if now.sessions > before.sessions => Hit::BeforePoint,
            () => Hit::BeforeSession,
        }
    }

    fn seen(&self) -> Seen {
        let sessions = self.names("sessions");
        let outcomes = sessions.iter().filter(|name| name.ends_with("outcome")).count();
        Seen { points: self.names("points").len(), sessions: sessions.len() - outcomes, outcomes }
    }

    /// Nothing is wrong, and the points are those that committed.
    fn verify(&self, hit: Hit, points_before: usize) {
        self.home.check();
        let points = self.home.points();
        let more = usize::from(matches!(hit, Hit::AfterCommit | Hit::TooLate));
        assert_eq!(points.len(), points_before + more, "{hit:?}");
        self.restores(points.last().unwrap());
    }

    fn restores(&self, point: &serde_json::Value) {
        let expected = &self.states[point["labels"]["round"].as_str().unwrap()];
        assert!(self.home.restored(point["id"].as_str().unwrap(), "disk0") == *expected, "{point}");
    }
}

struct Seen {
    sessions: usize,
    points: usize,
    outcomes: usize,
}

fn walk(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), names),
            _ => drop(names.insert(entry.path().display().to_string())),
        }
    }
}

#[test]
fn a_backup_killed_at_any_moment_loses_no_point_and_stands_in_nobody_s_way() {
    let mut hits = BTreeMap::<Hit, u32>::new();
    for seed in 1..=REPOSITORIES {
        if running(&hits) >= KILLS {
            break;
        }
        let mut trial = Trial::new(seed);
        let mut whole = trial.finish();
        for number in 0..KILLS_EACH {
            let points = trial.home.points().len();
            let before = trial.seen();
            let child = trial.start();
            let hit = if number % 5 == 4 {
                // As soon as the point is there, its outcome is still on its way.
                await_point(&trial, before.points, whole * 4);
                trial.kill(child, &before)
            } else {
                std::thread::sleep(whole.mul_f64(trial.numbers.next() as f64 / u64::MAX as f64));
                trial.kill(child, &before)
            };
            *hits.entry(hit).or_default() += 1;
            trial.verify(hit, points);
            whole = trial.finish();
        }
        trial.home.points().iter().for_each(|point| trial.restores(point));
    }
    println!("kills: {hits:?}");
    let count = |hit| hits.get(&hit).copied().unwrap_or_default();
    let before_commit = running(&hits) - count(Hit::AfterCommit);
    assert!(running(&hits) >= 100, "{hits:?}");
    assert!(before_commit >= 50 && count(Hit::BeforePoint) >= 25, "{hits:?}");
    assert!(count(Hit::BeforeOutcome) >= 1, "{hits:?}");
    assert!(count(Hit::AfterCommit) + count(Hit::TooLate) >= 1, "{hits:?}");
}

/// Kills that did not come too late.
fn running(hits: &BTreeMap<Hit, u32>) -> u32 {
    hits.iter().filter(|(hit, _)| **hit != Hit::TooLate).map(|(_, count)| count).sum()
}

/// Waits until there is one more point, but not for ever.
fn await_point(trial: &Trial, points: usize, patience: Duration) {
    let until = Instant::now() + patience;
    while trial.names("points").len() <= points && Instant::now() < until {
        std::hint::spin_loop();
    }
}
