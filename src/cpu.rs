//! Loops for the processor at hand: the crate is compiled for the oldest there is, which counts no bits and
//! shifts but slowly.

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use fearless_simd::{Level, Simd};

/// Runs some code, as it is compiled for processors with AVX2, BMI and POPCNT where this is one. What the
/// code calls is so too where it is inlined.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processor"
)]
pub(crate) fn fastest<R>(code: impl FnOnce() -> R) -> R {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(avx2) = Level::new().as_avx2() {
        return avx2.vectorize(code);
    }
    code()
}
