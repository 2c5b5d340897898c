//! Loops for the processor at hand: the crate is compiled for the oldest there is, which counts no bits and
//! shifts but slowly.

#[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
use fearless_simd::{Level, Simd};

/// A value, worked out as fast as the processor can: the code is also compiled for those with AVX2, BMI and
/// POPCNT. What it calls is so, too, where it is inlined; `return` and `?` do not lead out of it.
macro_rules! fastest {
    ($value:expr) => {
        $crate::cpu::run(
            #[inline(always)]
            || $value,
        )
    };
}
pub(crate) use fastest;

/// What `fastest!` is.
#[inline(always)]
#[expect(
    clippy::inline_always,
    reason = "what is not inlined is compiled for the oldest processor"
)]
pub(crate) fn run<R>(code: impl FnOnce() -> R) -> R {
    #[cfg(any(target_arch = "x86", target_arch = "x86_64"))]
    if let Some(avx2) = Level::new().as_avx2() {
        return avx2.vectorize(code);
    }
    code()
}
