//! Protects a real disk and proves it: full backup, changes, incremental backup, both restored and compared byte by byte.
//!
//! ```text
//! cargo run --release --example quickstart                      # makes a disk of its own
//! cargo run --release --example quickstart -- web.qcow2         # your image, which is only read
//! cargo run --release --example quickstart -- --format raw disk # when name and content do not tell
//! ```
//!
//! Everything else it writes goes into a temporary folder (`TMPDIR` says where) and is gone afterwards.

mod changed;
mod files;
mod guest;
mod measure;
mod show;
mod verify;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
    time::Instant,
};

use backstay::{
    Context, DiskId, DiskSource, Engine, Error, ErrorKind, ImageFormat, ImageGate, LocalBackend, RawSink, Repository,
    RestorePoint, RestoreRequest, Result, Tracking, Workload, WorkloadId, open_image, probe_format,
    repository::{
        Credential, DiskOptions, InitOptions, NewSlot, PointDetails, PointSelector, SecretKey, SessionOptions,
    },
};

use changed::ChangedDisk;
use show::{Row, Screen, bytes};

const USAGE: &str = "Usage: quickstart [IMAGE] [--format raw|qcow2] [--data MIB]

  IMAGE       a qcow2 or raw image of a guest that does not run; it is only read.
              Without one a disk of its own is made.
  --format    the image's format, where its name and first bytes leave a doubt
  --data MIB  how much data the disk that it makes holds (default 640)";

#[derive(Debug)]
struct Arguments {
    image: Option<PathBuf>,
    format: Option<ImageFormat>,
    data_mib: u64,
}

impl Arguments {
    fn parse() -> Result<Option<Self>> {
        let mut parsed = Self { image: None, format: None, data_mib: 640 };
        let mut given = std::env::args_os().skip(1);
        while let Some(argument) = given.next() {
            let mut value = || {
                let text = given.next().and_then(|value| value.into_string().ok());
                text.ok_or_else(|| Error::invalid_input(format!("{} needs a value\n\n{USAGE}", argument.display())))
            };
            match argument.to_str() {
                Some("-h" | "--help") => return Ok(None),
                Some("--format") => parsed.format = Some(value()?.parse()?),
                Some("--data") => {
                    let mib = value()?.parse().ok().filter(|mib| (1..=1 << 20).contains(mib));
                    parsed.data_mib = mib.ok_or_else(|| Error::invalid_input("--data is a number of MiB"))?;
                }
                Some(option) if option.starts_with('-') => {
                    return Err(Error::invalid_input(format!("There is no option {option}\n\n{USAGE}")));
                }
                _ if parsed.image.is_some() => {
                    return Err(Error::invalid_input(format!("One image at a time\n\n{USAGE}")));
                }
                _ => parsed.image = Some(argument.into()),
            }
        }
        Ok(Some(parsed))
    }
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = match Arguments::parse() {
        Ok(Some(arguments)) => arguments,
        Ok(None) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(error) => return failed(&error),
    };
    let screen = Arc::new(Screen::default());
    let ctx = Context::default().with_events(Arc::clone(&screen) as _);
    tokio::spawn(stop_on_signals(ctx.clone()));
    match run(&arguments, &screen, &ctx).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            screen.clear();
            failed(&error)
        }
    }
}

fn failed(error: &Error) -> ExitCode {
    eprintln!("quickstart: {error}");
    match error.kind() {
        ErrorKind::Cancelled => ExitCode::from(130),
        ErrorKind::InvalidInput => ExitCode::from(2),
        _ => ExitCode::FAILURE,
    }
}

/// The first signal stops in good order, so that the temporary folder goes; the second stops at once.
async fn stop_on_signals(ctx: Context) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        if ctx.cancel().is_cancelled() {
            std::process::exit(130);
        }
        ctx.cancel().cancel();
    }
}

async fn run(arguments: &Arguments, screen: &Screen, ctx: &Context) -> Result<()> {
    let folder = tempfile::Builder::new().prefix("backstay-quickstart-").tempdir();
    let folder = folder.map_err(|error| Error::io(error, "Make a temporary folder"))?;
    let started = Instant::now();

    // The disk.
    let (path, format) = match &arguments.image {
        Some(image) => {
            // Says that the file is missing before it says anything of its format.
            std::fs::metadata(image).map_err(|error| Error::io(error, &format!("Open {}", image.display())))?;
            (image.clone(), arguments.format.map_or_else(|| probe_format(image), Ok)?)
        }
        None => {
            let path = folder.path().join("guest.qcow2");
            let made = guest::make(&path, arguments.data_mib << 20, ctx).await?;
            screen.line(&format!("Made     {made}"));
            (path, ImageFormat::Qcow2)
        }
    };
    // Backing files may lie beside the image; where else they may lie is not for the image to say.
    let image = open_image(&path, format, &ImageGate::beside(&path)?, &Tracking::default(), ctx).await?;
    let first: Arc<dyn DiskSource> = Arc::new(image);
    screen.line(&format!("Disk     {} ({format}), {} bytes", path.display(), first.size()));

    // The repository: a passphrase for people, a key for programs, and a recovery key to print.
    let backend = Arc::new(LocalBackend::new(folder.path().join("repository"))?);
    let key = SecretKey::generate(ctx)?;
    let mut options = InitOptions::passphrase("correct horse battery staple");
    options.slots.push(NewSlot::KeyFile(key.clone()));
    Repository::init(backend.clone(), options, ctx).await?;
    let repository = Repository::open(backend, Credential::Key(key.clone()), ctx).await?;
    screen.line(&format!("Encrypted repository {} in {}", &repository.id()[..8], repository.location()));

    // A full backup, a day of changes, an incremental one that reads only those.
    let full = back_up(&repository, &first, ctx).await?;
    screen.line(&format!("Full     {} in {:.2} s", full.point.id.short(), full.seconds));
    let second = ChangedDisk::after_a_day(Arc::clone(&first), full.point.id, ctx).await?;
    screen.line(&format!("Changed  {second}"));
    let second: Arc<dyn DiskSource> = Arc::new(second);
    let incremental = back_up(&repository, &second, ctx).await?;
    screen.line(&format!("Incr.    {} in {:.2} s", incremental.point.id.short(), incremental.seconds));

    // Both come back, one after the other, so that the folder holds one restored disk at a time.
    let engine = Engine::new(repository.clone());
    let mut rows = Vec::new();
    for (name, source, backup) in [("Full backup", &first, &full), ("Incremental", &second, &incremental)] {
        let plain = measure::new_content(&repository, &key, &backup.point).await?;
        rows.push(Row::backup(name, &backup.point, plain, backup.seconds));
        let target = folder.path().join("restored.raw");
        let seconds = restore(&engine, &backup.point, &target, source.size(), ctx).await?;
        rows.push(Row::restore("  and its restore", verify::data_bytes(&**source, ctx).await?, seconds));
        let hash = verify::same(source, &target, ctx).await?;
        screen.line(&format!("Restored {}: every byte is the same, BLAKE3 {}", backup.point.id.short(), hash));
        std::fs::remove_file(&target).map_err(|error| Error::io(error, "Remove the restored disk"))?;
    }

    let stats = repository.stats().await?;
    println!("{}", show::table(&rows));
    println!(
        "{} points of {} in {}; peak memory {}; {:.1} s in all",
        stats.points,
        bytes(first.size()),
        bytes(stats.total_bytes),
        show::peak_memory().map_or_else(|| "unknown".to_owned(), bytes),
        started.elapsed().as_secs_f64(),
    );
    folder.close().map_err(|error| Error::io(error, "Remove the temporary folder"))
}

struct Backup {
    point: RestorePoint,
    seconds: f64,
}

async fn back_up(repository: &Repository, disk: &Arc<dyn DiskSource>, ctx: &Context) -> Result<Backup> {
    let started = Instant::now();
    let workload = Workload { id: WorkloadId::new("guest")?, kind: "vm".into(), platform: Default::default() };
    let mut session = repository.begin(workload, SessionOptions::default(), ctx).await?;
    let stored = session.write_disk(&DiskId::new("disk0")?, Arc::clone(disk), &DiskOptions::default()).await;
    if let Err(error) = stored {
        session.abort().await;
        return Err(error);
    }
    let point = session.commit(PointDetails::default()).await?;
    Ok(Backup { point, seconds: started.elapsed().as_secs_f64() })
}

async fn restore(engine: &Engine, point: &RestorePoint, to: &Path, size: u64, ctx: &Context) -> Result<f64> {
    let started = Instant::now();
    let sink = RawSink::create(to, size, false, ctx).await?;
    let request = RestoreRequest::new(PointSelector::Id(point.id.to_string()), DiskId::new("disk0")?);
    engine.restore_disk(&request, Box::new(sink), ctx).await?;
    Ok(started.elapsed().as_secs_f64())
}
