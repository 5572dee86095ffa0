//! Rules over devices: systemd's reload must not undo them.

use std::fs;

use serde_json::{Value, json};

use super::*;

/// A container that may make nodes and see the kernel's messages, with these device rules.
fn with_devices(bundle: &Bundle, rules: &Value) {
    bundle.with_path(&format!(":lib:{}", bundle.id));
    bundle.edit(|spec| {
        spec["linux"]["resources"] = json!({"devices": rules});
        for set in ["bounding", "effective", "permitted"] {
            spec["process"]["capabilities"][set]
                .as_array_mut()
                .unwrap()
                .extend([json!("CAP_MKNOD"), json!("CAP_SYSLOG")]);
        }
    });
}

/// Whether a device of this kind and number can be opened in the container to read; its node is made there.
fn can_read(bundle: &Bundle, device: &str) -> bool {
    let script = format!("rm -f /node; mknod /node {device} || exit 9; (: < /node) 2>&-");
    let output = bundle.call(&["exec", &bundle.id, "sh", "-c", &script]);
    assert_ne!(output.status.code(), Some(9), "{}", text(&output));
    output.status.success()
}

pub(super) fn device_rules_outlive_a_reload() {
    let (random, messages, control, loop0, loop1) = ("c 1 9", "c 1 11", "c 10 237", "b 7 0", "b 7 1");
    let none = json!({"allow": false, "access": "rwm"});
    let rule = |typ: &str, major: i64, minor: i64| json!({"allow": true, "type": typ, "major": major, "minor": minor, "access": "rw"});
    on_both("sleep 1000", |bundle| {
        let unit = format!("lib-{}.scope", bundle.id);
        with_devices(bundle, &json!([none, rule("c", 1, 11), rule("c", 10, -1), rule("b", 7, 0)]));
        bundle.keeps_running();
        let policy = if has_version_1() || bundle.is_peers() { "strict" } else { "auto" };
        check_unit(false, &unit, &[("DevicePolicy", policy)]);
        check_across_reload(bundle, &[random, messages, control, loop0], &[loop1]);
        // The peer changes no device rules.
        if !bundle.is_peers() {
            let file = bundle.path().join("resources");
            fs::write(&file, json!({"devices": [none, rule("b", 7, 1)]}).to_string()).unwrap();
            bundle.succeeds(&["update", "-r", file.to_str().unwrap(), &bundle.id]);
            check_across_reload(bundle, &[random, loop1], &[messages, control, loop0]);
        }
        bundle.is_killed_and_deleted();
        check_gone(false, &unit, &format!("system.slice/{unit}"));
    });
    on_both("sleep 1000", |bundle| {
        with_devices(bundle, &json!([none, {"allow": true, "access": "rwm"}]));
        bundle.keeps_running();
        check_unit(false, &format!("lib-{}.scope", bundle.id), &[("DevicePolicy", "auto")]);
        check_across_reload(bundle, &[random, messages, control, loop0, loop1], &[]);
    });
}

/// These devices can be read and those cannot, and it is so when systemd has read its configuration again.
fn check_across_reload(bundle: &Bundle, readable: &[&str], others: &[&str]) {
    for when in ["before", "after"] {
        for device in readable {
            assert!(can_read(bundle, device), "{device} {when} the reload");
        }
        for device in others {
            assert!(!can_read(bundle, device), "{device} {when} the reload");
        }
        host(systemctl(false).arg("daemon-reload"));
    }
}

pub(super) fn devices_that_systemd_cannot_keep() {
    let bundle = bundle("echo escaped").unwrap();
    let all = json!({"allow": true, "access": "rwm"});
    with_devices(&bundle, &json!([all, {"allow": false, "type": "c", "major": 1, "minor": 1, "access": "rwm"}]));
    let output = bundle.in_foreground();
    let said = text(&output);
    assert!(
        !output.status.success() && said.contains("which systemd cannot keep") && !said.contains("escaped"),
        "{said}"
    );
    let unit = format!("lib-{}.scope", bundle.id);
    check_gone(false, &unit, &format!("system.slice/{unit}"));
}
