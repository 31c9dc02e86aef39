//! Standard input as a stream, standard output as a sink.

use std::{
    io::{IsTerminal, Read, Write},
    ops::Range,
};

use async_trait::async_trait;
use backstay::{Context, DiskSink, Error, Result, WriteOrder, core::disk::check_range};
use bytes::Bytes;
use futures::{StreamExt, stream, stream::BoxStream};
use tokio::sync::mpsc;

/// Bytes that are read or written at once.
const PIECE_BYTES: usize = 1 << 20;
/// Pieces that wait for the engine.
const WAITING: usize = 4;

/// All of standard input. A thread of its own reads it: a read that waits cannot be called off.
pub fn read_all() -> Result<BoxStream<'static, Result<Bytes>>> {
    if std::io::stdin().is_terminal() {
        return Err(Error::invalid_input(
            "Standard input is a terminal; send something to it: pg_dump … | backstay backup -",
        ));
    }
    let (tell, pieces) = mpsc::channel(WAITING);
    std::thread::spawn(move || {
        loop {
            let piece = read_piece();
            let last = piece.as_ref().map_or(true, Bytes::is_empty);
            // The engine gave up when nobody takes it.
            if tell.blocking_send(piece).is_err() || last {
                break;
            }
        }
    });
    // An empty piece is the end. A thread that went away without one must not look like it.
    let bytes = stream::unfold(Some(pieces), |pieces| async {
        let mut pieces = pieces?;
        match pieces.recv().await {
            Some(Ok(piece)) if piece.is_empty() => None,
            Some(Ok(piece)) => Some((Ok(piece), Some(pieces))),
            Some(Err(error)) => Some((Err(error), None)),
            None => Some((Err(Error::internal("Standard input was not read to its end")), None)),
        }
    });
    Ok(bytes.boxed())
}

/// Up to [`PIECE_BYTES`]; none at the end.
fn read_piece() -> Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE_BYTES);
    let read = std::io::stdin().lock().take(PIECE_BYTES as u64).read_to_end(&mut piece);
    read.map_err(|error| Error::io(error, "Read standard input"))?;
    Ok(piece.into())
}

/// Standard output, from front to back.
pub struct StdoutSink {
    size: u64,
    ctx: Context,
}

impl StdoutSink {
    /// Refuses a terminal.
    pub fn new(size: u64, ctx: &Context) -> Result<Self> {
        if std::io::stdout().is_terminal() {
            return Err(Error::invalid_input("Standard output is a terminal; send it to a file or a program"));
        }
        Ok(Self { size, ctx: ctx.clone() })
    }

    async fn put(&self, job: impl FnOnce(&mut dyn Write) -> std::io::Result<()> + Send + 'static) -> Result<()> {
        let written = self.ctx.blocking(move || {
            let mut out = std::io::stdout().lock();
            job(&mut out).and_then(|()| out.flush()).map_err(|error| Error::io(error, "Write to standard output"))
        });
        self.ctx.or_cancelled(written).await
    }
}

#[async_trait]
impl DiskSink for StdoutSink {
    fn size(&self) -> u64 {
        self.size
    }

    fn order(&self) -> WriteOrder {
        WriteOrder::Ascending
    }

    async fn write(&self, offset: u64, data: Bytes) -> Result<()> {
        check_range(&(offset..offset.saturating_add(data.len() as u64)), self.size)?;
        self.put(move |out| out.write_all(&data)).await
    }

    async fn zero(&self, mut range: Range<u64>) -> Result<()> {
        check_range(&range, self.size)?;
        while range.start < range.end {
            let count = (range.end - range.start).min(PIECE_BYTES as u64);
            self.put(move |out| out.write_all(&vec![0; count as usize])).await?;
            range.start += count;
        }
        Ok(())
    }

    async fn commit(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}
