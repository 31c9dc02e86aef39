//! What must hold, whatever happened.

use std::{sync::Arc, time::Duration};

use backstay_core::{Context, RestorePoint, RestorePointId, Result};
use backstay_storage::{
    Repository,
    repository::{CheckDepth, PruneOptions},
};

use crate::{actor::quiet_context, call::Call, guest, inspect, programs, template::Key, world::World};

/// Prunes after which nothing may be left.
const QUIET_PRUNES: usize = 4;

/// After an operation that has changed the store: what it may not have broken.
pub async fn after(world: &Arc<World>, call: &Call) {
    if call.operation == backstay_storage::Operation::Put
        && let Some(key) = &call.key
    {
        match inspect::event(world, key).await {
            Ok(event) => event.into_iter().for_each(|event| world.reached(event)),
            Err(error) => world.fail(format!("{call} put what cannot be read: {error:?}")),
        }
    }
    let content = ["packs", "meta", "index", "points"];
    let deleted = call.operation == backstay_storage::Operation::Delete && !lenient(world);
    if deleted && content.iter().any(|folder| call.below(folder)) {
        let ctx = quiet_context(world.settings.seed);
        match structure_faults(world, &ctx).await {
            Ok(faults) if faults.is_empty() => {}
            Ok(faults) => world.fail(format!("{call} took something that a point needs: {faults:?}")),
            Err(error) => world.fail(format!("After {call} nothing can be checked: {error:?}")),
        }
    }
}

/// With a rule broken on purpose: what is lost in the end says more than what looks wrong for a while.
fn lenient(world: &World) -> bool {
    world.settings.search.as_ref().is_some_and(|search| search.lenient)
}

async fn quiet(world: &World, key: Key) -> Result<Repository> {
    Repository::open_with_bundle(Arc::new(world.store.fork()), world.template.bundle(key)).await
}

async fn structure_faults(world: &World, ctx: &Context) -> Result<Vec<String>> {
    let report = quiet(world, Key::Keeper).await?.check(CheckDepth::Structure, ctx).await?;
    Ok(report.findings.iter().map(|finding| format!("{:?}", finding.error)).collect())
}

/// When all actors have ended.
pub async fn at_the_end(world: &Arc<World>) {
    if let Err(error) = everything(world).await {
        world.fail(format!("At the end: {error:?}"));
    }
}

async fn everything(world: &Arc<World>) -> Result<()> {
    let ctx = quiet_context(world.settings.seed);
    let repository = quiet(world, Key::Reader).await?;
    let points = repository.points().await?;
    for point in &points {
        let restored = programs::restore(&repository, point, &ctx).await?;
        let wrong = world.model().refutes(point.id, &restored);
        if let Some(wrong) = wrong {
            world.fail(wrong);
        }
    }
    promises_are_kept(world, &points);
    let given_up = inspect::given_up(world).await?;
    nothing_comes_of(world, &points, &given_up);
    let faults = if lenient(world) { Vec::new() } else { structure_faults(world, &ctx).await? };
    for fault in faults {
        world.fail(format!("A check at the end found {fault}"));
    }
    nothing_shows(world);
    garbage_goes(world, &ctx).await
}

/// A few prunes that nobody disturbs leave nothing that nothing needs, and all that something needs.
async fn garbage_goes(world: &Arc<World>, ctx: &Context) -> Result<()> {
    let before = quiet(world, Key::Reader).await?.points().await?;
    let fork = Arc::new(world.store.fork());
    let keeper = Repository::open_with_bundle(fork.clone(), world.template.bundle(Key::Keeper)).await?;
    let options = PruneOptions::default().stale_after(Duration::ZERO).max_unused_percent(0);
    for _ in 0..QUIET_PRUNES {
        keeper.prune(&options, ctx).await?;
    }
    let report = keeper.check(CheckDepth::Structure, ctx).await?;
    if let Some(finding) = report.findings.first() {
        world.fail(format!("After quiet prunes a check finds {:?}", finding.error));
    }
    let rest = keeper.prune(&options, ctx).await?;
    if rest.unused_packs + rest.unknown_packs + rest.deleted_packs + report.unreferenced_packs as u64 > 0 {
        world.fail(format!("Garbage stays: {rest:?}"));
    }
    let reader = Repository::open_with_bundle(fork.clone(), world.template.bundle(Key::Reader)).await?;
    let after = reader.points().await?;
    if after != before {
        world.fail("Quiet prunes have changed the list of points");
    }
    for point in &after {
        let restored = programs::restore(&reader, point, ctx).await?;
        let wrong = world.model().refutes(point.id, &restored);
        if let Some(wrong) = wrong {
            world.fail(format!("After quiet prunes: {wrong}"));
        }
    }
    let stored = fork.keys().iter().filter(|key| key.as_str().starts_with("points/")).count();
    if stored != after.len() {
        world.fail(format!("{stored} manifests stay for {} points", after.len()));
    }
    Ok(())
}

/// Who was told of success finds its point; who was told of failure for certain does not.
fn promises_are_kept(world: &World, points: &[RestorePoint]) {
    let model = world.model();
    let mut broken: Vec<_> = model.missing(&model.promised(), points).into_iter().collect();
    for (session, attempts) in &model.attempts {
        let there = points.iter().any(|point| point.id == *session);
        if there && attempts.iter().all(|attempt| attempt.failed_for_certain()) {
            broken.push(format!("Point {} is there and its commit failed for certain", session.short()));
        }
    }
    drop(model);
    broken.into_iter().for_each(|text| world.fail(text));
}

/// A session that was fenced or given up is a point for nobody, and nobody was told otherwise.
fn nothing_comes_of(world: &World, points: &[RestorePoint], given_up: &[RestorePointId]) {
    let told: Vec<_> = {
        let model = world.model();
        let told = |session: &&RestorePointId| {
            let attempts = model.attempts.get(session);
            attempts.is_some_and(|attempts| attempts.iter().any(|attempt| attempt.ended == Some(Ok(()))))
        };
        given_up.iter().filter(told).copied().collect()
    };
    for session in told {
        world.fail(format!("Somebody was told that {} is committed and its outcome is another", session.short()));
    }
    if let Some(point) = points.iter().find(|point| given_up.contains(&point.id)) {
        world.fail(format!("Point {} is listed and its session was ended without it", point.id.short()));
    }
}

/// No object shows what a guest holds, nor names; packs have rounded sizes.
fn nothing_shows(world: &World) {
    let needles = [&guest::MARK[..], programs::LABEL.as_bytes(), programs::WORKLOAD.as_bytes()];
    for key in world.store.keys() {
        let crate::call::Reply::Body(body) =
            Call::new(backstay_storage::Operation::Get, Some(&key)).apply(&world.store)
        else {
            continue;
        };
        let pack = key.as_str().starts_with("packs/") || key.as_str().starts_with("meta/");
        if pack && body.len() % (64 << 10) != 0 {
            world.fail(format!("{key} has {} bytes: its size tells what is in it", body.len()));
        }
        // Looking through every byte of every run would take longer than the run.
        if world.settings.seed.is_multiple_of(16) && needles.iter().any(|needle| holds(&body, needle)) {
            world.fail(format!("{key} shows what should be sealed"));
        }
    }
}

fn holds(body: &[u8], needle: &[u8]) -> bool {
    body.windows(needle.len()).any(|window| window[0] == needle[0] && window == needle)
}
