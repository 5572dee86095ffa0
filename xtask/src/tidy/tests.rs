//! Each rule with text that breaks it and text that does not.

use super::edges::{self, Package};
use super::{Finding, exceptions, source, text};

/// Rules that `code` at `path` breaks, with the items.
#[track_caller]
fn check(path: &str, code: &str, expected: &[(&str, &str)]) {
    let found = source::check(path, code);
    let found: Vec<(&str, &str)> = found.iter().map(|finding| (finding.rule, finding.item.as_str())).collect();
    assert_eq!(found, expected, "{path}:\n{code}");
}

fn inside(code: &str) -> String {
    format!("//! A module.\n{code}")
}

#[test]
fn modules_open_with_a_comment_and_roots_forbid_unsafe() {
    check("crates/oci/src/digest.rs", "fn a() {}", &[("module-doc", "")]);
    check("crates/oci/src/digest.rs", "//! Digests.\nfn a() {}", &[]);
    check("crates/oci/src/lib.rs", "//! Formats.\n", &[("forbid-unsafe", "")]);
    check("crates/oci/src/lib.rs", "//! Formats.\n#![forbid(unsafe_code)]\n", &[]);
    check("crates/cli/src/bin/atoll.rs", "//! The program.\n", &[("forbid-unsafe", "")]);
    check("crates/sys/src/lib.rs", "//! Wrappers.\n", &[]);
}

#[test]
fn sizes_have_budgets() {
    let lines = |count: usize| "    let _ = 1;\n".repeat(count);
    let function = |count| inside(&format!("fn long() {{\n{}}}\n", lines(count)));
    check("crates/oci/src/a.rs", &function(70), &[]);
    check("crates/oci/src/a.rs", &function(71), &[("function-lines", "long")]);
    check("crates/oci/src/tests.rs", &function(71), &[]);
    check("crates/oci/src/a.rs", &inside(&format!("fn f() {{\n{}}}\n", "    // why\n\n".repeat(80))), &[]);

    let consts = |count: usize| (0..count).map(|at| format!("const C{at}: u8 = 0;\n")).collect::<String>();
    check("crates/oci/src/a.rs", &inside(&consts(500)), &[]);
    check("crates/oci/src/a.rs", &inside(&consts(501)), &[("file-lines", "")]);
    let tests = format!("{}#[cfg(test)]\nmod tests {{\n{}}}\n", consts(490), consts(200));
    check("crates/oci/src/a.rs", &inside(&tests), &[]);

    let fields = |count: usize| (0..count).map(|at| format!("f{at}: u8,")).collect::<String>();
    check("crates/oci/src/a.rs", &inside(&format!("struct S {{ {} }}", fields(12))), &[]);
    check("crates/oci/src/a.rs", &inside(&format!("struct S {{ {} }}", fields(13))), &[("struct-fields", "S")]);
    check("crates/oci/src/a.rs", &inside(&format!("#[derive(Debug, Deserialize)] struct S {{ {} }}", fields(13))), &[]);

    let methods = |count: usize| (0..count).map(|at| format!("fn m{at}(&self);")).collect::<String>();
    check("crates/oci/src/a.rs", &inside(&format!("trait T {{ {} }}", methods(12))), &[]);
    check("crates/oci/src/a.rs", &inside(&format!("trait T {{ {} }}", methods(13))), &[("trait-methods", "T")]);
}

#[test]
fn error_enums_are_small_and_name_their_cases() {
    let variants = |count: usize| (0..count).map(|at| format!("V{at},")).collect::<String>();
    let error = |inner: &str| inside(&format!("#[derive(Debug, thiserror::Error)] enum Error {{ {inner} }}"));
    check("crates/oci/src/a.rs", &error(&variants(16)), &[]);
    check("crates/oci/src/a.rs", &error(&variants(17)), &[("error-variants", "Error")]);
    check("crates/oci/src/a.rs", &error("Other(String)"), &[("error-other", "Error")]);
    check("crates/oci/src/a.rs", &error("Io(std::io::Error)"), &[]);
    check("crates/oci/src/a.rs", &inside(&format!("enum Kind {{ {} }}", variants(40))), &[]);
}

#[test]
fn unwrap_stays_in_tests() {
    check("crates/oci/src/a.rs", &inside("fn f() { g().unwrap(); }"), &[("unwrap", "")]);
    check("crates/oci/src/a.rs", &inside("fn f() { g().unwrap_or(1); g().expect(\"why\"); }"), &[]);
    check("crates/oci/src/a.rs", &inside("#[cfg(test)] mod t { fn f() { g().unwrap(); } }"), &[]);
    check("crates/oci/tests/a.rs", &inside("fn f() { g().unwrap(); }"), &[]);
    check("crates/oci/src/a.rs", "fn (", &[("parse", "")]);
}

#[test]
fn text_is_clean_and_links_lead_somewhere() {
    let check = |path: &str, text: &str, expected: &[(usize, &str)]| {
        let found = text::check(path, text, &|link| link == "docs/A.md");
        let found: Vec<(usize, &str)> = found.iter().map(|finding| (finding.line, finding.rule)).collect();
        assert_eq!(found, expected, "{path}: {text:?}");
    };
    check("a.rs", "a\n\n", &[]);
    check("a.rs", "a\n\tb\nc \n", &[(2, "tab"), (3, "trailing-space")]);
    check("a.toml", "a", &[(1, "final-line-end")]);
    check("scripts/test", "a\t\n", &[(1, "tab"), (1, "trailing-space")]);
    check("a.bin", "\t", &[]);
    check("fuzz/corpus/x/a.json", "\t", &[]);
    check("README.md", "[a](docs/A.md) [b](docs/B.md#c) [c](https://x.invalid/)\n", &[(1, "dead-link")]);
    check("docs/C.md", "[a](A.md#part) [b](../docs/A.md) [c](#here) [d](./B.md)\n", &[(1, "dead-link")]);
}

#[test]
fn edges_are_those_of_the_table() {
    let package = |folder: &str, dependencies: &[(&str, bool)]| Package {
        folder: folder.to_owned(),
        dependencies: dependencies.iter().map(|(name, test)| ((*name).to_owned(), *test)).collect(),
    };
    let check = |packages: &[Package], expected: &[&str]| {
        let found: Vec<String> = edges::check(packages).into_iter().map(|finding| finding.item).collect();
        assert_eq!(found, expected, "{packages:?}");
    };
    check(&[package("store", &[("oci", false), ("sys", false), ("testkit", true)])], &[]);
    check(&[package("store", &[("engine", false)])], &["engine"]);
    check(&[package("store", &[("testkit", false)])], &["testkit"]);
    check(&[package("store", &[("engine", true)])], &["engine"]);
    check(&[package("utils", &[])], &["utils"]);
}

#[test]
fn the_table_of_crates_has_no_cycle_and_no_stranger() {
    // A crate may only depend on crates that can be built before it.
    let mut built: Vec<String> = Vec::new();
    let all: Vec<&str> = edges::TABLE.iter().map(|(name, _)| *name).collect();
    while built.len() < all.len() {
        let ready = |deps: &[&str]| deps.iter().all(|dep| built.iter().any(|done| done == dep));
        let next = edges::TABLE.iter().find(|(name, deps)| !built.iter().any(|done| done == name) && ready(deps));
        let (name, _) = next.unwrap_or_else(|| panic!("a cycle or an unknown crate among {all:?} after {built:?}"));
        built.push((*name).to_owned());
    }
}

#[test]
fn exceptions_hold_a_limit_and_a_reason() {
    let finding = |amount| Finding {
        path: "a.rs".to_owned(),
        line: 1,
        rule: "file-lines",
        item: String::new(),
        amount,
        text: "too long".to_owned(),
    };
    let check = |file: &str, findings: Vec<Finding>, expected: &[&str]| {
        let left = exceptions::apply(file, findings).expect("parses");
        let left: Vec<&str> = left.iter().map(|finding| finding.rule).collect();
        assert_eq!(left, expected, "{file}");
    };
    let excuse = "[[exception]]\nrule = \"file-lines\"\npath = \"a.rs\"\nlimit = 600\nreason = \"a table\"\n";
    check("", vec![finding(501)], &["file-lines"]);
    check(excuse, vec![finding(600)], &[]);
    check(excuse, vec![finding(601)], &["file-lines"]);
    check(excuse, vec![], &["exception"]);
    check(&excuse.replace("a table", " "), vec![finding(501)], &["exception"]);
    assert!(exceptions::apply("[[exception]]\nrule = \"x\"\n", vec![]).is_err());
}
