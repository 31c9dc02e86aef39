//! Keys with less than all capabilities, from outside.

use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::kit::{Home, MIB, content, failed, succeeded};

/// Runs it with another key file than the owner's.
fn with(home: &Home, key: &str, args: &[&str]) -> std::process::Output {
    home.command(args).env("BACKSTAY_KEY_FILE", home.path(key)).output().unwrap()
}

fn ids(list: &Value) -> Vec<(String, String, String)> {
    let text = |key: &Value, field: &str| key[field].as_str().unwrap().to_owned();
    let keys = list["keys"].as_array().unwrap();
    keys.iter().map(|key| (text(key, "id"), text(key, "kind"), text(key, "capability"))).collect()
}

#[test]
fn keys_are_exported_listed_used_and_removed() {
    let home = Home::new();
    let disk = content(1, 4 * MIB);
    std::fs::write(home.path("disk.raw"), &disk).unwrap();
    for capability in ["writer", "reader", "keeper"] {
        let made = home.json(["key", "export", "--capability", capability, "--to", capability, "--label", "a label"]);
        assert_eq!(made["key"]["capability"], capability);
        assert_eq!(std::fs::metadata(home.path(capability)).unwrap().permissions().mode() & 0o777, 0o600);
        home.fails(13, ["key", "export", "--capability", capability, "--to", capability]);
    }
    let list = home.json(["key", "list"]);
    assert_eq!(list["keys"].as_array().unwrap().len(), 4);
    assert_eq!(list["keys"][0]["opened"], true);
    let text = home.ok(["key", "list"]);
    assert!(text.contains("a label") && text.contains("keeper") && !text.contains("BACKSTAY-"), "{text}");

    let backup = ["backup", "disk.raw", "--workload", "web", "--format", "raw"];
    succeeded(with(&home, "writer", &backup));
    assert!(String::from_utf8_lossy(&with(&home, "reader", &backup).stderr).contains("writer's or the owner's"));
    let restore = |key: &str, to: &str| with(&home, key, &["restore", "web@latest", "--to", to, "--json"]);
    succeeded(restore("reader", "restored.raw"));
    assert!(std::fs::read(home.path("restored.raw")).unwrap() == disk);
    failed(14, restore("writer", "no.raw"));
    failed(14, restore("keeper", "no.raw"));
    succeeded(with(&home, "keeper", &["prune"]));
    failed(14, with(&home, "reader", &["prune", "--json"]));
    let told = failed(14, with(&home, "writer", &["key", "list", "--json"]));
    assert!(told["message"].as_str().unwrap().contains("open the repository with an owner's key"), "{told}");

    let writer = ids(&list).into_iter().find(|(_, _, capability)| capability == "writer").unwrap().0;
    let removed = home.json(["key", "remove", &writer[..8]]);
    assert_eq!(removed["removed"]["id"], writer.as_str());
    let told = failed(14, with(&home, "writer", &["points", "--json"]));
    assert!(told["message"].as_str().unwrap().contains("opens no key slot"), "{told}");
    assert!(home.json(["key", "remove", &writer])["removed"].is_null(), "a second run finds it done");
    let epoch = removed["epoch"].as_u64().unwrap();
    assert!(home.json(["key", "rotate"])["epoch"].as_u64().unwrap() > epoch);
    home.ok(backup);
    succeeded(restore("reader", "again.raw"));
    home.ok(["check", "--read", "all"]);
    let own = ids(&home.json(["key", "list"])).remove(0).0;
    let told = home.fails(11, ["key", "remove", &own]);
    assert!(told["message"].as_str().unwrap().contains("last owner"), "{told}");
}

#[test]
fn every_sort_of_key_can_be_added_and_opens() {
    let home = Home::new();
    std::fs::write(home.path("pass"), "correct horse\n").unwrap();
    home.json(["key", "add", "--new-passphrase-file", "pass", "--capability", "reader"]);
    home.json(["points", "--passphrase-file", "pass"]);
    let added = home.json(["key", "add", "--recovery", "--capability", "owner"]);
    std::fs::write(home.path("recovery"), added["recovery_key"].as_str().unwrap()).unwrap();
    home.json(["key", "list", "--key-file", "recovery"]);
    home.json(["key", "add", "--key-file", "second", "--capability", "owner"]);
    home.json(["key", "list", "--key-file", "second"]);
    home.fails(13, ["key", "add", "--key-file", "second", "--capability", "owner"]);

    let made = home.json(["key", "generate", "--to", "far"]);
    let added = home.json(["key", "add", "--recipient", made["recipient"].as_str().unwrap(), "--capability", "reader"]);
    let told = home.fails(14, ["points", "--key-file", "far"]);
    assert!(told["message"].as_str().unwrap().contains("owner HEX"), "{told}");
    let mut far = std::fs::read_to_string(home.path("far")).unwrap();
    far.push_str(&format!("owner {}\n", added["owner"].as_str().unwrap()));
    std::fs::write(home.path("far"), &far).unwrap();
    home.json(["points", "--key-file", "far"]);
    let stranger = far.replace(added["owner"].as_str().unwrap(), &"0".repeat(64));
    std::fs::write(home.path("stranger"), stranger).unwrap();
    home.fails(18, ["points", "--key-file", "stranger"]);

    assert!(
        home.fails(11, ["key", "add", "--capability", "reader"])["message"].as_str().unwrap().contains("--recipient")
    );
    let kinds: Vec<_> = ids(&home.json(["key", "list"])).into_iter().map(|(_, kind, _)| kind).collect();
    assert_eq!(kinds, ["key-file", "passphrase", "recovery", "key-file", "recipient"]);
}
