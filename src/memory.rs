//! The allocator's settings. Training asks for the same large blocks again and again.

/// Keeps freed memory for the next step: handing it back to the system and getting it again, page by page and zeroed,
/// takes a fifth of a training step. For programs whose allocator is mimalloc; without effect elsewhere.
pub fn keep() {
    /// `mi_option_purge_delay`, which the bindings do not name; -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in a table of mimalloc's, by an index that the table has; any thread may at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
