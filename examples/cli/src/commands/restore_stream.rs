//! A stream or an attachment back into a file or standard output.

use std::{io::Read, path::Path};

use backstay::{Context, DiskSink, Error, RawSink, Repository, RestorePoint, Result};
use bytes::Bytes;

use super::{
    restore::{Restore, Restored},
    restore_disks::selector,
    stdio::StdoutSink,
};
use crate::app::App;

pub async fn run(
    args: &Restore,
    repository: &Repository,
    point: &RestorePoint,
    name: &str,
    app: &App,
) -> Result<Restored> {
    let ctx = &app.ctx;
    if args.range.is_some() || args.format.is_some() {
        return Err(Error::invalid_input("The point is a stream; --range and --format are for disks"));
    }
    let size = size(point, name)?;
    let sink: Box<dyn DiskSink> = match args.is_stdout() {
        true => Box::new(StdoutSink::new(size, ctx)?),
        false => Box::new(RawSink::create(&args.to, size, args.overwrite, ctx).await?),
    };
    let mut at = 0;
    each(repository, point, name, ctx, async |piece: Bytes| {
        let len = piece.len() as u64;
        sink.write(at, piece).await?;
        at += len;
        Ok(())
    })
    .await?;
    sink.commit().await?;
    if args.verify {
        verify(repository, point, name, &args.to, ctx).await?;
    }
    Ok(Restored { name: name.to_owned(), path: args.to.display().to_string(), bytes: size, zeroed: Vec::new() })
}

fn size(point: &RestorePoint, name: &str) -> Result<u64> {
    let streams = point.streams.iter().map(|stream| (stream.name.as_str(), stream.size));
    let attachments = point.attachments.iter().map(|attachment| (attachment.name.as_str(), attachment.size));
    let all: Vec<_> = streams.chain(attachments).collect();
    let found = all.iter().find(|(there, _)| *there == name).map(|(_, size)| *size);
    found.ok_or_else(|| {
        let names: Vec<_> = all.iter().map(|(name, _)| *name).collect();
        Error::not_found("The restore point has no such stream or attachment")
            .with_context("name", name)
            .with_context("there_are", names.join(", "))
    })
}

async fn each(
    repository: &Repository,
    point: &RestorePoint,
    name: &str,
    ctx: &Context,
    mut each: impl AsyncFnMut(Bytes) -> Result<()>,
) -> Result<()> {
    if point.streams.iter().any(|stream| stream.name == name) {
        return repository.stream(&selector(point), name).await?.read_all(ctx, each).await;
    }
    each(repository.attachment(&selector(point), name, ctx).await?).await
}

async fn verify(repository: &Repository, point: &RestorePoint, name: &str, path: &Path, ctx: &Context) -> Result<()> {
    let failed = |error| Error::io(error, "Read the target back").with_context("path", path.display());
    let mut file = std::fs::File::open(path).map_err(failed)?;
    let mut read = Vec::new();
    let mut at = 0;
    each(repository, point, name, ctx, async |piece: Bytes| {
        read.resize(piece.len(), 0);
        file.read_exact(&mut read).map_err(failed)?;
        if read != piece {
            return Err(Error::integrity(
                "What was written is not what was read back: the target is not to be trusted",
            )
            .with_context("path", path.display())
            .with_context("offset", at));
        }
        at += piece.len() as u64;
        Ok(())
    })
    .await
}
