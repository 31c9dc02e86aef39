//! Changed blocks.

use std::collections::BTreeMap;

use backstay_core::{
    Capture, CaptureOutcome, ChangeBase, ChangeToken, ChangedBlocks, Context, DiskId, Hypervisor, RangeSet,
    RestorePointId, WorkloadId,
};

use super::{Disks, capture, contents, finish};

type Tokens = BTreeMap<DiskId, ChangeToken>;

async fn tokens(capture: &dyn Capture) -> Tokens {
    let mut tokens = Tokens::new();
    for disk in &capture.spec().disks {
        let source = capture.disk(&disk.id).await.expect("disk");
        let token = source.change_token().await.expect("change token");
        let token = token.unwrap_or_else(|| panic!("a platform that tracks changes gives a token for {}", disk.id));
        assert_eq!(source.change_token().await.expect("change token").as_ref(), Some(&token), "a token is stable");
        tokens.insert(disk.id.clone(), token);
    }
    tokens
}

#[derive(Clone, Copy, PartialEq)]
enum Due {
    /// Tokens of the last stored capture: no way around knowing.
    Exact,
    /// Any other token: whatever is said must be true.
    Anything,
}

async fn changes_cover(capture: &dyn Capture, since: &Tokens, old: &Disks, due: Due, what: &str) {
    let new = contents(capture).await;
    for (disk, token) in since {
        let old = &old[disk];
        let base = ChangeBase {
            point: RestorePointId::from_bytes([1; 16]),
            size: old.len() as u64,
            token: Some(token.clone()),
        };
        let source = capture.disk(disk).await.expect("disk");
        let changed = match source.changed_since(&base).await.expect("changed_since") {
            ChangedBlocks::Exact(ranges) => ranges,
            ChangedBlocks::Untouched => RangeSet::new(),
            ChangedBlocks::Unknown { reason } => {
                assert!(due != Due::Exact, "{what}: the changes of {disk} are known, not unknown because {reason:?}");
                continue;
            }
        };
        let differs = |at: &usize| old[*at] != new[disk][*at] && !changed.intersects(&(*at as u64..*at as u64 + 1));
        let missed = (0..old.len().min(new[disk].len())).find(differs);
        assert_eq!(missed, None, "{what}: a change at this offset of {disk} was missed");
        let end = changed.ranges().last().map_or(0, |range| range.end);
        assert!(end <= source.size(), "{what}: a change of {disk} lies past its end");
    }
}

pub(super) async fn changes_are_never_missed(
    hypervisor: &dyn Hypervisor,
    id: &WorkloadId,
    write: &impl AsyncFn(&DiskId, u64, Vec<u8>),
    ctx: &Context,
) {
    let touch = async |disks: &Disks, offset: usize| {
        for (disk, content) in disks {
            write(
                disk,
                offset as u64,
                content[offset..offset + 777].iter().map(|byte| byte.wrapping_add(91)).collect(),
            )
            .await;
        }
    };
    let first = capture(hypervisor, id, ctx).await;
    let (stored, disks) = (tokens(&*first).await, contents(&*first).await);
    // Between the capture and its end: in the next one, not in this one.
    touch(&disks, 70_000).await;
    finish(first, CaptureOutcome::Stored).await;
    touch(&disks, 200_001).await;

    let second = capture(hypervisor, id, ctx).await;
    let (abandoned, meanwhile) = (tokens(&*second).await, contents(&*second).await);
    changes_cover(&*second, &stored, &disks, Due::Exact, "after a stored capture").await;
    touch(&disks, 300_000).await;
    finish(second, CaptureOutcome::Abandoned).await;

    let third = capture(hypervisor, id, ctx).await;
    changes_cover(&*third, &stored, &disks, Due::Exact, "after an abandoned capture").await;
    changes_cover(&*third, &abandoned, &meanwhile, Due::Anything, "since an abandoned capture").await;
    touch(&disks, 400_000).await;
    drop(third);

    let fourth = capture(hypervisor, id, ctx).await;
    changes_cover(&*fourth, &stored, &disks, Due::Exact, "after a dropped capture").await;
    let (newest, latest) = (tokens(&*fourth).await, contents(&*fourth).await);
    finish(fourth, CaptureOutcome::Stored).await;
    touch(&latest, 500_000).await;

    let fifth = capture(hypervisor, id, ctx).await;
    changes_cover(&*fifth, &newest, &latest, Due::Exact, "after the second stored capture").await;
    changes_cover(&*fifth, &stored, &disks, Due::Anything, "since a capture before the last").await;
    finish(fifth, CaptureOutcome::Abandoned).await;
}
