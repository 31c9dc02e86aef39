//! An image as a [`DiskSource`].

use std::{
    fmt,
    ops::Range,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use backstay_core::{
    ChangeBase, ChangeToken, ChangedBlocks, Context, DiskSource, Error, Extent, RangeSet, Result, disk::check_range,
};

use super::{
    chain::Chain,
    format::ImageFormat,
    gate::ImageGate,
    layer::Scratch,
    lock::is_open_for_writing,
    qcow2::{BitmapInfo, bitmaps},
    token::Token,
    tracking::{Tracker, Tracking},
};

/// A context that lets what holds it derive `Debug`.
#[derive(Clone)]
pub(crate) struct ContextBox(pub Context);

impl fmt::Debug for ContextBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Context")
    }
}

/// A disk image, open for reading, with everything it builds on.
///
/// The files must not change while it is read. When one does, every later call fails with
/// [`backstay_core::ErrorKind::Conflict`], so that a reader that got to the end has read one state of the disk. Writes to block devices leave
/// no trace and are not noticed.
#[derive(Debug)]
pub struct ImageSource {
    shared: Arc<Shared>,
    format: ImageFormat,
    path: PathBuf,
    ctx: ContextBox,
}

#[derive(Debug)]
struct Shared {
    chain: Chain,
    tracker: Tracker,
    changed: AtomicBool,
}

/// Opens an image of a format that the caller knows; [`super::probe_format`] finds it out where that is safe.
///
/// `gate` decides which backing and data files may be followed. Warns through the context's events when a QEMU has the image
/// open for writing. Errors: `Unsupported` names an encryption or feature that is not known here; `Integrity` a damaged
/// image; `PermissionDenied` also a file that the gate does not let pass.
pub async fn open_image(
    path: impl Into<PathBuf>,
    format: ImageFormat,
    gate: &ImageGate,
    tracking: &Tracking,
    ctx: &Context,
) -> Result<ImageSource> {
    let (path, gate, tracking, inner) = (path.into(), gate.clone(), tracking.clone(), ctx.clone());
    let name = path.clone();
    let shared = ctx.blocking(move || open(&name, format, &gate, &tracking, &inner)).await?;
    Ok(ImageSource { shared: Arc::new(shared), format, path, ctx: ContextBox(ctx.clone()) })
}

fn open(path: &Path, format: ImageFormat, gate: &ImageGate, tracking: &Tracking, ctx: &Context) -> Result<Shared> {
    let chain = Chain::open(path, format, gate)?;
    let own = &chain.files[..chain.own_files];
    if own.iter().any(|file| is_open_for_writing(file.identity())) {
        let shown = path.display();
        ctx.task("open image", None).warn(format!(
            "{shown} is open for writing in a running QEMU; stop the guest, or back it up through its hypervisor"
        ));
    }
    let files: Vec<_> = chain.files.iter().map(|file| file.identity().clone()).collect();
    let racy = files.iter().any(|file| file.is_racy(ctx.now()));
    let token = Token::new(format.name(), chain.layer.size(), files, racy);
    let tracker = Tracker::open(tracking, token, chain.own_files, &chain.files[0], chain.header.as_ref())?;
    Ok(Shared { chain, tracker, changed: AtomicBool::new(false) })
}

impl Shared {
    /// Runs a job and makes sure that the files did not change until it had ended.
    fn watch<T>(&self, job: impl FnOnce(&Self) -> Result<T>) -> Result<T> {
        let outcome = job(self);
        if self.chain.has_changed()? {
            self.changed.store(true, Ordering::Relaxed);
            // Whatever else went wrong probably did because of it.
            let error = Error::conflict(
                "The disk image changed while it was read; stop the guest, or back it up through its hypervisor",
            )
            .with_context("image", self.chain.files[0].path().display());
            return Err(match outcome {
                Ok(_) => error,
                Err(cause) => error.with_source(cause),
            });
        }
        outcome
    }
}

impl ImageSource {
    /// The format it was opened as.
    #[must_use]
    pub const fn format(&self) -> ImageFormat {
        self.format
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file that it is made of: the image, its external data file, its backing files.
    #[must_use]
    pub fn files(&self) -> Vec<&Path> {
        self.shared.chain.files.iter().map(|file| file.path()).collect()
    }

    /// Whether a file was found to have changed while it was read.
    #[must_use]
    pub fn changed_while_reading(&self) -> bool {
        self.shared.changed.load(Ordering::Relaxed)
    }

    /// The persistent dirty bitmaps of a qcow2 image. None when something that knows no bitmaps wrote to the image since.
    pub async fn bitmaps(&self) -> Result<Vec<BitmapInfo>> {
        self.blocking(|shared| match &shared.chain.header {
            Some(header) => {
                Ok(bitmaps(shared.chain.files[0].as_ref(), header)?.into_iter().map(|bitmap| bitmap.info).collect())
            }
            None => Ok(Vec::new()),
        })
        .await
    }

    /// The bytes of the disk whose bits are set in a bitmap, whether it is consistent or not.
    pub async fn bitmap(&self, name: &str) -> Result<RangeSet> {
        let name = name.to_owned();
        self.blocking(move |shared| {
            let file = shared.chain.files[0].as_ref();
            let Some(header) = &shared.chain.header else {
                return Err(Error::invalid_input("A raw image has no bitmaps"));
            };
            let all = bitmaps(file, header)?;
            let bitmap = all.into_iter().find(|bitmap| bitmap.info.name == name);
            let bitmap = bitmap.ok_or_else(|| Error::not_found(format!("The image has no bitmap {name:?}")))?;
            let bits = bitmap.load(file, header)?;
            bits.ok_or_else(|| Error::invalid_input(format!("The bitmap {name:?} is too large or too fragmented")))
        })
        .await
    }

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce(&Shared) -> Result<T> + Send + 'static) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        self.ctx.0.blocking(move || shared.watch(job)).await
    }
}

#[async_trait]
impl DiskSource for ImageSource {
    fn size(&self) -> u64 {
        self.shared.chain.layer.size()
    }

    async fn verify_unchanged(&self) -> Result<()> {
        self.blocking(|_| Ok(())).await
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.size())?;
        self.blocking(move |shared| shared.chain.layer.extents(range)).await
    }

    async fn read(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.size())?;
        let len = usize::try_from(range.end - range.start)
            .map_err(|_| Error::invalid_input("The range does not fit into memory"))?;
        self.blocking(move |shared| {
            // Only what the buffer lacks is filled here; the rest is overwritten anyway.
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            buffer.truncate(len);
            shared.chain.layer.read(range.start, &mut buffer, &mut Scratch::new())?;
            Ok(buffer)
        })
        .await
    }

    async fn changed_since(&self, base: &ChangeBase) -> Result<ChangedBlocks> {
        let base = base.clone();
        self.blocking(move |shared| Ok(shared.tracker.changed_since(&base))).await
    }

    /// The token holds the state of the files when the image was opened. Fails when they changed since: asked for after the
    /// last read, it proves that one state of the disk was read.
    async fn change_token(&self) -> Result<Option<ChangeToken>> {
        self.blocking(|shared| shared.tracker.token().clone().seal().map(Some)).await
    }
}
