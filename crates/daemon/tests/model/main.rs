//! Random calls against a daemon and against a model of it in memory. The daemon is killed at random, also in the middle of
//! a call; supervisors are killed, workloads end by themselves; many clients want the same at once. After each step all
//! that can be observed of the host is compared with the model.
//!
//! `MODEL_SEED` (a number, or `random`) and `MODEL_STEPS` choose another story than the one that CI is told.

#[path = "../raw/mod.rs"]
mod raw;
#[path = "../support/mod.rs"]
mod support;

mod call;
mod drive;
mod facts;
mod generate;
mod remains;
mod streams;
mod world;

/// The story that CI is told.
const SEED: u64 = 4;
/// Its length.
const STEPS: u64 = 160;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable).as_deref() {
        Ok("random") => std::time::UNIX_EPOCH.elapsed().map_or(default, |since| u64::from(since.subsec_nanos())),
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable} is a number")),
        Err(_) => default,
    }
}

#[test]
fn a_host_is_as_the_model_has_it() {
    let (seed, steps) = (number("MODEL_SEED", SEED), number("MODEL_STEPS", STEPS));
    println!("MODEL_SEED={seed} MODEL_STEPS={steps}");
    let Some(mut drive) = drive::Drive::new(seed) else { return };
    for _ in 0..steps {
        drive.step();
    }
    drive.finish();
}
