//! `/exec`: further programs inside running containers.

use atoll_api::docker::{
    DetachKeys, ExecCreateRequest, ExecCreateResponse, ExecInspect, ExecProcess, ExecStartRequest,
};
use atoll_engine::{Attach, ExecDraft, Size};
use axum::extract::{Path, Query, Request, State as Held};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};

use super::State;
use super::containers::SizeQuery;
use crate::answer::{Answer, body};
use crate::hijack::Wish;
use crate::projects::Scope;

pub(super) fn routes() -> Router<State> {
    Router::new()
        .route("/containers/{name}/exec", post(create))
        .route("/exec/{id}/start", post(start))
        .route("/exec/{id}/resize", post(resize))
        .route("/exec/{id}/json", get(inspect))
}

async fn create(
    Held(state): Held<State>,
    scope: Scope,
    Path(name): Path<String>,
    request: Request,
) -> Answer<Response> {
    let wanted: ExecCreateRequest = body(request).await?;
    wanted.check()?;
    if wanted.privileged {
        scope.only_everything("exec --privileged")?;
    }
    wanted.detach_keys.parse::<DetachKeys>()?;
    let draft = ExecDraft {
        args: wanted.cmd,
        env: wanted.env,
        working_dir: wanted.working_dir,
        user: wanted.user,
        terminal: wanted.tty,
        privileged: wanted.privileged,
        attach: Attach { stdin: wanted.attach_stdin, stdout: wanted.attach_stdout, stderr: wanted.attach_stderr },
        detach_keys: wanted.detach_keys,
    };
    let id = state.engine.exec_create(&name, &draft)?;
    Ok((StatusCode::CREATED, Json(ExecCreateResponse { id })).into_response())
}

async fn start(Held(state): Held<State>, Path(id): Path<String>, mut request: Request) -> Answer<Response> {
    let draft = state.engine.exec_inspect(&id)?.draft;
    // The connection first: reading the body uses the request up. Whether it is needed stands in the body.
    let wish = Wish::of(&mut request, draft.attach.stdin, &draft.detach_keys);
    let wanted: ExecStartRequest = body(request).await?;
    let size = wanted.console_size.map(|[rows, columns]| Size { rows, columns });
    let claim = state.engine.exec_claim(&id)?;
    if wanted.detach {
        claim.run(size, true).await?;
        return Ok(StatusCode::OK.into_response());
    }
    let start = async move {
        // The client shows what comes on the stream, then asks for the session's exit code: 126 or 127.
        let attachment = claim.run(size, false).await.map_err(|error| format!("{error}\r\n"))?;
        attachment.ok_or_else(String::new)
    };
    Ok(wish?.couple_later(draft.terminal, start).await)
}

async fn resize(
    Held(state): Held<State>,
    Path(id): Path<String>,
    Query(query): Query<SizeQuery>,
) -> Answer<StatusCode> {
    state.engine.exec_resize(&id, query.into()).await?;
    Ok(StatusCode::OK)
}

async fn inspect(Held(state): Held<State>, Path(id): Path<String>) -> Answer<Json<ExecInspect>> {
    let view = state.engine.exec_inspect(&id)?;
    let (program, arguments) = view
        .draft
        .args
        .split_first()
        .map_or((String::new(), Vec::new()), |(first, rest)| (first.clone(), rest.to_vec()));
    Ok(Json(ExecInspect {
        id: view.id,
        running: view.running,
        exit_code: view.exit,
        process_config: ExecProcess {
            tty: view.draft.terminal,
            entrypoint: program,
            arguments,
            privileged: view.draft.privileged,
            user: view.draft.user,
        },
        open_stdin: view.draft.attach.stdin,
        open_stdout: view.draft.attach.stdout,
        open_stderr: view.draft.attach.stderr,
        can_remove: view.exit.is_some(),
        container_id: view.workload.to_string(),
        detach_keys: view.draft.detach_keys,
        pid: view.pid,
    }))
}
