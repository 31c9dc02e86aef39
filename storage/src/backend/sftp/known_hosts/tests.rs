use std::time::Duration;

use backstay_core::ErrorKind;
use backstay_testkit::fuzz::smoke;

use super::*;

const ED25519: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIMW0q3ZfvYyS5kQ0R4vXK2yqNqI7T2B3a5Vb0mFhQxZk";
const RSA: &str = "ssh-rsa AAAAB3NzaC1yc2EAAAADAQABAAAAgQ==";

fn read(text: &str, host: &str, port: u16) -> Result<KnownHost> {
    let mut reader = KnownHostReader::new(host, port);
    reader.parse_known_hosts(text.as_bytes(), "file")?;
    Ok(reader.finish())
}

fn lines_for(text: &str, host: &str, port: u16) -> Vec<String> {
    read(text, host, port).unwrap().keys.into_iter().map(|listed| listed.at).collect()
}

#[test]
fn names_patterns_and_exceptions_mean_what_ssh_says() {
    let text = format!(
        "# comment\n\nHost,10.0.0.1 {ED25519} me@here\n*.example.com,!bad.example.com {ED25519}\nh?st {RSA}\n\
         [host]:2222 {RSA}\nno key here\nhost ssh-ed25519 {}\n",
        RSA.split(' ').nth(1).unwrap()
    );
    assert_eq!(lines_for(&text, "HOST", 22), ["file:3", "file:5"]);
    assert_eq!(lines_for(&text, "10.0.0.1", 22), ["file:3"]);
    assert_eq!(lines_for(&text, "a.b.example.com", 22), ["file:4"]);
    assert!(lines_for(&text, "bad.example.com", 22).is_empty());
    assert!(lines_for(&text, "example.com", 22).is_empty());
    // A line with the port puts those without it aside; where there is none they count.
    assert_eq!(lines_for(&text, "host", 2222), ["file:6"]);
    assert_eq!(lines_for(&text, "host", 2223), ["file:3", "file:5"]);
}

#[test]
fn hashed_names_are_found_and_others_are_not() {
    // HMAC-SHA1 of the name under the salt.
    let salt = [7; 20];
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &salt);
    let hash = hmac::sign(&key, b"[host]:2222");
    let line = format!("|1|{}|{} {ED25519}\n", Base64::encode_string(&salt), Base64::encode_string(hash.as_ref()));
    assert_eq!(lines_for(&line, "Host", 2222).len(), 1);
    assert!(lines_for(&line, "host", 22).is_empty());
    for broken in ["|1|", "|1|AAAA", "|1|AAAA|", "|1|!|!", "|2|AAAA|AAAA"] {
        assert!(lines_for(&format!("{broken} {ED25519}"), "host", 2222).is_empty(), "{broken}");
    }
}

#[test]
fn markers_are_kept_apart_and_a_revocation_needs_no_port() {
    let text = format!("@cert-authority *.x {ED25519}\n@revoked * {RSA}\n@later * {RSA}\nhost {RSA}\n[a.x]:99 {RSA}\n");
    let known = read(&text, "a.x", 99).unwrap();
    assert_eq!((known.keys.len(), known.authorities.len(), known.revoked.len()), (1, 0, 1));
    assert_eq!(read(&text, "a.x", 22).unwrap().authorities.len(), 1);
    assert_eq!(read(&text, "host", 22).unwrap().keys[0].at, "file:4");
}

#[test]
fn what_revokes_and_cannot_be_read_is_an_error_and_all_else_is_passed_over() {
    for line in
        ["@revoked", "@revoked *", "@revoked * ssh-ed25519", "  @revoked * ssh-ed25519 AAAA!", "@revoked * a AAAAAWI="]
    {
        assert_eq!(read(line, "host", 22).unwrap_err().kind(), ErrorKind::InvalidInput, "{line}");
        let harmless = line.replace("@revoked", "@cert-authority");
        assert!(read(&harmless, "host", 22).unwrap().authorities.is_empty(), "{harmless}");
    }
    let endless = format!("{} {ED25519}\nhost {ED25519}\n", "host,".repeat(LONGEST_LINE));
    assert_eq!(lines_for(&endless, "host", 22), ["file:2"]);
    assert!(read(&format!("host {ED25519}\n").repeat(MOST_ENTRIES + 1), "host", 22).is_err());
}

#[test]
fn a_pattern_of_many_stars_takes_no_time() {
    let pattern = "a*".repeat(10_000);
    let name = "a".repeat(255);
    assert!(!wildcard(&pattern, &name));
    assert!(wildcard(&"*".repeat(10_000), &name));
    assert!(wildcard("a*b?c*", "aXXbYc") && !wildcard("a*b?c", "aXXbc"));
}

#[test]
fn no_bytes_make_the_reader_panic() {
    let seed = format!(
        "host\n@cert-authority host,*.x {ED25519}\n|1|AAAA|AAAA {RSA}\n[host]:2222 {ED25519}\n@revoked h* {RSA}\n"
    );
    smoke(&[seed.into_bytes()], Duration::from_millis(500), fuzz_known_hosts);
}
