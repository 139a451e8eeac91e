//! Requests for memory that a kernel needs soon.

/// Asks the processor to load `values` into its cache. The tiles of a large weight are a page each, and processors do
/// not prefetch across pages by themselves.
#[inline(always)]
pub fn prefetch(values: &[f32]) {
    #[cfg(target_arch = "x86_64")]
    for line in values.chunks(16) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every x86-64 processor has the instruction; it reads nothing, writes nothing and cannot fault, and
        // the address is that of a live slice.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = values;
}
