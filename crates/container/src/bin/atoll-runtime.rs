//! `atoll-runtime`: the OCI runtime command line, usable in place of runc.

fn main() -> std::process::ExitCode {
    atoll_container::cli::main()
}
