//! Opens records behind the back of the code under test, with its formats and keys but not with its logic.

use backstay_core::{ObjectKey, RestorePointId, Result, StorageBackend};
use backstay_storage::repository::{
    crypto::{Domain, ObjectType, envelope, sign},
    format::{
        self,
        chain::{ChainRecord, Change, FoldedState},
        session::{Outcome, SessionOutcome},
    },
};

use crate::{template::Key, world::World};

/// The record under this key.
async fn open<T: for<'b> minicbor::Decode<'b, ()>>(world: &World, key: &ObjectKey, kind: ObjectType) -> Result<T> {
    let object = world.store.get(key).await?;
    let epoch = envelope::epoch_of(kind, &object)?;
    let owner = world.template.bundle(Key::Owner);
    let keys = owner.epochs.iter().find(|keys| keys.epoch == epoch).expect("the owner has the keys of every epoch");
    let domain = Domain { repository: world.template.repository, epoch };
    let plain = envelope::open(&keys.structure, &domain, kind, key.as_str().as_bytes(), &object)?;
    let signed: sign::Signed = format::decode(&plain, "signed record")?;
    format::decode(&signed.body, "record")
}

/// What an object that was just put says, for the table of events.
pub async fn event(world: &World, key: &ObjectKey) -> Result<Option<&'static str>> {
    Ok(match key.as_str().split('/').next() {
        Some("sessions") if key.name() == "outcome" => Some(match outcome(world, key).await?.outcome {
            Outcome::Commit(_) => "outcome: commit",
            Outcome::Aborted => "outcome: aborted",
            Outcome::Fenced => "outcome: fenced",
        }),
        Some("chain") => Some(match open::<ChainRecord>(world, key, ObjectType::Chain).await?.change {
            Change::Keys(_) => "chain: keys",
            Change::Condemn => "chain: condemn",
            Change::Verdict(_) => "chain: verdict",
            Change::Repair => "chain: repair",
        }),
        _ => None,
    })
}

async fn outcome(world: &World, key: &ObjectKey) -> Result<SessionOutcome> {
    open(world, key, ObjectType::SessionOutcome).await
}

/// Sessions before this record of the chain are settled, whatever outcome a clone of their writer that has slept may put one day.
async fn floor(world: &World) -> Result<u64> {
    let number = |key: &ObjectKey| key.as_str().strip_prefix("chain/")?.parse::<u64>().ok();
    let head = world.store.keys().iter().filter_map(number).max().expect("a repository has a chain");
    let head = open::<ChainRecord>(world, &ObjectKey::new(format!("chain/{head}"))?, ObjectType::Chain).await?;
    let Some(folded) = head.folded else { return Ok(0) };
    let key = ObjectKey::new(format!("folded/{}", folded.object_name()))?;
    Ok(open::<FoldedState>(world, &key, ObjectType::Folded).await?.floor)
}

/// Sessions that have ended without a point and are not settled.
pub async fn given_up(world: &World) -> Result<Vec<RestorePointId>> {
    let (mut sessions, floor) = (Vec::new(), floor(world).await?);
    for key in world.store.keys() {
        let Some(session) = key.as_str().strip_prefix("sessions/").and_then(|rest| rest.strip_suffix("/outcome"))
        else {
            continue;
        };
        let record = outcome(world, &key).await?;
        if record.generation >= floor && !matches!(record.outcome, Outcome::Commit(_)) {
            sessions.push(session.parse()?);
        }
    }
    Ok(sessions)
}
