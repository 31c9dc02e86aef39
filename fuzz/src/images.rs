//! What describes images, and what is stored beside them.

use std::{cell::RefCell, io::Write};

use backstay_core::{ChangeBase, ChangeToken, ChangedBlocks, Context, DiskSource, RestorePointId};
use backstay_hypervisor::{ImageFormat, ImageGate, ImageSource, Tracking, image::MemoryImage, open_image};
use tempfile::{NamedTempFile, TempDir};

/// Bytes of the disk that tokens and ranges are of.
pub(crate) const DISK: u64 = 1 << 20;
pub(crate) const PARENT: RestorePointId = RestorePointId::from_bytes([7; 16]);

/// Any bytes as a qcow2 image: opened, walked and read, bitmaps included.
pub fn qcow2_open(bytes: &[u8]) {
    if let Ok(image) = MemoryImage::open(bytes.to_vec()) {
        let _either = image.bitmaps();
        let _either = image.walk(16 << 20);
    }
}

/// Any bytes as a ranges file. Whatever counts as changed lies on the disk.
pub fn ranges_file(bytes: &[u8]) {
    thread_local! { static FILE: RefCell<Option<NamedTempFile>> = const { RefCell::new(None) } }
    FILE.with_borrow_mut(|file| {
        let file = file.get_or_insert_with(|| NamedTempFile::new().unwrap());
        file.as_file().set_len(0).unwrap();
        std::io::Seek::rewind(file).unwrap();
        file.write_all(bytes).unwrap();
        file.flush().unwrap();
        if let Ok(changed) = changed(Tracking::default().ranges(file.path()), None) {
            check(&changed);
        }
    });
}

/// Any bytes as the change token of the parent.
pub fn change_token(bytes: &[u8]) {
    let token = ChangeToken::new(bytes.to_vec()).unwrap();
    let tracking = Tracking::default().trust_mtime(true).bitmap("backup");
    check(&changed(tracking, Some(token)).unwrap());
}

/// The token of the image as it is.
pub(crate) fn token() -> Vec<u8> {
    let open = open(Tracking::default().trust_mtime(true));
    runtime(async { open.change_token().await.unwrap().unwrap() }).as_bytes().to_vec()
}

fn check(changed: &ChangedBlocks) {
    if let ChangedBlocks::Exact(ranges) = changed {
        assert!(ranges.ranges().iter().all(|range| range.end <= DISK), "{ranges:?}");
    }
}

fn changed(tracking: Tracking, token: Option<ChangeToken>) -> backstay_core::Result<ChangedBlocks> {
    let base = ChangeBase { point: PARENT, size: DISK, token };
    runtime(async move {
        let image = try_open(tracking).await?;
        image.changed_since(&base).await
    })
}

fn open(tracking: Tracking) -> ImageSource {
    runtime(try_open(tracking)).unwrap()
}

async fn try_open(tracking: Tracking) -> backstay_core::Result<ImageSource> {
    thread_local! { static FOLDER: TempDir = TempDir::new().unwrap() }
    let path = FOLDER.with(|folder| folder.path().join("disk.raw"));
    if !path.exists() {
        std::fs::File::create(&path).unwrap().set_len(DISK).unwrap();
    }
    open_image(path, ImageFormat::Raw, &ImageGate::none(), &tracking, &Context::default()).await
}

fn runtime<T>(work: impl Future<Output = T>) -> T {
    thread_local! { static RUNTIME: tokio::runtime::Runtime = tokio::runtime::Builder::new_current_thread().build().unwrap() }
    RUNTIME.with(|runtime| runtime.block_on(work))
}
