//! Images pass the suites that every source and every sink passes.

use std::sync::Arc;

use backstay_core::{Context, DiskSink, DiskSource};
use backstay_hypervisor::{ImageFormat, ImageGate, Qcow2Sink, RawSink, Tracking, open_image};
use backstay_testkit::disk::{sink_conformance, source_conformance};

use crate::qemu::{self, Dice, scribble};

#[tokio::test(flavor = "multi_thread")]
async fn image_sources_conform() {
    if !qemu::available() {
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let size = 3 << 20;
    qemu::run(dir.path(), &format!("qemu-img create -f qcow2 -o cluster_size=4k,preallocation=metadata base {size}"));
    qemu::io(dir.path(), "base", "qcow2", &scribble(&mut Dice(5), size, 9));
    qemu::run(dir.path(), "qemu-img convert -c -f qcow2 -O qcow2 -o cluster_size=16k base packed");
    qemu::run(dir.path(), "qemu-img create -f qcow2 -o extended_l2=on -b packed -F qcow2 top");
    qemu::io(dir.path(), "top", "qcow2", &scribble(&mut Dice(6), size, 5));
    for (image, format) in [("base", "qcow2"), ("packed", "qcow2"), ("top", "qcow2"), ("top.raw", "raw")] {
        if image == "top.raw" {
            qemu::run(dir.path(), "qemu-img convert -O raw top top.raw");
        }
        let content = qemu::converted(dir.path(), image, format);
        let source = qemu::open(dir.path(), image, format.parse().unwrap()).await.unwrap();
        source_conformance(Arc::new(source), &content).await;
    }
    // A raw file of any size.
    let odd: Vec<u8> = (0..70_001u32).map(|at| (at / 7) as u8).collect();
    std::fs::write(dir.path().join("odd"), &odd).unwrap();
    let source = qemu::open(dir.path(), "odd", ImageFormat::Raw).await.unwrap();
    source_conformance(Arc::new(source), &odd).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn image_sinks_conform() {
    let dir = tempfile::tempdir().unwrap();
    for (format, sizes) in [
        (ImageFormat::Raw, [4096, 1_000_001, 5 << 20, 1].as_slice()),
        (ImageFormat::Qcow2, [4096, 1_000_448, 5 << 20, 512].as_slice()),
    ] {
        let path = dir.path().join(format.name());
        let create = async |size| -> Box<dyn DiskSink> {
            let _missing = std::fs::remove_file(&path);
            let ctx = Context::default();
            let sink: Box<dyn DiskSink> = match format {
                ImageFormat::Qcow2 => Box::new(Qcow2Sink::create(&path, size, false, &ctx).await.unwrap()),
                _ => Box::new(RawSink::create(&path, size, false, &ctx).await.unwrap()),
            };
            sink
        };
        let reopen = async || -> Option<Arc<dyn DiskSource>> {
            if !path.exists() {
                return None;
            }
            let (gate, tracking, ctx) = (ImageGate::none(), Tracking::default(), Context::default());
            let source: Arc<dyn DiskSource> =
                Arc::new(open_image(&path, format, &gate, &tracking, &ctx).await.unwrap());
            Some(source)
        };
        sink_conformance(sizes, create, reopen).await;
    }
}
