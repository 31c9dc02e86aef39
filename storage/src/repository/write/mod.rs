//! Writing restore points: a session takes disks, streams and attachments, and commits them as one point.

mod checkpoint;
mod cipher;
mod commit;
mod disk;
mod resume;
mod sample;
mod segments;
mod session;
mod store;
mod stream;

pub use cipher::SegmentCipher;
pub use commit::PointDetails;
pub(super) use commit::put_outcome;
pub use disk::{DiskChanges, DiskOptions, DiskReport};
pub(super) use session::{CopyOf, OpenedSession, settle_aborted};
pub use session::{SessionOptions, WriteSession};
pub use store::segment_key;
#[cfg(feature = "synthetic")]
pub(super) use store::{ChunkStore, Origin, Written};
pub use stream::StreamReport;
