//! Opening an image with everything it builds on.

use std::{path::Path, sync::Arc};

use backstay_core::{Error, ErrorKind, Result, ResultExt};

use super::{
    file::{DiskFile, ReadAt},
    format::{ImageFormat, probe_format},
    gate::ImageGate,
    layer::Layer,
    qcow2::{Header, Qcow2, TableCache, Tables},
};

/// Layers of a chain. QEMU itself goes to about 200; a chain of 64 already reads badly.
const MAX_DEPTH: usize = 64;
/// What the tables of a whole chain that are kept all the time may take.
const MAX_TABLE_BYTES: usize = 128 << 20;

/// An image and all files that it is made of.
#[derive(Debug)]
pub(crate) struct Chain {
    pub layer: Layer,
    /// Every file, the image itself first.
    pub files: Vec<Arc<DiskFile>>,
    /// How many of them hold the top layer: the image, and its external data file if it has one.
    pub own_files: usize,
    /// The header of the image itself, when it is a qcow2 one.
    pub header: Option<Header>,
}

struct Opening<'a> {
    gate: &'a ImageGate,
    cache: Arc<TableCache>,
    files: Vec<Arc<DiskFile>>,
    layers: usize,
    table_bytes: usize,
}

impl Chain {
    /// Opens the image at `path`. Blocks.
    pub(crate) fn open(path: &Path, format: ImageFormat, gate: &ImageGate) -> Result<Self> {
        let mut opening = Opening { gate, cache: Arc::default(), files: Vec::new(), layers: 0, table_bytes: 0 };
        let layer = opening.layer(DiskFile::open(path)?, format)?;
        let header = match &layer {
            Layer::Raw(_) => None,
            Layer::Qcow2(image) => Some(image.header().clone()),
        };
        let own_files = if header.as_ref().is_some_and(|header| header.has_data_file) { 2 } else { 1 };
        Ok(Self { layer, files: opening.files, own_files, header })
    }

    /// Opens a single image without following anything, for tests and fuzzing.
    pub(crate) fn open_alone(file: Arc<dyn ReadAt>) -> Result<Layer> {
        let header = Header::read(file.as_ref())?;
        if header.backing.is_some() || header.has_data_file {
            return Err(Error::permission_denied("The image does not stand alone"));
        }
        let tables = Tables::open(Arc::clone(&file), header, None, Arc::default(), 0)?;
        Ok(Layer::Qcow2(Box::new(Qcow2::new(tables, file, None))))
    }

    /// Whether any of the files has changed since it was opened.
    pub(crate) fn has_changed(&self) -> Result<bool> {
        for file in &self.files {
            if file.has_changed()? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

impl Opening<'_> {
    fn layer(&mut self, file: DiskFile, format: ImageFormat) -> Result<Layer> {
        self.layers += 1;
        if self.layers > MAX_DEPTH {
            return Err(Error::invalid_input(format!(
                "The chain of backing files is longer than {MAX_DEPTH}; shorten it with qemu-img commit or rebase"
            )));
        }
        let path = file.path().to_owned();
        let file = self.keep(file)?;
        match format {
            ImageFormat::Raw => Ok(Layer::Raw(file)),
            ImageFormat::Qcow2 => self.qcow2(file, &path).context("image", path.display()),
        }
    }

    fn qcow2(&mut self, file: Arc<DiskFile>, path: &Path) -> Result<Layer> {
        let header = Header::read(file.as_ref())?;
        let data = self.data_file(&header, path)?;
        let number = self.layers as u32;
        let data_len = data.as_ref().map(|data| data.len());
        let tables = Tables::open(file.clone(), header, data_len, Arc::clone(&self.cache), number)?;
        self.table_bytes += tables.memory();
        if self.table_bytes > MAX_TABLE_BYTES {
            return Err(Error::invalid_input("The tables of the image and its backing files are too large"));
        }
        let backing = self.backing(tables.header(), path)?;
        Ok(Layer::Qcow2(Box::new(Qcow2::new(tables, data.unwrap_or(file), backing))))
    }

    fn data_file(&mut self, header: &Header, path: &Path) -> Result<Option<Arc<DiskFile>>> {
        if !header.has_data_file {
            return Ok(None);
        }
        let name = header.data_file.as_deref().ok_or_else(|| {
            Error::integrity("Damaged qcow2 header: the image has an external data file but does not name it")
        })?;
        self.keep(self.gate.open(path, name, "data file")?).map(Some)
    }

    fn backing(&mut self, header: &Header, path: &Path) -> Result<Option<Box<Layer>>> {
        let Some(name) = &header.backing else { return Ok(None) };
        let format = backing_format(header.backing_format.as_deref())?;
        let file = self.gate.open(path, name, "backing file")?;
        let format = match format {
            Some(format) => format,
            None if self.gate.probes() => probe_format(file.path())?,
            None => {
                return Err(Error::invalid_input(
                    "The image does not say which format its backing file has, and it is not guessed; set it with \
                     qemu-img rebase -u -F FORMAT -b FILE",
                )
                .with_context("backing", file.path().display()));
            }
        };
        self.layer(file, format).map(|layer| Some(Box::new(layer)))
    }

    /// Keeps a file once: a chain that comes back to one of its files has no end.
    fn keep(&mut self, file: DiskFile) -> Result<Arc<DiskFile>> {
        if self.files.iter().any(|old| old.identity().is_same_file(file.identity())) {
            return Err(Error::integrity("The image refers to itself through its backing or data files")
                .with_context("path", file.path().display()));
        }
        let file = Arc::new(file);
        self.files.push(Arc::clone(&file));
        Ok(file)
    }
}

/// What the image says of its backing file's format; `None` when it does not.
fn backing_format(name: Option<&[u8]>) -> Result<Option<ImageFormat>> {
    match name {
        None | Some(b"") => Ok(None),
        Some(b"raw" | b"host_device" | b"file") => Ok(Some(ImageFormat::Raw)),
        Some(b"qcow2") => Ok(Some(ImageFormat::Qcow2)),
        Some(other) => Err(Error::new(
            ErrorKind::Unsupported,
            format!(
                "A backing file of format {:?} is not supported; raw and qcow2 are",
                String::from_utf8_lossy(other).escape_debug().to_string()
            ),
        )),
    }
}
