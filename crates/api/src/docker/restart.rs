//! Restart policies as clients write them.

use atoll_model::Restart;

use super::bad::BadRequest;
use super::config::RestartPolicy;

/// The policy that a request names; the contradictions are told in Docker's words.
///
/// # Errors
/// [`BadRequest::Contradiction`] when there is no such policy, or it takes no maximum.
pub fn restart(policy: &RestartPolicy) -> Result<Restart, BadRequest> {
    let refused = |why: String| Err(BadRequest::Contradiction(why));
    let max = u32::try_from(policy.maximum_retry_count);
    match (policy.name.as_str(), max) {
        ("on-failure" | "on-unhealthy", Err(_)) if policy.maximum_retry_count < 0 => {
            refused("maximum retry count cannot be negative".to_owned())
        }
        ("on-failure" | "on-unhealthy", Err(_)) => refused("maximum retry count is too large".to_owned()),
        ("on-failure", Ok(max)) => Ok(Restart::OnFailure { max }),
        ("on-unhealthy", Ok(max)) => Ok(Restart::OnUnhealthy { max }),
        ("always" | "unless-stopped" | "no", _) if policy.maximum_retry_count != 0 => {
            refused(format!("maximum retry count cannot be used with restart policy '{}'", policy.name))
        }
        ("always", _) => Ok(Restart::Always),
        ("unless-stopped", _) => Ok(Restart::UnlessStopped),
        ("no" | "", _) => Ok(Restart::No),
        (other, _) => refused(format!("invalid restart policy '{other}'")),
    }
}

/// The policy as it is shown.
#[must_use]
pub(super) fn shown(restart: Restart) -> RestartPolicy {
    let (name, max) = match restart {
        Restart::No => ("no", 0),
        Restart::OnFailure { max } => ("on-failure", max),
        Restart::OnUnhealthy { max } => ("on-unhealthy", max),
        Restart::Always => ("always", 0),
        Restart::UnlessStopped => ("unless-stopped", 0),
    };
    RestartPolicy { name: name.to_owned(), maximum_retry_count: max.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(name: &str, maximum_retry_count: i64) -> RestartPolicy {
        RestartPolicy { name: name.to_owned(), maximum_retry_count }
    }

    #[test]
    fn policies_are_read_and_shown() {
        let check = |name: &str, max: i64, expected: Restart| {
            assert_eq!(restart(&policy(name, max)), Ok(expected));
            if !name.is_empty() {
                assert_eq!(shown(expected), policy(name, max));
            }
        };
        check("", 0, Restart::No);
        check("no", 0, Restart::No);
        check("always", 0, Restart::Always);
        check("unless-stopped", 0, Restart::UnlessStopped);
        check("on-failure", 0, Restart::OnFailure { max: 0 });
        check("on-failure", 5, Restart::OnFailure { max: 5 });
        check("on-unhealthy", 2, Restart::OnUnhealthy { max: 2 });
    }

    #[test]
    fn contradictions_are_told_as_docker_does() {
        let check = |name: &str, max: i64, expected: &str| {
            assert_eq!(restart(&policy(name, max)).map_err(|error| error.to_string()), Err(expected.to_owned()));
        };
        check("always", 2, "maximum retry count cannot be used with restart policy 'always'");
        check("no", 1, "maximum retry count cannot be used with restart policy 'no'");
        check("on-failure", -2, "maximum retry count cannot be negative");
        check("on-failure", 1 << 40, "maximum retry count is too large");
        check("foo", 0, "invalid restart policy 'foo'");
    }
}
