//! The chain: who may do what, which generation is open, and everything that was settled before.

use backstay_core::{Context, Error, ErrorKind, ObjectKey, Result, ResultExt, Retry, StorageBackend};
use futures::TryStreamExt;

use super::{
    crypto::ObjectType,
    format::chain::{ChainRecord, Change, FoldedName, FoldedState, KeysName, KeysRecord, RosterEntry},
    ids::{ObjectHash, SignerId},
    keys::Capability,
    objects::{Objects, Record, SignedBy},
    rotated,
};

/// How often the head is looked for again because it moved meanwhile.
const LOAD_ATTEMPTS: usize = 32;

/// The chain as its head tells it.
#[derive(Clone, Debug)]
pub struct Chain {
    /// The number of the newest record.
    pub head: u64,
    /// The hash of that record.
    pub hash: ObjectHash,
    /// Who may do what.
    pub roster: Vec<RosterEntry>,
    /// Who stood in a roster before and no longer does.
    pub former: Vec<RosterEntry>,
    /// The epoch that sessions write in.
    pub epoch: u32,
    /// The record that says so.
    pub keys: KeysName,
    /// Features in use that a collector must know.
    pub collector_features: Vec<String>,
    /// What is settled.
    pub folded: FoldedState,
    /// Where that lies.
    pub folded_name: Option<FoldedName>,
}

/// The object name of a record of the chain.
pub fn chain_key(number: u64) -> Result<ObjectKey> {
    ObjectKey::new(format!("chain/{number}"))
}

/// The object name of a folded state.
fn folded_key(name: &FoldedName) -> Result<ObjectKey> {
    ObjectKey::new(format!("folded/{}", name.object_name()))
}

impl Chain {
    /// Reads the head and what it names: three objects, however long the chain is.
    pub async fn load(objects: &Objects, owner: &SignerId) -> Result<Self> {
        for _ in 0..LOAD_ATTEMPTS {
            let head = find_head(&**objects.backend()).await?;
            match Self::at(objects, owner, head).await {
                // A newer head makes what the older one names superfluous, and somebody has removed it.
                Err(error) if error.kind() == ErrorKind::NotFound && Self::moved_past(objects, head).await? => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    return Err(Error::integrity("The repository has lost what its chain names").with_source(error));
                }
                Ok(chain) if chain.keys.number < objects.keyring().newest_keys() => {
                    if !Self::moved_past(objects, head).await? {
                        return Err(Error::integrity(
                            "The newest record of the chain names keys that were replaced since: the chain was cut back or \
                             forged. Nothing is trusted until somebody has looked at it",
                        )
                        .with_context("record", head));
                    }
                }
                Ok(chain) => {
                    objects.keyring().saw_keys(chain.keys.number);
                    return Ok(chain);
                }
                Err(error) => return Err(error),
            }
        }
        Err(Error::conflict("The repository's chain moves faster than it can be read; try again").retryable())
    }

    /// The chain as record `head` tells it.
    async fn at(objects: &Objects, owner: &SignerId, head: u64) -> Result<Self> {
        let record = numbered(objects, head).await?;
        let (keys_name, keys) = match (&record.body.change, record.body.keys) {
            (Change::Keys(keys), _) => {
                (KeysName { number: head, hash: record.hash }, signed_by_owner(&record, keys, owner)?)
            }
            (_, None) => return Err(broken(head)),
            (_, Some(name)) => {
                let earlier = numbered(objects, name.number).await?;
                let Change::Keys(keys) = &earlier.body.change else { return Err(broken(name.number)) };
                if name.number >= head || earlier.hash != name.hash {
                    return Err(broken(name.number));
                }
                (name, signed_by_owner(&earlier, keys, owner)?)
            }
        };
        let folded = match &record.body.folded {
            Some(name) => read_folded(objects, name).await?,
            None => FoldedState::default(),
        };
        let chain = Self {
            head,
            hash: record.hash,
            roster: keys.roster,
            former: keys.former,
            epoch: keys.epoch,
            keys: keys_name,
            collector_features: keys.collector_features,
            folded,
            folded_name: record.body.folded,
        };
        let by_collector = !matches!(record.body.change, Change::Keys(_));
        if by_collector && !chain.may(&record.signer, Capability::may_collect) {
            return Err(Error::integrity(
                "The newest record of the chain is not signed by anybody who may collect: nothing is deleted or trusted \
                 until somebody has looked at it",
            )
            .with_context("record", head));
        }
        Ok(chain)
    }

    /// What the record says that started an epoch whose keys are not at hand, and its number; `None` when there is none.
    pub async fn unknown_epoch(objects: &Objects, owner: &SignerId) -> Result<Option<(u64, KeysRecord)>> {
        let Some(record) = rotated::unknown_epoch(objects).await? else { return Ok(None) };
        let Change::Keys(keys) = &record.body.change else { return Ok(None) };
        Ok(Some((record.body.number, signed_by_owner(&record, keys, owner)?)))
    }

    /// What the record says that has started this epoch; `None` when another one has its number, or none.
    pub async fn started(objects: &Objects, owner: &SignerId, number: u64, epoch: u32) -> Result<Option<KeysRecord>> {
        match numbered(objects, number).await {
            Ok(record) => match &record.body.change {
                Change::Keys(keys) if keys.epoch == epoch => signed_by_owner(&record, keys, owner).map(Some),
                _ => Ok(None),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts the next record, and before it the folded state that it names. `false`: somebody else was faster.
    pub async fn append(
        &self,
        objects: &Objects,
        change: Change,
        folded: Option<&FoldedState>,
        ctx: &Context,
    ) -> Result<bool> {
        let name = match folded {
            Some(folded) => {
                let mut name = FoldedName { number: self.head + 1, id: ctx.random()?, hash: ObjectHash([0; 32]) };
                name.hash = objects.put_record(&folded_key(&name)?, ObjectType::Folded, folded, ctx).await?;
                Some(name)
            }
            None => self.folded_name,
        };
        let by_owner = matches!(change, Change::Keys(_));
        let number = self.head + 1;
        let record = ChainRecord {
            number,
            previous: self.hash,
            time: ctx.now().as_nanos(),
            keys: (!by_owner).then_some(self.keys),
            change,
            folded: name,
        };
        let key = chain_key(number)?;
        let signed_by = if by_owner { SignedBy::Owner } else { SignedBy::Own };
        let object = objects.seal_record(&key, ObjectType::Chain, &record, signed_by, ctx)?;
        match objects.put_new(&key, object.into(), ctx).await {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == ErrorKind::Conflict && error.retry() == Retry::Never => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Whether the chain has grown past `head`.
    pub async fn moved_past(objects: &Objects, head: u64) -> Result<bool> {
        exists(&**objects.backend(), &chain_key(head + 1)?).await
    }

    /// Whether this signer is authorised now.
    pub fn may(&self, signer: &SignerId, may: impl Fn(Capability) -> bool) -> bool {
        self.roster.iter().any(|entry| entry.signer == Some(*signer) && may(entry.capability))
    }

    /// Whether this signer is or was on the roster as a reader.
    pub fn is_reader(&self, signer: &SignerId) -> bool {
        let mut entries = self.roster.iter().chain(&self.former);
        entries.any(|entry| entry.signer == Some(*signer) && entry.capability == Capability::Reader)
    }

    /// Whether a session that saw `generation` may be ended by this signer: somebody on the roster, or, while sessions older than
    /// the newest change of keys are not settled, somebody who was when that head was new.
    pub fn may_end(&self, signer: &SignerId, generation: u64, may: impl Fn(Capability) -> bool) -> bool {
        let was = |entry: &RosterEntry| {
            let in_time = entry.until.is_none_or(|until| generation < until);
            entry.signer == Some(*signer) && in_time && may(entry.capability)
        };
        self.may(signer, &may) || (generation < self.keys.number && self.former.iter().any(was))
    }

    /// Whether sessions from before the newest change of keys may still be unsettled.
    pub const fn keys_unsettled(&self) -> bool {
        self.folded.floor < self.keys.number
    }

    /// Follows the whole chain from its first record, checking every link; gives the hash of each.
    pub async fn verify_links(objects: &Objects, head: u64) -> Result<()> {
        let mut previous = ObjectHash([0; 32]);
        for number in 0..=head {
            let record = numbered(objects, number).await.map_err(|error| match error.kind() {
                ErrorKind::NotFound => Error::integrity("A record of the chain is missing").with_source(error),
                _ => error,
            })?;
            if record.body.previous != previous {
                return Err(broken(number));
            }
            previous = record.hash;
        }
        Ok(())
    }
}

fn broken(number: u64) -> Error {
    Error::integrity("The repository's chain is broken: a record is not what another one names")
        .with_context("record", number)
}

fn signed_by_owner(record: &Record<ChainRecord>, keys: &KeysRecord, owner: &SignerId) -> Result<KeysRecord> {
    let number = record.body.number;
    if record.signer != *owner {
        return Err(Error::integrity("A record of the chain changes keys and is not signed by the owner")
            .with_context("record", number));
    }
    if let Some(feature) = keys.reader_features.iter().chain(&keys.writer_features).next() {
        let error =
            Error::unsupported("The repository uses a feature that this build does not know: use a newer Backstay");
        return Err(error.with_context("feature", feature));
    }
    Ok(keys.clone())
}

async fn numbered(objects: &Objects, number: u64) -> Result<Record<ChainRecord>> {
    let record = objects.get_record::<ChainRecord>(&chain_key(number)?, ObjectType::Chain).await?;
    if record.body.number == number { Ok(record) } else { Err(broken(number)) }
}

async fn read_folded(objects: &Objects, name: &FoldedName) -> Result<FoldedState> {
    let key = folded_key(name)?;
    let record = objects.get_record::<FoldedState>(&key, ObjectType::Folded).await?;
    if record.hash != name.hash {
        return Err(Error::integrity("A folded state is not the one that the chain names")).context("object", key);
    }
    Ok(record.body)
}

/// The newest number: from a list, which may lag behind, and from there by asking for the next.
pub async fn find_head(backend: &dyn StorageBackend) -> Result<u64> {
    let folder = ObjectKey::new("chain")?;
    let newest = backend
        .list(Some(&folder))
        .try_fold(None, |newest, meta| async move { Ok(newest.max(meta.key.name().parse::<u64>().ok())) })
        .await?;
    let mut head =
        newest.ok_or_else(|| Error::integrity("The repository has lost its chain: no record of it is there"))?;
    while exists(backend, &chain_key(head + 1)?).await? {
        head += 1;
    }
    Ok(head)
}

async fn exists(backend: &dyn StorageBackend, key: &ObjectKey) -> Result<bool> {
    match backend.head(key).await {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}
