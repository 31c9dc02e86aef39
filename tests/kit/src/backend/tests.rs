//! The suite must be able to fail: each flaw here is one that it has to find.

use std::{collections::BTreeMap, ops::Range, sync::Mutex};

use async_trait::async_trait;
use backstay_core::{BackendCapabilities, Error, ObjectMeta};
use futures::{FutureExt, StreamExt, stream::BoxStream};

use super::*;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    None,
    CreateReplaces,
    CreateRaces,
    ReplaceIsRefused,
    EmptyIsDropped,
    LargeIsCut,
    CaseIsFolded,
    MissingIsEmpty,
    RangeIsClamped,
    RangeIsShifted,
    HeadIsWrong,
    DeleteOfNothingFails,
    DeleteDoesNothing,
    ListIsShallow,
    ListIsByString,
    ListIsCut,
}

const FLAWS: [Flaw; 15] = [
    Flaw::CreateReplaces,
    Flaw::CreateRaces,
    Flaw::ReplaceIsRefused,
    Flaw::EmptyIsDropped,
    Flaw::LargeIsCut,
    Flaw::CaseIsFolded,
    Flaw::MissingIsEmpty,
    Flaw::RangeIsClamped,
    Flaw::RangeIsShifted,
    Flaw::HeadIsWrong,
    Flaw::DeleteOfNothingFails,
    Flaw::DeleteDoesNothing,
    Flaw::ListIsShallow,
    Flaw::ListIsByString,
    Flaw::ListIsCut,
];

#[derive(Debug)]
struct Flawed(Flaw, Mutex<BTreeMap<String, Bytes>>);

impl Flawed {
    fn name(&self, key: &ObjectKey) -> String {
        if self.0 == Flaw::CaseIsFolded { key.as_str().to_lowercase() } else { key.to_string() }
    }

    fn find(&self, key: &ObjectKey) -> Result<Bytes> {
        let found = self.1.lock().unwrap().get(&self.name(key)).cloned();
        let otherwise = (self.0 == Flaw::MissingIsEmpty).then(Bytes::new);
        found.or(otherwise).ok_or_else(|| Error::not_found("nothing"))
    }
}

#[async_trait]
impl StorageBackend for Flawed {
    fn location(&self) -> String {
        "flawed:".into()
    }

    fn capabilities(&self) -> BackendCapabilities {
        BackendCapabilities::new(true, true)
    }

    async fn put(&self, key: &ObjectKey, mut body: Bytes, mode: PutMode) -> Result<()> {
        let name = self.name(key);
        let taken = self.1.lock().unwrap().contains_key(&name);
        let create = mode == PutMode::Create && self.0 != Flaw::CreateReplaces;
        if taken && (create || self.0 == Flaw::ReplaceIsRefused) {
            return Err(Error::already_exists("taken"));
        }
        match self.0 {
            Flaw::EmptyIsDropped if body.is_empty() => return Ok(()),
            Flaw::LargeIsCut => body.truncate(32 << 20),
            Flaw::CreateRaces => tokio::time::sleep(std::time::Duration::from_millis(5)).await,
            _ => {}
        }
        let mut objects = self.1.lock().unwrap();
        if create && self.0 != Flaw::CreateRaces && objects.contains_key(&name) {
            return Err(Error::already_exists("taken"));
        }
        objects.insert(name, body);
        Ok(())
    }

    async fn get(&self, key: &ObjectKey) -> Result<Bytes> {
        self.find(key)
    }

    async fn get_range(&self, key: &ObjectKey, range: Range<u64>) -> Result<Bytes> {
        let body = self.find(key)?;
        let len = body.len() as u64;
        let clamped = range.start.min(len)..range.end.min(len).max(range.start.min(len));
        if clamped != range && self.0 != Flaw::RangeIsClamped {
            return Err(Error::invalid_input("past the end"));
        }
        let shift = u64::from(self.0 == Flaw::RangeIsShifted && clamped.start > 0 && clamped.end < len);
        Ok(body.slice((clamped.start + shift) as usize..(clamped.end + shift) as usize))
    }

    async fn head(&self, key: &ObjectKey) -> Result<ObjectMeta> {
        let size = self.find(key)?.len() as u64 + u64::from(self.0 == Flaw::HeadIsWrong);
        Ok(ObjectMeta { key: key.clone(), size })
    }

    async fn delete(&self, key: &ObjectKey) -> Result<()> {
        if self.0 == Flaw::DeleteDoesNothing {
            return Ok(());
        }
        let was = self.1.lock().unwrap().remove(&self.name(key));
        if was.is_none() && self.0 == Flaw::DeleteOfNothingFails {
            return Err(Error::not_found("nothing"));
        }
        Ok(())
    }

    fn list(&self, folder: Option<&ObjectKey>) -> BoxStream<'_, Result<ObjectMeta>> {
        let slash = if self.0 == Flaw::ListIsByString { "" } else { "/" };
        let prefix = folder.map(|folder| format!("{folder}{slash}")).unwrap_or_default();
        let shallow = self.0 == Flaw::ListIsShallow;
        let shown = |name: &String| {
            name.strip_prefix(&prefix).is_some_and(|rest| !shallow || folder.is_none() || !rest.contains('/'))
        };
        let most = if self.0 == Flaw::ListIsCut { 1000 } else { usize::MAX };
        let objects = self.1.lock().unwrap();
        let found: Vec<_> = objects
            .iter()
            .filter(|(name, _)| shown(name))
            .take(most)
            .map(|(name, body)| Ok(ObjectMeta { key: key(name), size: body.len() as u64 }))
            .collect();
        futures::stream::iter(found).boxed()
    }
}

async fn passes(flaw: Flaw) -> bool {
    let fresh = async || Arc::new(Flawed(flaw, Mutex::default())) as Arc<dyn StorageBackend>;
    std::panic::AssertUnwindSafe(conformance(fresh)).catch_unwind().await.is_ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_without_a_flaw_passes() {
    assert!(passes(Flaw::None).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backend_with_any_flaw_fails() {
    for flaw in FLAWS {
        assert!(!passes(flaw).await, "{flaw:?} was not found");
    }
}
