//! The small scenarios of the search: what is there, and who meets.

use std::sync::Arc;

use backstay_core::Result;
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{WriteSession, mutation::Mutation},
};

use crate::{
    actor::{Program, Spec, derive, quiet_context},
    fault::Rates,
    model::{Content, Model},
    programs::{
        self,
        Patience::{Long, None as Impatient},
    },
    scenario::{self, Outcome},
    search::Search,
    template::{Key, Template},
    world::{Settings, World},
};

/// A small scenario, every schedule of which is tried.
pub struct Small {
    pub name: &'static str,
    before: &'static [Step],
    cast: fn() -> Vec<(&'static str, Twin, Program)>,
}

/// Actors of one number are incarnations of one process: they draw the same randomness.
type Twin = u64;

/// What has happened when the actors start.
#[derive(Clone, Copy, Debug)]
enum Step {
    /// A backup of a workload as it is at a moment.
    Point(Key, &'static str, u64),
    /// The oldest point of a workload is forgotten.
    Forget(&'static str),
    /// A prune, as far as it comes.
    Prune,
    /// A backup that has written its disk, so that a generation that is opened now has to wait for it.
    Begin(Key, &'static str, u64),
    /// It commits.
    Commit,
    /// A backup that broke off after a checkpoint.
    Interrupt(Key, &'static str, u64),
}
use Step::{Begin, Commit, Forget, Interrupt, Point, Prune};

const A: Key = Key::WriterA;

/// A generation is open and has condemned all that `web` needs, since its only point was forgotten. It waits for a session that began
/// before and hangs.
const CONDEMNED: &[Step] = &[Point(A, "web", 0), Begin(Key::WriterB, "mail", 0), Forget("web"), Prune];
/// The same, but the session has used what is condemned, and has committed.
const CONDEMNED_AND_USED: &[Step] = &[Point(A, "web", 0), Begin(A, "web", 0), Forget("web"), Prune, Commit];
/// Nothing is going on, and there is something to collect.
const GARBAGE: &[Step] = &[Point(A, "web", 0), Point(A, "db", 3), Forget("db")];
/// A session hangs.
const HANGING: &[Step] = &[Point(A, "web", 0), Begin(Key::WriterB, "mail", 0)];
/// A generation waits that has nothing to do with `web`.
const WAITING: &[Step] = &[Point(A, "web", 0), Point(A, "db", 3), Begin(Key::WriterB, "mail", 0), Forget("db"), Prune];
/// So many small segments that a verdict merges them, some with dead packs.
const MANY_SEGMENTS: &[Step] = &[
    Point(A, "web", 0),
    Point(A, "db", 0),
    Point(A, "db", 1),
    Point(A, "db", 2),
    Point(A, "db", 3),
    Point(A, "db", 4),
    Point(A, "db", 5),
    Point(A, "db", 6),
    Point(A, "web", 1),
    Forget("web"),
    Forget("db"),
];

/// What is searched. A scenario has two to four actors of one round each, or there is no end to it.
pub const SMALL: &[Small] = &[
    Small { name: "two-writers", before: &[], cast: || vec![writes("W1", 1, 0), writes("W2", 2, 1)] },
    Small {
        name: "parent-forgotten",
        before: &[Point(A, "web", 0)],
        cast: || {
            let other = programs::one_backup(Key::WriterB, "web", 2);
            vec![writes("W1", 1, 1), forgets("F", 2, "web"), ("W2", 3, other)]
        },
    },
    Small { name: "clone", before: &[Point(A, "web", 0)], cast: || vec![writes("W1", 1, 1), writes("W1~", 1, 2)] },
    Small { name: "clone-same-content", before: &[], cast: || vec![writes("W1", 1, 1), writes("W1~", 1, 1)] },
    Small {
        name: "reader",
        before: &[Point(A, "web", 0)],
        cast: || vec![writes("W", 1, 1), forgets("F", 2, "web"), reads("R", 3)],
    },
    Small { name: "writer-and-collector", before: GARBAGE, cast: || vec![writes("W", 1, 1), prunes("C", 2, Long)] },
    Small { name: "writer-and-fence", before: GARBAGE, cast: || vec![writes("W", 1, 1), prunes("C", 2, Impatient)] },
    // The child reuses what its parent has, and the parent goes.
    Small {
        name: "child-and-collector",
        before: GARBAGE,
        cast: || vec![writes("W", 1, 0), forgets("F", 2, "web"), prunes("C", 3, Impatient)],
    },
    Small {
        name: "child-of-condemned",
        before: CONDEMNED,
        cast: || vec![writes("W", 1, 0), prunes("C", 2, Impatient)],
    },
    Small {
        name: "two-collectors",
        before: GARBAGE,
        cast: || vec![writes("W", 1, 1), prunes("C1", 2, Long), prunes("C2", 3, Impatient)],
    },
    Small {
        name: "writers-forget-collectors",
        before: GARBAGE,
        cast: || {
            let other = programs::one_backup(A, "db", 3);
            vec![
                writes("W1", 1, 0),
                ("W2", 2, other),
                forgets("F", 3, "web"),
                prunes("C1", 4, Impatient),
                prunes("C2", 5, Long),
            ]
        },
    },
    // Two finish one generation, while the only point that needs what is condemned is forgotten and its content is backed up again.
    Small {
        name: "two-finishers",
        before: CONDEMNED_AND_USED,
        cast: || vec![prunes("C1", 1, Impatient), prunes("C2", 2, Impatient), forgets("F", 3, "web")],
    },
    Small {
        name: "parent-of-condemned",
        before: CONDEMNED_AND_USED,
        cast: || vec![writes("W", 1, 0), forgets("F", 2, "web"), prunes("C", 3, Impatient)],
    },
    // Whatever the writer is doing when it is frozen, it is fenced, and goes on.
    Small {
        name: "frozen-writer",
        before: GARBAGE,
        cast: || vec![writes("W", 1, 1), prunes("C1", 2, Impatient), prunes("C2", 3, Impatient)],
    },
    Small {
        name: "clone-and-collector",
        before: GARBAGE,
        cast: || vec![writes("W1", 1, 1), writes("W1~", 1, 2), prunes("C", 2, Impatient)],
    },
    Small {
        name: "resumed-and-fence",
        before: &[Interrupt(A, "web", 0)],
        cast: || vec![resumes("W", 1, 0), prunes("C", 2, Impatient)],
    },
    Small {
        name: "resumed-twice",
        before: &[Interrupt(A, "web", 0)],
        cast: || vec![resumes("W1", 1, 0), resumes("W2", 2, 1), prunes("C", 3, Long)],
    },
    Small {
        name: "merged-segments",
        before: MANY_SEGMENTS,
        cast: || vec![writes("W", 1, 0), prunes("C1", 2, Impatient), prunes("C2", 3, Impatient)],
    },
    // While a backup runs, a day of a keeper passes: forget, prune, and prune again without patience.
    Small {
        name: "keeper",
        before: HANGING,
        cast: || vec![writes("W", 1, 0), ("K", 2, programs::keeper(Key::Keeper, "web"))],
    },
    Small {
        name: "keeper-and-open-generation",
        before: WAITING,
        cast: || vec![writes("W", 1, 0), ("K", 2, programs::keeper(Key::Keeper, "web"))],
    },
    // Of what is condemned and needed another stores a copy: who sees that copy lets the condemned one go, who does not keeps it.
    Small {
        name: "copy-of-condemned",
        before: CONDEMNED_AND_USED,
        cast: || {
            let full = programs::full_backup(A, "web", 0);
            vec![("W", 1, full), prunes("C1", 2, Impatient), prunes("C2", 3, Impatient)]
        },
    },
    Small {
        name: "reader-and-collector",
        before: GARBAGE,
        cast: || vec![reads("R", 1), forgets("F", 2, "web"), prunes("C", 3, Impatient)],
    },
];

fn writes(name: &'static str, twin: Twin, now: u64) -> (&'static str, Twin, Program) {
    (name, twin, programs::one_backup(A, "web", now))
}

fn resumes(name: &'static str, twin: Twin, now: u64) -> (&'static str, Twin, Program) {
    (name, twin, programs::resumed_backup(A, "web", now))
}

fn forgets(name: &'static str, twin: Twin, workload: &'static str) -> (&'static str, Twin, Program) {
    (name, twin, programs::forget_oldest(Key::Keeper, workload))
}

fn prunes(name: &'static str, twin: Twin, patience: programs::Patience) -> (&'static str, Twin, Program) {
    (name, twin, programs::one_prune(Key::Keeper, patience))
}

fn reads(name: &'static str, twin: Twin) -> (&'static str, Twin, Program) {
    (name, twin, programs::reader(Key::Reader, 1))
}

/// When a broken rule counts as noticed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judged {
    /// When something is lost in the end; before it, actors may be told of damage.
    InTheEnd,
    /// Also while the actors are at work: whoever reads then would not find what he must.
    Always,
}

/// Every rule of the protocol, to be broken, and the small scenario that shows what it is for.
pub const MUTATIONS: [(Mutation, &str, Judged); 10] = [
    (Mutation::NoSecondHead, "writer-and-collector", Judged::InTheEnd),
    (Mutation::ReuseCondemned, "child-of-condemned", Judged::InTheEnd),
    (Mutation::EarlyParent, "keeper", Judged::InTheEnd),
    (Mutation::SweepEarly, "writer-and-collector", Judged::InTheEnd),
    (Mutation::OverwriteOutcome, "writer-and-fence", Judged::InTheEnd),
    (Mutation::MarkLiveOnly, "parent-of-condemned", Judged::InTheEnd),
    (Mutation::NoVerdict, "copy-of-condemned", Judged::Always),
    (Mutation::TwoGenerations, "keeper-and-open-generation", Judged::InTheEnd),
    (Mutation::MergeOld, "merged-segments", Judged::InTheEnd),
    (Mutation::OneToken, "clone", Judged::InTheEnd),
];

impl Small {
    /// The scenario of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        SMALL.iter().find(|small| small.name == name)
    }

    /// Runs one schedule.
    pub fn run(&self, scene: &Scene, search: Search) -> Outcome {
        let settings =
            Settings { seed: 0, rates: Rates::default(), search: Some(search), lie: None, max_steps: 20_000 };
        let spec = |(number, (name, twin, program)): (usize, (&str, Twin, Program))| Spec {
            name: name.to_owned(),
            seed: twin,
            decisions: number as u64,
            skew: 0,
            program,
            clonable: false,
        };
        let cast = (self.cast)().into_iter().enumerate().map(spec).collect();
        scenario::run(&scene.template, settings, Some((&scene.memory, &scene.model)), Vec::new(), cast)
    }
}

/// What is there when the actors start.
pub struct Scene {
    template: Arc<Template>,
    memory: MemoryBackend,
    model: Model,
}

impl Scene {
    /// Does what has happened before.
    pub fn make(small: &Small, template: &Arc<Template>) -> Self {
        let settings = Settings { seed: 0, rates: Rates::default(), search: None, lie: None, max_steps: 0 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
        let runtime = runtime.expect("a runtime without threads can be made");
        runtime.block_on(async {
            let world = World::new(settings, template, None);
            let mut hanging = None;
            for (number, step) in small.before.iter().enumerate() {
                let done = happen(&world, number as u64, *step, &mut hanging).await;
                done.unwrap_or_else(|error| panic!("{}, {step:?}: {error:?}", small.name));
            }
            let model = world.model().clone();
            Self { template: Arc::clone(template), memory: world.store.fork(), model }
        })
    }
}

type Hanging = Option<(WriteSession, Content)>;

async fn happen(world: &World, number: u64, step: Step, hanging: &mut Hanging) -> Result<()> {
    let ctx = quiet_context(derive(world.settings.seed, "before", number));
    let open = |key| Repository::open_with_bundle(world.store.clone(), world.template.bundle(key));
    match step {
        Point(key, workload, now) => {
            let begun = programs::begin(&open(key).await?, (workload, now), programs::plain(), &ctx).await?;
            programs::finish(world, usize::MAX, begun.0, begun.1).await?;
        }
        Begin(key, workload, now) => {
            *hanging = Some(programs::begin(&open(key).await?, (workload, now), programs::plain(), &ctx).await?);
        }
        Commit => {
            let (session, content) = hanging.take().expect("a session hangs");
            programs::finish(world, usize::MAX, session, content).await?;
        }
        Interrupt(key, workload, now) => {
            drop(programs::begin(&open(key).await?, (workload, now), programs::often_safe(), &ctx).await?);
        }
        Forget(workload) => {
            let repository = open(Key::Keeper).await?;
            let points = repository.points().await?;
            let oldest = programs::oldest(&points, workload).expect("there is a point to forget");
            world.model().forgotten.insert(oldest);
            repository.forget(&[oldest], &ctx).await?;
        }
        Prune => drop(open(Key::Keeper).await?.prune(&programs::prune_options(Long), &ctx).await?),
    }
    Ok(())
}
