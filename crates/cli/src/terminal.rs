//! This program's own terminal: raw while a workload's terminal is coupled to it, and always put back.

use std::io::{IsTerminal, Write};
use std::os::fd::AsFd;
use std::sync::{Mutex, PoisonError};

use anyhow::Context;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};

/// How the terminal was before it was made raw; one per process, so that a panic can put it back too.
static BEFORE: Mutex<Option<Termios>> = Mutex::new(None);

/// The terminal is raw until this is dropped.
#[derive(Debug)]
pub(crate) struct Raw(());

/// Makes the terminal of standard input raw; `None` when standard input is no terminal.
pub(crate) fn make_raw() -> std::io::Result<Option<Raw>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    let before = tcgetattr(&stdin)?;
    let mut raw = before.clone();
    raw.make_raw();
    *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
    let default = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        restore();
        default(info);
    }));
    tcsetattr(&stdin, OptionalActions::Drain, &raw)?;
    Ok(Some(Raw(())))
}

/// Puts the terminal back, if it was made raw.
pub(crate) fn restore() {
    if let Some(before) = BEFORE.lock().unwrap_or_else(PoisonError::into_inner).take() {
        // The terminal may be gone; then there is nothing to put back.
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Drain, &before);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Asks the user for a line, its letters shown or not; `None` where standard input is no terminal.
pub(crate) fn ask(question: &str, shown: bool) -> std::io::Result<Option<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Ok(None);
    }
    std::io::stderr().write_all(question.as_bytes())?;
    let before = tcgetattr(&stdin)?;
    if !shown {
        let mut silent = before.clone();
        silent.local_modes -= LocalModes::ECHO;
        tcsetattr(&stdin, OptionalActions::Drain, &silent)?;
    }
    let mut line = String::new();
    let read = stdin.read_line(&mut line);
    if !shown {
        tcsetattr(&stdin, OptionalActions::Drain, &before)?;
        std::io::stderr().write_all(b"\n")?;
    }
    read?;
    Ok(Some(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// Whether the user says yes.
pub(crate) fn agrees(question: &str) -> anyhow::Result<bool> {
    let answer = ask(question, true)?.context("no terminal to ask on: give --force")?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}

/// Lines and columns of the terminal on standard output, or else on standard input.
pub(crate) fn size() -> Option<(u16, u16)> {
    let of = |fd: rustix::fd::BorrowedFd<'_>| tcgetwinsize(fd).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    let size = of(std::io::stdout().as_fd()).or_else(|| of(std::io::stdin().as_fd()))?;
    Some((size.ws_row, size.ws_col))
}
