//! What actors do: programs against the public interface, as processes of users are.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use backstay_core::{
    Context, DiskId, Error, ErrorKind, RestorePoint, RestorePointId, Result, Workload, WorkloadId, WriteOrder,
};
use backstay_storage::{
    Repository,
    repository::{
        CheckDepth, DiskOptions, PointDetails, PointSelector, PruneOptions, PruneReport, SessionOptions, WriteSession,
    },
};
use backstay_testkit::MemorySink;
use bytes::Bytes;
use futures::FutureExt;

use crate::{
    actor::{Handle, Program, derive, quiet_context},
    guest,
    model::Content,
    template::Key,
    world::World,
};

/// Moments of a guest's disk.
const VERSIONS: u64 = 8;
/// Between checkpoints that only show life: a clone lives through its original's past faster than that did, so that these would come at
/// other places.
const CHECKPOINT_SECONDS: u64 = 1 << 30;
/// A label that no object may show.
pub const LABEL: &str = "label-that-nobody-may-see";
/// The names of all workloads begin like this, and no object may show them.
pub const WORKLOAD: &str = "workload-that-nobody-may-see";

fn program<F>(run: impl Fn(Handle) -> F + Send + Sync + 'static) -> Program
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    Arc::new(move |handle: Handle| {
        let (told, work) = (handle.clone(), run(handle));
        async move {
            if let Err(error) = work.await {
                expect(&told, &error, &[]);
            }
        }
        .boxed()
    })
}

/// What may be told to anybody while others work and stores fail: never that something is damaged or that we made a mistake.
fn expect(handle: &Handle, error: &Error, also: &[ErrorKind]) {
    handle.note(format!("{}: {}", error.kind().name(), error.message()));
    let fine = [ErrorKind::Unavailable, ErrorKind::Conflict];
    if handle.world.settings.search.as_ref().is_some_and(|search| search.lenient) {
        return;
    }
    if !fine.contains(&error.kind()) && !also.contains(&error.kind()) {
        handle.world.fail(format!("An actor was told {error:?}"));
    }
}

/// Backs up a workload several times. Incremental where the repository lets it.
pub fn writer(key: Key, workload: &'static str, rounds: u64) -> Program {
    program(move |handle| async move {
        let mut repository = handle.open(key).await?;
        for round in 0..rounds {
            if round > 0 && handle.percent(30) {
                repository = handle.open(key).await?;
            }
            if let Err(error) = back_up(&handle, &repository, workload).await {
                expect(&handle, &error, &[]);
            }
        }
        Ok(())
    })
}

async fn back_up(handle: &Handle, repository: &Repository, workload: &str) -> Result<()> {
    let options = SessionOptions::default()
        .full(handle.percent(10))
        .resume(handle.percent(30))
        .checkpoints(64 << 10, Duration::from_secs(CHECKPOINT_SECONDS))
        .labels(BTreeMap::from([("of".to_owned(), LABEL.to_owned())]));
    let guest = Workload { id: named(workload)?, kind: "vm".into(), platform: BTreeMap::default() };
    let mut session = repository.begin(guest, options, &handle.ctx).await?;
    handle.note(format!("session {}", session.id().short()));
    if handle.world.known(session.id()) {
        handle.world.reached("resume");
    }
    if session.parent()?.is_some() {
        handle.world.reached("incremental");
    }
    let written = write_disks(handle, &mut session, workload).await;
    let content = match written {
        Ok(content) => content,
        Err(error) => {
            session.abort().await;
            return Err(error);
        }
    };
    match handle.draw(20) {
        0 => {
            handle.world.reached("given up");
            session.abort().await;
            Ok(())
        }
        1 => {
            handle.world.reached("dropped");
            drop(session);
            Ok(())
        }
        _ => {
            let point = finish(&handle.world, handle.actor, session, content).await?;
            handle.note(format!("was told that {} is committed", point.id.short()));
            Ok(())
        }
    }
}

async fn write_disks(handle: &Handle, session: &mut WriteSession, workload: &str) -> Result<Content> {
    let mut content = Content::new();
    for disk in 0..1 + handle.draw(2) {
        let id = DiskId::new(format!("vd{disk}"))?;
        let base = session.change_base(&id).and_then(|base| base.token).filter(|_| handle.percent(80));
        // Drawn here and not before: a clone that has forked off meanwhile finds another content.
        let now = handle.draw(VERSIONS);
        let source = guest::source(workload, disk, now, base.as_ref(), VERSIONS);
        content.insert(id.to_string(), Arc::clone(&guest::version(workload, disk, now).content));
        let report = session.write_disk(&id, Arc::new(source), &DiskOptions::default()).await?;
        handle.world.reached(match report.method {
            backstay_core::ReadMethod::Changed => "disk: changed blocks",
            backstay_core::ReadMethod::Compared => "disk: compared",
            _ => "disk: full",
        });
    }
    if handle.percent(20) {
        session.attach("domain.xml", "text/xml", Bytes::from_static(guest::MARK)).await?;
    }
    Ok(content)
}

/// Restores points and compares every byte.
pub fn reader(key: Key, rounds: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        for _ in 0..rounds {
            if let Err(error) = restore_one(&handle, &repository).await {
                expect(&handle, &error, &[ErrorKind::NotFound]);
            }
        }
        Ok(())
    })
}

/// The points there are; all that were promised must be among them.
pub async fn list(handle: &Handle, repository: &Repository) -> Result<Vec<RestorePoint>> {
    // A clone is told again what its original was told long ago.
    let again = handle.world.replaying(handle.actor);
    let promised = if again { Vec::new() } else { handle.world.model().promised() };
    handle.world.remember(handle.actor, format!("{promised:?}").as_bytes());
    let points = repository.points().await?;
    let missing = handle.world.model().missing(&promised, &points);
    if let Some(missing) = missing {
        handle.world.fail(missing);
    }
    handle.world.model().seen.extend(points.iter().map(|point| point.id));
    Ok(points)
}

async fn restore_one(handle: &Handle, repository: &Repository) -> Result<()> {
    let points = list(handle, repository).await?;
    if points.is_empty() {
        return Ok(());
    }
    let point = &points[handle.draw(points.len() as u64) as usize];
    let restored = restore(repository, point, &handle.ctx).await?;
    handle.world.reached("restore");
    let wrong = handle.world.model().refutes(point.id, &restored);
    if let Some(wrong) = wrong {
        handle.world.fail(wrong);
    }
    Ok(())
}

/// Every disk of a point.
pub async fn restore(repository: &Repository, point: &RestorePoint, ctx: &Context) -> Result<Content> {
    let selector: PointSelector = point.id.to_string().parse()?;
    let mut content = Content::new();
    for record in &point.disks {
        let disk = repository.disk(&selector, &record.id, ctx).await?;
        let (sink, restored) = MemorySink::new(record.size, WriteOrder::Any);
        disk.restore_to(&sink, 0..record.size, ctx).await?;
        backstay_core::DiskSink::commit(Box::new(sink)).await?;
        content.insert(record.id.to_string(), Arc::new(restored.content().unwrap_or_default()));
    }
    Ok(content)
}

/// Checks everything: while others work it must find nothing.
pub fn checker(key: Key) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        let depth = if handle.percent(50) { CheckDepth::Read(100) } else { CheckDepth::Structure };
        let report = repository.check(depth, &handle.ctx).await?;
        handle.world.reached("check");
        if let Some(finding) = report.findings.first() {
            handle.world.fail(format!("A check found {:?}", finding.error));
        }
        Ok(())
    })
}

/// Forgets points, the oldest most often.
pub fn forgetter(key: Key, rounds: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        for _ in 0..rounds {
            if let Err(error) = forget_one(&handle, &repository).await {
                expect(&handle, &error, &[ErrorKind::NotFound]);
            }
        }
        Ok(())
    })
}

async fn forget_one(handle: &Handle, repository: &Repository) -> Result<()> {
    let points = list(handle, repository).await?;
    if points.is_empty() {
        return Ok(());
    }
    let at = if handle.percent(50) { 0 } else { handle.draw(points.len() as u64) as usize };
    handle.world.model().forgotten.insert(points[at].id);
    repository.forget(&[points[at].id], &handle.ctx).await?;
    handle.world.reached("forget");
    Ok(())
}

/// Prunes several times, as a timer would: what a generation waits for goes with a later run.
pub fn collector(key: Key, rounds: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        for _ in 0..rounds {
            let pruned = prune(&handle, &repository).await;
            if let Err(error) = pruned {
                expect(&handle, &error, &[]);
            }
            tokio::time::sleep(Duration::from_millis(handle.draw(300))).await;
        }
        Ok(())
    })
}

async fn prune(handle: &Handle, repository: &Repository) -> Result<()> {
    let patience = [0, 20, 200, 3_600_000][handle.draw(4) as usize];
    let unused = [0, 10, 50][handle.draw(3) as usize];
    let options = PruneOptions::default().stale_after(Duration::from_millis(patience)).max_unused_percent(unused);
    let report = repository.prune(&options, &handle.ctx).await?;
    let text = format!(
        "pruned: {} condemned, {} released, {} deleted, {} repacked, {} points gone, fenced {}, waits for {}",
        report.condemned_packs,
        report.released_packs,
        report.deleted_packs,
        report.repacked_packs,
        report.removed_points,
        report.fenced_sessions.len(),
        report.waiting_for.len()
    );
    handle.note(text);
    note_pruned(handle, &report);
    Ok(())
}

fn note_pruned(handle: &Handle, report: &PruneReport) {
    for (happened, event) in [
        (true, "prune"),
        (report.condemned_packs > 0, "prune: condemned"),
        (report.released_packs > 0, "prune: released again"),
        (report.deleted_packs > 0, "prune: swept"),
        (report.repacked_packs > 0, "prune: repacked"),
        (report.removed_points > 0, "prune: points removed"),
        (report.merged_segments > 0, "prune: segments merged"),
        (!report.fenced_sessions.is_empty(), "prune: fenced"),
        (!report.waiting_for.is_empty(), "prune: waits"),
    ] {
        if happened {
            handle.world.reached(event);
        }
    }
}

/// One plain backup of one disk as it is at this moment.
pub fn one_backup(key: Key, workload: &'static str, now: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        let (session, content) = begin(&repository, (workload, now), plain(), &handle.ctx).await?;
        finish(&handle.world, handle.actor, session, content).await.map(drop)
    })
}

/// The same, and what was interrupted is taken up.
pub fn resumed_backup(key: Key, workload: &'static str, now: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        let (session, content) = begin(&repository, (workload, now), often_safe().resume(true), &handle.ctx).await?;
        finish(&handle.world, handle.actor, session, content).await.map(drop)
    })
}

/// A backup that trusts no earlier point and reads everything.
pub fn full_backup(key: Key, workload: &'static str, now: u64) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        let (session, content) = begin(&repository, (workload, now), plain().full(true), &handle.ctx).await?;
        finish(&handle.world, handle.actor, session, content).await.map(drop)
    })
}

/// Forgets the oldest point of a workload and prunes twice, in the end without patience.
pub fn keeper(key: Key, workload: &'static str) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        forget_first(&handle, &repository, workload).await?;
        for patience in [Patience::Long, Patience::None] {
            repository.prune(&prune_options(patience), &handle.ctx).await?;
        }
        Ok(())
    })
}

/// Forgets the oldest point of a workload.
pub fn forget_oldest(key: Key, workload: &'static str) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        forget_first(&handle, &repository, workload).await
    })
}

async fn forget_first(handle: &Handle, repository: &Repository, workload: &str) -> Result<()> {
    let points = list(handle, repository).await?;
    let Some(oldest) = oldest(&points, workload) else { return Ok(()) };
    handle.world.model().forgotten.insert(oldest);
    match repository.forget(&[oldest], &handle.ctx).await {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        forgotten => forgotten.map(drop),
    }
}

/// How long a collector waits for sessions that make no progress.
#[derive(Clone, Copy, Debug)]
pub enum Patience {
    /// They are ended at once.
    None,
    /// Longer than any run.
    Long,
}

/// One prune.
pub fn one_prune(key: Key, patience: Patience) -> Program {
    program(move |handle| async move {
        let repository = handle.open(key).await?;
        repository.prune(&prune_options(patience), &handle.ctx).await.map(drop)
    })
}

pub fn prune_options(patience: Patience) -> PruneOptions {
    let stale_after = match patience {
        Patience::None => Duration::ZERO,
        Patience::Long => Duration::from_secs(u32::MAX.into()),
    };
    PruneOptions::default().stale_after(stale_after).max_unused_percent(0)
}

pub fn oldest(points: &[RestorePoint], workload: &str) -> Option<RestorePointId> {
    let name = format!("{WORKLOAD}-{workload}");
    points.iter().find(|point| point.workload.id.as_str() == name).map(|point| point.id)
}

/// A session without checkpoints.
pub fn plain() -> SessionOptions {
    SessionOptions::default().checkpoints(u64::MAX, Duration::from_secs(CHECKPOINT_SECONDS))
}

/// A session with one after everything that it puts.
pub fn often_safe() -> SessionOptions {
    SessionOptions::default().checkpoints(1, Duration::ZERO)
}

/// A point that is there before anybody starts.
pub async fn already_there(world: &World, key: Key, workload: &str, now: u64) -> Result<()> {
    let ctx = quiet_context(derive(world.settings.seed, workload, now));
    let repository = Repository::open_with_bundle(world.store.clone(), world.template.bundle(key)).await?;
    let (session, content) = begin(&repository, (workload, now), SessionOptions::default(), &ctx).await?;
    finish(world, usize::MAX, session, content).await.map(drop)
}

/// Begins a backup of one disk and writes all of it.
pub async fn begin(
    repository: &Repository,
    (workload, now): (&str, u64),
    options: SessionOptions,
    ctx: &Context,
) -> Result<(WriteSession, Content)> {
    let guest = Workload { id: named(workload)?, kind: "vm".into(), platform: BTreeMap::default() };
    let mut session = repository.begin(guest, options, ctx).await?;
    let id = DiskId::new("vd0")?;
    let base = session.change_base(&id).and_then(|base| base.token);
    let source = guest::source(workload, 0, now, base.as_ref(), VERSIONS);
    let content = Content::from([(id.to_string(), Arc::clone(&guest::version(workload, 0, now).content))]);
    if let Err(error) = session.write_disk(&id, Arc::new(source), &DiskOptions::default()).await {
        session.abort().await;
        return Err(error);
    }
    Ok((session, content))
}

/// Commits, and tells the model what was told.
pub async fn finish(world: &World, actor: usize, session: WriteSession, content: Content) -> Result<RestorePoint> {
    let id = session.id();
    world.model().tries(id, actor, content);
    let committed = session.commit(PointDetails::default()).await;
    let how = committed.as_ref().map(drop).map_err(Error::kind);
    world.model().ended(id, actor, how);
    world.reached(match how {
        Ok(()) => "commit",
        Err(ErrorKind::Unavailable) => "commit: unsure or failed",
        Err(_) => "commit: refused",
    });
    committed
}

fn named(workload: &str) -> Result<WorkloadId> {
    WorkloadId::new(format!("{WORKLOAD}-{workload}"))
}
