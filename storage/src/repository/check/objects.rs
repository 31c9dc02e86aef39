//! Records that a check must look at although few others read them: key slots, the openings of sessions, holds.

use std::collections::BTreeSet;

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result};
use futures::TryStreamExt;

use super::CheckReport;
use crate::repository::{
    Repository,
    chain::Chain,
    crypto::ObjectType,
    format::session::{SessionCheckpoint, SessionOpen, SessionSeen},
    hold::Says,
    keys::{EpochShare, Slot},
    objects::object_hash,
    state::{State, session_key},
};

impl Repository {
    pub(super) async fn check_records(&self, state: &State, report: &mut CheckReport, ctx: &Context) -> Result<()> {
        let config = ObjectKey::new("config")?;
        let config_hash = report.note(self.backend().get(&config).await)?.map(|object| object_hash(&object));
        for key in self.keys_in("keys").await? {
            ctx.check()?;
            let slot = self.backend().get(&key).await.and_then(|object| Slot::from_object(&key, &object));
            if let Some(slot) = report.note(slot)?
                && (Some(slot.config) != config_hash || slot.owner != self.config().owner)
            {
                report
                    .fault(Error::integrity("A key slot was made for another repository").with_context("object", &key));
            }
        }
        for entry in &state.chain.roster {
            let key = Slot::key(&entry.slot)?;
            self.must_be_there(
                &key,
                "A key slot is missing: whoever opened the repository with it no longer can",
                report,
            )
            .await?;
        }
        self.check_shares(state, report, ctx).await?;
        for session in state.news.keys() {
            let key = session_key(session, "open")?;
            self.must_be_there(&key, "The opening of a committed session is missing", report).await?;
        }
        for key in self.keys_in("sessions").await? {
            ctx.check()?;
            match key.name() {
                "open" => {
                    let open = self.objects().get_record::<SessionOpen>(&key, ObjectType::SessionOpen).await;
                    if let Some(open) = report.note(open)? {
                        self.check_generation(&open.body, &key, state, report).await?;
                    }
                }
                part if part.starts_with("checkpoint-") => {
                    let checkpoint =
                        self.objects().get_record::<SessionCheckpoint>(&key, ObjectType::SessionCheckpoint);
                    report.note(checkpoint.await)?;
                }
                part if part.starts_with("seen-") => {
                    let seen = self.objects().get_record::<SessionSeen>(&key, ObjectType::SessionSeen);
                    report.note(seen.await)?;
                }
                _ => {}
            }
        }
        for known in self.lost_records(state).await?.into_values() {
            report.note(known.record)?;
        }
        // Of a point's hold records the newest counts, so that the others do no harm.
        let live: BTreeSet<_> = state.points().map(|(point, _)| *point).collect();
        for newest in self.newest_holds(&state.chain, |point| live.contains(point)).await?.into_values() {
            if let Says::Unreadable(error) = newest.says {
                report.fault(error);
            }
        }
        Ok(())
    }

    /// What a session saw of the chain is still there: else somebody has cut the chain back.
    async fn check_generation(
        &self,
        open: &SessionOpen,
        key: &ObjectKey,
        state: &State,
        report: &mut CheckReport,
    ) -> Result<()> {
        if open.generation > state.chain.head && !Chain::moved_past(self.objects(), state.chain.head).await? {
            report.fault(
                Error::integrity("A session saw a record of the chain that is not there: the chain was cut back")
                    .with_context("object", key)
                    .with_context("record", format!("chain/{}", open.generation)),
            );
        }
        Ok(())
    }

    /// Every share verifies, and none is missing of an epoch that the chain has started: whoever stood on the roster then has one.
    async fn check_shares(&self, state: &State, report: &mut CheckReport, ctx: &Context) -> Result<()> {
        let mut epochs = BTreeSet::new();
        for key in self.keys_in("epochs").await? {
            ctx.check()?;
            let object = self.backend().get(&key).await;
            let config = self.config();
            let share = object.and_then(|it| EpochShare::from_object(&key, &it, &config.owner, config.repository));
            epochs.extend(report.note(share)?.map(|share| (share.record, share.epoch)));
        }
        for (record, epoch) in epochs {
            let keys = Chain::started(self.objects(), &self.config().owner, record, epoch).await;
            // A broken chain has been told of already; one that never got there has left the rest of an interrupted rotation.
            let Ok(Some(keys)) = keys else { continue };
            let stays = |slot: &[u8; 16]| state.chain.roster.iter().any(|entry| entry.slot == *slot);
            for entry in keys.roster.iter().filter(|entry| stays(&entry.slot)) {
                let key = EpochShare::key(&entry.slot, epoch)?;
                self.must_be_there(&key, "A key's share in an epoch is missing: it opens nothing of it", report)
                    .await?;
            }
        }
        Ok(())
    }

    async fn must_be_there(&self, key: &ObjectKey, missing: &'static str, report: &mut CheckReport) -> Result<()> {
        match self.backend().head(key).await {
            Ok(_) => Ok(()),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                report.fault(Error::integrity(missing).with_context("object", key));
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    async fn keys_in(&self, folder: &str) -> Result<Vec<ObjectKey>> {
        let folder = ObjectKey::new(folder)?;
        let mut keys: Vec<_> = self.backend().list(Some(&folder)).map_ok(|meta| meta.key).try_collect().await?;
        keys.sort();
        Ok(keys)
    }
}
