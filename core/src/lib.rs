//! The words, traits, errors and events that every Backstay crate shares.
//!
//! Everything readable is a [`DiskSource`], everything writable a [`DiskSink`]. A [`Hypervisor`] hands out
//! [`Capture`]s (frozen, consistent views of a workload), a [`StorageBackend`] keeps write-once objects, a
//! [`Catalog`] finds restore points and a [`JobQueue`] hands work to workers. Nothing here does I/O, reads the
//! environment or keeps a global: clock, randomness, threads and cancellation come in with a [`Context`].

pub mod aligned;
pub mod backend;
pub mod buffer;
pub mod catalog;
pub mod context;
pub mod disk;
pub mod error;
pub mod event;
pub mod extent;
pub mod hypervisor;
pub mod id;
pub mod limits;
pub mod point;
pub mod progress;
pub mod queue;
pub mod retention;
pub mod time;

pub use backend::{BackendCapabilities, ObjectMeta, PutMode, StorageBackend};
pub use buffer::{BufferPool, PooledBuffer};
pub use catalog::{Catalog, PointQuery};
pub use context::{Clock, Context, OsRandom, RandomSource, Spawner, SystemClock, TokioSpawner};
pub use disk::{ChangeBase, ChangeToken, ChangedBlocks, DiskSink, DiskSource, WriteOrder};
pub use error::{Error, ErrorKind, Result, ResultExt, Retry};
pub use event::{Event, EventSink, NoEvents, Recorder, TaskId};
pub use extent::{Extent, ExtentKind, RangeSet};
pub use hypervisor::{
    Attachment, Capture, CaptureOptions, CaptureOutcome, Consistency, DiskInfo, Hypervisor, HypervisorCapabilities,
    Quiesce, RestoreOptions, RestoreTarget, StreamSource, WorkloadSpec,
};
pub use id::{DiskId, JobId, ObjectKey, RestorePointId, WorkerId, WorkloadId};
pub use limits::Limits;
pub use point::{
    AttachmentRecord, DiskRecord, HOLD_LABEL, Provenance, ReadMethod, RestorePoint, StreamRecord, Workload,
};
pub use progress::Task;
pub use queue::{JobKind, JobOutcome, JobQueue, JobSpec, JobState, LeasedJob};
pub use retention::Retention;
pub use time::Timestamp;
