//! Puts tombstones.

use backstay_core::{ObjectKey, PutMode, Result};
use backstay_storage::{
    Repository,
    repository::{
        crypto::{Domain, ObjectType, envelope, sign},
        format::{self, session::Tombstone},
    },
};

use crate::{actor::Handle, programs, template::Key};

/// Forgets one of the points there are.
pub async fn one(handle: &Handle, repository: &Repository, key: Key) -> Result<()> {
    let points = programs::list(handle, repository).await?;
    if points.is_empty() {
        return Ok(());
    }
    let at = if handle.percent(50) { 0 } else { handle.draw(points.len() as u64) as usize };
    let point = points[at].id;
    handle.world.model().forgotten.insert(point);
    let bundle = handle.world.template.bundle(key);
    let name = ObjectKey::new(format!("forgotten/{point}"))?;
    let (domain, kind) = (Domain { repository: repository.config().repository, epoch: 0 }, ObjectType::Forgotten);
    let tombstone = Tombstone { session: *point.as_bytes(), time: handle.ctx.now().as_nanos() };
    let signed = sign::sign(&bundle.signing_key()?, kind, &domain, &name, format::encode(&tombstone)?);
    let (structure, plain) = (&bundle.epochs[0].structure, format::encode(&signed)?);
    let object = envelope::seal(structure, &domain, kind, name.as_str().as_bytes(), &plain, &handle.ctx)?;
    let put = repository.backend().put(&name, object.into(), PutMode::Create).await;
    match put {
        // Somebody else has forgotten it, or this one has and did not hear of it.
        Err(error) if error.kind() == backstay_core::ErrorKind::AlreadyExists => {}
        put => put?,
    }
    handle.world.reached("forget");
    Ok(())
}
