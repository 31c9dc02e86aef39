//! Prunes, as one or more machines may at any time.

use std::{sync::Arc, time::Duration};

use backstay_core::{Context, Result};
use backstay_storage::{
    MemoryBackend, Repository,
    repository::{PruneOptions, PruneReport},
};

use crate::{actor::Handle, world::World};

/// Prunes once. Impatient collectors fence whoever is at work: safety does not depend on patience.
pub async fn once(handle: &Handle, repository: &Repository) -> Result<()> {
    let patience = match handle.draw(3) {
        0 => Duration::ZERO,
        1 => Duration::from_millis(50),
        _ => Duration::from_secs(24 * 3600),
    };
    let unused = [0, 10, 50][handle.draw(3) as usize];
    let options = PruneOptions::default().stale_after(patience).max_unused_percent(unused);
    let report = repository.prune(&options, &handle.ctx).await?;
    tell(&handle.world, &report);
    Ok(())
}

fn tell(world: &World, report: &PruneReport) {
    let happened = [
        ("condemn", report.condemned_packs > 0),
        ("fence", !report.fenced_sessions.is_empty()),
        ("sweep", report.deleted_packs > 0),
        ("un-condemn", report.released_packs > 0),
        ("repack", report.copied_bytes > 0),
        ("merge", report.merged_segments > 0),
        ("wait", !report.waiting_for.is_empty()),
        ("remove points", report.removed_points > 0),
        ("prune", true),
    ];
    happened.iter().filter(|(_, so)| *so).for_each(|(event, _)| world.reached(event));
}

/// When everybody is gone, a few prunes leave nothing that nobody needs.
pub async fn nothing_is_left(
    world: &Arc<World>,
    quiet: &Repository,
    store: &MemoryBackend,
    ctx: &Context,
) -> Result<()> {
    let options = PruneOptions::default().stale_after(Duration::ZERO).max_unused_percent(0);
    for _ in 0..4 {
        quiet.prune(&options, ctx).await?;
    }
    let plan = quiet.prune(&options.dry_run(true), ctx).await?;
    if plan.unused_packs + plan.unknown_packs > 0 {
        world.fail(format!("Garbage stays after four prunes: {plan:?}"));
    }
    let points = quiet.points().await?.len();
    for (folder, most) in [("sessions", 0), ("forgotten", 0), ("points", points), ("folded", 1)] {
        let there = store.keys().iter().filter(|key| key.as_str().split('/').next() == Some(folder)).count();
        if there > most {
            world.fail(format!("{there} objects stay below {folder} for {points} points"));
        }
    }
    Ok(())
}
