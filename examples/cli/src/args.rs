//! What every command understands.

use std::{num::NonZeroU64, path::PathBuf};

use clap::{Args, Parser, Subcommand};

use crate::{
    commands::{
        backup, check, completions, copy, diff, forget, hold, init, key, points, prune, repair, restore, scrub, show,
        stats,
    },
    units::{parse_bytes, parse_rate},
};

const HELP: &str = "\
Examples:
  backstay init /srv/backups
  backstay backup web.qcow2 --repo /srv/backups --workload web
  backstay points --repo /srv/backups
  backstay restore web@latest --repo /srv/backups --to web-restored.qcow2

A POINT is the first 4 or more digits of a restore point's id, `latest`, WORKLOAD@latest or
WORKLOAD@2026-11-20T10:00 (the newest that is not newer).

The passphrase is asked for, or comes from --passphrase-file, --passphrase-command or the variable
BACKSTAY_PASSPHRASE; a key file from --key-file or BACKSTAY_KEY_FILE.

Exit codes:
  0 success · 1 internal error · 2 wrong command line · 3 `check` or `scrub` found something, or a repair waits
  11 invalid input · 12 not found · 13 already exists · 14 permission denied · 15 unsupported
  16 conflict · 17 unavailable · 18 integrity · 130 interrupted";

/// Deduplicated, encrypted, incremental backups of virtual disks.
#[derive(Parser)]
#[command(name = "backstay", version, after_help = HELP, max_term_width = 110)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub command: Command,
}

/// Options of every command.
#[derive(Args, Clone)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// Repository: a path, file://PATH, s3://BUCKET/PREFIX, az://CONTAINER/PREFIX, gs://BUCKET/PREFIX or
    /// sftp://USER@HOST:PORT/PATH.
    #[arg(long, short, global = true, env = "BACKSTAY_REPOSITORY", value_name = "REPO")]
    pub repo: Option<String>,
    /// Read the passphrase from this file; one newline at its end does not count.
    #[arg(long, global = true, value_name = "FILE")]
    pub passphrase_file: Option<PathBuf>,
    /// Run this command with `sh -c`; what it prints is the passphrase.
    #[arg(long, global = true, value_name = "COMMAND")]
    pub passphrase_command: Option<String>,
    /// Key file (or BACKSTAY_KEY_FILE). `init` and `key add` make it and never overwrite one.
    #[arg(long, global = true, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Server of the bucket (or AWS_ENDPOINT_URL, AZURE_STORAGE_ENDPOINT), such as https://s3.example.com; that of Amazon, Azure
    /// or Google when not given.
    #[arg(long, global = true, value_name = "URL")]
    pub endpoint: Option<String>,
    /// Allow an http:// endpoint that is not this machine (or AWS_ALLOW_HTTP=true).
    #[arg(long, global = true)]
    pub allow_http: bool,
    /// Put at most this much a second: a number of KiB, or with a unit 512K, 10M, 1G.
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    pub limit_upload: Option<NonZeroU64>,
    /// Get at most this much a second.
    #[arg(long, global = true, value_name = "RATE", value_parser = parse_rate)]
    pub limit_download: Option<NonZeroU64>,
    /// Make at most this many requests at once; 0 for any number.
    #[arg(long, global = true, value_name = "COUNT", default_value_t = 0, hide_default_value = true)]
    pub max_requests: usize,
    /// Keep what is read from a bucket in this folder, for the next time. `check` reads the bucket all the same.
    #[arg(long, global = true, env = "BACKSTAY_CACHE", value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// How large the cache may be.
    #[arg(long, global = true, value_name = "BYTES", default_value = "4G", value_parser = parse_bytes)]
    pub cache_size: u64,
    /// SSH key for an sftp:// repository; otherwise the agent's and those in ~/.ssh.
    #[arg(long, global = true, value_name = "FILE")]
    pub identity: Option<PathBuf>,
    /// Take this key (SHA256:…) of an SSH server that no known_hosts file lists.
    #[arg(long, global = true, value_name = "FINGERPRINT")]
    pub accept_host_key: Option<String>,
    /// Write to an SFTP server that cannot be told to put objects on its disk at once.
    #[arg(long, global = true)]
    pub allow_unsynced: bool,
    /// Print one JSON document on standard output, and errors as JSON on standard error.
    #[arg(long, global = true)]
    pub json: bool,
    /// Print nothing but what was asked for, warnings and errors.
    #[arg(long, short, global = true)]
    pub quiet: bool,
}

/// What to do.
#[derive(Subcommand)]
pub enum Command {
    Init(init::Init),
    Backup(Box<backup::Backup>),
    Points(points::Points),
    Show(show::Show),
    Restore(Box<restore::Restore>),
    Check(check::Check),
    Copy(Box<copy::Copy>),
    Scrub(scrub::Scrub),
    Repair(repair::Repair),
    Diff(diff::Diff),
    Forget(Box<forget::Forget>),
    Hold(hold::HoldArgs),
    Release(hold::ReleaseArgs),
    Key(key::Key),
    Prune(prune::Prune),
    Stats(stats::Stats),
    Completions(completions::Completions),
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound_and_every_command_has_examples() {
        let mut command = Cli::command();
        command.clone().debug_assert();
        for sub in command.get_subcommands_mut() {
            let help = sub.render_long_help().to_string();
            assert!(help.contains("Examples:"), "{}", sub.get_name());
            for verb in sub.get_subcommands_mut().filter(|verb| verb.get_name() != "help") {
                let help = verb.render_long_help().to_string();
                assert!(help.contains("Examples:"), "{}", verb.get_name());
            }
        }
    }
}
