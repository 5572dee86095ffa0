//! Containers in machines of QEMU with Debian's kernels, for what the host at hand has not: other control groups, systemd, a
//! kernel that criu works on.
//!
//! Each test boots a machine, in which this program runs the same test again: there it goes through its cases.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a failure here is the test's")]

#[path = "../common/mod.rs"]
mod common;

mod checkpoint;
mod systemd;
mod unified;

use std::panic::catch_unwind;
use std::path::Path;

use atoll_testkit::machine::Machine;
use common::RUNTIME;

/// Says that this program runs in the machine.
const INSIDE: &str = "ATOLL_IN_MACHINE";

/// Whether this program runs in the machine.
fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test with this name again in the machine, then the shell's commands `more`.
#[track_caller]
fn passes_in(machine: &Machine, test: &str, more: &str) {
    let own = std::env::current_exe().unwrap();
    let own = own.to_str().unwrap();
    machine.add(Path::new(own), own).unwrap();
    machine.add(Path::new(RUNTIME), RUNTIME).unwrap();
    let again = format!("{own} --exact {test} --nocapture --test-threads 1");
    let script = format!("export {INSIDE}=1 RUST_BACKTRACE=0\n{again} || exit 1\n{more}");
    let outcome = machine.run(&script).unwrap();
    println!("{}", outcome.output);
    assert_eq!(outcome.code, Some(0), "in the machine");
    // A program that finds no such test succeeds too.
    assert!(outcome.output.contains("test result: ok. 1 passed"), "{test} did not run in the machine");
}

/// In the machine: goes through every case, whatever becomes of those before it, since a machine takes minutes.
#[track_caller]
fn pass<'a>(cases: impl IntoIterator<Item = &'a (&'static str, fn())>) {
    let mut failed = Vec::new();
    for (name, case) in cases {
        let passed = catch_unwind(*case).is_ok();
        println!("case {name} ... {}", if passed { "ok" } else { "FAILED" });
        if !passed {
            failed.push(*name);
        }
    }
    assert!(failed.is_empty(), "cases that failed: {failed:?}");
}
