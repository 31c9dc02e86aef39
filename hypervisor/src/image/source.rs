//! An image as a [`DiskSource`].

use std::{
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use backstay_core::{Context, DiskSource, Error, Extent, Result, disk::check_range};
use serde::{Deserialize, Serialize};

use super::{chain::Chain, format::ImageFormat, gate::ImageGate, layer::Scratch};

/// How an image may tell what changed since an earlier backup. Nothing by default: then everything is read and compared.
///
/// Asked in this order: modification times, bitmap, ranges file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Tracking {
    /// A persistent dirty bitmap of the qcow2 image.
    pub bitmap: Option<String>,
    /// A file that lists the changed ranges.
    pub ranges: Option<PathBuf>,
    /// Whether files of the same inode, size and times count as unchanged.
    pub trust_mtime: bool,
}

/// A disk image, open for reading.
#[derive(Debug)]
pub struct ImageSource {
    chain: Arc<Chain>,
    format: ImageFormat,
    path: PathBuf,
    ctx: ContextBox,
}

/// A context that lets what holds it derive `Debug`.
#[derive(Clone)]
pub(crate) struct ContextBox(pub Context);

impl std::fmt::Debug for ContextBox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}

/// Opens an image of a format that the caller knows.
pub async fn open_image(
    path: impl Into<PathBuf>,
    format: ImageFormat,
    gate: &ImageGate,
    _tracking: &Tracking,
    ctx: &Context,
) -> Result<ImageSource> {
    let (path, gate) = (path.into(), gate.clone());
    let name = path.clone();
    let chain = ctx.blocking(move || Chain::open(&name, format, &gate)).await?;
    Ok(ImageSource { chain: Arc::new(chain), format, path, ctx: ContextBox(ctx.clone()) })
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

    async fn blocking<T: Send + 'static>(&self, job: impl FnOnce(&Chain) -> Result<T> + Send + 'static) -> Result<T> {
        let chain = Arc::clone(&self.chain);
        self.ctx.0.blocking(move || job(&chain)).await
    }
}

#[async_trait]
impl DiskSource for ImageSource {
    fn size(&self) -> u64 {
        self.chain.layer.size()
    }

    async fn extents(&self, range: Range<u64>) -> Result<Vec<Extent>> {
        check_range(&range, self.size())?;
        self.blocking(move |chain| chain.layer.extents(range)).await
    }

    async fn read(&self, range: Range<u64>, mut buffer: Vec<u8>) -> Result<Vec<u8>> {
        check_range(&range, self.size())?;
        let len = usize::try_from(range.end - range.start)
            .map_err(|_| Error::invalid_input("The range does not fit into memory"))?;
        self.blocking(move |chain| {
            if buffer.len() < len {
                buffer.resize(len, 0);
            }
            buffer.truncate(len);
            chain.layer.read(range.start, &mut buffer, &mut Scratch::new())?;
            Ok(buffer)
        })
        .await
    }
}
