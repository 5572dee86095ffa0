//! What went wrong, as the daemon is told.

use atoll_container::{CreateError, ExecError, PlanError, StartError};
use atoll_model::sentence;
use atoll_wall::message::{Failure, FailureKind};

fn failure(kind: FailureKind, error: &dyn std::error::Error) -> Failure {
    Failure { kind, message: sentence(error) }
}

/// Something of the host failed.
pub(crate) fn internal(error: &dyn std::error::Error) -> Failure {
    failure(FailureKind::Internal, error)
}

/// It does not fit what is going on.
pub(crate) fn not_now(message: &str) -> Failure {
    Failure { kind: FailureKind::NotNow, message: message.to_owned() }
}

fn plan_kind(error: &PlanError) -> FailureKind {
    match error {
        PlanError::Unsupported { .. } => FailureKind::Unsupported,
        PlanError::Invalid { .. } | PlanError::Seccomp(_) => FailureKind::Invalid,
    }
}

pub(crate) fn of_create(error: &CreateError) -> Failure {
    let kind = match error {
        CreateError::Plan(plan) => plan_kind(plan),
        CreateError::Program(start) => return of_start(start),
        _ => FailureKind::Internal,
    };
    failure(kind, error)
}

pub(crate) fn of_start(error: &StartError) -> Failure {
    let kind = match error {
        StartError::NotFound { .. } => FailureKind::CommandNotFound,
        StartError::NotExecutable { program, source } => {
            // Clients of the Docker API tell exit code 126 by these words.
            let reason = match source.kind() {
                std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
                std::io::ErrorKind::IsADirectory => "is a directory".to_owned(),
                _ => source.to_string(),
            };
            let message = format!("exec: \"{program}\": {reason}");
            return Failure { kind: FailureKind::CommandNotExecutable, message };
        }
        StartError::Gone => FailureKind::NotNow,
        StartError::Step { .. } | StartError::Channel(_) => FailureKind::Internal,
    };
    failure(kind, error)
}

pub(crate) fn of_exec(error: &ExecError) -> Failure {
    match error {
        ExecError::Start(start) => of_start(start),
        ExecError::Plan(plan) => failure(plan_kind(plan), error),
        ExecError::Gone => failure(FailureKind::NotNow, error),
        _ => failure(FailureKind::Internal, error),
    }
}
