//! What the API says about exec sessions.

#![allow(missing_docs, reason = "fields have the names and meanings of the Docker API reference, Exec")]

use serde::{Deserialize, Serialize};

use super::bad::BadRequest;

/// `POST /containers/{id}/exec`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreateRequest {
    pub user: String,
    pub privileged: bool,
    pub tty: bool,
    pub attach_stdin: bool,
    pub attach_stdout: bool,
    pub attach_stderr: bool,
    pub detach_keys: String,
    pub env: Vec<String>,
    pub working_dir: String,
    pub cmd: Vec<String>,
}

/// Its answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecCreateResponse {
    pub id: String,
}

/// `POST /exec/{id}/start`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecStartRequest {
    pub detach: bool,
    pub tty: bool,
    /// Rows and columns.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub console_size: Option<[u16; 2]>,
}

/// `GET /exec/{id}/json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ExecInspect {
    #[serde(rename = "ID")]
    pub id: String,
    pub running: bool,
    pub exit_code: Option<i32>,
    pub process_config: ExecProcess,
    pub open_stdin: bool,
    pub open_stdout: bool,
    pub open_stderr: bool,
    pub can_remove: bool,
    #[serde(rename = "ContainerID")]
    pub container_id: String,
    pub detach_keys: String,
    pub pid: i32,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ExecProcess {
    pub tty: bool,
    pub entrypoint: String,
    pub arguments: Vec<String>,
    pub privileged: bool,
    pub user: String,
}

impl ExecCreateRequest {
    /// Refuses what makes no sense or is not done.
    ///
    /// # Errors
    /// [`BadRequest`] naming the option.
    pub fn check(&self) -> Result<(), BadRequest> {
        if self.cmd.is_empty() {
            return Err(BadRequest::invalid("Cmd", "No exec command specified"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn requests_are_checked() {
        let check = |body: Value, fine: bool| {
            let request: ExecCreateRequest = super::super::parse(body.to_string().as_bytes()).expect("JSON");
            assert_eq!(request.check().is_ok(), fine, "{body}");
        };
        check(json!({"Cmd": ["ls"], "Detach": true, "Env": null, "ConsoleSize": [1, 2]}), true);
        check(json!({"Cmd": []}), false);
        check(json!({"Cmd": ["ls"], "Container": "sent by SDKs"}), true);
    }
}
