//! Forgets points.

use backstay_core::Result;
use backstay_storage::Repository;

use crate::actor::Handle;

/// Forgets one of the points there are.
pub async fn one(handle: &Handle, repository: &Repository) -> Result<()> {
    let points = repository.points().await?;
    if points.is_empty() {
        return Ok(());
    }
    let at = if handle.percent(50) { 0 } else { handle.draw(points.len() as u64) as usize };
    let point = points[at].id;
    handle.world.model().forgotten.insert(point);
    repository.forget(&[point], &handle.ctx).await?;
    handle.world.reached("forget");
    Ok(())
}
