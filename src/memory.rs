//! The settings of the memory allocator.

/// Tells mimalloc to keep freed memory for later use, as training allocates the same large blocks in every step:
/// returning them to the operating system would take a fifth of a step. Without effect in programs that use another
/// allocator.
pub fn keep() {
    /// `mi_option_purge_delay`, which the bindings do not name; -1 is never.
    const PURGE_DELAY: libmimalloc_sys::mi_option_t = 15;
    // SAFETY: sets a number in a table of mimalloc's, at an index that the table has; any thread may do so at any time.
    unsafe { libmimalloc_sys::mi_option_set(PURGE_DELAY, -1) };
}
