//! The allocator's memory (malloc(3)), as far as a long-lived program has a say in it.

/// Gives memory that was freed back to the system: after work that needed much for a while. Takes milliseconds at most; a C
/// library without such a call does nothing.
pub fn trim() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) takes no pointer, and the allocator locks its own arenas.
    unsafe {
        libc::malloc_trim(0);
    }
}
