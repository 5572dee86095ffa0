//! Waiting, against every order in which things can happen.

use atoll_model::{Command, Host, ImageRef, LifeCycle, Resources, Security, Timestamp};
use atoll_oci::Digest;

use super::*;

const STARTED: Transition = Transition::Started { pid: 1, at: Timestamp(5) };

fn exit(code: i32) -> Exit {
    Exit { code, oom_killed: false, at: Timestamp(9) }
}

fn entry() -> Entry {
    let digest = Digest::sha256(b"");
    let workload = Workload {
        id: WorkloadId::from_bytes([7; 32]),
        name: "web".to_owned(),
        created: Timestamp(1),
        isolation: atoll_model::Isolation::Container,
        image: ImageRef { name: "i".to_owned(), manifest: digest.clone(), id: digest, layers: Vec::new() },
        command: Command::default(),
        host: Host::default(),
        security: Security::default(),
        resources: Resources::default(),
        mounts: Vec::new(),
        life: LifeCycle::default(),
        labels: BTreeMap::new(),
    };
    Entry::new(workload, Phase::CREATED)
}

fn apply(entry: &Entry, transitions: &[Transition]) {
    for transition in transitions {
        entry.advance(transition).expect("a transition that fits");
    }
}

/// Waits for `condition` after `before`, while `meanwhile` happens; `None` when the wait is not over.
async fn check(condition: WaitCondition, before: &[Transition], meanwhile: &[Transition], expected: Option<i32>) {
    let entry = entry();
    apply(&entry, before);
    let waiter = entry.wait(condition);
    apply(&entry, meanwhile);
    let done = tokio::time::timeout(std::time::Duration::from_millis(20), waiter.done()).await;
    assert_eq!(done.ok().map(|exit| exit.code), expected, "{condition:?} after {before:?} with {meanwhile:?}");
}

#[tokio::test]
async fn waiting_for_not_running() {
    let condition = WaitCondition::NotRunning;
    let run = [Transition::Start, STARTED];
    check(condition, &[], &[], Some(0)).await;
    check(condition, &run, &[], None).await;
    check(condition, &run, &[Transition::Exit(exit(3))], Some(3)).await;
    let rest = Transition::Rest(exit(5));
    check(condition, &run, std::slice::from_ref(&rest), Some(5)).await;
    check(condition, &run, &[rest.clone(), STARTED], Some(5)).await;
    check(condition, &[run[0].clone(), run[1].clone(), rest.clone()], &[], None).await;
    check(condition, &[run[0].clone(), run[1].clone(), rest], &[Transition::Exit(exit(5))], Some(5)).await;
    check(condition, &[Transition::Start], &[Transition::Failed { code: 127, at: Timestamp(2) }], Some(127)).await;
}

#[tokio::test]
async fn waiting_for_the_next_exit_is_not_fooled_by_an_earlier_one_or_a_restart() {
    let condition = WaitCondition::NextExit;
    let run = [Transition::Start, STARTED, Transition::Exit(exit(3))];
    check(condition, &[], &[], None).await;
    check(condition, &run, &[], None).await;
    check(condition, &[], &run, Some(3)).await;
    check(condition, &[], &[run[0].clone(), run[1].clone(), Transition::Rest(exit(3))], Some(3)).await;
    check(condition, &[], &[run[0].clone(), run[1].clone(), run[2].clone(), Transition::Start], Some(3)).await;
}

#[tokio::test]
async fn waiting_for_removal() {
    let entry = entry();
    apply(&entry, &[Transition::Start, STARTED]);
    let waiter = entry.wait(WaitCondition::Removed);
    apply(&entry, &[Transition::Exit(exit(4)), Transition::Remove]);
    entry.standing.send_modify(|standing| standing.removed = true);
    assert_eq!(waiter.done().await.code, 4);
}

#[test]
fn a_refused_transition_changes_nothing() {
    let entry = entry();
    assert!(entry.advance(&Transition::Pause).is_err());
    assert_eq!(entry.phase(), Phase::CREATED);
}
