//! Any source into any sink.

use backstay_core::{Context, DiskSink, DiskSource, Error, ExtentKind, Result, WriteOrder};
use futures::{FutureExt, TryStreamExt, stream};

/// Bytes that are read at once.
const WINDOW_BYTES: u64 = 4 << 20;

/// Copies every byte of a disk and commits the sink. Holes stay holes.
pub async fn copy(source: &dyn DiskSource, sink: Box<dyn DiskSink>, ctx: &Context) -> Result<()> {
    if sink.size() < source.size() {
        return Err(Error::invalid_input("The target is smaller than the source")
            .with_context("target_bytes", sink.size())
            .with_context("needed_bytes", source.size()));
    }
    let task = &ctx.task("copy", Some(source.size()));
    let at_once = match sink.order() {
        WriteOrder::Any => ctx.limits().effective_windows(),
        WriteOrder::Ascending => 1,
    };
    let mut at = 0;
    while at < source.size() {
        for extent in source.extents(at..source.size()).await? {
            ctx.check()?;
            at = extent.range.end;
            if extent.kind == ExtentKind::Zero {
                sink.zero(extent.range.clone()).await?;
                task.advance(extent.range.end - extent.range.start);
                continue;
            }
            let sink = &*sink;
            let windows = extent.range.clone().step_by(WINDOW_BYTES as usize).map(Ok::<_, Error>);
            let copied = stream::iter(windows).try_for_each_concurrent(at_once, |start| {
                let end = (start + WINDOW_BYTES).min(extent.range.end);
                async move {
                    let bytes = source.read(start..end, Vec::new()).await?;
                    sink.write(start, bytes.into()).await?;
                    task.advance(end - start);
                    Ok(())
                }
            });
            ctx.or_cancelled(copied.boxed()).await?;
        }
    }
    sink.commit().await
}
