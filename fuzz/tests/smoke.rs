//! Every fuzz target on seeded mutations, without a fuzzer and on the stable compiler. `BACKSTAY_FUZZ_SECONDS` says how long each.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use backstay_fuzz::TARGETS;
use backstay_testkit::fuzz::{smoke, smoke_time};

/// Which targets reach each decoder of the sources. What a decoder is the sources say: [`decoders`] finds them.
const REACHED_BY: &[(&str, &str)] = &[
    ("core/id.rs from_str", "text"),
    ("core/time.rs from_str", "text"),
    ("hypervisor/image/format.rs from_str", "text"),
    ("hypervisor/image/identity.rs FileIdentity", "change_token"),
    ("hypervisor/image/qcow2/bitmap.rs parse", "qcow2_open"),
    ("hypervisor/image/qcow2/extensions.rs parse", "qcow2_open"),
    ("hypervisor/image/qcow2/header.rs parse", "qcow2_open"),
    ("hypervisor/image/token.rs Token", "change_token"),
    ("hypervisor/image/token.rs TokenBitmap", "change_token"),
    ("hypervisor/image/token.rs take_number", "change_token"),
    ("hypervisor/image/tracking.rs read_ranges", "ranges_file"),
    ("storage/backend/layers/read_cache/entry.rs decode", "cache_file"),
    ("storage/backend/sftp/known_hosts.rs parse_known_hosts", "known_hosts"),
    ("storage/backend/sftp/known_hosts.rs parse_line", "known_hosts"),
    ("storage/backend/sftp/place.rs from_str", "text"),
    ("storage/repository/chunk/mod.rs parse", "text"),
    ("storage/repository/compress.rs decompress", "unpack"),
    ("storage/repository/crypto/envelope.rs epoch_of", "envelope"),
    ("storage/repository/crypto/envelope.rs open", "envelope"),
    ("storage/repository/crypto/frame.rs open", "frame"),
    ("storage/repository/crypto/kdf.rs KdfParameters", "slot"),
    ("storage/repository/crypto/sign.rs Signed", "records"),
    ("storage/repository/format/chain.rs BaseSegment", "records"),
    ("storage/repository/format/chain.rs ChainRecord", "records"),
    ("storage/repository/format/chain.rs Change", "records"),
    ("storage/repository/format/chain.rs FoldedName", "records"),
    ("storage/repository/format/chain.rs FoldedState", "records"),
    ("storage/repository/format/chain.rs KeysName", "records"),
    ("storage/repository/format/chain.rs KeysRecord", "records"),
    ("storage/repository/format/chain.rs OpenGeneration", "records"),
    ("storage/repository/format/chain.rs RosterEntry", "records"),
    ("storage/repository/format/chain.rs SessionName", "records"),
    ("storage/repository/format/chain.rs SettledSession", "records"),
    ("storage/repository/format/chain.rs VoidSession", "records"),
    ("storage/repository/format/checks.rs CheckRecord", "check_entries"),
    ("storage/repository/format/config.rs Config", "config"),
    ("storage/repository/format/hold.rs HoldRecord", "records"),
    ("storage/repository/format/hold.rs Standing", "records"),
    ("storage/repository/format/lost.rs LostPart", "records"),
    ("storage/repository/format/lost.rs LostRange", "records"),
    ("storage/repository/format/lost.rs LostRecord", "records"),
    ("storage/repository/format/mod.rs decode", "records"),
    ("storage/repository/format/point.rs AttachmentEntry", "records"),
    ("storage/repository/format/point.rs DiskEntry", "records"),
    ("storage/repository/format/point.rs PointRecord", "records"),
    ("storage/repository/format/point.rs ProvenanceEntry", "records"),
    ("storage/repository/format/point.rs StreamEntry", "records"),
    ("storage/repository/format/session.rs Commit", "records"),
    ("storage/repository/format/session.rs Outcome", "records"),
    ("storage/repository/format/session.rs Purpose", "records"),
    ("storage/repository/format/session.rs SessionCheckpoint", "records"),
    ("storage/repository/format/session.rs SessionOpen", "records"),
    ("storage/repository/format/session.rs SessionOutcome", "records"),
    ("storage/repository/format/session.rs SessionSeen", "records"),
    ("storage/repository/format/session.rs Tombstone", "records"),
    ("storage/repository/ids.rs decode", "records"),
    ("storage/repository/index/filter.rs decode", "index_footer"),
    ("storage/repository/index/footer.rs decode", "index_footer"),
    ("storage/repository/index/footer.rs decode_head", "index_footer"),
    ("storage/repository/index/footer.rs decode_packs", "index_footer"),
    ("storage/repository/index/footer.rs decode_prefixes", "index_footer"),
    ("storage/repository/index/page.rs decode", "index_page"),
    ("storage/repository/index/trailer.rs decode", "index_trailer"),
    ("storage/repository/index/trailer.rs parse", "index_trailer"),
    ("storage/repository/keys/credential.rs parse", "text"),
    ("storage/repository/keys/keyring.rs Bytes32", "records"),
    ("storage/repository/keys/keyring.rs EpochKeys", "records"),
    ("storage/repository/keys/keyring.rs KeyBundle", "records"),
    ("storage/repository/keys/mod.rs Capability", "records"),
    ("storage/repository/keys/recipient.rs from_str", "text"),
    ("storage/repository/keys/share.rs EpochShare", "epoch_share"),
    ("storage/repository/keys/share.rs from_object", "epoch_share"),
    ("storage/repository/keys/slot.rs Slot", "slot"),
    ("storage/repository/keys/slot.rs SlotKind", "slot"),
    ("storage/repository/keys/slot.rs SlotWithMac", "slot"),
    ("storage/repository/keys/slot.rs from_object", "slot"),
    ("storage/repository/keys/slot.rs open", "slot"),
    ("storage/repository/map/node.rs decode_leaf", "map_walk"),
    ("storage/repository/map/node.rs decode_node", "map_node"),
    ("storage/repository/objects.rs open_record", "signed_record"),
    ("storage/repository/open.rs read_config", "config"),
    ("storage/repository/pack/directory.rs KeyEntry", "pack_directory"),
    ("storage/repository/pack/directory.rs decode", "pack_directory"),
    ("storage/repository/points.rs from_str", "text"),
    ("storage/repository/points.rs parse_moment", "text"),
];

/// Functions that take no bytes from outside although they are called like one that does.
const NO_DECODERS: &[&str] = &[
    // They get what a decoder above has let through.
    "hypervisor/image/layer.rs decompress",
    "hypervisor/image/qcow2/read.rs decompress",
    "storage/repository/write/disk.rs parse_chunker",
    // Object keys, of which the backends' listings make no others.
    "storage/repository/state.rs parse_session_key",
    "storage/repository/hold/log.rs parse_hold_key",
    "storage/repository/lost/log.rs parse_lost_key",
];

/// How functions that decode are called.
const NAMES: [&str; 9] = [
    "decode",
    "decompress",
    "epoch_of",
    "from_object",
    "from_str",
    "open_record",
    "parse",
    "read_config",
    "read_ranges",
];

/// Those that are called like something else too.
const OTHERS: [(&str, &str); 4] = [
    ("hypervisor/image/token.rs", "take_number"),
    ("storage/repository/crypto/envelope.rs", "open"),
    ("storage/repository/crypto/frame.rs", "open"),
    ("storage/repository/keys/slot.rs", "open"),
];

#[test]
fn no_target_panics_on_mutations_of_what_it_accepts() {
    // Two at once: each target is timed, not counted, and must get somewhere.
    let queue = std::sync::Mutex::new(TARGETS.iter());
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(target) = { queue.lock().unwrap().next() } {
                    let inputs = smoke(&(target.seeds)(), smoke_time(), target.run);
                    println!("{:>16}: {inputs} inputs", target.name);
                }
            });
        }
    });
}

#[test]
fn every_decoder_in_the_sources_is_reached_by_a_target() {
    let found = decoders();
    let known: BTreeSet<_> = REACHED_BY.iter().map(|(decoder, _)| (*decoder).to_owned()).collect();
    let missing: Vec<_> = found.iter().filter(|name| !known.contains(*name)).collect();
    assert!(missing.is_empty(), "decoders without a fuzz target: {missing:#?}");
    let gone: Vec<_> = known.difference(&found).collect();
    assert!(gone.is_empty(), "these decoders are gone from the sources: {gone:#?}");
}

#[test]
fn every_target_has_a_file_and_every_file_is_a_target() {
    let mut names: BTreeSet<_> = TARGETS.iter().map(|target| target.name.to_owned()).collect();
    // Its input is what an image is made of, so that its body is no use here.
    names.insert("qcow2_tables".to_owned());
    let manifest = fs::read_to_string(root().join("fuzz/Cargo.toml")).unwrap();
    let mut files = BTreeSet::new();
    for entry in fs::read_dir(root().join("fuzz/fuzz_targets")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        assert!(manifest.contains(&format!("name = \"{name}\"")), "{name} is not in the manifest");
        files.insert(name);
    }
    assert_eq!(files, names);
    for (decoder, target) in REACHED_BY {
        assert!(names.contains(*target), "{decoder} is said to be reached by {target}, which is no target");
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Every type that decodes itself from CBOR and every function that is called like a decoder, by file.
fn decoders() -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for package in ["core", "hypervisor", "storage"] {
        let sources = root().join(package).join("src");
        visit(&sources, &mut |path, text| {
            let file = format!("{package}/{}", path.strip_prefix(&sources).unwrap().display());
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or(text);
            let mut derived = false;
            for line in text.lines().map(str::trim_start) {
                if line.starts_with("#[derive(") {
                    derived |= line.contains("Decode");
                } else if let Some(name) = declared(line, &["struct ", "enum "]) {
                    if std::mem::take(&mut derived) {
                        found.insert(format!("{file} {name}"));
                    }
                } else if let Some(name) = declared(line, &["fn "]) {
                    let is_one = NAMES.iter().any(|stem| {
                        name.strip_prefix(stem).is_some_and(|rest| rest.is_empty() || rest.starts_with('_'))
                    });
                    let name_here = format!("{file} {name}");
                    if (is_one || OTHERS.contains(&(file.as_str(), name))) && !NO_DECODERS.contains(&name_here.as_str())
                    {
                        found.insert(name_here);
                    }
                }
            }
        });
    }
    found
}

/// The name that a line declares with one of these words, whatever its visibility.
fn declared<'a>(line: &'a str, words: &[&str]) -> Option<&'a str> {
    let line = match line.strip_prefix("pub") {
        Some(rest) if rest.starts_with('(') => rest.split_once(") ")?.1,
        Some(rest) => rest.trim_start(),
        None => line,
    };
    let line = ["async ", "const "].iter().fold(line, |line, word| line.strip_prefix(word).unwrap_or(line));
    let rest = words.iter().find_map(|word| line.strip_prefix(word))?;
    rest.split(|letter: char| !letter.is_alphanumeric() && letter != '_').next()
}

fn visit(folder: &Path, take: &mut impl FnMut(&Path, &str)) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            if path.file_name().is_none_or(|name| name != "tests") {
                visit(&path, take);
            }
        } else if path.extension().is_some_and(|ending| ending == "rs")
            && !["fuzz.rs", "fuzzing.rs"].iter().any(|name| path.ends_with(name))
        {
            take(&path, &fs::read_to_string(&path).unwrap());
        }
    }
}
